//! What a slice belongs together with: a launch and its kernel, a wait and who ended it, a
//! collective and the same one on the other ranks.
//!
//! No index: partners are near in time, so each question looks at a bounded number of slices
//! around the asked one, however long the recording is.

use super::peers::peers;
use super::{Scene, SliceRef};
use crate::trace::{Arg, Layer, Parent, Slice, StrId, Trace, Track, TrackId};

/// How a partner belongs to a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartnerKind {
    /// The call that launched it.
    Launch,
    /// The device's work that it launched.
    Kernel,
    /// The next call that waits for it.
    AwaitedBy,
    /// The device's work that it waits for.
    WaitsFor,
    /// The same collective on another rank (or in another process, without a rank).
    OnRank(Option<u32>, u32),
    /// What ran on the thread that ended the wait.
    Waker,
    /// The recording joins them by an arrow.
    Arrow,
}

impl PartnerKind {
    /// For people: "launched by", "on rank 3".
    pub fn words(self) -> String {
        match self {
            PartnerKind::Launch => "launched by".to_owned(),
            PartnerKind::Kernel => "launches".to_owned(),
            PartnerKind::AwaitedBy => "awaited by".to_owned(),
            PartnerKind::WaitsFor => "waits for".to_owned(),
            PartnerKind::OnRank(Some(rank), _) => format!("on rank {rank}"),
            PartnerKind::OnRank(None, pid) => format!("in process {pid}"),
            PartnerKind::Waker => "woken by".to_owned(),
            PartnerKind::Arrow => "joined with".to_owned(),
        }
    }
}

/// A slice that belongs together with another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partner {
    /// How.
    pub kind: PartnerKind,
    /// Which.
    pub at: SliceRef,
}

/// So many slices before and after are looked at on one track: a device's queue holds some
/// thousand launches.
const NEAR: usize = 4096;
/// And so many on all tracks together.
const IN_ALL: usize = 200_000;
/// More partners than these are not worth a line.
const MOST: usize = 16;

impl Scene {
    /// What a slice belongs together with, at most a screenful.
    pub fn partners(&self, at: SliceRef) -> Vec<Partner> {
        let (Some(track), Some(slice)) = (self.trace.tracks.get(at.track.0 as usize), self.slice(at)) else {
            return Vec::new();
        };
        let mut found = joined(self, at, track, slice);
        match track.layer {
            Layer::Cuda => found.extend(waits(self, at, track, slice)),
            Layer::Gpu => {
                let launch = found.iter().find(|p| p.kind == PartnerKind::Launch).map(|p| p.at);
                found.extend(launch.and_then(|launch| synchronize(self, launch, slice.end_ns())));
            }
            Layer::Nccl => found.extend(peers(self, at)),
            Layer::Sched => found.extend(waker(self, at, track, slice)),
            _ => {}
        }
        found.retain(|p| p.at != at);
        found.truncate(MOST);
        found
    }
}

/// The number that an arrow has at both its ends, and under which key.
fn arrow(trace: &Trace, slice: &Slice, keys: &[StrId]) -> Option<(StrId, u64)> {
    let number = |value| match value {
        Arg::U64(n) if n > 0 => Some(n),
        Arg::I64(n) if n > 0 => u64::try_from(n).ok(),
        _ => None,
    };
    let args = || trace.args.run(slice.args);
    keys.iter().find_map(|key| args().find(|(k, _)| k == key).and_then(|(k, v)| Some((k, number(v)?))))
}

/// Slices of the same process with the same arrow.
fn joined(scene: &Scene, at: SliceRef, own: &Track, slice: &Slice) -> Vec<Partner> {
    let trace = &*scene.trace;
    let keys: Vec<StrId> = ["flow", "correlation"].iter().filter_map(|key| trace.strings.find(key)).collect();
    let Some((key, number)) = arrow(trace, slice, &keys) else { return Vec::new() };
    let process = scene.process_of(at.track);
    let device = |layer| matches!(layer, Layer::Cuda | Layer::Gpu | Layer::Nccl);
    let mut left = IN_ALL;
    let mut found = Vec::new();
    for (i, track) in trace.tracks.iter().enumerate() {
        let id = TrackId(i as u32);
        let related = !device(own.layer) || device(track.layer) || track.layer == Layer::Other;
        if !related || track.slices.is_empty() || scene.process_of(id) != process {
            continue;
        }
        let middle = track.slices.partition_point(|s| s.start_ns < slice.start_ns);
        let (from, to) = (middle.saturating_sub(NEAR), (middle + NEAR).min(track.slices.len()));
        left = left.saturating_sub(to - from);
        for index in from..to {
            let other = SliceRef { track: id, index: index as u32 };
            if other != at && arrow(trace, &track.slices[index], &[key]) == Some((key, number)) {
                found.push(Partner { kind: kind(own, track), at: other });
            }
        }
        if left == 0 || found.len() >= MOST {
            break;
        }
    }
    found
}

