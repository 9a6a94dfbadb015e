//! By what a machine is taken out of service, how far a run reaches, how pods save their work.

use serde::{Deserialize, Serialize};

use super::filling::check_command;

/// By what a machine is taken out of service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Means {
    /// The smallest that the cluster offers: one GPU, else a taint.
    Auto,
    /// One GPU: a DeviceTaintRule of dynamic resource allocation.
    Gpu,
    /// A taint of the node: `aictl.dev/fault=NAME:NoSchedule`.
    Taint,
    /// The node as a whole, as `kubectl cordon` does.
    Cordon,
    /// A command of the site's.
    Command,
}

impl Means {
    /// Name as in playbooks.
    pub fn name(self) -> &'static str {
        match self {
            Means::Auto => "auto",
            Means::Gpu => "gpu",
            Means::Taint => "taint",
            Means::Cordon => "cordon",
            Means::Command => "command",
        }
    }

    /// Whether it is done through the cluster's API.
    pub fn is_of_the_cluster(self) -> bool {
        self != Means::Command
    }
}

/// How nodes are isolated, where a step does not say it itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Isolating {
    /// By what; a site's command if it gives one, else `auto` where there is a cluster.
    pub by: Option<Means>,
    /// Besides the taint that keeps new pods away one that ends those that are there.
    pub no_execute: bool,
}

/// How far a run reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reach {
    /// This machine, without a cluster.
    #[default]
    Machine,
    /// This machine, and its cluster's API.
    Node,
    /// A cluster's API alone, for any of its nodes.
    Central,
}

/// How pods are asked to save their work, and what proves that they did.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Save {
    /// Sets `aictl.dev/checkpoint-requested` on the pod; the job answers with the same value in
    /// `aictl.dev/checkpoint-done`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub annotate: bool,
    /// Runs this in the pod; its success is the proof, unless `proof` is given.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exec: Vec<String>,
    /// Sends this signal to the container's first process: "USR1". Needs `proof`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// POST to the pod: ":8080/checkpoint"; an answer from 200 to 299 is the proof.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
    /// Run in the pod again and again until it succeeds: `[test, -e, /ckpt/done]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub proof: Vec<String>,
    /// Which container; the first if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
}

impl Save {
    /// What is wrong with it.
    pub(super) fn check(&self) -> Result<(), String> {
        let ways = [self.annotate, !self.exec.is_empty(), self.signal.is_some(), self.http.is_some()];
        if ways.iter().filter(|way| **way).count() != 1 {
            return Err("`save` takes one of `annotate`, `exec`, `signal` and `http`".to_owned());
        }
        if self.signal.is_some() && self.proof.is_empty() {
            return Err("a signal proves nothing: `save` needs `proof`".to_owned());
        }
        let plain = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric());
        if self.signal.as_deref().is_some_and(|name| !plain(name)) {
            return Err("`signal` is a name or a number: USR1".to_owned());
        }
        let place = |http: &str| {
            let (port, path) = http.strip_prefix(':')?.split_once('/')?;
            let fine = |c: char| c.is_ascii_graphic() && !"{}".contains(c);
            (port.parse::<u16>().is_ok() && path.chars().all(fine)).then_some(())
        };
        if self.http.as_deref().is_some_and(|http| place(http).is_none()) {
            return Err("`http` is a port and a path: \":8080/checkpoint\"".to_owned());
        }
        check_command(&self.exec)?;
        check_command(&self.proof)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn saving_has_one_way_and_a_proof() {
        let check = |yaml: &str| serde_yaml::from_str::<Save>(yaml).unwrap().check();
        for fine in
            ["annotate: true", "exec: [save]", "{signal: USR1, proof: [test, -e, /done]}", "{http: ':8080/checkpoint'}"]
        {
            assert!(check(fine).is_ok(), "{fine}");
        }
        for wrong in [
            "{}",
            "{annotate: true, exec: [save]}",
            "signal: USR1",
            "{signal: '9; rm', proof: [x]}",
            "http: 'http://elsewhere/'",
            "http: ':99999/x'",
            "exec: ['{what}']",
        ] {
            assert!(check(wrong).is_err(), "{wrong}");
        }
    }
}
