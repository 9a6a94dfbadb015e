use super::meta::Place;
use super::{
    CaptureMeta, ClockSnapshot, Joiner, Layer, NodeNote, PerfettoWriter, Sink, SliceEvent, SyscallTotal, TrackDef, read,
};

fn note(node: &str, clock_offset_ns: i64) -> NodeNote {
    NodeNote { node: node.to_owned(), clock_offset_ns, clock_error_ns: 400, round_trips: 5, ..NodeNote::default() }
}

/// A rank that has one slice at `start_ns` of its own clock.
fn rank(sink: &mut dyn Sink, pid: u32, rank: u32, start_ns: u64) {
    sink.process(pid, "python3", None, Some(rank)).unwrap();
    sink.thread(pid, pid, "python3").unwrap();
    let def = TrackDef { pid: Some(pid), tid: Some(pid), name: "torch", layer: Layer::Torch, counter_unit: None };
    let track = sink.track(def).unwrap();
    let slice = SliceEvent { start_ns, dur_ns: 100, name: "all_reduce", args: &[], flow: 9, estimate: false };
    sink.slice(track, &slice).unwrap();
    let place = Place { pid, pod: format!("ml/train-{rank}"), gpus: vec![rank], ..Place::default() };
    let total = SyscallTotal { pid, name: "read".to_owned(), count: 1, total_ns: 5 };
    let notes = CaptureMeta {
        start_ns,
        end_ns: start_ns + 100,
        targets: vec![pid],
        places: vec![place],
        syscalls: vec![total],
        ..CaptureMeta::default()
    };
    sink.meta(start_ns + 100, &notes).unwrap();
}

#[test]
fn machines_with_the_same_pids_and_other_clocks_become_one_recording() {
    let mut bytes = Vec::new();
    let mut writer = PerfettoWriter::new(&mut bytes, ClockSnapshot::default()).unwrap();
    let mut joiner = Joiner::new(&mut writer, 3);
    joiner.about(0, note("gpu-1", 5_000));
    joiner.about(1, note("gpu-2", -70_000));
    joiner.about(2, note("gpu-3", 0));
    // The same moment, 100 000 on the recording's clock.
    rank(&mut joiner.part(0), 41, 0, 105_000);
    rank(&mut joiner.part(1), 41, 1, 30_000);
    // Known better later on: what is written stays where it is.
    joiner.about(0, NodeNote { resumed: 2, ..note("gpu-1", 9_999) });
    let notes = joiner.finish().unwrap();
    drop(writer);

    let trace = read(&mut bytes.as_slice()).unwrap();
    let found: Vec<(u32, Option<u32>)> = trace.processes.iter().map(|p| (p.pid, p.rank)).collect();
    assert_eq!(found, [(41, Some(0)), (41 + (1 << 22), Some(1))]);
    let slices: Vec<(u64, u64)> = trace
        .tracks
        .iter()
        .flat_map(|t| &t.slices)
        .map(|s| (s.start_ns, trace.arg_u64(s.args, "flow").unwrap_or(0)))
        .collect();
    assert_eq!(slices.iter().map(|s| s.0).collect::<Vec<_>>(), [100_000, 100_000]);
    assert_ne!(slices[0].1, slices[1].1, "no arrow leads from one machine to another");

    let read_back = trace.meta.unwrap();
    assert_eq!(read_back, notes);
    let places: Vec<String> = read_back.places.iter().map(Place::words).collect();
    assert_eq!(places, ["gpu-1 GPU 0 (ml/train-0)", "gpu-2 GPU 1 (ml/train-1)"]);
    assert_eq!(read_back.places[1].pid_on_node, Some(41));
    assert_eq!(read_back.syscalls.iter().map(|s| s.pid).collect::<Vec<_>>(), [41, 41 + (1 << 22)]);
    assert_eq!((read_back.start_ns, read_back.end_ns), (100_000, 100_100));
    let nodes: Vec<(&str, i64, u32)> =
        read_back.nodes.iter().map(|n| (n.node.as_str(), n.clock_offset_ns, n.resumed)).collect();
    assert_eq!(nodes, [("gpu-1", 5_000, 2), ("gpu-2", -70_000, 0), ("gpu-3", 0, 0)]);
}

#[test]
fn a_time_before_time_begins_is_its_beginning() {
    let mut bytes = Vec::new();
    let mut writer = PerfettoWriter::new(&mut bytes, ClockSnapshot::default()).unwrap();
    let mut joiner = Joiner::new(&mut writer, 1);
    joiner.about(0, note("gpu-1", i64::MAX));
    rank(&mut joiner.part(0), 7, 0, 10);
    joiner.finish().unwrap();
    drop(writer);
    assert_eq!(read(&mut bytes.as_slice()).unwrap().tracks.iter().map(|t| t.slices.len()).sum::<usize>(), 1);
}
