//! The words of a verdict: the evidence, and one sentence on what to change and where.
//! Claims only what the recording shows.

use super::breakdown::Breakdown;
use super::causes::{Causes, evidence_at};
use super::classify::How;
use super::index::Index;
use super::input;
use super::names::CallKind;
use super::report::{Category, Evidence, Straggler, VerdictKind};
use super::roles::Roles;
use super::verdict::{Decision, Parts};
use super::words::{category, frame, how, line, percent};
use crate::trace::{Flags, Layer, Slice};

/// What the words are made of.
pub(super) struct Facts<'a, 't> {
    pub index: &'a Index<'t>,
    pub roles: &'a Roles,
    pub breakdown: &'a Breakdown,
    pub parts: &'a Parts,
    pub decision: Decision,
    pub stragglers: &'a [Straggler],
    pub steps: usize,
    pub gpu_busy: Option<f64>,
    /// The time judged.
    pub window: (u64, u64),
}

impl Facts<'_, '_> {
    /// "of each step", or "of the time" where no steps were found.
    pub fn of_each(&self) -> &'static str {
        if self.steps > 0 { "of each step" } else { "of the time" }
    }

    fn part(&self, c: Category) -> f64 {
        self.parts[c as usize]
    }
}

/// The evidence and the advice.
pub(super) fn words(f: &Facts<'_, '_>) -> (Vec<Evidence>, String) {
    let (mut because, advice) = match f.decision.kind {
        VerdictKind::InputBound => input::words(f),
        VerdictKind::CpuBound => cpu(f),
        VerdictKind::HostBound => host(f),
        VerdictKind::CommunicationBound => communication(f),
        VerdictKind::IoBound => io(f),
        VerdictKind::GpuBound => gpu(f),
        VerdictKind::Idle => idle(f),
        VerdictKind::Balanced => balanced(f),
        VerdictKind::Inconclusive => inconclusive(f),
    };
    let preempted = f.breakdown.preempted_ns as f64 / f.breakdown.all_ns().max(1) as f64;
    if preempted > 0.1 {
        let text = format!(
            "{} {} the main thread is ready to run but other threads have the CPU",
            percent(preempted),
            f.of_each()
        );
        let place = f.breakdown.preempted_longest.0.map(|(thread, slice)| (thread, Layer::Sched, slice));
        because.push(evidence_at(f.index, text, place));
    }
    because.truncate(5);
    (because, advice)
}

/// The rest of the picture in one line.
fn rest(f: &Facts<'_, '_>, but: Category) -> Option<Evidence> {
    let mut others: Vec<(Category, f64)> =
        Category::ALL.into_iter().filter(|c| *c != but && f.part(*c) >= 0.05).map(|c| (c, f.part(c))).collect();
    others.sort_by(|a, b| b.1.total_cmp(&a.1));
    let text: Vec<String> = others.iter().map(|(c, s)| format!("{} {}", percent(*s), category(*c))).collect();
    let (first, _) = others.first()?;
    let causes = Causes::of(f.index, f.breakdown, *first);
    Some(causes.evidence(format!("the rest: {}", text.join(", "))))
}

fn cpu(f: &Facts<'_, '_>) -> (Vec<Evidence>, String) {
    let causes = Causes::of(f.index, f.breakdown, Category::ComputeCpu);
    let what = causes.what().map(|(what, ns)| (f.index.trace.text(what).to_owned(), ns));
    let spot = causes.spent_at();
    let at = spot.map(|s| line(f.index, s.frame, s.line));
    let mut because = vec![causes.evidence(format!(
        "{} {} is computing on the CPU{}",
        percent(f.part(Category::ComputeCpu)),
        f.of_each(),
        at.as_ref().map(|at| format!(", most of it from {at}")).unwrap_or_default()
    ))];
    if let Some((name, ns)) = &what {
        let share = *ns as f64 / causes.ns.max(1) as f64;
        because.push(causes.evidence_where(format!("{} of the computing is {name}", percent(share)), |c| {
            f.index.trace.text(c.what) == name
        }));
    }
    because.extend(rest(f, Category::ComputeCpu));
    let heavy = what.map(|(name, _)| name).unwrap_or_else(|| "the computation".to_owned());
    let advice = match at {
        Some(at) => format!(
            "make {heavy} at {at} cheaper or give it more CPU threads or a GPU: the job computes and waits for nothing else"
        ),
        None => format!(
            "make {heavy} cheaper or give the job more CPU threads or a GPU: it computes and waits for nothing else"
        ),
    };
    (because, advice)
}

