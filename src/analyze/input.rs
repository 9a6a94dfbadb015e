//! The words for a job that waits for its data: too few workers, a slow disk or a slow dataset.

use super::advice::{Facts, heaviest_file};
use super::causes::{Causes, evidence_at};
use super::classify::How;
use super::frames::FrameId;
use super::report::{Category, Evidence};
use super::words::{frame, how, line, percent};
use super::workers::{self, Workers};

/// Workers busy for this share of their time are the limit themselves.
const SATURATED: f64 = 0.85;
/// CPUs in use for this share can't take more workers.
const CPUS_FULL: f64 = 0.9;

/// How PyTorch names the scope of a loader.
const SCOPE: &str = "enumerate(DataLoader)#";

/// The evidence and the advice.
pub(super) fn words(f: &Facts<'_, '_>) -> (Vec<Evidence>, String) {
    let causes = Causes::of(f.index, f.breakdown, Category::Input);
    let scope = causes.what().map(|(what, _)| f.index.trace.text(what)).and_then(|t| t.strip_prefix(SCOPE));
    let loader = causes.frame().map(|s| frame(f.index, s.frame)).or_else(|| scope.map(str::to_owned));
    let asked = causes.asked_at().map(|s| line(f.index, s.frame, s.line));
    let at = asked.clone().map(|at| format!(", called at {at}")).unwrap_or_default();
    let mut because = vec![causes.evidence(format!(
        "{} {} waits for or loads data{}{at}",
        percent(f.decision.share),
        f.of_each(),
        loader.as_ref().filter(|l| !l.is_empty()).map(|l| format!(" in {l}")).unwrap_or_default()
    ))];
    let w = workers::sweep(f.index, f.roles, f.window.0, f.window.1);
    let own_work = 1.0 - causes.share_of(&[How::Queue, How::Wait, How::Join, How::Socket]);
    // Only PyTorch's loader has num_workers.
    let torch = causes.frame().is_some_and(|s| f.index.frames.get(s.frame).file.contains("torch/utils/data"))
        || f.roles.drivers.iter().any(|d| f.roles.totals[*d].loader > 0);
    let place = asked.clone().unwrap_or_else(|| loader.clone().unwrap_or_else(|| "the loop".to_owned()));
    let advice = if w.count == 0 || own_work > 0.6 {
        alone(f, &causes, &mut because, &place, torch)
    } else {
        fed(f, &w, &mut because, &place, torch)
    };
    because.extend(heaviest_file(f, &["read"]));
    (because, advice)
}

/// The main thread loads data itself.
fn alone(f: &Facts<'_, '_>, causes: &Causes<'_, '_>, because: &mut Vec<Evidence>, place: &str, torch: bool) -> String {
    let inside = causes.spent_at();
    let name = inside.map(|s| frame(f.index, s.frame)).filter(|n| !n.is_empty());
    let hot = inside.map(|s| line(f.index, s.frame, s.line));
    let ways = causes.by_how();
    let (way, ns) = ways.first().copied().unwrap_or((How::Wait, 0));
    let share = ns as f64 / causes.ns.max(1) as f64;
    let who = name.clone().map(|n| format!("{n} runs in the main thread: ")).unwrap_or_default();
    because.push(
        causes.evidence_where(format!("{who}{} of the loading is {}", percent(share), how(way)), |c| c.how == way),
    );
    let slow = name.map(|n| format!("{n}, hottest at {}", hot.unwrap_or_default())).unwrap_or_else(|| place.to_owned());
    let background = if torch { "background workers (num_workers ≥ 2)" } else { "a background process or thread" };
    match way {
        How::Queue | How::Wait | How::Join | How::Socket => {
            format!("the loop waits for its data at {place}: make what feeds it faster, or let it run further ahead")
        }
        How::Read => format!(
            "reading files is slow in {slow}: read in {background} for {place}, in larger pieces, or from faster storage"
        ),
        _ => format!("the main thread loads its data itself at {place}: load in {background}, or make {slow} faster"),
    }
}

/// Workers or threads feed the main thread.
fn fed(f: &Facts<'_, '_>, w: &Workers, because: &mut Vec<Evidence>, place: &str, torch: bool) -> String {
    let kind = match (w.processes, w.count) {
        (true, 1) => "worker",
        (true, _) => "workers",
        (false, 1) => "loading thread",
        (false, _) => "loading threads",
    };
    let inside = if w.frame == FrameId(0) { String::new() } else { format!(" in {}", frame(f.index, w.frame)) };
    let verb = if w.count == 1 { "is" } else { "are" };
    because.push(evidence_at(
        f.index,
        format!(
            "{} {kind} {verb} busy {} of the time{inside}: {} on the CPU, {} reading files, {} sleeping, {} waiting for a socket",
            w.count,
            percent(w.busy()),
            percent(w.cpu + w.gil),
            percent(w.disk),
            percent(w.sleep),
            percent(w.network)
        ),
        w.place,
    ));
    let (cpus, used) = workers::cpus(f.index);
    let full = f.index.has_sched && used >= CPUS_FULL;
    if full {
        because.push(evidence_at(f.index, format!("all {cpus} CPUs seen are in use ({})", percent(used)), None));
    }
    let slow = if w.frame == FrameId(0) { "loading".to_owned() } else { frame(f.index, w.frame) };
    let more = if !torch && w.processes {
        format!(
            "start more than {} such {} for the loop at {place}",
            w.count,
            if w.count == 1 { "process" } else { "processes" }
        )
    } else if w.processes {
        format!("raise num_workers from {} for the loader at {place}", w.count)
    } else {
        format!("use more loading threads or processes than {} for {place}", w.count)
    };
    if w.busy() < SATURATED {
        return format!(
            "the {kind} idle {} of the time although the loop at {place} waits: let them run further ahead{}, and make handing a batch over cheaper (smaller batches, shared memory)",
            percent(w.idle),
            if torch { " (prefetch_factor)" } else { "" }
        );
    }
    if w.disk >= 0.4 * w.busy() {
        return format!(
            "storage is slow: the {kind} wait for files in {slow}; use faster or cached storage, larger sequential reads, or {more}"
        );
    }
    if full {
        return format!(
            "make {slow} cheaper: the {kind} fill all CPUs, so more of them would not help the loop at {place}"
        );
    }
    format!("{more}, or make {slow} faster: the workers never pause and the loop still waits")
}
