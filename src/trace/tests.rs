//! Both formats against the in-memory sink, and both readers against rubbish.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// One slice and what is in it, placed after what came before by `gap`.
#[derive(Debug, Clone)]
struct Node {
    gap: u64,
    tail: u64,
    name: String,
    arg: Option<(String, OwnedArg)>,
    estimate: bool,
    children: Vec<Node>,
}

#[derive(Debug, Clone)]
enum OwnedArg {
    U64(u64),
    I64(i64),
    F64(f64),
    Text(String),
}

/// How a track's slices are handed over.
#[derive(Debug, Clone, Copy)]
enum Order {
    ParentsFirst,
    ChildrenFirst,
    BeginEnd,
}

#[derive(Debug, Clone)]
struct TrackPlan {
    pid: Option<u32>,
    tid: Option<u32>,
    layer: Layer,
    order: Order,
    forest: Vec<Node>,
    start: u64,
    counters: Vec<(u64, f64)>,
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z:_]{1,12}", "\\PC{1,8}", Just("aten::addmm".to_owned()), Just("a\"\\\n\u{1}".to_owned())]
}

fn arg() -> impl Strategy<Value = OwnedArg> {
    prop_oneof![
        any::<u64>().prop_map(OwnedArg::U64),
        (i64::MIN..0).prop_map(OwnedArg::I64),
        (-1e12..1e12f64).prop_map(|n| OwnedArg::F64(n + 0.5)),
        text().prop_map(OwnedArg::Text),
    ]
}

fn node() -> impl Strategy<Value = Node> {
    let leaf = (0..3u64, 0..2000u64, text(), proptest::option::of(("[a-z]{1,6}", arg())), any::<bool>())
        .prop_map(|(gap, tail, name, arg, estimate)| Node { gap, tail, name, arg, estimate, children: Vec::new() });
    leaf.prop_recursive(4, 24, 4, |inner| {
        (inner.clone(), vec(inner, 0..4)).prop_map(|(node, children)| Node { children, ..node })
    })
}

fn track() -> impl Strategy<Value = TrackPlan> {
    let place = prop_oneof![
        Just((None, None)),
        (1..3u32).prop_map(|p| (Some(p), None)),
        (1..3u32, 1..3u32).prop_map(|(p, t)| (Some(p), Some(p * 10 + t))),
    ];
    let order = prop_oneof![Just(Order::ParentsFirst), Just(Order::ChildrenFirst), Just(Order::BeginEnd)];
    let layer = proptest::sample::select(&Layer::ALL[..9]);
    (place, layer, order, vec(node(), 0..6), 0..1u64 << 60, vec((0..1u64 << 50, -1e9..1e9f64), 0..3)).prop_map(
        |((pid, tid), layer, order, forest, start, counters)| TrackPlan {
            pid,
            tid,
            layer,
            order,
            forest,
            start,
            counters,
        },
    )
}

/// Hands a plan to a sink, keeping its contract.
fn play(plan: &[TrackPlan], sink: &mut dyn Sink) {
    for pid in 1..3 {
        sink.process(pid, &format!("python{pid}"), Some("python3 train.py"), (pid == 2).then_some(7)).unwrap();
        for tid in 1..3 {
            sink.thread(pid, pid * 10 + tid, &format!("thread{tid}")).unwrap();
        }
    }
    for (index, track) in plan.iter().enumerate() {
        let name = format!("track {index}");
        let def = TrackDef { pid: track.pid, tid: track.tid, name: &name, layer: track.layer, counter_unit: None };
        let id = sink.track(def).unwrap();
        let mut at = track.start;
        for node in &track.forest {
            at = hand_over(node, at, track.order, id, sink);
        }
        if !track.counters.is_empty() {
            let id = sink.track(TrackDef { name: "load", counter_unit: Some("%"), ..def }).unwrap();
            for (ts, value) in &track.counters {
                sink.counter(id, *ts, *value).unwrap();
            }
        }
    }
    sink.meta(5, &CaptureMeta { aictl_version: "first".into(), ..Default::default() }).unwrap();
    sink.meta(6, &CaptureMeta { aictl_version: "last".into(), ..Default::default() }).unwrap();
    sink.finish().unwrap();
}

