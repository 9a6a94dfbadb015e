//! Playbooks: which steps follow from which fault, under which rules of safety.
//!
//! [`Playbook`] is what a YAML file says, [`History`] what was done so far, [`plan`] what follows
//! from both and from the findings of now.

mod filling;
mod history;
mod hours;
mod incident;
mod means;
mod plan;
mod policy;
mod span;
mod step;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Component, Finding, Severity};

pub use filling::Filling;
pub use history::{Began, History, Isolation, Mark, Moved, Past, Sighting, Standing, Task, is_new};
pub use hours::Hours;
pub use incident::{DeviceKey, incident_id};
pub use means::{Isolating, Means, Reach, Save};
pub use plan::{Facts, GpuFacts, Incident, PLAN_SCHEMA, Plan, Planned, Refused, is_events, plan};
pub use policy::{
    Breaker, Clock, Fleet, OutOfService, Policy, Refusal, attempts_on, attempts_on_node, hours as hours_refuse,
    too_many_nodes,
};
pub use span::Span;
pub use step::{Step, StepKind, StepState};

/// The playbook that is built in.
const DEFAULT: &str = include_str!("../playbooks/default.yaml");

/// What is done about faults.
#[derive(Debug, Clone, PartialEq, Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub struct Playbook {
    /// "default": the built-in rules follow those of this file.
    pub extends: Option<String>,
    /// Rules of safety.
    pub policy: Policy,
    /// How steps act, where they do not say it themselves.
    pub commands: Commands,
    /// How nodes are isolated.
    pub isolate: Isolating,
    /// Where people are told.
    pub notify: Option<Notify>,
    /// The first that matches is taken.
    pub rules: Vec<Rule>,
}

/// Commands of a site: a program and its arguments, without a shell. `{node}`, `{pci}`, `{uuid}`,
/// `{index}`, `{device}`, `{fault}` and `{incident}` stand for what is known.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Commands {
    /// Takes the node out of service: `[kubectl, cordon, "{node}"]`.
    pub isolate: Vec<String>,
    /// Puts it back.
    pub restore: Vec<String>,
    /// Exits with 0 if somebody else took it out of service already.
    pub isolated: Vec<String>,
    /// Has the jobs save their work, and ends when they have.
    pub checkpoint: Vec<String>,
    /// Resets a GPU, or those that must be reset together.
    pub reset_gpu: Vec<String>,
    /// Restarts the machine.
    pub reboot: Vec<String>,
    /// Tries a device out; exits with 0 if it is well.
    pub burn_in: Vec<String>,
}

impl Default for Commands {
    fn default() -> Commands {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect();
        Commands {
            isolate: Vec::new(),
            restore: Vec::new(),
            isolated: Vec::new(),
            checkpoint: Vec::new(),
            reset_gpu: words("nvidia-smi --gpu-reset -i {gpus}"),
            reboot: Vec::new(),
            burn_in: Vec::new(),
        }
    }
}

/// A webhook that takes CloudEvents.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Notify {
    /// https://…
    pub url: String,
    /// File with a bearer token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<String>,
}

/// Faults and the steps against them.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// For the plan and the journal.
    pub name: String,
    /// Which faults.
    #[serde(rename = "match")]
    pub when: Match,
    /// In this order; none: nothing is done.
    pub steps: Vec<Step>,
}

/// Which faults a rule is for: every key that is given must hold one of the finding's.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub struct Match {
    /// Names in the catalogue.
    pub faults: Vec<String>,
    /// Buckets of actions.
    pub actions: Vec<String>,
    /// Kinds of things hit.
    pub components: Vec<Component>,
    /// How bad.
    pub severities: Vec<Severity>,
}

/// Why a playbook can't be used.
#[derive(Debug, Error)]
pub enum PlaybookError {
    /// Not the YAML that is asked for.
    #[error("{file}: not a playbook")]
    Yaml {
        /// Which file.
        file: String,
        /// What is wrong, with the line.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// YAML, but it says something that can't be done or would be dangerous.
    #[error("{file}: {place}: {what}")]
    Wrong {
        /// Which file.
        file: String,
        /// "rule gpu-reset, step 3".
        place: String,
        /// What is wrong there.
        what: String,
    },
}

impl Playbook {
    /// The built-in one.
    ///
    /// # Errors
    /// Never, in a build whose tests passed.
    pub fn embedded() -> Result<Playbook, PlaybookError> {
        Playbook::parse("default.yaml", DEFAULT)
    }

    /// The text of the built-in one.
    pub fn embedded_text() -> &'static str {
        DEFAULT
    }

