//! Makes the tree of a recording: what belongs together, and in which order it is shown.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::{NodeId, NodeKind, Tree};
use crate::trace::{Layer, Parent, ProcessId, ThreadId, Trace, TrackId};
use crate::view::text::plain;

/// Idle threads are gathered from so many on.
const GATHERED: usize = 3;

/// A thread's tracks and what they weigh.
#[derive(Default)]
struct Weighed {
    tracks: Vec<TrackId>,
    /// Slices of all of them.
    slices: usize,
    /// It holds more than its states on and off the CPU.
    tells: bool,
}

/// A tree being made.
pub(super) struct Planting<'t> {
    trace: &'t Trace,
    tree: Tree,
    global: Vec<TrackId>,
    of_process: Vec<Vec<TrackId>>,
    of_thread: Vec<Weighed>,
    threads: Vec<Vec<ThreadId>>,
}

impl<'t> Planting<'t> {
    pub fn new(trace: &'t Trace) -> Planting<'t> {
        let mut planting = Planting {
            trace,
            tree: Tree::default(),
            global: Vec::new(),
            of_process: vec![Vec::new(); trace.processes.len()],
            of_thread: Vec::new(),
            threads: vec![Vec::new(); trace.processes.len()],
        };
        planting.of_thread.resize_with(trace.threads.len(), Weighed::default);
        for (i, track) in trace.tracks.iter().enumerate() {
            let counts = track.counters.iter().any(|sample| sample.value != 0.0);
            let empty = track.slices.is_empty() && track.instants.is_empty() && !counts;
            if empty || track.layer == Layer::Meta {
                continue;
            }
            let id = TrackId(i as u32);
            match track.parent {
                Parent::Global => planting.global.push(id),
                Parent::Process(p) => match planting.of_process.get_mut(p.0 as usize) {
                    Some(tracks) => tracks.push(id),
                    None => planting.global.push(id),
                },
                Parent::Thread(t) => match planting.of_thread.get_mut(t.0 as usize) {
                    Some(thread) => {
                        thread.tracks.push(id);
                        thread.slices += track.slices.len();
                        thread.tells |= !matches!(track.layer, Layer::Sched | Layer::Syscall | Layer::Io);
                    }
                    None => planting.global.push(id),
                },
            }
        }
        for (t, thread) in trace.threads.iter().enumerate() {
            if !planting.of_thread[t].tracks.is_empty()
                && let Some(threads) = planting.threads.get_mut(thread.process.0 as usize)
            {
                threads.push(ThreadId(t as u32));
            }
        }
        planting
    }

    pub fn plant(mut self) -> Tree {
        for id in std::mem::take(&mut self.global) {
            self.track(id, None);
        }
        let targets: BTreeSet<u32> = self.trace.meta.iter().flat_map(|meta| meta.targets.iter().copied()).collect();
        let mut order: Vec<_> = (0..self.trace.processes.len())
            .filter(|&p| !self.of_process[p].is_empty() || !self.threads[p].is_empty())
            .map(|p| {
                let process = &self.trace.processes[p];
                (process.rank, (!targets.contains(&process.pid), Reverse(self.weight(p))), p)
            })
            .collect();
        // Ranks ascending, then what has none; within one, what was to be recorded, then its
        // children, the busiest first.
        order.sort_unstable_by_key(|&(rank, weight, p)| (rank.is_none(), rank, weight, p));
        for group in order.chunk_by(|a, b| a.0.is_some() && a.0 == b.0) {
            let Some((rank, _, first)) = group.first().map(|&(rank, weight, p)| (rank, weight, p)) else { continue };
            let Some(rank) = rank else {
                self.process(first, None);
                continue;
            };
            let telling = self.telling(first);
            // A rank is its main process: no line is spent on both.
            let process = &self.trace.processes[first];
            let label = format!("rank {rank} · {}", named(&process.name, process.pid));
            let node = self.tree.add(NodeKind::Rank(rank), None, label, telling);
            self.inside(first, node);
            for &(_, _, p) in &group[1..] {
                self.process(p, Some(node));
            }
        }
        self.tree
    }

    fn weight(&self, process: usize) -> usize {
        let slices = |id: &TrackId| self.trace.tracks[id.0 as usize].slices.len();
        let own: usize = self.of_process[process].iter().map(slices).sum();
        own + self.threads[process].iter().map(|t| self.of_thread[t.0 as usize].slices).sum::<usize>()
    }

    /// The states of the thread that says most.
    fn telling(&self, process: usize) -> Option<TrackId> {
        let threads = self.threads[process].iter().map(|t| &self.of_thread[t.0 as usize]);
        let thread = threads.max_by_key(|thread| (thread.tells, thread.slices))?;
        self.telling_of(&thread.tracks)
    }

    fn telling_of(&self, tracks: &[TrackId]) -> Option<TrackId> {
        let holds = |id: &&TrackId| !self.trace.tracks[id.0 as usize].slices.is_empty();
        let states = |id: &&TrackId| self.trace.tracks[id.0 as usize].layer == Layer::Sched;
        let with_slices = || tracks.iter().filter(holds);
        with_slices().find(states).or_else(|| with_slices().min_by_key(|id| self.place(**id))).copied()
    }

    fn process(&mut self, p: usize, parent: Option<NodeId>) {
        let process = &self.trace.processes[p];
        let label = named(&process.name, process.pid);
        let node = self.tree.add(NodeKind::Process(ProcessId(p as u32)), parent, label, self.telling(p));
        self.inside(p, node);
    }

    /// What hangs under a process.
    fn inside(&mut self, p: usize, node: NodeId) {
        let mut own = std::mem::take(&mut self.of_process[p]);
        own.sort_by_key(|id| self.place(*id));
        let layer = |id: &TrackId| self.trace.tracks[id.0 as usize].layer;
        let (counters, own): (Vec<_>, Vec<_>) =
            own.into_iter().partition(|id| !self.trace.tracks[id.0 as usize].counters.is_empty());
        // Disks come after the threads, which say what they are used for.
        let (disks, own): (Vec<_>, Vec<_>) = own.into_iter().partition(|id| layer(id) == Layer::Io);
        for id in own {
            self.track(id, Some(node));
        }
        let pid = self.trace.processes[p].pid;
        let mut threads = std::mem::take(&mut self.threads[p]);
        threads.sort_by_key(|t| {
            let thread = &self.of_thread[t.0 as usize];
            let main = self.trace.threads[t.0 as usize].tid == pid;
            (!thread.tells, !main, Reverse(thread.slices), t.0)
        });
        let most = threads.iter().map(|t| self.of_thread[t.0 as usize].slices).max().unwrap_or(0);
        let idle = |t: &ThreadId| {
            let thread = &self.of_thread[t.0 as usize];
            !thread.tells && thread.slices <= (most / 20).max(8)
        };
        let (idle, busy): (Vec<_>, Vec<_>) = threads.into_iter().partition(idle);
        for t in busy {
            self.thread(t, node);
        }
        if idle.len() >= GATHERED {
            let label = format!("{} idle threads", idle.len());
            let gathered = self.tree.add(NodeKind::Idle(ProcessId(p as u32)), Some(node), label, None);
            for t in idle {
                self.thread(t, gathered);
            }
        } else {
            for t in idle {
                self.thread(t, node);
            }
        }
        let disks_under = match disks.first() {
            Some(&first) if disks.len() >= GATHERED => {
                let name = plain(self.trace.text(self.trace.tracks[first.0 as usize].name));
                let label = format!("{name} and {} more", disks.len() - 1);
                self.tree.add(NodeKind::Lanes(ProcessId(p as u32)), Some(node), label, Some(first))
            }
            _ => node,
        };
        for id in disks {
            self.track(id, Some(disks_under));
        }
        for id in counters {
            self.track(id, Some(node));
        }
    }

    fn thread(&mut self, t: ThreadId, parent: NodeId) {
        let thread = &self.trace.threads[t.0 as usize];
        let mut tracks = std::mem::take(&mut self.of_thread[t.0 as usize].tracks);
        tracks.sort_by_key(|id| self.place(*id));
        // Of a thread with its process's name, its number alone says enough.
        let label = match self.trace.processes.get(thread.process.0 as usize) {
            Some(process) if process.pid == thread.tid => "main thread".to_owned(),
            Some(process) if process.name == thread.name || thread.name.is_empty() => format!("thread {}", thread.tid),
            _ => named(&thread.name, thread.tid),
        };
        let node = self.tree.add(NodeKind::Thread(t), Some(parent), label, self.telling_of(&tracks));
        for id in tracks {
            self.track(id, Some(node));
        }
    }

    fn track(&mut self, id: TrackId, parent: Option<NodeId>) {
        let track = &self.trace.tracks[id.0 as usize];
        let name = self.trace.text(track.name);
        let label = plain(if name.is_empty() { track.layer.name() } else { name });
        let telling = (!track.slices.is_empty()).then_some(id);
        self.tree.add(NodeKind::Track(id), parent, label, telling);
    }

    /// Place of a track among its siblings.
    fn place(&self, id: TrackId) -> (usize, u32) {
        let layer = self.trace.tracks[id.0 as usize].layer;
        (Layer::ALL.iter().position(|l| *l == layer).unwrap_or(usize::MAX), id.0)
    }
}

fn named(name: &str, id: u32) -> String {
    if name.trim().is_empty() { format!("[{id}]") } else { format!("{} {id}", plain(name)) }
}
