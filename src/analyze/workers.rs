//! What the processes and threads that feed the steps do with their time.

use rustc_hash::FxHashMap;

use super::frames::FrameId;
use super::index::Index;
use super::layers::Layers;
use super::names::Reason;
use super::roles::{Role, Roles};
use crate::trace::Layer;

/// One or many feeders, as shares of their time.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Workers {
    /// How many.
    pub count: usize,
    /// Whether they are processes of their own.
    pub processes: bool,
    /// On the CPU, or ready for it.
    pub cpu: f64,
    /// Reading files and waiting for the disk.
    pub disk: f64,
    /// In a sleep call.
    pub sleep: f64,
    /// Waiting for a socket.
    pub network: f64,
    /// Waiting for the main process to take what they made, or to ask.
    pub idle: f64,
    /// Waiting for the GIL.
    pub gil: f64,
    /// The user's function they are busy in, and the share of busy time in it.
    pub frame: FrameId,
    pub frame_share: f64,
    /// A long stay there: thread, layer, slice.
    pub place: Option<(usize, Layer, u32)>,
}

impl Workers {
    /// Share of time they work.
    pub fn busy(&self) -> f64 {
        self.cpu + self.disk + self.sleep + self.network + self.gil
    }
}

/// Sweeps all feeders over `[from, to)`.
pub(super) fn sweep(index: &Index<'_>, roles: &Roles, from: u64, to: u64) -> Workers {
    let mut w = Workers::default();
    let (mut all, mut ns) = (0u64, [0u64; 6]);
    let mut frames: FxHashMap<FrameId, u64> = FxHashMap::default();
    let mut longest: FxHashMap<FrameId, (u64, usize, u32)> = FxHashMap::default();
    for thread in feeders(index, roles) {
        w.count += 1;
        w.processes |= roles.role.get(index.process_of(thread)) == Some(&Role::Worker);
        let Some(track) = index.threads[thread].sched.or(index.threads[thread].python) else { continue };
        let (Some(first), Some(last)) = (track.slices.first(), track.slices.last()) else { continue };
        let (mut now, end) = (from.max(first.start_ns), to.min(last.end_ns()));
        let mut layers = Layers::new(index, thread);
        while now < end {
            layers.seek(now, thread);
            let until = layers.boundary().min(end).max(now + 1);
            let (sched, py) = (layers.sched(), layers.py());
            let span = until - now;
            let kind = match sched.reason {
                Reason::Running | Reason::Preempted => 0,
                Reason::Disk | Reason::File | Reason::PageFault => 1,
                Reason::Sleep => 2,
                Reason::Socket => 3,
                Reason::Gil => 5,
                Reason::Unknown if !index.has_sched => 0,
                _ => 4,
            };
            ns[kind] += span;
            all += span;
            if kind != 4 && py.user != FrameId(0) {
                *frames.entry(py.user).or_default() += span;
                let best = longest.entry(py.user).or_default();
                if span > best.0 {
                    *best = (span, thread, py.slice);
                }
            }
            now = until;
        }
    }
    let share = |n: u64| n as f64 / all.max(1) as f64;
    [w.cpu, w.disk, w.sleep, w.network, w.idle, w.gil] = ns.map(share);
    let busy: u64 = ns.iter().sum::<u64>() - ns[4];
    if let Some((frame, time)) = frames.iter().max_by_key(|(f, n)| (**n, std::cmp::Reverse(**f))) {
        w.frame = *frame;
        w.frame_share = *time as f64 / busy.max(1) as f64;
        w.place = longest.get(frame).map(|(_, thread, slice)| (*thread, Layer::Python, *slice));
    }
    w
}

/// The threads that produce: the busiest of each worker process, and feeding threads of main processes.
fn feeders(index: &Index<'_>, roles: &Roles) -> Vec<usize> {
    let mut best: FxHashMap<usize, usize> = FxHashMap::default();
    let mut found = Vec::new();
    // A DataLoader's workers are known; what else wakes the main process then only helps.
    let known: Vec<usize> = (0..index.threads.len())
        .filter(|t| roles.totals[*t].loader_worker && roles.role.get(index.process_of(*t)) == Some(&Role::Worker))
        .map(|t| index.process_of(t))
        .collect();
    for thread in 0..index.threads.len() {
        let process = index.process_of(thread);
        if !known.is_empty() && !known.contains(&process) {
            continue;
        }
        match roles.role.get(process) {
            Some(Role::Worker) => {
                let t = best.entry(process).or_insert(thread);
                let weight = |t: usize| (roles.totals[t].python_ns.min(1), roles.totals[t].running_ns);
                if weight(thread) > weight(*t) {
                    *t = thread;
                }
            }
            Some(Role::Main) if roles.feeds[thread] => found.push(thread),
            _ => {}
        }
    }
    // Threads beside worker processes only pass on what those make.
    if !best.is_empty() {
        found.clear();
    }
    found.extend(best.into_values());
    found.sort_unstable();
    found
}

/// How many CPUs the recording shows, and which share of their time the recorded threads used.
pub(super) fn cpus(index: &Index<'_>) -> (u64, f64) {
    let (mut highest, mut running) = (0, 0u64);
    for track in index.threads.iter().filter_map(|t| t.sched) {
        for s in track.slices.iter().filter(|s| index.name(s.name).reason == Reason::Running) {
            running += s.dur_ns;
            highest = highest.max(index.arg_u64(s, index.keys.cpu).unwrap_or(0));
        }
    }
    let cpus = highest + 1;
    (cpus, running as f64 / (cpus * index.length_ns().max(1)) as f64)
}