fn host(f: &Facts<'_, '_>) -> (Vec<Evidence>, String) {
    let causes = Causes::of(f.index, f.breakdown, Category::Python);
    let spot = causes.spent_at();
    let at = spot.map(|s| (frame(f.index, s.frame), line(f.index, s.frame, s.line)));
    let (gil, launch) = (causes.share_of(&[How::Gil]), causes.share_of(&[How::Launch]));
    let mut because = vec![causes.evidence(format!(
        "{} {} is Python itself{}",
        percent(f.part(Category::Python)),
        f.of_each(),
        at.as_ref().map(|(name, _)| format!(", most of it in {name}")).unwrap_or_default()
    ))];
    for (way, ns) in causes.by_how().into_iter().take(2) {
        let share = ns as f64 / causes.ns.max(1) as f64;
        if share >= 0.1 {
            because
                .push(causes.evidence_where(format!("{} of that is {}", percent(share), how(way)), |c| c.how == way));
        }
    }
    because.extend(rest(f, Category::Python));
    let place = at.map(|(name, at)| format!("{name}, hottest at {at}"));
    let place = place.unwrap_or_else(|| "the hot loop".to_owned());
    let advice = if gil >= 0.3 {
        let rival = rival(f).map(|r| format!(" with {r}")).unwrap_or_default();
        format!(
            "threads contend for the GIL{rival}: move that work to a process, or out of Python, so that {place} can run"
        )
    } else if launch >= 0.4 {
        format!(
            "operators are too small for their launch: batch them (larger tensors, fused or compiled code) in {place}"
        )
    } else {
        format!("Python in the hot loop is the limit: vectorise or move out of Python what {place} does")
    };
    (because, advice)
}

/// The other Python thread of a driver's process that runs the most.
fn rival(f: &Facts<'_, '_>) -> Option<String> {
    let totals = &f.roles.totals;
    let driver = *f.roles.drivers.first()?;
    let other = (0..totals.len())
        .filter(|t| *t != driver && totals[*t].python_ns > 0 && f.index.process_of(*t) == f.index.process_of(driver))
        .max_by_key(|t| totals[*t].running_ns)?;
    let hot =
        totals[other].inner.iter().filter(|(f, _)| f.0 != 0).max_by_key(|(f, ns)| (**ns, std::cmp::Reverse(**f)))?;
    Some(frame(f.index, *hot.0))
}

fn communication(f: &Facts<'_, '_>) -> (Vec<Evidence>, String) {
    let causes = Causes::of(f.index, f.breakdown, Category::Communication);
    let what = causes.what().map(|(what, _)| f.index.trace.text(what).to_owned());
    let name = causes.frame().map(|s| frame(f.index, s.frame));
    let asked = causes.asked_at().or_else(|| causes.spent_at()).map(|s| line(f.index, s.frame, s.line));
    let which = what.or(name).unwrap_or_else(|| "sockets".to_owned());
    let at = asked.map(|at| format!(" at {at}")).unwrap_or_default();
    let mut because = vec![causes.evidence(format!(
        "{} {} waits for other ranks in {which}{at}",
        percent(f.decision.share),
        f.of_each()
    ))];
    let who = |s: &Straggler| match (&s.rank, &s.place) {
        (Some(rank), Some(place)) => format!("rank {rank} on {}", place.words()),
        (Some(rank), None) => format!("rank {rank} (pid {})", s.pid),
        (None, Some(place)) => format!("pid {} on {}", place.pid_on_node.unwrap_or(s.pid), place.words()),
        (None, None) => format!("pid {}", s.pid),
    };
    for s in f.stragglers.iter().take(2) {
        let text = format!(
            "{} comes last in {} of the steps, {:.1} ms late: {}",
            who(s),
            percent(s.last_share),
            s.late_ms,
            s.because
        );
        because.push(Evidence { text, track: s.track.clone(), ts_ns: s.ts_ns, dur_ns: s.dur_ns });
    }
    because.extend(rest(f, Category::Communication));
    let advice = match f.stragglers.first() {
        Some(s) => format!("the others wait for {}: {}; speed that up or give it less work", who(s), s.because),
        None => format!(
            "communicate less or overlap it with computing{at}: larger gradient buckets, fewer or asynchronous collectives, a faster network"
        ),
    };
    (because, advice)
}