fn kind(own: &Track, other: &Track) -> PartnerKind {
    let on_device = |track: &Track| track.layer == Layer::Gpu || matches!(track.parent, Parent::Process(_));
    match (on_device(own), on_device(other)) {
        (false, true) => PartnerKind::Kernel,
        (true, false) => PartnerKind::Launch,
        _ => PartnerKind::Arrow,
    }
}

/// Whether a CUDA call waits for the device.
fn is_wait(name: &str) -> bool {
    name.ends_with("Synchronize") || (name.contains("Memcpy") && !name.contains("Async"))
}

/// Of a call that waits what it waits for, and of a launch the call that waits for it.
fn waits(scene: &Scene, at: SliceRef, track: &Track, slice: &Slice) -> Option<Partner> {
    let name = scene.trace.text(slice.name);
    if !is_wait(name) {
        let starts = ["Launch", "Async", "Memset"].iter().any(|word| name.contains(word));
        return starts.then(|| synchronize(scene, at, slice.end_ns()))?;
    }
    let process = match track.parent {
        Parent::Global => None,
        _ => scene.process_of(at.track),
    };
    // The last piece of work of the process that ended while the call waited.
    let devices = scene.trace.tracks.iter().enumerate().filter(|(_, t)| t.layer == Layer::Gpu);
    let mut last: Option<(u64, SliceRef)> = None;
    for (i, device) in devices {
        let id = TrackId(i as u32);
        if scene.process_of(id) != process {
            continue;
        }
        let until = device.slices.partition_point(|s| s.start_ns < slice.end_ns());
        for index in (until.saturating_sub(64)..until).rev() {
            let end = device.slices[index].end_ns();
            if end > slice.start_ns && end <= slice.end_ns() && last.is_none_or(|(best, _)| end > best) {
                last = Some((end, SliceRef { track: id, index: index as u32 }));
            }
        }
    }
    last.map(|(_, at)| Partner { kind: PartnerKind::WaitsFor, at })
}

/// The next call after a launch, on its thread, that waits for its stream or for all, and does
/// not end before `until_ns`.
fn synchronize(scene: &Scene, launch: SliceRef, until_ns: u64) -> Option<Partner> {
    let track = scene.trace.tracks.get(launch.track.0 as usize)?;
    let stream = |s: &Slice| scene.trace.arg(s.args, "stream");
    let own = scene.slice(launch).and_then(stream);
    let after = track.slices.iter().enumerate().skip(launch.index as usize + 1).take(NEAR * 4);
    let fits = |s: &Slice| {
        let one_stream = scene.trace.text(s.name).contains("Stream");
        s.end_ns() >= until_ns && !(one_stream && own.is_some() && stream(s).is_some_and(|n| Some(n) != own))
    };
    let (index, _) = after.filter(|(_, s)| is_wait(scene.trace.text(s.name))).find(|(_, s)| fits(s))?;
    Some(Partner { kind: PartnerKind::AwaitedBy, at: SliceRef { track: launch.track, index: index as u32 } })
}

