//! One step of a playbook: its kind, its settings, and what the placeholders in them stand for.

use serde::{Deserialize, Serialize};

use super::filling::check_command;
use super::{Commands, Span};

/// What a step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepKind {
    /// Takes the node out of service.
    Isolate,
    /// Tells people.
    Notify,
    /// Has jobs save their work.
    Checkpoint,
    /// Moves pods away.
    Evict,
    /// Ends processes that hold the device.
    StopHolders,
    /// Resets one GPU.
    ResetGpu,
    /// Restarts a service that is down.
    RestartService,
    /// Restarts the machine.
    Reboot,
    /// A command of the site's own.
    Script,
    /// Looks again.
    Verify,
    /// Puts the node back into service.
    Restore,
    /// Leaves the rest to a human.
    HandOver,
}

/// How a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// To be done.
    Planned,
    /// Done.
    Done,
    /// Need not be done.
    Skipped,
    /// Tried, in vain.
    Failed,
    /// May not be done.
    Refused,
}

impl StepState {
    /// Name as in the contract.
    pub fn name(self) -> &'static str {
        match self {
            StepState::Planned => "planned",
            StepState::Done => "done",
            StepState::Skipped => "skipped",
            StepState::Failed => "failed",
            StepState::Refused => "refused",
        }
    }
}

impl StepKind {
    /// All of them, in their usual order.
    pub const ALL: [StepKind; 12] = [
        StepKind::Isolate,
        StepKind::Notify,
        StepKind::Checkpoint,
        StepKind::Evict,
        StepKind::StopHolders,
        StepKind::ResetGpu,
        StepKind::RestartService,
        StepKind::Reboot,
        StepKind::Script,
        StepKind::Verify,
        StepKind::Restore,
        StepKind::HandOver,
    ];

    /// Name as in the contract.
    pub fn name(self) -> &'static str {
        match self {
            StepKind::Isolate => "isolate",
            StepKind::Notify => "notify",
            StepKind::Checkpoint => "checkpoint",
            StepKind::Evict => "evict",
            StepKind::StopHolders => "stop-holders",
            StepKind::ResetGpu => "reset-gpu",
            StepKind::RestartService => "restart-service",
            StepKind::Reboot => "reboot",
            StepKind::Script => "script",
            StepKind::Verify => "verify",
            StepKind::Restore => "restore",
            StepKind::HandOver => "hand-over",
        }
    }

    /// Whether it changes the device or the machine, for which it is done at most once an attempt.
    pub fn repairs(self) -> bool {
        matches!(self, StepKind::ResetGpu | StepKind::RestartService | StepKind::Reboot | StepKind::Script)
    }

    /// Whether work may be lost by it; quiet hours forbid it.
    pub fn disrupts(self) -> bool {
        self.repairs() || matches!(self, StepKind::Checkpoint | StepKind::Evict | StepKind::StopHolders)
    }

    /// Whether the steps after it need it, unless the playbook says otherwise.
    fn usually_required(self) -> bool {
        !matches!(self, StepKind::Notify | StepKind::Checkpoint | StepKind::Evict)
    }

    /// How long it may take, unless the playbook says otherwise.
    fn usual_timeout(self) -> Span {
        Span::seconds(match self {
            StepKind::Notify | StepKind::HandOver => 20,
            StepKind::Isolate | StepKind::Restore | StepKind::StopHolders => 60,
            StepKind::ResetGpu | StepKind::RestartService => 120,
            StepKind::Checkpoint | StepKind::Evict | StepKind::Script | StepKind::Verify => 300,
            // Machines with terabytes of memory take long to come back.
            StepKind::Reboot => 1800,
        })
    }

    /// The settings that it takes, beside `step`, `timeout` and `required`.
    fn takes(self) -> &'static [&'static str] {
        match self {
            StepKind::Isolate => &["command", "undo", "check"],
            StepKind::Notify | StepKind::HandOver => &["url", "token_file"],
            StepKind::Checkpoint | StepKind::ResetGpu | StepKind::Reboot => &["command"],
            StepKind::Evict => &["namespaces", "selector"],
            StepKind::StopHolders => &["names", "kill"],
            StepKind::RestartService => &["service", "command", "check", "always"],
            StepKind::Script => &["command", "repeat"],
            StepKind::Verify => &["command", "settle", "attempts"],
            StepKind::Restore => &[],
        }
    }
}

