//! Which drains and cordons one side lacks, and which of our own to take back.
//!
//! A drain or cordon that aictl set is a mirror, never a source: that is why nothing goes round in
//! circles. What a human did is never undone, not even where he took a mirror of ours away.

use serde::Serialize;

use super::sides::{KubernetesNode, SlurmNode};
use super::{CORDON, SYNC_SCHEMA};

/// How a reason in Slurm begins that aictl wrote.
const MARK: &str = "aictl queue-sync:";

/// The reason of a mirrored drain: our mark, and why.
pub fn mark(why: &str) -> String {
    // Slurm's text form has KEY=VALUE words, and a reason is one line.
    let plain: String = why.chars().map(|c| if c.is_control() || c == '=' { ' ' } else { c }).collect();
    format!("{MARK} {}", plain.chars().take(160).collect::<String>().trim())
}

/// What is to be done to make the sides agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Drain the node in Slurm, as it is cordoned in Kubernetes.
    Drain,
    /// Take our drain in Slurm back.
    Undrain,
    /// Cordon the node in Kubernetes, as it is drained in Slurm.
    Cordon,
    /// Take our cordon in Kubernetes back.
    Uncordon,
}

impl Order {
    /// For people: "drain it in Slurm".
    pub fn words(self) -> &'static str {
        match self {
            Order::Drain => "drain it in Slurm",
            Order::Undrain => "take our drain in Slurm back",
            Order::Cordon => "cordon it in Kubernetes",
            Order::Uncordon => "take our cordon in Kubernetes back",
        }
    }

    /// Whether it takes a node out of service.
    pub fn takes_out(self) -> bool {
        matches!(self, Order::Drain | Order::Cordon)
    }
}

/// A node that both sides have.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Its name in Slurm.
    pub node: String,
    /// As Slurm has it.
    pub slurm: SlurmNode,
    /// As Kubernetes has it.
    pub kubernetes: KubernetesNode,
    /// Whether both say the same.
    pub agree: bool,
    /// In what they don't, or why they do; empty where there is nothing to say.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// What would make them agree.
    #[serde(rename = "do", skip_serializing_if = "Option::is_none")]
    pub order: Option<Order>,
    /// What became of it: "planned", "done", "failed", "refused".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<&'static str>,
    /// Why it became that.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub said: String,
}

/// Both sides.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sheet {
    /// Always [`SYNC_SCHEMA`].
    pub schema: &'static str,
    /// The Slurm's name.
    pub slurm: String,
    /// The cluster's name.
    pub kubernetes: String,
    /// Whether anything was to be changed.
    pub apply: bool,
    /// Nodes that both have, by name.
    pub nodes: Vec<Row>,
    /// Nodes that only Slurm has.
    pub only_slurm: Vec<String>,
    /// Nodes that only Kubernetes has.
    pub only_kubernetes: Vec<String>,
}

impl Sheet {
    /// Whether both say the same of all nodes that they share.
    pub fn agree(&self) -> bool {
        self.nodes.iter().all(|row| row.agree)
    }
}

/// Lays both sides side by side. `drained_before` tells of a Slurm node whether the journal knows of
/// a drain of ours that was not taken back.
pub fn mirror(slurm: &[SlurmNode], kubernetes: &[KubernetesNode], drained_before: impl Fn(&str) -> bool) -> Sheet {
    let mut left: Vec<bool> = vec![true; kubernetes.len()];
    let (mut nodes, mut only_slurm) = (Vec::new(), Vec::new());
    for own in slurm {
        match partner(own, slurm, kubernetes) {
            Some(index) if left[index] => {
                left[index] = false;
                nodes.push(row(own, &kubernetes[index], drained_before(&own.name)));
            }
            _ => only_slurm.push(own.name.clone()),
        }
    }
    nodes.sort_by(|a: &Row, b| a.node.cmp(&b.node));
    let only_kubernetes = kubernetes.iter().zip(&left).filter(|(_, left)| **left).map(|(node, _)| node.name.clone());
    Sheet {
        schema: SYNC_SCHEMA,
        slurm: String::new(),
        kubernetes: String::new(),
        apply: false,
        nodes,
        only_slurm,
        only_kubernetes: only_kubernetes.collect(),
    }
}

/// The same machine on the other side: by the label, by name, by the name without its domain, and by
/// host name or address where that means one node only.
fn partner(own: &SlurmNode, slurm: &[SlurmNode], kubernetes: &[KubernetesNode]) -> Option<usize> {
    let one = |is: &dyn Fn(&KubernetesNode) -> bool| {
        let mut found = kubernetes.iter().enumerate().filter(|(_, node)| is(node)).map(|(index, _)| index);
        found.next().filter(|_| found.next().is_none())
    };
    let short = |name: &str| name.split('.').next().unwrap_or_default().to_ascii_lowercase();
    let unnamed = |node: &KubernetesNode| node.slurm_name.is_none();
    let shared = |is: &dyn Fn(&SlurmNode) -> bool| slurm.iter().filter(|node| is(node)).count() > 1;
    let by_place = |text: &str, is: &dyn Fn(&SlurmNode) -> bool| {
        let lonely = !text.is_empty() && !shared(is);
        lonely.then(|| one(&|node| unnamed(node) && node.addresses.iter().any(|own| short_or_ip(own, text)))).flatten()
    };
    one(&|node| node.slurm_name.as_deref() == Some(&own.name))
        .or_else(|| one(&|node| unnamed(node) && node.name == own.name))
        .or_else(|| one(&|node| unnamed(node) && short(&node.name) == short(&own.name)))
        .or_else(|| by_place(&own.host, &|node| node.host == own.host))
        .or_else(|| by_place(&own.address, &|node| node.address == own.address))
}

