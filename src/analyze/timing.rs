//! The steps themselves, for a timeline: where each begins and ends, what the thread that drives
//! them does at every moment, and which are much longer than the others.

use std::sync::Arc;

use super::breakdown::{Breakdown, sweep_seen};
use super::index::Index;
use super::judge::report;
use super::outliers::{self, Outlier};
use super::phases::Phases;
use super::report::Report;
use super::roles::Roles;
use super::steps::{self, Found};
use crate::trace::Trace;

/// The steps of one driving thread.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StepTimes {
    /// Process that drives.
    pub pid: u32,
    /// Its thread that does.
    pub tid: u32,
    /// Its rank, where known.
    pub rank: Option<u32>,
    /// How they were found, as in [`Steps::source`](super::Steps::source).
    pub source: String,
    /// Where steps begin, and the end of the last: n steps have n + 1 boundaries, ascending.
    /// Empty where no steps were found.
    pub boundaries_ns: Vec<u64>,
    /// What the thread does, over its whole record.
    pub phases: Arc<Phases>,
    /// Steps (or, without steps, slices of the thread) much longer than is usual, in time.
    pub outliers: Vec<Outlier>,
}

/// Judges a recording and returns its steps, too: one [`StepTimes`] a driving thread, ranks in
/// order; see [`judge`](super::judge).
pub fn judge_steps(trace: &Trace) -> (Report, Vec<StepTimes>) {
    let index = Index::new(trace);
    let roles = Roles::of(&index);
    let found: Vec<Found> = roles.drivers.iter().map(|d| steps::find(&index, *d)).collect();
    let mut each: Vec<Breakdown> = Vec::new();
    let mut times = Vec::new();
    for (driver, found) in roles.drivers.iter().zip(&found) {
        let mut phases = Phases::default();
        let seen = |from, until, category| phases.push(from, until, category);
        each.push(sweep_seen(&index, &roles, *driver, &found.boundaries, seen));
        let process = trace.processes.get(index.process_of(*driver));
        times.push(StepTimes {
            pid: process.map_or(0, |p| p.pid),
            tid: trace.threads.get(*driver).map_or(0, |t| t.tid),
            rank: process.and_then(|p| p.rank),
            source: found.source.to_owned(),
            boundaries_ns: found.times_ns.clone(),
            phases: Arc::new(phases.around(&index, &roles, *driver, &found.boundaries)),
            outliers: outliers::of(&index, *driver, found),
        });
    }
    (report(&index, &roles, &found, &each), times)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Build, MS};
    use super::super::{Category, judge, window};
    use super::*;

    /// 40 steps of 100 ms, 75 of them loading; the 21st takes 300 ms.
    fn job() -> Build {
        let mut b = Build::capture(&[10]);
        let main = b.process(10, Some(3));
        let mut t = 1000 * MS;
        for i in 0..40 {
            let load = if i == 20 { 275 } else { 75 } * MS;
            b.op(main, "enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__", t, load);
            b.op(main, "aten::linear", t + load, 20 * MS);
            b.op(main, "Optimizer.step#SGD.step", t + load + 20 * MS, 5 * MS);
            b.sched(main, "running", t, load + 25 * MS, 0);
            t += load + 25 * MS;
        }
        b
    }

    #[test]
    fn steps_are_where_they_are() {
        let b = job();
        let (report, times) = judge_steps(&b.trace);
        assert_eq!(report, judge(&b.trace));
        let [driver] = times.as_slice() else { panic!("one thread drives: {times:?}") };
        assert_eq!((driver.pid, driver.tid, driver.rank, driver.source.as_str()), (10, 10, Some(3), "optimizer"));
        assert_eq!(driver.boundaries_ns.len(), report.steps.count + 1);
        assert_eq!(driver.boundaries_ns[..3], [1095 * MS, 1195 * MS, 1295 * MS]);
        let [outlier] = driver.outliers.as_slice() else { panic!("one step is long: {:?}", driver.outliers) };
        assert_eq!((outlier.step, outlier.from_ns, outlier.to_ns), (Some(20), 2995 * MS, 3295 * MS));
        assert_eq!(outlier.typical_ns, 100 * MS);
    }

    #[test]
    fn windows_tell_what_the_report_tells() {
        let b = job();
        let (report, times) = judge_steps(&b.trace);
        let bounds = &times[0].boundaries_ns;
        assert_eq!(window(&times, bounds[0], *bounds.last().unwrap()), report.breakdown);
        // Before the first step, too: 75 ms of loading, of which 5 lie before the window.
        let rows = window(&times, 1005 * MS, 1080 * MS);
        let ns = |c: Category| (rows.iter().find(|r| r.category == c).unwrap().seconds * 1e3).round();
        assert_eq!((ns(Category::Input), ns(Category::ComputeCpu)), (70.0, 5.0));
        assert!(window(&times, 0, 10).iter().all(|r| r.share == 0.0));
    }
}
