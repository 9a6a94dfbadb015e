//! Who does what: the threads that drive the steps, and the processes that feed them.

use rustc_hash::{FxHashMap, FxHashSet};

use super::frames::{FrameId, begins_child, frame_args};
use super::index::Index;
use super::names::{FrameClass, NativeClass, OpKind, Reason};

/// A process's part in the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Role {
    /// Runs the steps.
    Main,
    /// Feeds a main process.
    Worker,
    /// Anything else.
    #[default]
    Helper,
}

impl Role {
    /// Name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Role::Main => "main",
            Role::Worker => "worker",
            Role::Helper => "helper",
        }
    }
}

/// Totals of one thread.
#[derive(Debug, Clone, Default)]
pub(super) struct ThreadTotals {
    pub running_ns: u64,
    /// Off the CPU in `wait`.
    pub wait_ns: u64,
    /// Off the CPU in `poll` and `socket`.
    pub network_ns: u64,
    /// Recorded time on and off the CPU.
    pub sched_ns: u64,
    pub optimizer: u32,
    pub backward: u32,
    pub markers: u32,
    pub loader: u32,
    pub ops: u32,
    /// Time in frames of [`FrameClass::Joins`].
    pub joins_ns: u64,
    /// Time in frames that load or put.
    pub loads_ns: u64,
    /// Time under Python frames.
    pub python_ns: u64,
    /// Time on lines on which it ran, and the part of it in libraries that compute.
    pub lines_ns: u64,
    pub native_ns: u64,
    /// Innermost user functions and the time in them.
    pub inner: FxHashMap<FrameId, u64>,
    /// Runs a `DataLoader`'s worker loop.
    pub loader_worker: bool,
}

/// Who does what.
#[derive(Debug, Default)]
pub(super) struct Roles {
    /// Threads that drive steps, one a process; ranks in order.
    pub drivers: Vec<usize>,
    /// By process.
    pub role: Vec<Role>,
    /// By thread: totals.
    pub totals: Vec<ThreadTotals>,
    /// By thread: it produces what a driver consumes.
    pub feeds: Vec<bool>,
    /// By thread: a library's thread that moves data between ranks (gloo's and NCCL's loops).
    pub moves: Vec<bool>,
}

impl Roles {
    /// Finds the drivers and their feeders.
    pub fn of(index: &Index<'_>) -> Roles {
        let totals: Vec<ThreadTotals> = (0..index.threads.len()).map(|t| total(index, t)).collect();
        let processes = index.trace.processes.len();
        let mut leader = vec![None; processes];
        for thread in 0..totals.len() {
            let process = index.process_of(thread);
            let Some(best) = leader.get_mut(process) else { continue };
            let score = |t: usize| lead_score(index, &totals[t], t);
            if best.is_none_or(|b| score(thread) > score(b)) {
                *best = Some(thread);
            }
        }
        let loader_worker: Vec<bool> = (0..processes)
            .map(|p| {
                (0..totals.len()).any(|t| {
                    index.process_of(t) == p
                        && (totals[t].loader_worker || index.trace.threads[t].name.starts_with("pt_data_worker"))
                })
            })
            .collect();
        let drivers = choose(index, &totals, &leader, &loader_worker);
        let mut role = vec![Role::Helper; processes];
        for &d in &drivers {
            if let Some(r) = role.get_mut(index.process_of(d)) {
                *r = Role::Main;
            }
        }
        let mut wakers: FxHashMap<usize, u64> = FxHashMap::default();
        // A pool's own threads take results from its workers and hand them to the driver.
        let with_python = |t: &usize| totals[*t].python_ns > 0 && role.get(index.process_of(*t)) == Some(&Role::Main);
        for thread in (0..totals.len()).filter(|t| drivers.contains(t) || with_python(t)) {
            wakes(index, thread, &mut wakers);
        }
        for p in 0..processes {
            if role[p] == Role::Main {
                continue;
            }
            let woke: u64 = wakers.iter().filter(|(t, _)| index.process_of(**t) == p).map(|(_, n)| n).sum();
            let passive = leader[p].is_some_and(|t| is_passive(&totals[t]));
            if loader_worker[p] || (woke >= 3 && !passive) {
                role[p] = Role::Worker;
            }
        }
        let feeds = (0..totals.len())
            .map(|t| {
                let p = index.process_of(t);
                match role.get(p) {
                    Some(Role::Worker) => true,
                    Some(Role::Main) => {
                        !drivers.contains(&t)
                            && totals[t].python_ns > 0
                            && totals[t].loads_ns * 20 >= totals[t].python_ns
                    }
                    _ => false,
                }
            })
            .collect();
        let moves = movers(index, &totals);
        Roles { drivers, role, totals, feeds, moves }
    }

