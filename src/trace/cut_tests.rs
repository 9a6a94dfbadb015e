//! A cut of the whole is the same recording; a part holds what lies in it, and nothing else.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::model::{Layer, Parent, Trace};
use super::{
    Arg, ArgRef, CaptureMeta, ClockSnapshot, Event, MemorySink, PerfettoWriter, Sink, SliceEvent, TrackDef, WHOLE_NS,
    cut, read,
};

/// Everything a recording says, in words that two of them can be compared by.
fn told(trace: &Trace) -> BTreeMap<String, Vec<String>> {
    let args = |id| {
        let value = |value| match value {
            Arg::Str(text) => format!("{:?}", trace.text(text)),
            other => format!("{other:?}"),
        };
        let mut all: Vec<String> = trace.args_of(id).map(|(key, v)| format!("{key}={}", value(v))).collect();
        all.sort();
        all.join(" ")
    };
    let mut told = BTreeMap::new();
    for process in &trace.processes {
        told.insert(format!("process {}", process.pid), vec![format!("{process:?}")]);
    }
    for track in &trace.tracks {
        let parent = match track.parent {
            Parent::Global => String::new(),
            Parent::Process(id) => trace.processes[id.0 as usize].pid.to_string(),
            Parent::Thread(id) => trace.threads[id.0 as usize].tid.to_string() + &trace.threads[id.0 as usize].name,
        };
        let key = format!("{} {parent} {}", track.layer.name(), trace.text(track.name));
        let lines: &mut Vec<String> = told.entry(key).or_default();
        lines.extend(track.slices.iter().map(|s| {
            let (name, flags) = (trace.text(s.name), s.flags.0);
            format!("{}+{} {name} depth {} {flags} {}", s.start_ns, s.dur_ns, s.depth, args(s.args))
        }));
        lines.extend(track.instants.iter().map(|i| format!("{} {} {}", i.ts_ns, trace.text(i.name), args(i.args))));
        lines.extend(track.counters.iter().map(|c| format!("{} = {}", c.ts_ns, c.value)));
    }
    // A track nothing is on is none in a file.
    told.retain(|_, lines| !lines.is_empty());
    told
}

/// A small recording: nested slices, an open one, points, counters, arguments, an arrow.
fn recording(lengths: &[(u64, u64, u8)]) -> Trace {
    let mut sink = MemorySink::new();
    sink.process(7, "python3", Some("python3 train.py"), Some(1)).unwrap();
    sink.thread(7, 7, "main").unwrap();
    let def = |layer: Layer, unit| TrackDef { pid: Some(7), tid: unit, name: layer.name(), layer, counter_unit: None };
    let torch = sink.track(def(Layer::Torch, Some(7))).unwrap();
    let io = sink.track(def(Layer::Io, None)).unwrap();
    let counter = TrackDef { pid: Some(7), tid: None, name: "cpu", layer: Layer::Sched, counter_unit: Some("%") };
    let cpu = sink.track(counter).unwrap();
    let mut at = 1000;
    for (n, &(gap, length, kind)) in lengths.iter().enumerate() {
        at += gap;
        let args = [("bytes", ArgRef::U64(n as u64)), ("path", ArgRef::Str("/data")), ("share", ArgRef::F64(0.5))];
        let args = &args[..n % 4];
        let flow = if kind & 1 == 1 { n as u64 + 1 } else { 0 };
        let slice = SliceEvent { start_ns: at, dur_ns: length, name: "outer", args, flow, estimate: kind & 2 == 2 };
        sink.slice(torch, &slice).unwrap();
        let inner = SliceEvent { start_ns: at + length / 4, dur_ns: length / 2, name: "inner", args, flow: 0, ..slice };
        sink.slice(torch, &inner).unwrap();
        sink.instant(io, &Event { ts_ns: at, name: "major_fault", args }).unwrap();
        sink.counter(cpu, at, n as f64).unwrap();
        at += length;
    }
    sink.begin(torch, &Event { ts_ns: at, name: "open", args: &[("bytes", ArgRef::I64(-1))] }).unwrap();
    sink.instant(io, &Event { ts_ns: at + 10, name: "end", args: &[] }).unwrap();
    let meta = CaptureMeta { start_ns: 1000, end_ns: at + 10, aictl_version: "1".to_owned(), ..CaptureMeta::default() };
    sink.meta(at, &meta).unwrap();
    sink.into_trace()
}

fn part(trace: &Trace, from_ns: u64, to_ns: u64) -> Trace {
    let mut sink = MemorySink::new();
    cut(trace, from_ns, to_ns, &mut sink).unwrap();
    sink.into_trace()
}

