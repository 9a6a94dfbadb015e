//! One step of a playbook: its kind, its settings, and what the placeholders in them stand for.

use serde::{Deserialize, Serialize};

use super::filling::check_command;
use super::{Means, Playbook, Reach, Save, Span};

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
    /// Restarts the pod of an add-on, a device plugin's, on the node.
    RestartPod,
    /// Restarts the machine.
    Reboot,
    /// A command of the site's own.
    Script,
    /// Looks again.
    Verify,
    /// Puts the node back into service.
    Restore,
    /// Waits until the jobs whose pods were moved run again.
    Resume,
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
    pub const ALL: [StepKind; 14] = [
        StepKind::Isolate,
        StepKind::Notify,
        StepKind::Checkpoint,
        StepKind::Evict,
        StepKind::StopHolders,
        StepKind::ResetGpu,
        StepKind::RestartService,
        StepKind::RestartPod,
        StepKind::Reboot,
        StepKind::Script,
        StepKind::Verify,
        StepKind::Restore,
        StepKind::Resume,
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
            StepKind::RestartPod => "restart-pod",
            StepKind::Reboot => "reboot",
            StepKind::Script => "script",
            StepKind::Verify => "verify",
            StepKind::Restore => "restore",
            StepKind::Resume => "resume",
            StepKind::HandOver => "hand-over",
        }
    }

    /// Whether it changes the device or the machine, for which it is done at most once an attempt.
    pub fn repairs(self) -> bool {
        use StepKind::{Reboot, ResetGpu, RestartPod, RestartService, Script};
        matches!(self, ResetGpu | RestartService | RestartPod | Reboot | Script)
    }

    /// Whether it is done on the machine itself, where no API of a cluster reaches.
    pub fn is_on_the_machine(self) -> bool {
        use StepKind::{Reboot, ResetGpu, RestartService, Script, StopHolders};
        matches!(self, StopHolders | ResetGpu | RestartService | Reboot | Script)
    }

    /// Whether work may be lost by it; quiet hours forbid it.
    pub fn disrupts(self) -> bool {
        self.repairs() || matches!(self, StepKind::Checkpoint | StepKind::Evict | StepKind::StopHolders)
    }

    /// Whether the steps after it need it, unless the playbook says otherwise.
    fn usually_required(self) -> bool {
        !matches!(self, StepKind::Notify | StepKind::Checkpoint | StepKind::Evict | StepKind::Resume)
    }

    /// How long it may take, unless the playbook says otherwise.
    fn usual_timeout(self) -> Span {
        Span::seconds(match self {
            StepKind::Notify | StepKind::HandOver => 20,
            StepKind::Isolate | StepKind::Restore | StepKind::StopHolders => 60,
            StepKind::ResetGpu | StepKind::RestartService | StepKind::RestartPod => 120,
            StepKind::Resume => 600,
            StepKind::Checkpoint | StepKind::Evict | StepKind::Script | StepKind::Verify => 300,
            // Machines with terabytes of memory take long to come back.
            StepKind::Reboot => 1800,
        })
    }

    /// The settings that it takes, beside `step`, `timeout` and `required`.
    fn takes(self) -> &'static [&'static str] {
        match self {
            StepKind::Isolate => &["command", "undo", "check", "by", "no_execute"],
            StepKind::Notify | StepKind::HandOver => &["url", "token_file"],
            StepKind::ResetGpu | StepKind::Reboot => &["command"],
            StepKind::Checkpoint => &["command", "namespaces", "save", "all"],
            StepKind::Evict => &["namespaces", "bare", "all"],
            StepKind::RestartPod => &["namespaces"],
            StepKind::StopHolders => &["names", "kill"],
            StepKind::RestartService => &["service", "command", "check", "always"],
            StepKind::Script => &["command", "repeat"],
            StepKind::Verify => &["command", "settle", "attempts"],
            StepKind::Restore | StepKind::Resume => &[],
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
    /// Pods without GPUs, too.
    #[serde(default, skip_serializing_if = "is_false")]
    pub all: bool,
    /// Pods that nobody would make again, too.
    #[serde(default, skip_serializing_if = "is_false")]
    pub bare: bool,
    /// By what the node is taken out of service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Means>,
    /// A taint that ends pods at once, too, besides the one that keeps new ones away.
    #[serde(default, skip_serializing_if = "is_false")]
    pub no_execute: bool,
    /// How pods are asked to save their work, and what proves that they did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub save: Option<Save>,
    /// GPUs that must be reset together; the plan's own, never a playbook's. Empty: the one that was found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<String>,
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
            all: false,
            bare: false,
            by: None,
            no_execute: false,
            save: None,
            gpus: Vec::new(),
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
    pub fn settled(&self, playbook: &Playbook, reach: Reach) -> Step {
        let (commands, notify) = (&playbook.commands, playbook.notify.as_ref());
        let mut step = self.clone();
        let or = |own: &mut Vec<String>, site: &[String]| {
            if own.is_empty() {
                *own = site.to_vec();
            }
        };
        match step.step {
            StepKind::Isolate => {
                let own = !step.command.is_empty();
                let chosen = step.by.or(playbook.isolate.by.filter(|_| !own));
                let command = own || !commands.isolate.is_empty();
                step.by = match (chosen, reach) {
                    (Some(by), _) => Some(by),
                    // What a site says is what it wants; a command that it gives is such a word.
                    (None, _) if command => Some(Means::Command),
                    (None, Reach::Machine) => None,
                    (None, _) => Some(Means::Auto),
                };
                step.no_execute |= playbook.isolate.no_execute;
                if step.by.is_some_and(Means::is_of_the_cluster) {
                    return step;
                }
                // A command of the step's own has its own way back.
                if step.command.is_empty() {
                    or(&mut step.undo, &commands.restore);
                    or(&mut step.check, &commands.isolated);
                }
                or(&mut step.command, &commands.isolate);
            }
            StepKind::Checkpoint if step.save.is_none() => or(&mut step.command, &commands.checkpoint),
            StepKind::ResetGpu => or(&mut step.command, &commands.reset_gpu),
            StepKind::Reboot => or(&mut step.command, &commands.reboot),
            // A burn-in from afar would try the wrong machine out.
            StepKind::Verify if reach == Reach::Central => step.command.clear(),
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
            _ => {}
        }
        step
    }

    /// Whether a settled step can be done at all; else why not.
    pub fn standing(&self, reach: Reach) -> Result<(), (StepState, String)> {
        let lacks = |what: &str| Err((StepState::Refused, what.to_owned()));
        let alone = reach == Reach::Machine;
        match self.step {
            StepKind::Evict | StepKind::RestartPod if alone => lacks("needs a cluster: --cluster"),
            StepKind::Isolate if alone && self.by.is_some_and(Means::is_of_the_cluster) => {
                lacks("needs a cluster: --cluster")
            }
            StepKind::Isolate if self.by == Some(Means::Command) && self.command.is_empty() => {
                lacks("no command for it: set commands.isolate")
            }
            // Elsewhere the site's commands would take the wrong machine out of service.
            StepKind::Isolate | StepKind::Checkpoint if reach == Reach::Central && !self.command.is_empty() => {
                lacks("a command is run on the machine alone: use `by` or `save`")
            }
            StepKind::Checkpoint if alone && self.save.is_some() => {
                Err((StepState::Skipped, "needs a cluster: --cluster".to_owned()))
            }
            StepKind::Checkpoint if self.save.is_some() => Ok(()),
            StepKind::Resume if alone => Err((StepState::Skipped, "needs a cluster: --cluster".to_owned())),
            _ if reach == Reach::Central && self.step.is_on_the_machine() => Ok(()),
            StepKind::Reboot if self.command.is_empty() => lacks("no command for it: set commands.reboot"),
            StepKind::ResetGpu if self.command.is_empty() => lacks("no command for it: set commands.reset_gpu"),
            StepKind::ResetGpu if self.gpus.len() > 1 && !self.command.iter().any(|word| word.contains("{gpus}")) => {
                lacks("NVLink joins it to others, and the command names one GPU: use {gpus}")
            }
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
    pub(super) fn check(&self, playbook: &Playbook) -> Result<(), String> {
        let commands = &playbook.commands;
        let given: [(&str, bool); 19] = [
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
            ("all", self.all),
            ("bare", self.bare),
            ("by", self.by.is_some()),
            ("no_execute", self.no_execute),
            ("save", self.save.is_some()),
            ("gpus", !self.gpus.is_empty()),
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
        if let Some(save) = &self.save {
            save.check()?;
            if !self.command.is_empty() {
                return Err("takes `command` or `save`, not both".to_owned());
            }
        }
        let of_pods = matches!(self.step, StepKind::Evict | StepKind::RestartPod) || self.save.is_some();
        if of_pods && self.namespaces.iter().all(|name| name.trim().is_empty()) {
            return Err("needs `namespaces`: pods of all namespaces are never moved".to_owned());
        }
        if of_pods && self.namespaces.iter().any(|name| !is_namespace(name)) {
            return Err("a namespace in `namespaces` is none: patterns and empty names are not taken".to_owned());
        }
        if self.selector.as_ref().is_some_and(|selector| selector.trim().is_empty()) {
            return Err("an empty `selector` would select everything".to_owned());
        }
        match self.step {
            StepKind::Isolate if self.by.is_some_and(Means::is_of_the_cluster) && !self.command.is_empty() => {
                Err("takes `by` or a command, not both".to_owned())
            }
            StepKind::RestartPod if self.selector.is_none() => {
                Err("needs `selector`: which pod of the node".to_owned())
            }
            StepKind::Isolate if !self.command.is_empty() && self.undo.is_empty() => {
                Err("a command needs `undo`: what is isolated must be put back".to_owned())
            }
            StepKind::Script if self.command.is_empty() => Err("needs `command`".to_owned()),
            StepKind::RestartService if self.service.is_none() => Err("needs `service`".to_owned()),
            StepKind::RestartService => check_service(self.service.as_deref().unwrap_or_default()),
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
    let one =
        ["{pci}", "{gpus}", "{uuid}", "{index}"].iter().any(|device| command.iter().any(|word| word.contains(device)));
    if one || command.is_empty() {
        return Ok(());
    }
    Err("its command names no device: it must hold {pci}, {gpus}, {uuid} or {index}".to_owned())
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

fn is_namespace(name: &str) -> bool {
    let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !name.is_empty() && name.len() <= 63 && name.chars().all(fine) && !name.starts_with('-')
}