    /// Whether a thread belongs to a main process other than `process`.
    pub fn is_peer(&self, index: &Index<'_>, thread: usize, process: usize) -> bool {
        let other = index.process_of(thread);
        other != process && self.role.get(other) == Some(&Role::Main)
    }
}

/// How much a thread looks like the one that runs the loop of its process.
fn lead_score(index: &Index<'_>, t: &ThreadTotals, thread: usize) -> (bool, bool, bool, bool, u64) {
    let info = &index.trace.threads[thread];
    let is_main = index.trace.processes.get(info.process.0 as usize).is_some_and(|p| p.pid == info.tid);
    // Without Python, a main thread that hardly runs waits for threads that do the work.
    let waits = t.python_ns == 0 && t.ops == 0 && t.sched_ns > 0 && t.running_ns * 20 < t.sched_ns;
    let active = !is_passive(t) && !waits;
    (
        t.markers + t.optimizer > 0,
        t.backward > 0,
        t.ops > 0 && (t.python_ns > 0 || is_main),
        is_main && active,
        // A Python thread before a helper of a library, however busy that spins.
        t.running_ns / 2 + if t.python_ns > 0 && active { t.running_ns + (1 << 40) } else { 0 },
    )
}

/// Whether a thread only waits for others to end.
fn is_passive(t: &ThreadTotals) -> bool {
    t.sched_ns > 0
        && t.running_ns * 20 < t.sched_ns
        && (t.wait_ns * 5 > t.sched_ns * 4 || t.joins_ns * 5 > t.sched_ns * 4)
}

/// Picks the threads that drive steps.
fn choose(index: &Index<'_>, totals: &[ThreadTotals], leader: &[Option<usize>], loader_worker: &[bool]) -> Vec<usize> {
    let candidates: Vec<(usize, usize)> =
        leader.iter().enumerate().filter(|(p, _)| !loader_worker[*p]).filter_map(|(p, t)| t.map(|t| (p, t))).collect();
    let such = |test: &dyn Fn(&ThreadTotals) -> bool| -> Vec<usize> {
        candidates.iter().filter(|(_, t)| test(&totals[*t])).map(|(_, t)| *t).collect()
    };
    let trains = such(&|t| t.markers + t.optimizer + t.backward > 0);
    let mut drivers = if trains.is_empty() { untrained(index, totals, &candidates) } else { trains };
    drivers.sort_by_key(|t| {
        let process = &index.trace.processes[index.process_of(*t)];
        (process.rank.unwrap_or(u32::MAX), process.pid)
    });
    drivers
}

/// Picks drivers where nothing trains by name.
fn untrained(index: &Index<'_>, totals: &[ThreadTotals], candidates: &[(usize, usize)]) -> Vec<usize> {
    let targets = index.trace.meta.as_ref().map(|m| m.targets.as_slice()).unwrap_or_default();
    let is_target = |p: usize| targets.contains(&index.trace.processes[p].pid);
    let mut named: Vec<usize> = candidates.iter().filter(|(p, _)| is_target(*p)).map(|(_, t)| *t).collect();
    let weight = |t: usize| totals[t].running_ns.max(totals[t].python_ns / 1000) + u64::from(totals[t].ops);
    if named.is_empty() || named.iter().all(|t| is_passive(&totals[*t])) {
        // A launcher that waits: its children do the work.
        let rest = || candidates.iter().filter(|(p, t)| !is_target(*p) && !is_passive(&totals[*t]));
        let most = rest().map(|(_, t)| weight(*t)).max().unwrap_or(0);
        // Who runs Python throughout and came first: its own children are younger. A consumer that
        // waits for them all the time is less busy than they are, and still the one that matters.
        let python = rest().map(|(_, t)| totals[*t].python_ns).max().unwrap_or(0);
        let eldest = rest()
            .filter(|(_, t)| python > 0 && totals[*t].python_ns * 2 >= python)
            .min_by_key(|(p, _)| index.trace.processes[*p].pid)
            .map(|(_, t)| *t);
        let busiest = eldest.or_else(|| rest().map(|(_, t)| *t).find(|t| weight(*t) == most));
        if let Some(busiest) = busiest.filter(|_| most > 0) {
            named = vec![busiest];
        } else if named.is_empty() {
            named.extend(candidates.first().map(|(_, t)| *t));
        }
    }
    named.retain(|t| named_is_alive(totals, *t));
    if named.is_empty() {
        named.extend(candidates.iter().map(|(_, t)| *t).max_by_key(|t| weight(*t)));
    }
    // Ranks run the same functions; feeders run others.
    let Some(&first) = named.first() else { return named };
    let model = hot(index, &totals[first]);
    for (p, t) in candidates {
        let rank = index.trace.processes[*p].rank.is_some();
        if !named.contains(t) && !is_passive(&totals[*t]) && (rank || alike(&model, &hot(index, &totals[*t]))) {
            named.push(*t);
        }
    }
    of_ranks(index, totals, named)
}