fn lengths() -> impl Strategy<Value = Vec<(u64, u64, u8)>> {
    proptest::collection::vec((0u64..50, 0u64..200, any::<u8>()), 0..30)
}

proptest! {
    #[test]
    fn a_cut_of_the_whole_is_the_same(lengths in lengths()) {
        let trace = recording(&lengths);
        let again = part(&trace, 0, u64::MAX);
        prop_assert_eq!(told(&again), told(&trace));
        prop_assert_eq!(&again.meta, &trace.meta);

        let mut writer = PerfettoWriter::new(Vec::new(), ClockSnapshot::default()).unwrap();
        cut(&trace, 0, u64::MAX, &mut writer).unwrap();
        writer.finish().unwrap();
        let read = read(&mut writer.into_inner().unwrap().as_slice()).unwrap();
        prop_assert_eq!(told(&read), told(&trace));
        prop_assert_eq!(&read.meta, &trace.meta);
    }

    #[test]
    fn a_part_holds_what_lies_in_it(lengths in lengths(), from in 900u64..6000, length in 1u64..3000) {
        let (trace, to) = (recording(&lengths), from + length);
        let part = part(&trace, from, to);
        prop_assert!(part.warnings.iter().all(|w| w.contains("no end")), "{:?}", part.warnings);
        let busy = |trace: &Trace| -> u64 {
            let inside = |s: &super::Slice| s.end_ns().min(to).saturating_sub(s.start_ns.max(from));
            // The open one has an end of its own in a part that ends before it.
            let ended = |s: &&super::Slice| trace.text(s.name) != "open";
            trace.tracks.iter().flat_map(|t| &t.slices).filter(ended).map(inside).sum()
        };
        prop_assert_eq!(busy(&part), busy(&trace));
        for track in &part.tracks {
            for slice in &track.slices {
                prop_assert!(from <= slice.start_ns && slice.end_ns() <= to, "{slice:?}");
                let whole = part.arg_u64(slice.args, WHOLE_NS);
                prop_assert!(whole.is_none_or(|whole| whole > slice.dur_ns));
            }
            prop_assert!(track.instants.iter().all(|i| (from..=to).contains(&i.ts_ns)));
            prop_assert!(track.counters.iter().all(|c| (from..=to).contains(&c.ts_ns)));
        }
    }
}

#[test]
fn a_counter_keeps_its_value_at_the_edge_and_cut_slices_tell_their_length() {
    let trace = recording(&[(0, 100, 0), (50, 100, 0)]);
    let part = part(&trace, 1060, 1200);
    let cpu = part.tracks.iter().find(|t| t.layer == Layer::Sched).unwrap();
    assert_eq!(cpu.counters.iter().map(|c| (c.ts_ns, c.value)).collect::<Vec<_>>(), [(1060, 0.0), (1150, 1.0)]);
    let torch = part.tracks.iter().find(|t| t.layer == Layer::Torch).unwrap();
    let outer = torch.slices[0];
    assert_eq!((outer.start_ns, outer.dur_ns, part.arg_u64(outer.args, WHOLE_NS)), (1060, 40, Some(100)));
    let meta = part.meta.unwrap();
    assert_eq!((meta.start_ns, meta.end_ns), (1060, 1200));
}

#[test]
fn processes_elsewhere_stay_out_and_equal_pids_stay_apart() {
    let one = |start_ns: u64| {
        let mut sink = MemorySink::new();
        sink.process(7, "python3", None, None).unwrap();
        let def = TrackDef { pid: Some(7), tid: None, name: "gpu", layer: Layer::Gpu, counter_unit: None };
        let track = sink.track(def).unwrap();
        let slice = SliceEvent { start_ns, dur_ns: 10, name: "kernel", args: &[], flow: 3, estimate: false };
        sink.slice(track, &slice).unwrap();
        sink.into_trace()
    };
    let parts = [("a", 100), ("b", 150)].map(|(name, start)| super::Part { name: name.to_owned(), trace: one(start) });
    let both = super::merge(parts.into(), super::Alignment::Clock);
    assert_eq!(both.processes.len(), 2);
    let again = part(&both, 0, u64::MAX);
    let pids: Vec<u32> = again.processes.iter().map(|p| p.pid).collect();
    assert_eq!((pids[0], again.processes.len()), (7, 2));
    assert_ne!(pids[1], 7);
    assert_eq!(part(&both, 5000, 6000).processes.len(), 0);
}
