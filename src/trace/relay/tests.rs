use proptest::prelude::*;

use super::super::model::Layer;
use super::super::sink::{ArgRef, Event, Sink, SliceEvent, TrackDef, TrackRef};
use super::super::{CaptureMeta, ClockSnapshot, PerfettoWriter};
use super::{RelayError, RelayReader, RelayWriter};

/// What a call of a sink may be.
#[derive(Debug, Clone)]
enum Call {
    Process(u32, String, Option<String>, Option<u32>),
    Thread(u32, u32, String),
    Track(Option<u32>, usize, String, bool),
    Slice(usize, u64, u64, String, i64, u64),
    Pair(usize, u64, String),
    Counter(usize, u64, f64),
    Meta(u64),
}

fn call() -> impl Strategy<Value = Call> {
    let name = "\\PC{0,12}";
    prop_oneof![
        (1..50u32, name, proptest::option::of(name), proptest::option::of(0..9u32))
            .prop_map(|(pid, name, line, rank)| Call::Process(pid, name, line, rank)),
        (1..50u32, 1..90u32, name).prop_map(|(pid, tid, name)| Call::Thread(pid, tid, name)),
        (proptest::option::of(1..50u32), 0..Layer::ALL.len(), name, any::<bool>())
            .prop_map(|(pid, layer, name, counter)| Call::Track(pid, layer, name, counter)),
        (any::<usize>(), 0..u64::MAX / 4, 0..u64::MAX / 4, name, any::<i64>(), any::<u64>())
            .prop_map(|(track, from, length, name, arg, flow)| Call::Slice(track, from, length, name, arg, flow)),
        (any::<usize>(), 0..u64::MAX / 2, name).prop_map(|(track, at, name)| Call::Pair(track, at, name)),
        (any::<usize>(), 0..u64::MAX / 2, -1e9..1e9).prop_map(|(track, at, value)| Call::Counter(track, at, value)),
        (0..u64::MAX / 2).prop_map(Call::Meta),
    ]
}

fn perform(calls: &[Call], sink: &mut dyn Sink) {
    let mut tracks: Vec<TrackRef> = Vec::new();
    for call in calls {
        let at = |n: usize| (!tracks.is_empty()).then(|| tracks[n % tracks.len()]);
        match call {
            Call::Process(pid, name, line, rank) => sink.process(*pid, name, line.as_deref(), *rank).unwrap(),
            Call::Thread(pid, tid, name) => sink.thread(*pid, *tid, name).unwrap(),
            Call::Track(pid, layer, name, counter) => {
                let counter_unit = counter.then_some("bytes");
                let def = TrackDef { pid: *pid, tid: None, name, layer: Layer::ALL[*layer], counter_unit };
                tracks.push(sink.track(def).unwrap());
            }
            Call::Slice(track, start_ns, dur_ns, name, arg, flow) => {
                let Some(track) = at(*track) else { continue };
                let args = [("n", ArgRef::I64(*arg)), (name, ArgRef::Str("text")), ("x", ArgRef::F64(0.5))];
                let (start_ns, dur_ns, flow) = (*start_ns, *dur_ns, *flow);
                let slice = SliceEvent { start_ns, dur_ns, name, args: &args, flow, estimate: *arg > 0 };
                sink.slice(track, &slice).unwrap();
            }
            Call::Pair(track, ts_ns, name) => {
                let Some(track) = at(*track) else { continue };
                let ts_ns = *ts_ns;
                sink.begin(track, &Event { ts_ns, name, args: &[("k", ArgRef::U64(7))] }).unwrap();
                sink.instant(track, &Event { ts_ns, name, args: &[] }).unwrap();
                sink.end(track, &Event { ts_ns: ts_ns + 1, name: "", args: &[] }).unwrap();
            }
            Call::Counter(track, at_ns, value) => {
                if let Some(track) = at(*track) {
                    sink.counter(track, *at_ns, *value).unwrap();
                }
            }
            Call::Meta(end_ns) => {
                sink.meta(*end_ns, &CaptureMeta { end_ns: *end_ns, ..CaptureMeta::default() }).unwrap()
            }
        }
    }
    sink.finish().unwrap();
}

proptest! {
    #[test]
    fn a_relayed_recording_is_the_same_to_the_byte(calls in proptest::collection::vec(call(), 0..60)) {
        let clock = ClockSnapshot { monotonic_ns: 5, boottime_ns: 6, realtime_ns: 7 };
        let mut straight = Vec::new();
        perform(&calls, &mut PerfettoWriter::new(&mut straight, clock).unwrap());

        let mut relayed = Vec::new();
        {
            let mut sink = PerfettoWriter::new(&mut relayed, clock).unwrap();
            let mut writer = RelayWriter::new();
            perform(&calls, &mut writer);
            RelayReader::new().feed(&writer.take(), &mut sink).unwrap();
            sink.finish().unwrap();
        }
        prop_assert_eq!(straight, relayed);
    }

    #[test]
    fn any_bytes_give_events_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let mut sink = PerfettoWriter::new(std::io::sink(), ClockSnapshot::default()).unwrap();
        let _ = RelayReader::new().feed(&bytes, &mut sink);
    }

    #[test]
    fn a_mangled_stream_gives_events_or_an_error(calls in proptest::collection::vec(call(), 1..30), at in any::<usize>(), to in any::<u8>()) {
        let mut writer = RelayWriter::new();
        perform(&calls, &mut writer);
        let mut bytes = writer.take();
        if !bytes.is_empty() {
            let at = at % bytes.len();
            bytes[at] = to;
        }
        let mut sink = PerfettoWriter::new(std::io::sink(), ClockSnapshot::default()).unwrap();
        let _ = RelayReader::new().feed(&bytes, &mut sink);
    }
}

#[test]
fn texts_are_forgotten_before_they_take_all_memory() {
    let mut writer = RelayWriter::new();
    let mut reader = RelayReader::new();
    let mut bytes = Vec::new();
    let mut sink = PerfettoWriter::new(&mut bytes, ClockSnapshot::default()).unwrap();
    let def = TrackDef { pid: None, tid: None, name: "t", layer: Layer::Torch, counter_unit: None };
    let track = writer.track(def).unwrap();
    for n in 0..200_000u64 {
        let name = format!("a kernel with a name of its own, number {n}");
        let slice = SliceEvent { start_ns: n * 10, dur_ns: 5, name: &name, args: &[], flow: 0, estimate: false };
        writer.slice(track, &slice).unwrap();
        if writer.len() > 64 << 10 {
            reader.feed(&writer.take(), &mut sink).unwrap();
        }
    }
    reader.feed(&writer.take(), &mut sink).unwrap();
    sink.finish().unwrap();
    drop(sink);
    let trace = super::super::read(&mut bytes.as_slice()).unwrap();
    let track = &trace.tracks[0];
    assert_eq!(track.slices.len(), 200_000);
    assert_eq!(trace.text(track.slices[199_999].name), "a kernel with a name of its own, number 199999");
}

#[test]
fn a_cut_stream_says_so() {
    let mut writer = RelayWriter::new();
    writer.process(1, "python3", None, Some(3)).unwrap();
    let bytes = writer.take();
    let mut sink = PerfettoWriter::new(std::io::sink(), ClockSnapshot::default()).unwrap();
    let error = RelayReader::new().feed(&bytes[..bytes.len() - 1], &mut sink).unwrap_err();
    assert!(matches!(error, RelayError::Cut), "{error}");
}