/// Of several ranks one thread each: what a rank starts inherits its number, and the launcher that
/// started them all has none.
fn of_ranks(index: &Index<'_>, totals: &[ThreadTotals], named: Vec<usize>) -> Vec<usize> {
    let rank_of = |t: usize| index.trace.processes.get(index.process_of(t)).and_then(|process| process.rank);
    let weight = |t: usize| (totals[t].python_ns, totals[t].running_ns);
    let mut best: FxHashMap<u32, usize> = FxHashMap::default();
    for (rank, thread) in named.iter().filter_map(|t| rank_of(*t).map(|rank| (rank, *t))) {
        let holder = best.entry(rank).or_insert(thread);
        if weight(thread) > weight(*holder) {
            *holder = thread;
        }
    }
    if best.len() < 2 {
        return named;
    }
    named.into_iter().filter(|t| rank_of(*t).is_some_and(|rank| best.get(&rank) == Some(t))).collect()
}

fn named_is_alive(totals: &[ThreadTotals], thread: usize) -> bool {
    let t = &totals[thread];
    t.sched_ns + t.python_ns > 0 || t.ops > 0
}

/// The user's functions in which a thread is seen: a rank that waits for the others spends
/// little time in what these do.
fn hot(index: &Index<'_>, t: &ThreadTotals) -> FxHashSet<FrameId> {
    let all: u64 = t.inner.values().sum();
    t.inner
        .iter()
        .filter(|(f, ns)| **ns * 200 >= all.max(1) && index.frames.get(**f).class != FrameClass::Joins)
        .map(|(f, _)| *f)
        .collect()
}

/// Whether two threads run mostly the same functions.
fn alike(a: &FxHashSet<FrameId>, b: &FxHashSet<FrameId>) -> bool {
    let common = a.intersection(b).count();
    common > 0 && common * 5 >= a.len().min(b.len()) * 3
}

/// Counts who woke a thread from which it had waited.
fn wakes(index: &Index<'_>, thread: usize, into: &mut FxHashMap<usize, u64>) {
    let Some(track) = index.threads[thread].sched else { return };
    for slice in &track.slices {
        let reason = index.name(slice.name).reason;
        if !matches!(reason, Reason::Futex | Reason::Pipe | Reason::Socket | Reason::Poll) {
            continue;
        }
        let waker = index.arg_u64(slice, index.keys.waker).and_then(|tid| u32::try_from(tid).ok());
        if let Some(other) = waker.and_then(|tid| index.by_tid.get(&tid)) {
            *into.entry(*other).or_default() += 1;
        }
    }
}

/// Threads without Python that mostly wait for sockets, and those that such threads wake.
fn movers(index: &Index<'_>, totals: &[ThreadTotals]) -> Vec<bool> {
    let native = |t: &ThreadTotals| t.python_ns == 0 && t.ops == 0;
    let waits: Vec<bool> =
        totals.iter().map(|t| native(t) && t.network_ns * 2 > t.sched_ns.saturating_sub(t.running_ns)).collect();
    let mut moves: Vec<bool> = waits.iter().zip(totals).map(|(w, t)| *w && t.network_ns > 0).collect();
    for thread in 0..totals.len() {
        if moves[thread] || !native(&totals[thread]) || totals[thread].sched_ns == 0 {
            continue;
        }
        let mut wakers = FxHashMap::default();
        wakes(index, thread, &mut wakers);
        let all: u64 = wakers.values().sum();
        let by_movers: u64 = wakers
            .iter()
            .filter(|(w, _)| {
                index.process_of(**w) == index.process_of(thread) && waits[**w] && totals[**w].network_ns > 0
            })
            .map(|(_, n)| n)
            .sum();
        moves[thread] = all > 0 && by_movers * 5 >= all;
    }
    moves
}