/// What ran on the thread that ended a wait, when it did; for a run, of the wait before it.
fn waker(scene: &Scene, at: SliceRef, track: &Track, slice: &Slice) -> Option<Partner> {
    let trace = &*scene.trace;
    let runs = |s: &Slice| matches!(trace.text(s.name), "running" | "preempted");
    let wait = if runs(slice) {
        let before = track.slices.get((at.index as usize).checked_sub(1)?)?;
        (before.end_ns() == slice.start_ns && !runs(before)).then_some(before)?
    } else {
        slice
    };
    let tid = u32::try_from(trace.arg_u64(wait.args, "waker")?).ok()?;
    let moment = wait.end_ns().saturating_sub(trace.arg_u64(wait.args, "runnable_ns").unwrap_or(0));
    let own = scene.process_of(at.track);
    let threads = || trace.threads.iter().enumerate().filter(|(_, t)| t.tid == tid);
    let (thread, _) = threads().find(|(_, t)| Some(t.process) == own).or_else(|| threads().next())?;
    let other = scene.thread_track(crate::trace::ThreadId(thread as u32), Layer::Sched)?;
    let slices = &trace.tracks.get(other.0 as usize)?.slices;
    let next = slices.partition_point(|s| s.start_ns <= moment);
    let index = (next.saturating_sub(8)..next).rev().find(|i| runs(&slices[*i]))?;
    // A waker that had stopped long before did not wake anybody: its run was not recorded.
    let near = slices[index].end_ns().saturating_add(1_000_000) >= moment;
    near.then_some(Partner { kind: PartnerKind::Waker, at: SliceRef { track: other, index: index as u32 } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::ArgRef;
    use crate::tui::testing::Recording;

    const MAIN: (u32, u32) = (7, 7);

    /// The slice of this name at this start.
    fn find(scene: &Scene, name: &str, start_ns: u64) -> SliceRef {
        let tracks = scene.trace.tracks.iter().enumerate();
        let mut all = tracks.flat_map(|(t, track)| {
            (0..track.slices.len()).map(move |i| SliceRef { track: TrackId(t as u32), index: i as u32 })
        });
        all.find(|at| scene.name(*at) == name && scene.slice(*at).unwrap().start_ns == start_ns).unwrap()
    }

    fn partners(scene: &Scene, at: SliceRef) -> Vec<(String, String, u64)> {
        let words = |p: Partner| (p.kind.words(), scene.name(p.at).to_owned(), scene.slice(p.at).unwrap().start_ns);
        scene.partners(at).into_iter().map(words).collect()
    }

    fn one(kind: &str, name: &str, start_ns: u64) -> (String, String, u64) {
        (kind.to_owned(), name.to_owned(), start_ns)
    }

    #[test]
    fn a_launch_finds_its_kernel_and_who_waits_for_it() {
        let flow = |n| [("flow", ArgRef::U64(n)), ("stream", ArgRef::U64(1))];
        let scene = Recording::new()
            .process(7, "python3", None)
            .thread(7, 7, "python3")
            .thread(7, 8, "stream")
            .process(9, "python3", None)
            .thread(9, 9, "python3")
            .slice_with(MAIN, Layer::Cuda, "cudaLaunchKernel", 100, 10, &flow(1))
            .slice_with(MAIN, Layer::Cuda, "cudaLaunchKernel", 120, 10, &flow(2))
            .slice_with(MAIN, Layer::Cuda, "cudaStreamSynchronize", 140, 5, &[("stream", ArgRef::U64(2))])
            .slice_with(MAIN, Layer::Cuda, "cudaStreamSynchronize", 150, 250, &[("stream", ArgRef::U64(1))])
            .slice_with((7, 8), Layer::Gpu, "gemm", 200, 50, &flow(1))
            .slice_with((7, 8), Layer::Gpu, "add", 300, 100, &flow(2))
            .slice_with((9, 9), Layer::Gpu, "foreign", 210, 100, &flow(1))
            .scene();
        let launch = partners(&scene, find(&scene, "cudaLaunchKernel", 100));
        assert_eq!(launch, [one("launches", "gemm", 200), one("awaited by", "cudaStreamSynchronize", 150)]);
        let kernel = partners(&scene, find(&scene, "add", 300));
        assert_eq!(
            kernel,
            [one("launched by", "cudaLaunchKernel", 120), one("awaited by", "cudaStreamSynchronize", 150)]
        );
        let wait = partners(&scene, find(&scene, "cudaStreamSynchronize", 150));
        assert_eq!(wait, [one("waits for", "add", 300)]);
    }

    #[test]
    fn a_wait_finds_who_ended_it() {
        let waker = [("waker", ArgRef::U64(8)), ("runnable_ns", ArgRef::U64(20))];
        let scene = Recording::new()
            .process(7, "python3", None)
            .thread(7, 7, "python3")
            .thread(7, 8, "worker")
            .slice_with(MAIN, Layer::Sched, "futex", 100, 400, &waker)
            .slice(MAIN, Layer::Sched, "running", 500, 100)
            .slice((7, 8), Layer::Sched, "running", 300, 190)
            .slice((7, 8), Layer::Sched, "futex", 490, 100)
            .scene();
        assert_eq!(partners(&scene, find(&scene, "futex", 100)), [one("woken by", "running", 300)]);
        assert_eq!(partners(&scene, find(&scene, "running", 500)), [one("woken by", "running", 300)]);
        assert_eq!(partners(&scene, find(&scene, "running", 300)), []);
    }

    #[test]
    fn a_slice_that_is_not_there_has_none() {
        let scene = Scene::default();
        assert_eq!(scene.partners(SliceRef { track: TrackId(4), index: 9 }), []);
    }
}
