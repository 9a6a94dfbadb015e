//! Recordings put together: aligned by clock or start, told apart by file, nothing mixed up.

use super::{Alignment, ClockSnapshot, Layer, MemorySink, Part, Sink, SliceEvent, Trace, TrackDef, merge};

const S: u64 = 1_000_000_000;

/// A recording with one slice a second from `start_s` on, on a clock that reads 0 at `boot_s` of
/// the wall clock.
fn part(name: &str, start_s: u64, seconds: u64, boot_s: Option<u64>, rank: Option<u32>) -> Part {
    let mut sink = MemorySink::new();
    sink.process(100, "python3", None, rank).unwrap();
    sink.thread(100, 100, "main").unwrap();
    let def = TrackDef { pid: Some(100), tid: Some(100), name: "torch", layer: Layer::Torch, counter_unit: None };
    let track = sink.track(def).unwrap();
    for second in 0..seconds {
        let own = format!("{name}::step");
        let args = [("path", super::ArgRef::Str(name)), ("n", super::ArgRef::U64(second))];
        let slice = SliceEvent {
            start_ns: (start_s + second) * S,
            dur_ns: S,
            name: if second == 0 { "shared" } else { &own },
            args: &args,
            flow: second + 1,
            estimate: false,
        };
        sink.slice(track, &slice).unwrap();
    }
    let mut trace = sink.into_trace();
    trace.clock = boot_s.map(|boot| ClockSnapshot { monotonic_ns: 5 * S, boottime_ns: 0, realtime_ns: (boot + 5) * S });
    Part { name: name.to_owned(), trace }
}

fn starts_s(trace: &Trace) -> Vec<u64> {
    trace.tracks.iter().map(|track| track.slices[0].start_ns / S).collect()
}

#[test]
fn one_recording_stays_as_it_is() {
    let trace = merge(vec![part("rank4", 10, 2, None, None)], Alignment::Auto);
    assert_eq!((starts_s(&trace), trace.warnings.len()), (vec![10], 0));
    assert_eq!(trace.processes[0].rank, Some(4));
    assert_eq!(merge(Vec::new(), Alignment::Auto).tracks.len(), 0);
}

#[test]
fn machines_are_aligned_by_their_wall_clocks() {
    let parts = || vec![part("a", 100, 10, Some(1_000_000), Some(0)), part("b", 7000, 10, Some(993_104), Some(1))];
    let trace = merge(parts(), Alignment::Auto);
    assert_eq!(starts_s(&trace), [100, 104]);
    assert!(trace.warnings[0].contains("wall clock"), "{:?}", trace.warnings);
    assert_eq!(starts_s(&merge(parts(), Alignment::Start)), [100, 100]);
}

#[test]
fn one_machine_has_one_clock() {
    let trace = merge(vec![part("a", 100, 10, Some(50), None), part("b", 103, 10, Some(50), None)], Alignment::Auto);
    assert_eq!(starts_s(&trace), [100, 103]);
    assert!(trace.warnings[0].contains("which is the same"), "{:?}", trace.warnings);
}

#[test]
fn runs_of_different_days_start_together_unless_asked() {
    let parts = || vec![part("a", 100, 10, Some(50), None), part("b", 90_000, 10, Some(50), None)];
    let trace = merge(parts(), Alignment::Auto);
    assert_eq!(starts_s(&trace), [100, 100]);
    assert!(trace.warnings[0].contains("not recorded at the same time"), "{:?}", trace.warnings);
    assert_eq!(starts_s(&merge(parts(), Alignment::Clock)), [100, 90_000]);
}

#[test]
fn without_a_clock_recordings_start_together() {
    let parts = || vec![part("a", 100, 10, Some(50), None), part("b", 103, 10, None, None)];
    let trace = merge(parts(), Alignment::Auto);
    assert_eq!(starts_s(&trace), [100, 100]);
    assert_eq!(trace.warnings, ["aligned by their starts: b tells no wall-clock time"]);
    assert_eq!(starts_s(&merge(parts(), Alignment::Clock)), [100, 100]);
}

#[test]
fn nothing_comes_before_time_begins() {
    let trace = merge(vec![part("a", 1, 10, Some(1000), None), part("b", 5, 10, Some(990), None)], Alignment::Clock);
    assert_eq!(starts_s(&trace), [6, 0]);
}

#[test]
fn files_are_told_apart() {
    let trace = merge(vec![part("a", 1, 3, None, None), part("b", 1, 3, None, None)], Alignment::Auto);
    let names: Vec<&str> = trace.processes.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(names, ["a: python3", "b: python3"]);
    assert_eq!(trace.threads[1].process.0, 1);
    for (track, own) in trace.tracks.iter().zip(["a", "b"]) {
        assert_eq!(trace.text(track.slices[0].name), "shared");
        for (second, slice) in track.slices.iter().enumerate() {
            assert!(second == 0 || trace.text(slice.name) == format!("{own}::step"));
            assert_eq!(trace.arg_str(slice.args, "path"), Some(own));
            assert_eq!(trace.arg_u64(slice.args, "n"), Some(second as u64));
        }
    }
    let flow = |track: usize| trace.arg_u64(trace.tracks[track].slices[0].args, "flow");
    assert_eq!(flow(0), Some(1));
    assert_ne!(flow(1), Some(1), "an arrow leads from one recording into another");
}

#[test]
fn a_mix_of_ranks_and_none_is_still_one_view() {
    let empty = Part { name: "empty".to_owned(), trace: Trace::default() };
    let trace = merge(vec![empty, part("x_rank2", 9, 3, None, None), part("y", 9, 3, None, Some(5))], Alignment::Auto);
    let ranks: Vec<Option<u32>> = trace.processes.iter().map(|p| p.rank).collect();
    assert_eq!(ranks, [Some(2), Some(5)]);
}