/// One step of a playbook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// What it does.
    pub step: StepKind,
    /// How long it may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    /// Whether the steps after it need it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub required: Option<bool>,
    /// Tries; for steps that may be repeated without harm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// What to run. Without it, the site's or the usual command.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// What takes an isolation back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub undo: Vec<String>,
    /// Asks how things are: isolated already, service running.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub check: Vec<String>,
    /// Webhook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// File with the webhook's bearer token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<String>,
    /// Names of the processes that may be stopped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// Whether SIGKILL may follow.
    #[serde(default, skip_serializing_if = "is_false")]
    pub kill: bool,
    /// A unit of systemd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Restarts it even if it runs.
    #[serde(default, skip_serializing_if = "is_false")]
    pub always: bool,
    /// Time to wait before looking again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settle: Option<Span>,
    /// Whether a script that was cut off may be run again.
    #[serde(default, skip_serializing_if = "is_false")]
    pub repeat: bool,
    /// Namespaces whose pods may be moved.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,
    /// Labels of the pods that may be moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
}

fn is_false(value: &bool) -> bool {
    !value
}

impl Step {
    /// A step with its usual settings.
    pub fn of(kind: StepKind) -> Step {
        Step {
            step: kind,
            timeout: None,
            required: None,
            attempts: None,
            command: Vec::new(),
            undo: Vec::new(),
            check: Vec::new(),
            url: None,
            token_file: None,
            names: Vec::new(),
            kill: false,
            service: None,
            always: false,
            settle: None,
            repeat: false,
            namespaces: Vec::new(),
            selector: None,
        }
    }

    /// How long it may take.
    pub fn timeout(&self) -> Span {
        self.timeout.unwrap_or_else(|| self.step.usual_timeout())
    }

    /// Whether the steps after it need it.
    pub fn is_required(&self) -> bool {
        self.required.unwrap_or_else(|| self.step.usually_required())
    }

    /// Takes what it leaves open from the site's commands, so that it stands for itself: what was
    /// begun goes on as it was meant, even if the playbook has changed.
    pub fn settled(&self, commands: &Commands, notify: Option<&super::Notify>) -> Step {
        let mut step = self.clone();
        let or = |own: &mut Vec<String>, site: &[String]| {
            if own.is_empty() {
                *own = site.to_vec();
            }
        };
        match step.step {
            StepKind::Isolate => {
                // A command of the step's own has its own way back.
                if step.command.is_empty() {
                    or(&mut step.undo, &commands.restore);
                    or(&mut step.check, &commands.isolated);
                }
                or(&mut step.command, &commands.isolate);
            }
            StepKind::Checkpoint => or(&mut step.command, &commands.checkpoint),
            StepKind::ResetGpu => or(&mut step.command, &commands.reset_gpu),
            StepKind::Reboot => or(&mut step.command, &commands.reboot),
            StepKind::Verify => or(&mut step.command, &commands.burn_in),
            StepKind::RestartService => {
                if let Some(service) = &step.service {
                    let systemctl = |words: &[&str]| -> Vec<String> {
                        words.iter().map(|word| (*word).to_owned()).chain([service.clone()]).collect()
                    };
                    or(&mut step.command, &systemctl(&["systemctl", "restart"]));
                    or(&mut step.check, &systemctl(&["systemctl", "is-active", "--quiet"]));
                }
            }
            StepKind::Notify | StepKind::HandOver => {
                if step.url.is_none()
                    && let Some(notify) = notify
                {
                    step.url = Some(notify.url.clone());
                    step.token_file.clone_from(&notify.token_file);
                }
            }
            StepKind::Evict | StepKind::StopHolders | StepKind::Script | StepKind::Restore => {}
        }
        step
    }