/// Adds up one thread's tracks.
fn total(index: &Index<'_>, thread: usize) -> ThreadTotals {
    let tracks = &index.threads[thread];
    let mut t = ThreadTotals::default();
    for slice in tracks.sched.map(|t| t.slices.as_slice()).unwrap_or_default() {
        t.sched_ns += slice.dur_ns;
        match index.name(slice.name).reason {
            Reason::Running | Reason::Preempted => t.running_ns += slice.dur_ns,
            Reason::Wait => t.wait_ns += slice.dur_ns,
            Reason::Poll | Reason::Socket => t.network_ns += slice.dur_ns,
            _ => {}
        }
    }
    for slice in tracks.torch.map(|t| t.slices.as_slice()).unwrap_or_default() {
        match index.name(slice.name).op {
            OpKind::Optimizer => t.optimizer += 1,
            OpKind::Backward => t.backward += 1,
            OpKind::Loader => t.loader += 1,
            OpKind::Step => t.markers += 1,
            OpKind::Operator | OpKind::Node => t.ops += 1,
            _ => {}
        }
    }
    t.markers += tracks.step.map_or(0, |s| u32::try_from(s.slices.len()).unwrap_or(u32::MAX));
    python_totals(index, thread, &mut t);
    t
}

/// Adds up time under Python frames: whole, in joins, in loading, by innermost user function.
fn python_totals(index: &Index<'_>, thread: usize, t: &mut ThreadTotals) {
    let Some(track) = index.threads[thread].python else { return };
    // Open slices: end, frame, and whether a join or a load is already open around.
    let mut open: Vec<(u64, FrameId, bool, bool)> = Vec::new();
    let mut now = 0u64;
    let give = |open: &[(u64, FrameId, bool, bool)], from: u64, to: u64, t: &mut ThreadTotals| {
        let Some((_, user, joins, loads)) = open.last() else { return };
        let ns = to.saturating_sub(from);
        t.python_ns += ns;
        if *joins {
            t.joins_ns += ns;
        }
        if *loads {
            t.loads_ns += ns;
        }
        *t.inner.entry(*user).or_default() += ns;
    };
    for slice in &track.slices {
        while let Some((end, ..)) = open.last().copied().filter(|(end, ..)| *end <= slice.start_ns) {
            give(&open, now, end, t);
            now = now.max(end);
            open.pop();
        }
        give(&open, now, slice.start_ns, t);
        now = now.max(slice.start_ns);
        let (_, mut user, mut joins, mut loads) = open.last().copied().unwrap_or((0, FrameId::default(), false, false));
        if index.name(slice.name).is_line {
            let found = frame_args(index.trace, &index.keys, slice);
            if !found.waiting {
                t.lines_ns += slice.dur_ns;
                if index.name(found.native).native != NativeClass::Interpreter {
                    t.native_ns += slice.dur_ns;
                }
            }
            open.push((slice.end_ns(), user, joins, loads));
            continue;
        }
        let id = index.frames.id(slice.name, frame_args(index.trace, &index.keys, slice).file);
        let frame = index.frames.get(id);
        t.loader_worker |=
            frame.name.ends_with("_worker_loop") && frame.file.ends_with("torch/utils/data/_utils/worker.py");
        let class = frame.class;
        if begins_child(frame) {
            (user, joins, loads) = (FrameId::default(), false, false);
        }
        let end = slice.end_ns().min(open.last().map_or(u64::MAX, |o| o.0));
        open.push((
            end,
            if frame.user { id } else { user },
            joins || class == FrameClass::Joins,
            loads || matches!(class, FrameClass::Loader | FrameClass::LoadsByName | FrameClass::QueuePut),
        ));
    }
    while let Some((end, ..)) = open.last().copied() {
        give(&open, now, end, t);
        now = now.max(end);
        open.pop();
    }
}
