//! Which CLOUD nodes of Slurm to start for what waits, and which idle ones to stop.
//!
//! Starting is for whole jobs: nodes for half of a gang would idle. Stopping waits until a node was
//! idle for some time and nothing was started at the same look, so that a node that was just fetched
//! is not sent away.

use jiff::Timestamp;
use serde::Serialize;

use super::ELASTIC_SCHEMA;
use super::sides::{Demand, Machines, Size, SlurmNode};

/// How far it may go.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// CLOUD nodes that stay on, whatever waits.
    pub min: u32,
    /// CLOUD nodes that may be on.
    pub max: u32,
    /// Nodes that may be started, or stopped, at one look.
    pub step: u32,
    /// Seconds that a node must have been idle before it is stopped.
    pub idle_s: f64,
}

/// A node to start or stop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Chosen {
    /// Its name in Slurm.
    pub node: String,
    /// Why.
    pub why: String,
    /// What became of it: "planned", "done", "failed", "refused".
    pub state: &'static str,
}

/// A job for which no node is started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unmet {
    /// Which.
    pub job: String,
    /// Why.
    pub why: String,
}

/// What to do, and why.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Decision {
    /// Always [`ELASTIC_SCHEMA`].
    pub schema: &'static str,
    /// The Slurm's name.
    pub slurm: String,
    /// Whether anything was to be changed.
    pub apply: bool,
    /// In one sentence.
    pub why: String,
    /// CLOUD nodes there are.
    pub cloud_nodes: u32,
    /// Those that are on or being switched on.
    pub on: u32,
    /// Of these, those without work.
    pub idle: u32,
    /// Jobs that wait for room.
    pub waiting_jobs: u32,
    /// Jobs that wait for something that no node would help.
    pub blocked_jobs: u32,
    /// To be started.
    pub resume: Vec<Chosen>,
    /// To be stopped.
    pub suspend: Vec<Chosen>,
    /// Jobs that must wait all the same.
    pub unmet: Vec<Unmet>,
}

/// What is known of a node while jobs are given places.
struct Slot<'n> {
    node: &'n SlurmNode,
    /// What is free once it is on; `None` where Slurm hides what it has: it takes one job.
    free: Option<Size>,
    /// On, or being switched on.
    on: bool,
    /// A waiting job has a place on it.
    taken: bool,
    chosen: Option<String>,
}

impl Slot<'_> {
    fn takes(&self, job: &Demand) -> bool {
        let node = self.node;
        let kind = job.gpu_type.as_ref();
        let room = match &self.free {
            Some(free) => free.holds(&job.each),
            None => !self.taken,
        };
        let known = node.size.is_some();
        room && node.takes_work()
            && !node.stopping
            && job.partitions.iter().any(|name| node.partitions.contains(name))
            && (!known || kind.is_none_or(|kind| node.gpu_types.contains(kind)))
            && (!known || job.features.iter().all(|feature| node.features.contains(feature)))
    }

    fn take(&mut self, job: &Demand) {
        self.taken = true;
        self.free = self.free.map(|free| free.without(&job.each));
    }
}

/// Decides. The same machines, limits and time always give the same decision.
pub fn decide(machines: &Machines, limits: &Limits, now: Timestamp) -> Decision {
    let is_on = |node: &SlurmNode| !node.asleep && !node.stopping;
    let mut slots: Vec<Slot<'_>> = machines
        .nodes
        .iter()
        .map(|node| Slot {
            node,
            free: node.size.map(|size| if is_on(node) && !node.starting { node.free } else { size }),
            on: is_on(node),
            taken: false,
            chosen: None,
        })
        .collect();
    let cloud = |slot: &&Slot<'_>| slot.node.cloud;
    let count = |slots: &[Slot<'_>], is: &dyn Fn(&Slot<'_>) -> bool| {
        u32::try_from(slots.iter().filter(|slot| slot.node.cloud && is(slot)).count()).unwrap_or(u32::MAX)
    };
    let on = count(&slots, &|slot| slot.on);
    let mut room = limits.step.min(limits.max.saturating_sub(on));
    let mut unmet = Vec::new();
    for job in &machines.demand {
        place(job, &mut slots, &mut room, limits, &mut unmet);
    }
    let fresh = count(&slots, &|slot| slot.chosen.is_some());
    let mut missing = limits.min.min(limits.max).saturating_sub(on + fresh).min(room);
    for slot in &mut slots {
        let startable = slot.node.cloud && !slot.on && slot.chosen.is_none() && can_start(slot.node);
        if missing > 0 && startable {
            missing -= 1;
            slot.chosen = Some(format!("{} stay on, whatever waits", limits.min));
        }
    }
    let resume: Vec<Chosen> = slots
        .iter()
        .filter_map(|slot| Some(Chosen { node: slot.node.name.clone(), why: slot.chosen.clone()?, state: "planned" }))
        .collect();
    let suspend = if resume.is_empty() { surplus(&slots, limits, on, now) } else { Vec::new() };
    let idle = count(&slots, &|slot| slot.on && !slot.node.busy && !slot.node.starting);
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let mut decision = Decision {
        schema: ELASTIC_SCHEMA,
        slurm: String::new(),
        apply: false,
        why: String::new(),
        cloud_nodes: number(slots.iter().filter(cloud).count()),
        on,
        idle,
        waiting_jobs: number(machines.demand.len()),
        blocked_jobs: machines.blocked,
        resume,
        suspend,
        unmet,
    };
    decision.why = sentence(&decision, limits);
    decision
}