fn end_of(node: &Node, start: u64) -> u64 {
    node.children.iter().fold(start, |at, child| end_of(child, at + child.gap)) + node.tail
}

fn hand_over(node: &Node, at: u64, order: Order, track: TrackRef, sink: &mut dyn Sink) -> u64 {
    let start = at + node.gap;
    let end = end_of(node, start);
    let args: Vec<_> = node
        .arg
        .iter()
        .map(|(key, value)| {
            let value = match value {
                OwnedArg::U64(n) => ArgRef::U64(*n),
                OwnedArg::I64(n) => ArgRef::I64(*n),
                OwnedArg::F64(n) => ArgRef::F64(*n),
                OwnedArg::Text(t) => ArgRef::Str(t),
            };
            (key.as_str(), value)
        })
        .collect();
    let slice = SliceEvent {
        start_ns: start,
        dur_ns: end - start,
        name: &node.name,
        args: &args,
        flow: 0,
        estimate: node.estimate,
    };
    let begin = Event { ts_ns: start, name: &node.name, args: &args };
    // A parent that starts with its child has to come first.
    let shares_start = node.children.first().is_some_and(|c| c.gap == 0);
    let parent_first = matches!(order, Order::ParentsFirst) || shares_start;
    match order {
        Order::BeginEnd => sink.begin(track, &begin).unwrap(),
        _ if parent_first => sink.slice(track, &slice).unwrap(),
        _ => {}
    }
    let mut inner = start;
    for child in &node.children {
        inner = hand_over(child, inner, order, track, sink);
    }
    match order {
        Order::BeginEnd => sink.end(track, &Event { ts_ns: end, name: "", args: &[] }).unwrap(),
        _ if !parent_first => sink.slice(track, &slice).unwrap(),
        _ => {}
    }
    end
}

/// A trace as lines of text that do not depend on ids.
fn lines(trace: &Trace) -> Vec<String> {
    let mut all = Vec::new();
    let process = |id: ProcessId| {
        let p = &trace.processes[id.0 as usize];
        format!("{} {} {:?} {:?}", p.pid, p.name, p.rank, p.cmdline)
    };
    let args = |id: ArgsId| {
        trace
            .args_of(id)
            .map(|(key, value)| match value {
                Arg::Str(text) => format!("{key}={:?}", trace.text(text)),
                other => format!("{key}={other:?}"),
            })
            .collect::<Vec<_>>()
    };
    for track in &trace.tracks {
        let owner = match track.parent {
            Parent::Global => "global".to_owned(),
            Parent::Process(id) => process(id),
            Parent::Thread(id) => {
                let t = &trace.threads[id.0 as usize];
                format!("{} / {} {}", process(t.process), t.tid, t.name)
            }
        };
        let head = format!("{owner} / {} {:?}", trace.text(track.name), track.layer);
        for s in &track.slices {
            let name = trace.text(s.name);
            all.push(format!(
                "{head}: {} {} {} {name:?} {:?} {}",
                s.start_ns,
                s.depth,
                s.dur_ns,
                args(s.args),
                s.flags.0
            ));
        }
        for c in &track.counters {
            all.push(format!("{head}: {} {}", c.ts_ns, c.value));
        }
    }
    all.push(format!("{:?}", trace.meta));
    all.sort();
    all
}

fn perfetto(plan: &[TrackPlan]) -> Vec<u8> {
    let mut writer = PerfettoWriter::new(Vec::new(), ClockSnapshot::default()).unwrap();
    play(plan, &mut writer);
    writer.into_inner().unwrap()
}

