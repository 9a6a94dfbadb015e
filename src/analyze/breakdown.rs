//! Sweeps a driving thread from its first step to its last and adds up where time went.

use rustc_hash::FxHashMap;

use super::classify::{How, Moment, Surroundings};
use super::frames::FrameId;
use super::index::Index;
use super::layers::Layers;
use super::report::Category;
use super::roles::Roles;
use crate::trace::{Layer, StrId};

/// Number of categories.
pub(super) const CATEGORIES: usize = Category::ALL.len();

/// Nanoseconds by category.
pub(super) type Shares = [u64; CATEGORIES];

/// What time of one kind has in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Cause {
    pub category: Category,
    pub how: How,
    pub frame: FrameId,
    pub caller: FrameId,
    pub line: u32,
    pub inner: FrameId,
    pub inner_line: u32,
    pub what: StrId,
}

/// Time of one cause, and its longest instance.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    pub ns: u64,
    pub count: u64,
    pub longest_ns: u64,
    /// Where: layer's track of the thread, index of the slice.
    pub place: Option<(Layer, u32)>,
    pub thread: usize,
}

/// Where a driving thread's time went.
#[derive(Debug, Default)]
pub(super) struct Breakdown {
    pub total: Shares,
    /// By step.
    pub steps: Vec<Shares>,
    pub causes: FxHashMap<Cause, Tally>,
    pub preempted_ns: u64,
    /// The longest stretch of it: thread and slice of its `cpu` track, ns.
    pub preempted_longest: (Option<(usize, u32)>, u64),
    pub gil_ns: u64,
}

impl Breakdown {
    /// Time swept.
    pub fn all_ns(&self) -> u64 {
        self.total.iter().sum()
    }

    /// Adds another thread's.
    pub fn add(&mut self, other: &Breakdown) {
        for (a, b) in self.total.iter_mut().zip(other.total) {
            *a += b;
        }
        self.preempted_ns += other.preempted_ns;
        if other.preempted_longest.1 > self.preempted_longest.1 {
            self.preempted_longest = other.preempted_longest;
        }
        self.gil_ns += other.gil_ns;
        for (cause, tally) in &other.causes {
            let mine = self.causes.entry(*cause).or_insert(Tally { thread: tally.thread, ..Tally::default() });
            mine.ns += tally.ns;
            mine.count += tally.count;
            if tally.longest_ns > mine.longest_ns {
                (mine.longest_ns, mine.place, mine.thread) = (tally.longest_ns, tally.place, tally.thread);
            }
        }
    }
}

/// Sweeps `thread` over `boundaries` (sorted; steps lie between neighbours).
pub(super) fn sweep(index: &Index<'_>, roles: &Roles, thread: usize, boundaries: &[u64]) -> Breakdown {
    sweep_seen(index, roles, thread, boundaries, |_, _, _| {})
}

/// Sweeps `thread` like [`sweep`], and tells `seen` every moment on the way: from, until, what for.
pub(super) fn sweep_seen(
    index: &Index<'_>,
    roles: &Roles,
    thread: usize,
    boundaries: &[u64],
    mut seen: impl FnMut(u64, u64, Category),
) -> Breakdown {
    let mut result = Breakdown::default();
    let (Some(&first), Some(&last)) = (boundaries.first(), boundaries.last()) else { return result };
    result.steps = vec![Shares::default(); boundaries.len().saturating_sub(1)];
    let tracks = &index.threads[thread];
    let around = Surroundings {
        index,
        roles,
        process: index.process_of(thread),
        has_python: tracks.python.is_some_and(|t| !t.slices.is_empty()),
        has_torch: tracks.torch.is_some_and(|t| !t.slices.is_empty()),
    };
    let collectives = collectives_beside(index, thread);
    let mut next_collective = 0;
    let mut layers = Layers::new(index, thread);
    let mut run = Run::default();
    let (mut now, mut step) = (first, 0);
    while now < last {
        layers.seek(now, thread);
        while collectives.get(next_collective).is_some_and(|(_, end)| *end <= now) {
            next_collective += 1;
        }
        let (collective, edge) = match collectives.get(next_collective) {
            Some((start, end)) if *start <= now => (true, *end),
            Some((start, _)) => (false, *start),
            None => (false, u64::MAX),
        };
        while step + 2 < boundaries.len() && boundaries[step + 1] <= now {
            step += 1;
        }
        let until = layers.boundary().min(edge).min(boundaries[step + 1]).min(last).max(now + 1);
        let moment = around.judge(&layers, collective);
        let ns = until - now;
        let category = moment.category as usize;
        result.total[category] += ns;
        result.steps[step][category] += ns;
        if moment.preempted {
            result.preempted_ns += ns;
            if ns > result.preempted_longest.1 {
                result.preempted_longest = (Some((thread, layers.sched().slice)), ns);
            }
        }
        if moment.how == How::Gil {
            result.gil_ns += ns;
        }
        seen(now, until, moment.category);
        run.extend(moment, ns, thread, &mut result.causes);
        now = until;
    }
    run.close(thread, &mut result.causes);
    result
}

/// Neighbouring moments of the same cause, so that the map is asked once for all of them.
#[derive(Default)]
struct Run {
    moment: Option<Moment>,
    ns: u64,
}

impl Run {
    fn extend(&mut self, moment: Moment, ns: u64, thread: usize, causes: &mut FxHashMap<Cause, Tally>) {
        if self.moment.is_some_and(|m| cause(&m) == cause(&moment)) {
            self.ns += ns;
            return;
        }
        self.close(thread, causes);
        (self.moment, self.ns) = (Some(moment), ns);
    }

    fn close(&mut self, thread: usize, causes: &mut FxHashMap<Cause, Tally>) {
        let Some(moment) = self.moment.take() else { return };
        let tally = causes.entry(cause(&moment)).or_default();
        tally.ns += self.ns;
        tally.count += 1;
        tally.thread = thread;
        if self.ns > tally.longest_ns {
            tally.longest_ns = self.ns;
            tally.place = Some((moment.layer, moment.slice));
        }
    }
}

fn cause(m: &Moment) -> Cause {
    Cause {
        category: m.category,
        how: m.how,
        frame: m.frame,
        caller: m.caller,
        line: m.line,
        inner: m.inner,
        inner_line: m.inner_line,
        what: m.what,
    }
}

/// Times at which other threads of the same process run a collective, joined and sorted.
fn collectives_beside(index: &Index<'_>, thread: usize) -> Vec<(u64, u64)> {
    let process = index.process_of(thread);
    let mut spans: Vec<(u64, u64)> = (0..index.threads.len())
        .filter(|t| *t != thread && index.process_of(*t) == process)
        .filter_map(|t| index.threads[t].nccl)
        .flat_map(|track| track.slices.iter().filter(|s| s.dur_ns > 0).map(|s| (s.start_ns, s.end_ns())))
        .collect();
    spans.sort_unstable();
    let mut joined: Vec<(u64, u64)> = Vec::with_capacity(spans.len());
    for (start, end) in spans {
        match joined.last_mut() {
            Some(last) if start <= last.1 => last.1 = last.1.max(end),
            _ => joined.push((start, end)),
        }
    }
    joined
}