fn short_or_ip(own: &str, text: &str) -> bool {
    own == text || (text.parse::<std::net::IpAddr>().is_err() && own.split('.').next() == text.split('.').next())
}

fn row(slurm: &SlurmNode, kubernetes: &KubernetesNode, drained_before: bool) -> Row {
    let ours_in_slurm = slurm.drained && slurm.reason.starts_with(MARK);
    let ours_in_kubernetes = kubernetes.incidents.iter().any(|id| id == CORDON);
    let cordon_is_ours = kubernetes.cordoned && kubernetes.means.iter().any(|what| what == "cordon");
    // Who else wants it out of service, in Kubernetes: a human's cordon, or a fault that aictl saw.
    let others: Vec<&str> = kubernetes.incidents.iter().map(String::as_str).filter(|id| *id != CORDON).collect();
    let source_kubernetes =
        (kubernetes.cordoned && !cordon_is_ours) || !others.is_empty() || kubernetes.fault.is_some();
    let source_slurm = slurm.drained && !ours_in_slurm;
    let cordoned_here = kubernetes.cordoned || kubernetes.fault.is_some();
    let (mut order, mut said) = (None, String::new());
    if source_kubernetes && !slurm.drained {
        if drained_before {
            "somebody resumed it in Slurm by hand: left alone until its cordon ends".clone_into(&mut said);
        } else {
            order = Some(Order::Drain);
        }
    } else if !source_kubernetes && ours_in_slurm {
        order = Some(Order::Undrain);
    }
    if source_slurm && !cordoned_here {
        if ours_in_kubernetes {
            "somebody uncordoned it by hand: left alone until its drain ends".clone_into(&mut said);
        } else {
            order = Some(Order::Cordon);
        }
    } else if !source_slurm && ours_in_kubernetes {
        // A cordon of ours goes even where a drain of ours is needed the other way about.
        order = order.or(Some(Order::Uncordon));
    }
    let (agree, why) = verdict(slurm, kubernetes, source_slurm, source_kubernetes);
    let state = order.map(|_| "planned");
    Row {
        node: slurm.name.clone(),
        slurm: slurm.clone(),
        kubernetes: kubernetes.clone(),
        agree: agree && order.is_none(),
        why,
        order,
        state,
        said,
    }
}

fn verdict(slurm: &SlurmNode, kubernetes: &KubernetesNode, drained: bool, cordoned: bool) -> (bool, String) {
    let both = slurm.gpus_allocated + kubernetes.gpus_allocated;
    let has = slurm.gpus.max(kubernetes.gpus);
    if both > has + 1e-9 {
        return (false, format!("{both} GPUs are handed out by both sides together, and it has {has}"));
    }
    match (slurm.takes_work(), kubernetes.takes_work()) {
        (true, true) => (true, String::new()),
        (false, false) => {
            let why = match (drained, cordoned) {
                (true, false) => format!("drained in Slurm: {}", slurm.reason),
                (false, true) => reason_of(kubernetes),
                _ => String::new(),
            };
            (true, why)
        }
        (false, true) if slurm.drained => (false, format!("drained in Slurm: {}", slurm.reason)),
        (false, true) => {
            let reason = if slurm.reason.is_empty() { String::new() } else { format!(" ({})", slurm.reason) };
            (false, format!("{} in Slurm{reason}, and Kubernetes would give it pods", slurm.state))
        }
        // Slurm starts it when it is needed, and then its kubelet comes back.
        (true, false) if slurm.asleep && !cordoned => (true, "switched off by Slurm".to_owned()),
        (true, false) if cordoned || kubernetes.cordoned => (false, reason_of(kubernetes)),
        (true, false) => (false, format!("{} in Kubernetes, and Slurm would give it jobs", kubernetes.state)),
    }
}

/// Why it is out of service in Kubernetes.
pub(super) fn reason_of(node: &KubernetesNode) -> String {
    match &node.fault {
        Some(fault) => format!("isolated in Kubernetes: {fault}"),
        None if node.cordoned => "cordoned in Kubernetes".to_owned(),
        None => format!("{} in Kubernetes", node.state),
    }
}

impl Row {
    /// Why an order is given, for the mark that it leaves.
    pub fn cause(&self) -> String {
        match self.order {
            Some(Order::Drain) => reason_of(&self.kubernetes),
            Some(Order::Cordon) => format!("drained in Slurm: {}", self.slurm.reason),
            Some(Order::Undrain) => "Kubernetes would give it pods again".to_owned(),
            Some(Order::Uncordon) => "Slurm would give it jobs again".to_owned(),
            None => String::new(),
        }
    }
}