    /// Whether a settled step can be done at all; else why not.
    pub fn standing(&self) -> Result<(), (StepState, String)> {
        let lacks = |what: &str| Err((StepState::Refused, what.to_owned()));
        match self.step {
            StepKind::Evict => lacks("needs a cluster connection"),
            StepKind::Reboot if self.command.is_empty() => lacks("no command for it: set commands.reboot"),
            StepKind::ResetGpu if self.command.is_empty() => lacks("no command for it: set commands.reset_gpu"),
            StepKind::Checkpoint if self.command.is_empty() => {
                Err((StepState::Skipped, "no command for it: set commands.checkpoint".to_owned()))
            }
            StepKind::Notify if self.url.is_none() => {
                Err((StepState::Skipped, "no address: set notify.url".to_owned()))
            }
            _ => Ok(()),
        }
    }

    /// What is wrong with its settings.
    pub(super) fn check(&self, commands: &Commands) -> Result<(), String> {
        let given: [(&str, bool); 13] = [
            ("attempts", self.attempts.is_some()),
            ("command", !self.command.is_empty()),
            ("undo", !self.undo.is_empty()),
            ("check", !self.check.is_empty()),
            ("url", self.url.is_some()),
            ("token_file", self.token_file.is_some()),
            ("names", !self.names.is_empty()),
            ("kill", self.kill),
            ("service", self.service.is_some()),
            ("always", self.always),
            ("settle", self.settle.is_some()),
            ("repeat", self.repeat),
            ("namespaces", !self.namespaces.is_empty() || self.selector.is_some()),
        ];
        let takes = self.step.takes();
        if let Some((key, _)) = given.iter().find(|(key, given)| *given && !takes.contains(key)) {
            return Err(format!("takes no `{key}`"));
        }
        for command in [&self.command, &self.undo, &self.check] {
            check_command(command)?;
        }
        if let Some(url) = &self.url {
            check_url(url)?;
        }
        match self.step {
            StepKind::Isolate if !self.command.is_empty() && self.undo.is_empty() => {
                Err("a command needs `undo`: what is isolated must be put back".to_owned())
            }
            StepKind::Script if self.command.is_empty() => Err("needs `command`".to_owned()),
            StepKind::RestartService if self.service.is_none() => Err("needs `service`".to_owned()),
            StepKind::RestartService => check_service(self.service.as_deref().unwrap_or_default()),
            StepKind::Evict if self.namespaces.iter().all(|name| name.trim().is_empty()) => {
                Err("needs `namespaces`: pods of all namespaces are never moved".to_owned())
            }
            StepKind::Evict if self.selector.as_ref().is_some_and(|selector| selector.trim().is_empty()) => {
                Err("an empty `selector` would select everything".to_owned())
            }
            StepKind::StopHolders if self.names.iter().any(|name| name.trim().is_empty()) => {
                Err("an empty name in `names`".to_owned())
            }
            StepKind::ResetGpu => {
                check_reset(if self.command.is_empty() { &commands.reset_gpu } else { &self.command })
            }
            _ => Ok(()),
        }
    }
}

/// A reset without the device in its command would reset all of them.
fn check_reset(command: &[String]) -> Result<(), String> {
    let one = ["{pci}", "{uuid}", "{index}"].iter().any(|device| command.iter().any(|word| word.contains(device)));
    if one || command.is_empty() {
        return Ok(());
    }
    Err("its command names no device: it must hold {pci}, {uuid} or {index}".to_owned())
}

pub(super) fn check_url(url: &str) -> Result<(), String> {
    if url.starts_with("https://") || url.starts_with("http://") {
        return Ok(());
    }
    Err("not an address: it begins with neither https:// nor http://".to_owned())
}

fn check_service(name: &str) -> Result<(), String> {
    let fine = |c: char| c.is_ascii_alphanumeric() || "-_.@:".contains(c);
    if name.is_empty() || name.starts_with('-') || !name.chars().all(fine) {
        return Err(format!("{name:?} is no name of a unit"));
    }
    Ok(())
}