fn can_start(node: &SlurmNode) -> bool {
    node.asleep && !node.stopping && node.takes_work()
}

/// Gives a job places: on nodes that are on first, then on such as are to be started already, then on
/// more. All of a job's nodes or none.
fn place(job: &Demand, slots: &mut [Slot<'_>], room: &mut u32, limits: &Limits, unmet: &mut Vec<Unmet>) {
    let wanted = job.nodes.max(1) as usize;
    let is_there = |slot: &Slot<'_>| slot.on || slot.chosen.is_some();
    let mut places: Vec<usize> = (0..slots.len()).filter(|&at| is_there(&slots[at]) && slots[at].takes(job)).collect();
    // Those that are coming are taken after those that are there, as they were when they were chosen: else
    // the next look might ask for one more.
    places.sort_by_key(|&at| !slots[at].on || slots[at].node.starting);
    places.truncate(wanted);
    let missing = wanted - places.len();
    if missing > 0 {
        let startable = |slot: &Slot<'_>| {
            slot.node.cloud && !slot.on && slot.chosen.is_none() && can_start(slot.node) && slot.takes(job)
        };
        let more: Vec<usize> = (0..slots.len()).filter(|&at| startable(&slots[at])).take(missing).collect();
        let nodes = |count: usize| if count == 1 { "1 node more".to_owned() } else { format!("{count} nodes more") };
        let why = if more.len() < missing {
            let many = match more.len() {
                0 => "none".to_owned(),
                many => format!("only {many}"),
            };
            Some(format!("needs {}, and {many} of those that are off would do", nodes(missing)))
        } else if u32::try_from(missing).is_ok_and(|missing| missing <= *room) {
            None
        } else if *room < limits.step {
            Some(format!("needs {}; --max {} and what others get leave {room}", nodes(missing), limits.max))
        } else {
            Some(format!("needs {}, and --step lets {} be started at a time", nodes(missing), limits.step))
        };
        if let Some(why) = why {
            unmet.push(Unmet { job: job.job.clone(), why });
            return;
        }
        *room -= u32::try_from(missing).unwrap_or(u32::MAX).min(*room);
        for &at in &more {
            slots[at].chosen = Some(format!("{} waits for it", job.job));
        }
        places.extend(more);
    }
    for at in places {
        slots[at].take(job);
    }
}

/// Nodes that were idle for long enough, the longest first.
fn surplus(slots: &[Slot<'_>], limits: &Limits, on: u32, now: Timestamp) -> Vec<Chosen> {
    let most = limits.step.min(on.saturating_sub(limits.min)) as usize;
    let mut idle: Vec<(f64, &SlurmNode)> = slots
        .iter()
        .filter(|slot| slot.node.cloud && slot.on && !slot.taken && !slot.node.starting && !slot.node.busy)
        // A node that somebody drained or that is down is being looked at.
        .filter(|slot| slot.node.takes_work())
        .filter_map(|slot| Some((now.duration_since(slot.node.idle_since?).as_secs_f64(), slot.node)))
        .filter(|(idle, _)| *idle >= limits.idle_s)
        .collect();
    idle.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.name.cmp(&b.1.name)));
    let minutes = |seconds: f64| match seconds {
        seconds if seconds < 120.0 => format!("{seconds:.0} s"),
        seconds => format!("{:.0} min", seconds / 60.0),
    };
    let chosen = |(idle, node): (f64, &SlurmNode)| Chosen {
        node: node.name.clone(),
        why: format!("idle for {}, and nothing waits for it", minutes(idle)),
        state: "planned",
    };
    idle.into_iter().take(most).map(chosen).collect()
}

fn sentence(decision: &Decision, limits: &Limits) -> String {
    let plural = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    if decision.cloud_nodes == 0 {
        return "this Slurm has no nodes of State=CLOUD: nothing can be started or stopped".to_owned();
    }
    let waiting = match decision.waiting_jobs {
        0 => "nothing waits for room".to_owned(),
        1 => "1 job waits for room".to_owned(),
        count => format!("{count} jobs wait for room"),
    };
    match (decision.resume.len(), decision.suspend.len()) {
        (0, 0) if decision.on >= limits.max && !decision.unmet.is_empty() => {
            format!("{waiting}, and {} of at most {} nodes are on", decision.on, limits.max)
        }
        (0, 0) if decision.waiting_jobs > 0 && decision.unmet.is_empty() => {
            format!("{waiting}, and nodes that are on or starting have it")
        }
        (0, 0) if decision.waiting_jobs > 0 => format!("{waiting}, and no node that could be started would help"),
        (0, 0) if decision.on <= limits.min => format!("{waiting}; the least that stays on is {}", limits.min),
        (0, 0) if decision.idle > 0 => format!("{waiting}, and no node was idle for long enough"),
        (0, 0) => format!("{waiting}, and all nodes that are on have work"),
        (0, stop) => format!("{waiting}: {} to stop", plural(stop, "idle node")),
        (start, _) => format!("{waiting}: {} to start", plural(start, "node")),
    }
}

#[cfg(test)]
#[path = "elastic_tests.rs"]
mod tests;