fn chrome(plan: &[TrackPlan]) -> Vec<u8> {
    let mut writer = ChromeWriter::new(Vec::new());
    play(plan, &mut writer);
    writer.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

fn open(bytes: &[u8]) -> Result<Trace, ReadError> {
    read(&mut { bytes })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn both_formats_carry_all(plan in vec(track(), 0..5)) {
        let mut memory = MemorySink::new();
        play(&plan, &mut memory);
        let expected = memory.into_trace();
        prop_assert!(expected.warnings.is_empty(), "{:?}", expected.warnings);
        let expected = lines(&expected);
        for bytes in [perfetto(&plan), chrome(&plan), gzip(&perfetto(&plan))] {
            let found = open(&bytes).unwrap();
            prop_assert!(found.warnings.is_empty(), "{:?}", found.warnings);
            prop_assert_eq!(&lines(&found), &expected);
        }
    }

    #[test]
    fn damage_never_panics(
        plan in vec(track(), 1..3),
        flips in vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
        cut in any::<prop::sample::Index>(),
        packed in any::<bool>(),
        json in any::<bool>(),
    ) {
        let mut bytes = if json { chrome(&plan) } else { perfetto(&plan) };
        if packed {
            bytes = gzip(&bytes);
        }
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        bytes.truncate(cut.index(bytes.len()) + 1);
        if let Ok(trace) = open(&bytes) {
            check(&trace);
        }
    }

    #[test]
    fn json_like_input_never_panics(text in r#"[\[{]("(ph|ts|dur|pid|args|name|traceEvents)":("[XBEiCM]"|-?[0-9]{1,25}(\.[0-9]{0,4})?|[\[{]|[\]}]|null|\{"a":1\}),?|[\]},{"]){0,24}"#) {
        if let Ok(trace) = open(text.as_bytes()) {
            check(&trace);
        }
    }

    #[test]
    fn any_bytes_never_panic(mut bytes in vec(any::<u8>(), 0..200), perfetto in any::<bool>()) {
        if perfetto {
            bytes.splice(..0, [0x0a, 2, 0x50, 1]);
        }
        if let Ok(trace) = open(&bytes) {
            check(&trace);
        }
    }
}

/// What every trace promises, whatever it was read from.
fn check(trace: &Trace) {
    for track in &trace.tracks {
        let parents = track.parents();
        for (index, slice) in track.slices.iter().enumerate() {
            if let Some(parent) = track.slices.get(parents[index] as usize) {
                assert!(parent.start_ns <= slice.start_ns && slice.end_ns() <= parent.end_ns());
            }
        }
        assert!(track.slices.is_sorted_by_key(|s| (s.start_ns, s.depth)));
        assert!(track.instants.is_sorted_by_key(|i| i.ts_ns));
        assert_eq!(track.self_times().count(), track.slices.len());
    }
    trace.bounds_ns();
}

#[test]
fn refusals_say_what_to_do() {
    let told = |bytes: &[u8]| open(bytes).unwrap_err().to_string();
    assert!(told(b"").starts_with("the file is empty"));
    assert!(told(b"\x7fELF\x02\x01").contains("not a recording aictl can read: starts with 7f 45"));
    assert!(told(b"hello world").contains("\"hello world\""));
    assert!(told(&[0x28, 0xb5, 0x2f, 0xfd, 0]).contains("zstd -d"));
    assert!(told(br#"{"kind":"Pod"}"#).contains("not a trace"));
    assert!(told(br#"[{"a"#).contains("not a trace"));
    assert!(told(&gzip(b"")).starts_with("the file is empty"));
    assert!(told(&gzip(&perfetto(&[]))[..12]).contains(" at byte 0"));
    assert!(told(&[0x0a, 0x7f, 0x50]).contains("before the first whole packet"));
}

#[test]
fn a_cut_recording_opens_up_to_its_last_packet() {
    let mut writer = PerfettoWriter::new(Vec::new(), ClockSnapshot::default()).unwrap();
    let track = writer
        .track(TrackDef { pid: Some(1), tid: Some(2), name: "torch", layer: Layer::Torch, counter_unit: None })
        .unwrap();
    for n in 0..100 {
        let slice = SliceEvent { start_ns: n * 10, dur_ns: 5, name: "x", args: &[], flow: 0, estimate: false };
        writer.slice(track, &slice).unwrap();
    }
    let bytes = writer.into_inner().unwrap();
    let trace = open(&bytes[..bytes.len() - 3]).unwrap();
    assert_eq!(trace.tracks[0].slices.len(), 100);
    assert!(trace.tracks[0].slices[99].flags.has(Flags::UNFINISHED));
    assert!(trace.warnings[0].starts_with("the recording is cut: "), "{:?}", trace.warnings);

    let packed = gzip(&bytes);
    let trace = open(&packed[..packed.len() - 20]).unwrap();
    assert!(trace.warnings[0].contains("could be read up to byte"), "{:?}", trace.warnings);
}

#[test]
fn interning_starts_afresh_and_nothing_is_lost() {
    let mut writer = PerfettoWriter::new(Vec::new(), ClockSnapshot::default()).unwrap();
    let def = TrackDef { pid: Some(1), tid: Some(1), name: "python", layer: Layer::Python, counter_unit: None };
    let track = writer.track(def).unwrap();
    let many = 70_000;
    for n in 0..many {
        let name = format!("function_{n}");
        let args = [("file", ArgRef::Str("train.py"))];
        let slice = SliceEvent { start_ns: n * 10, dur_ns: 5, name: &name, args: &args, flow: 3, estimate: false };
        writer.slice(track, &slice).unwrap();
    }
    let trace = open(&writer.into_inner().unwrap()).unwrap();
    assert!(trace.warnings.is_empty());
    for (n, slice) in trace.tracks[0].slices.iter().enumerate() {
        assert_eq!(trace.text(slice.name), format!("function_{n}"));
        assert_eq!(trace.arg_str(slice.args, "file"), Some("train.py"));
        assert_eq!(trace.arg_u64(slice.args, "flow"), Some(3));
    }
    assert_eq!(trace.tracks[0].slices.len() as u64, many);
}

#[test]
fn twins_keep_parent_and_child_apart() {
    // Two frames of one Python sample: same start, same end.
    let mut writer = PerfettoWriter::new(Vec::new(), ClockSnapshot::default()).unwrap();
    let def = TrackDef { pid: Some(1), tid: Some(1), name: "python", layer: Layer::Python, counter_unit: None };
    let track = writer.track(def).unwrap();
    for name in ["main", "train", "step"] {
        writer.begin(track, &Event { ts_ns: 10, name, args: &[] }).unwrap();
    }
    for _ in 0..3 {
        writer.end(track, &Event { ts_ns: 20, name: "", args: &[] }).unwrap();
    }
    let trace = open(&writer.into_inner().unwrap()).unwrap();
    let names: Vec<_> = trace.tracks[0].slices.iter().map(|s| (trace.text(s.name), s.depth)).collect();
    assert_eq!(names, [("main", 0), ("train", 1), ("step", 2)]);
}

/// Every byte of the input in a read of its own.
struct Drip<'a>(&'a [u8]);

impl Read for Drip<'_> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let Some((first, rest)) = self.0.split_first() else { return Ok(0) };
        buf[0] = *first;
        self.0 = rest;
        Ok(1)
    }
}

#[test]
fn how_the_bytes_arrive_does_not_matter() {
    let node = Node { gap: 1, tail: 9, name: "x".into(), arg: None, estimate: true, children: Vec::new() };
    let plan = [TrackPlan {
        pid: Some(1),
        tid: Some(11),
        layer: Layer::Torch,
        order: Order::ChildrenFirst,
        forest: vec![Node { children: vec![node.clone()], ..node }],
        start: 1000,
        counters: vec![(1, 2.0)],
    }];
    for bytes in [perfetto(&plan), chrome(&plan)] {
        let expected = lines(&open(&bytes).unwrap());
        assert_eq!(lines(&read(&mut Drip(&bytes)).unwrap()), expected);
    }
}