fn io(f: &Facts<'_, '_>) -> (Vec<Evidence>, String) {
    let causes = Causes::of(f.index, f.breakdown, Category::Io);
    let name = causes.frame().map(|s| frame(f.index, s.frame));
    let asked = causes.asked_at().or_else(|| causes.spent_at()).map(|s| line(f.index, s.frame, s.line));
    let at = asked.clone().map(|at| format!(" at {at}")).unwrap_or_default();
    let mut because = vec![causes.evidence(format!(
        "{} {} reads or writes files{}{at}",
        percent(f.part(Category::Io)),
        f.of_each(),
        name.as_ref().map(|n| format!(" in {n}, called")).filter(|_| !at.is_empty()).unwrap_or_default()
    ))];
    for (way, ns) in causes.by_how().into_iter().take(2) {
        let share = ns as f64 / causes.ns.max(1) as f64;
        if share >= 0.1 {
            because
                .push(causes.evidence_where(format!("{} of that is {}", percent(share), how(way)), |c| c.how == way));
        }
    }
    because.extend(heaviest_file(f, &["write", "fsync"]));
    because.extend(rest(f, Category::Io));
    let sync = causes.share_of(&[How::Sync]) >= 0.3;
    let what = name.unwrap_or_else(|| "writing".to_owned());
    let advice = format!(
        "call {what}{at} more rarely or in the background{}: the steps stand still meanwhile",
        if sync { ", and without an fsync each time" } else { "" }
    );
    (because, advice)
}

/// The file most time went into, by these operations.
pub(super) fn heaviest_file(f: &Facts<'_, '_>, operations: &[&str]) -> Option<Evidence> {
    let files = &f.index.trace.meta.as_ref()?.files;
    let of = |file: &&crate::trace::FileTotal| operations.contains(&file.op.as_str()) && file.path.starts_with('/');
    let most = files.iter().filter(of).max_by_key(|file| file.total_ns)?;
    let seconds = most.total_ns as f64 / 1e9;
    if seconds < 0.01 {
        return None;
    }
    let rate = if most.bytes > 0 {
        format!(", {:.1} MB at {:.0} MB/s", most.bytes as f64 / 1e6, most.bytes as f64 / 1e6 / seconds)
    } else {
        String::new()
    };
    let text = format!("{} {}: {} calls, {seconds:.2} s{rate}", most.op, most.path, most.count);
    Some(evidence_at(f.index, text, longest_call(f.index, &most.path, &most.op)))
}

/// The longest system call on a file, where calls were recorded.
fn longest_call(index: &Index<'_>, path: &str, operation: &str) -> Option<(usize, Layer, u32)> {
    let path = index.trace.strings.find(path)?;
    let kind = |name| match operation {
        "read" => index.name(name).call == CallKind::Read,
        "write" => index.name(name).call == CallKind::Write,
        _ => index.name(name).call == CallKind::Sync,
    };
    let calls = index.threads.iter().enumerate().filter_map(|(thread, tracks)| Some((thread, tracks.syscall?)));
    calls
        .flat_map(|(thread, track)| track.slices.iter().enumerate().map(move |(i, slice)| (thread, i, slice)))
        .filter(|(_, _, s)| kind(s.name) && index.arg_str(s, index.keys.path) == Some(path))
        .max_by_key(|(thread, i, s)| (s.dur_ns, std::cmp::Reverse((*thread, *i))))
        .map(|(thread, i, _)| (thread, Layer::Syscall, u32::try_from(i).unwrap_or(u32::MAX)))
}

