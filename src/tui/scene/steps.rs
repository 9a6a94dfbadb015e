//! Steps and outliers of all driving threads, once the judge has spoken.

use super::{Node, NodeKind, Scene, SliceRef, Window};
use crate::analyze::{Outlier, Report, StepTimes};
use crate::view::human;

/// Outliers of all drivers.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outliers {
    by_time: Vec<OutlierAt>,
    worst: Vec<usize>,
    /// How often the judge has spoken.
    spoken: u32,
}

/// A step or a slice much longer than is usual, and whose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutlierAt {
    /// Where it is; of a slice, at least a nanosecond.
    pub window: Window,
    /// Index into [`Scene::steps`].
    pub driver: usize,
    /// What the judge says of it.
    pub outlier: Outlier,
}

impl Scene {
    /// Takes what the judge says; outliers are put in order once.
    pub fn judged(&mut self, report: Report, steps: Vec<StepTimes>) {
        let mut by_time: Vec<OutlierAt> = Vec::new();
        for (driver, times) in steps.iter().enumerate() {
            by_time.extend(times.outliers.iter().map(|outlier| OutlierAt {
                window: Window::new(outlier.from_ns, outlier.to_ns),
                driver,
                outlier: *outlier,
            }));
        }
        by_time.sort_by_key(|o| (o.window.from_ns, std::cmp::Reverse(o.window.to_ns), o.driver));
        let mut worst: Vec<usize> = (0..by_time.len()).collect();
        worst.sort_by_key(|i| (std::cmp::Reverse(by_time[*i].outlier.excess_ns()), *i));
        self.outliers = Outliers { by_time, worst, spoken: self.outliers.spoken + 1 };
        self.report = Some(report);
        self.steps = steps;
    }

    /// The steps of the process that a rank's or a process's node stands for.
    pub fn driver(&self, node: &Node) -> Option<&StepTimes> {
        let pid = match node.kind {
            NodeKind::Rank(rank) => return self.steps.iter().find(|steps| steps.rank == Some(rank)),
            NodeKind::Process(process) => self.trace.processes.get(process.0 as usize)?.pid,
            NodeKind::Thread(_) | NodeKind::Idle(_) | NodeKind::Lanes(_) | NodeKind::Track(_) => return None,
        };
        self.steps.iter().find(|steps| steps.pid == pid)
    }

    /// How often the judge has spoken: what rests on the verdict is new when this is.
    pub fn judgements(&self) -> u32 {
        self.outliers.spoken
    }

    /// All outliers, by start.
    pub fn outliers(&self) -> &[OutlierAt] {
        &self.outliers.by_time
    }

    /// All outliers, those that cost the most time first.
    pub fn worst_outliers(&self) -> impl Iterator<Item = &OutlierAt> {
        self.outliers.worst.iter().filter_map(|i| self.outliers.by_time.get(*i))
    }

    /// The slice of an outlier, where it is one and still there. A capture that goes on may have
    /// moved it, so it is looked for by its times.
    pub fn outlier_slice(&self, at: &OutlierAt) -> Option<SliceRef> {
        let (track, index) = at.outlier.slice?;
        let slices = &self.trace.tracks.get(track.0 as usize)?.slices;
        let same = |i: usize| {
            slices.get(i).is_some_and(|s| s.start_ns == at.outlier.from_ns && s.end_ns() == at.outlier.to_ns)
        };
        let first = slices.partition_point(|s| s.start_ns < at.outlier.from_ns);
        let near =
            || (first..slices.len()).take_while(|i| slices[*i].start_ns == at.outlier.from_ns).find(|i| same(*i));
        let index = if same(index as usize) { index as usize } else { near()? };
        Some(SliceRef { track, index: u32::try_from(index).ok()? })
    }

    /// What an outlier is, for people: "step 42 of rank 3: 310 ms, usually 102 ms".
    pub fn outlier_words(&self, at: &OutlierAt) -> String {
        let what = match at.outlier.step {
            Some(step) => format!("step {step}"),
            None => {
                self.outlier_slice(at).map_or_else(|| "slice".to_owned(), |s| crate::view::text::plain(self.name(s)))
            }
        };
        let whose = match self.steps.get(at.driver) {
            Some(StepTimes { rank: Some(rank), .. }) => format!(" of rank {rank}"),
            Some(times) if self.steps.len() > 1 => format!(" of process {}", times.pid),
            _ => String::new(),
        };
        let time = |ns: u64| human::seconds(ns as f64 / 1e9);
        let length = at.outlier.to_ns - at.outlier.from_ns;
        format!("{what}{whose}: {}, usually {}", time(length), time(at.outlier.typical_ns))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::analyze::judge_steps;
    use crate::trace::{Layer, MemorySink, Sink, SliceEvent, TrackDef};

    #[test]
    fn outliers_come_by_time_and_by_cost() {
        let mut sink = MemorySink::new();
        sink.process(7, "python3", None, Some(2)).unwrap();
        sink.thread(7, 7, "python3").unwrap();
        let track = TrackDef { pid: Some(7), tid: Some(7), name: "torch", layer: Layer::Torch, counter_unit: None };
        let track = sink.track(track).unwrap();
        let mut at = 1_000_000_000;
        for i in 0..40u64 {
            let dur_ns = match i {
                10 => 20_000_000,
                20 => 90_000_000,
                _ => 10_000_000,
            };
            let name = "Optimizer.step#SGD.step";
            sink.slice(track, &SliceEvent { start_ns: at, dur_ns, name, args: &[], flow: 0, estimate: false }).unwrap();
            at += dur_ns;
        }
        let mut scene = Scene::new(Arc::new(sink.into_trace()));
        assert!(scene.outliers().is_empty());
        let (report, steps) = judge_steps(&scene.trace);
        scene.judged(report, steps);
        let words = |o: &OutlierAt| scene.outlier_words(o);
        let by_time: Vec<String> = scene.outliers().iter().map(words).collect();
        assert_eq!(
            by_time,
            ["step 11 of rank 2: 20.0 ms, usually 10.0 ms", "step 21 of rank 2: 90.0 ms, usually 10.0 ms"]
        );
        assert_eq!(scene.worst_outliers().next().map(words).as_ref(), by_time.last());
    }
}