    /// Reads a playbook; with `extends: default` the built-in rules follow its own.
    ///
    /// # Errors
    /// If it is no playbook, or not a safe one: a rule that matches everything, a step whose
    /// settings are another step's.
    pub fn parse(file: &str, text: &str) -> Result<Playbook, PlaybookError> {
        let mut playbook: Playbook = serde_yaml::from_str(text)
            .map_err(|error| PlaybookError::Yaml { file: file.to_owned(), source: Box::new(error) })?;
        playbook.check(file)?;
        match playbook.extends.as_deref() {
            None => {}
            Some("default") => playbook.rules.extend(Playbook::embedded()?.rules),
            Some(other) => {
                return Err(wrong(file, "extends", format!("{other:?}: only \"default\" can be extended")));
            }
        }
        Ok(playbook)
    }

    fn check(&self, file: &str) -> Result<(), PlaybookError> {
        self.policy.check().map_err(|what| wrong(file, "policy", what))?;
        let commands = &self.commands;
        if self.isolate.by == Some(Means::Command) && commands.isolate.is_empty() {
            return Err(wrong(file, "isolate.by", "command: there is no commands.isolate".to_owned()));
        }
        for (name, command) in [
            ("isolate", &commands.isolate),
            ("restore", &commands.restore),
            ("isolated", &commands.isolated),
            ("checkpoint", &commands.checkpoint),
            ("reset_gpu", &commands.reset_gpu),
            ("reboot", &commands.reboot),
            ("burn_in", &commands.burn_in),
        ] {
            filling::check_command(command).map_err(|what| wrong(file, &format!("commands.{name}"), what))?;
        }
        if !commands.isolate.is_empty() && commands.restore.is_empty() {
            let what = "commands.isolate needs commands.restore: what is isolated must be put back";
            return Err(wrong(file, "commands", what.to_owned()));
        }
        if let Some(notify) = &self.notify {
            step::check_url(&notify.url).map_err(|what| wrong(file, "notify.url", what))?;
        }
        for rule in &self.rules {
            if rule.when == Match::default() {
                let what = "it matches every fault; say which: faults, actions, components or severities";
                return Err(wrong(file, &format!("rule {}", rule.name), what.to_owned()));
            }
            for (i, step) in rule.steps.iter().enumerate() {
                let place = || format!("rule {}, step {} ({})", rule.name, i + 1, step.step.name());
                step.check(self).map_err(|what| wrong(file, &place(), what))?;
            }
            order(&rule.steps).map_err(|what| wrong(file, &format!("rule {}", rule.name), what))?;
        }
        Ok(())
    }

    /// The first rule for a finding.
    pub fn rule(&self, finding: &Finding) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.when.holds(finding))
    }
}

/// What must come before what.
fn order(steps: &[Step]) -> Result<(), String> {
    let first = |kind: StepKind| steps.iter().position(|step| step.step == kind);
    let last = |wanted: fn(StepKind) -> bool| steps.iter().rposition(|step| wanted(step.step));
    if let Some(restore) = first(StepKind::Restore) {
        if first(StepKind::Verify).is_none_or(|verify| verify > restore) {
            return Err("restore without a verify before it: nothing goes back into service unseen".to_owned());
        }
        if last(StepKind::repairs).is_some_and(|repair| repair > restore) {
            return Err("a repair after restore: the node would be in service again".to_owned());
        }
    }
    if let Some(evict) = first(StepKind::Evict)
        && first(StepKind::Isolate).is_none_or(|isolate| isolate > evict)
    {
        return Err("evict without isolate before it: the pods would come back".to_owned());
    }
    if first(StepKind::Resume).is_some() && first(StepKind::Evict).is_none() {
        return Err("resume without evict: nothing was moved".to_owned());
    }
    if first(StepKind::Isolate).is_some() && first(StepKind::Restore).is_none() && first(StepKind::HandOver).is_none() {
        return Err("isolate without restore or hand-over: the node would stay isolated and nobody be told".to_owned());
    }
    if first(StepKind::HandOver).is_some_and(|at| at + 1 < steps.len()) {
        return Err("hand-over is the last step: a human goes on from there".to_owned());
    }
    Ok(())
}

fn wrong(file: &str, place: &str, what: String) -> PlaybookError {
    PlaybookError::Wrong { file: file.to_owned(), place: place.to_owned(), what }
}

impl Match {
    /// Whether a rule is for this finding.
    pub fn holds(&self, finding: &Finding) -> bool {
        fn one<T>(wanted: &[T], holds: impl Fn(&T) -> bool) -> bool {
            wanted.is_empty() || wanted.iter().any(holds)
        }
        one(&self.faults, |fault| *fault == finding.fault)
            && one(&self.actions, |action| *action == finding.action)
            && one(&self.components, |component| *component == finding.component)
            && one(&self.severities, |severity| *severity == finding.severity)
    }
}

#[cfg(test)]
mod tests;