fn gpu(f: &Facts<'_, '_>) -> (Vec<Evidence>, String) {
    let causes = Causes::of(f.index, f.breakdown, Category::GpuWait);
    let what = causes.what().map(|(what, _)| f.index.trace.text(what).to_owned());
    let at = causes.spent_at().map(|s| line(f.index, s.frame, s.line));
    let mut because = Vec::new();
    if let Some(busy) = f.gpu_busy {
        because.push(longest_kernel(f.index, format!("the GPU is busy {} of the time", percent(busy))));
    }
    because.push(causes.evidence(format!(
        "{} {} the host waits for the GPU{}{}",
        percent(f.part(Category::GpuWait)),
        f.of_each(),
        what.map(|w| format!(" in {w}")).unwrap_or_default(),
        at.as_ref().map(|at| format!(" at {at}")).unwrap_or_default()
    )));
    because.extend(rest(f, Category::GpuWait));
    let advice = format!(
        "the GPU is the limit: make its kernels cheaper (mixed precision, fused kernels, a larger batch) {}",
        at.map(|at| format!("; the host waits at {at}")).unwrap_or_else(|| "or use more GPUs".to_owned())
    );
    (because, advice)
}

/// A fact about the device, with its longest measured piece of work.
fn longest_kernel(index: &Index<'_>, text: String) -> Evidence {
    let tracks = index.trace.tracks.iter().filter(|t| t.layer == Layer::Gpu);
    let measured = |s: &&Slice| !s.flags.has(Flags::ESTIMATE);
    let longest = tracks
        .flat_map(|track| track.slices.iter().filter(measured).map(move |slice| (track, slice)))
        .max_by_key(|(_, s)| (s.dur_ns, std::cmp::Reverse(s.start_ns)));
    Evidence {
        text,
        track: longest.map(|(track, _)| index.path(track)),
        ts_ns: longest.map(|(_, s)| s.start_ns),
        dur_ns: longest.map(|(_, s)| s.dur_ns),
    }
}

fn idle(f: &Facts<'_, '_>) -> (Vec<Evidence>, String) {
    let causes = Causes::of(f.index, f.breakdown, Category::Idle);
    let at = causes.spent_at().map(|s| line(f.index, s.frame, s.line));
    let way = causes.by_how().first().map_or("waiting", |(w, _)| how(*w));
    let place = at.map(|at| format!(" at {at}")).unwrap_or_default();
    let mut because = vec![causes.evidence(format!(
        "{} {} the main thread does nothing: {way}{place}",
        percent(f.part(Category::Idle)),
        f.of_each()
    ))];
    because.extend(rest(f, Category::Idle));
    (because, format!("the job does nothing most of the time, {way}{place}: give it work, or see why it gets none"))
}

fn balanced(f: &Facts<'_, '_>) -> (Vec<Evidence>, String) {
    let mut order: Vec<Category> = Category::ALL.into_iter().filter(|c| f.part(*c) >= 0.05).collect();
    order.sort_by(|a, b| f.part(*b).total_cmp(&f.part(*a)));
    let because: Vec<Evidence> = order
        .iter()
        .take(4)
        .map(|c| {
            let causes = Causes::of(f.index, f.breakdown, *c);
            let at = causes.asked_at().or_else(|| causes.spent_at()).map(|s| line(f.index, s.frame, s.line));
            let at = at.map(|at| format!(", most at {at}")).unwrap_or_default();
            causes.evidence(format!("{} {} is {}{at}", percent(f.part(*c)), f.of_each(), category(*c)))
        })
        .collect();
    let first = order.first().map_or("", |c| category(*c));
    (because, format!("no single cause stands out: start with the largest part, {first}, and expect small gains"))
}

fn inconclusive(f: &Facts<'_, '_>) -> (Vec<Evidence>, String) {
    let mut because = Vec::new();
    if f.breakdown.all_ns() > 0 {
        for c in Category::ALL.into_iter().filter(|c| f.part(*c) >= 0.2) {
            let causes = Causes::of(f.index, f.breakdown, c);
            because.push(causes.evidence(format!("{} {} is {}", percent(f.part(c)), f.of_each(), category(c))));
        }
    }
    if f.steps == 0 {
        because.push(evidence_at(f.index, "no steps were found".to_owned(), None));
    }
    (because, "record longer, while the job runs its steps, and with all layers".to_owned())
}
