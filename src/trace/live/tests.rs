//! A growing timeline against one that is built at once from the same events.

use proptest::prelude::*;

use super::super::TrackIndex;
use super::super::memory::MemorySink;
use super::super::model::{Arg, Layer, Trace, TrackId};
use super::super::sink::{ArgRef, Event, Sink, SliceEvent, TrackDef, TrackRef};
use super::*;

const NAMES: [&str; 5] = ["forward", "backward", "aten::mm", "read", "wait"];

/// What a capture does, on track `0`, `1` or `2`.
#[derive(Debug, Clone)]
enum Act {
    Slice { track: u32, start: u64, dur: u64, name: usize, args: u8 },
    Begin { track: u32, ts: u64, name: usize, args: u8 },
    End { track: u32, ts: u64, args: u8 },
    Instant { track: u32, ts: u64, args: u8 },
    Counter { track: u32, ts: u64, value: f64 },
    Thread { name: usize },
    Take,
}

/// Tracks 0 and 1 have slices, 2 has begins and ends, 3 has both, 4 counters and instants.
fn perform(act: &Act, sink: &mut dyn Sink, tracks: &[TrackRef]) {
    let args = |n: u8| -> Vec<(&'static str, ArgRef<'static>)> {
        let all = [
            ("bytes", ArgRef::U64(u64::from(n))),
            ("file", ArgRef::Str(NAMES[usize::from(n) % 5])),
            ("estimate", ArgRef::U64(u64::from(n) & 1)),
        ];
        all[..usize::from(n % 4).min(3)].to_vec()
    };
    let at = |track: u32| tracks[track as usize];
    match *act {
        Act::Slice { track, start, dur, name, args: n } => {
            let (args, flow) = (args(n), u64::from(n / 100));
            let slice =
                SliceEvent { start_ns: start, dur_ns: dur, name: NAMES[name], args: &args, flow, estimate: n > 150 };
            sink.slice(at(track), &slice)
        }
        Act::Begin { track, ts, name, args: n } => {
            sink.begin(at(track), &Event { ts_ns: ts, name: NAMES[name], args: &args(n) })
        }
        Act::End { track, ts, args: n } => sink.end(at(track), &Event { ts_ns: ts, name: "", args: &args(n) }),
        Act::Instant { track, ts, args: n } => {
            sink.instant(at(track), &Event { ts_ns: ts, name: "tick", args: &args(n) })
        }
        Act::Counter { track, ts, value } => sink.counter(at(track), ts, value),
        Act::Thread { name } => sink.thread(7, 8, NAMES[name]),
        Act::Take => Ok(()),
    }
    .unwrap();
}

fn open(sink: &mut dyn Sink) -> Vec<TrackRef> {
    sink.process(7, "python3", None, None).unwrap();
    sink.process(7, "python3", Some("python3 train.py"), Some(3)).unwrap();
    let def = |tid, name, layer| TrackDef { pid: Some(7), tid, name, layer, counter_unit: None };
    let defs = [
        def(Some(8), "torch", Layer::Torch),
        def(Some(9), "syscall", Layer::Syscall),
        def(Some(8), "python", Layer::Python),
        def(None, "both", Layer::Other),
        def(None, "cpu", Layer::Other),
    ];
    defs.into_iter().map(|def| sink.track(def).unwrap()).collect()
}

type Words = (u64, u64, u16, u16, String, Vec<(String, String)>);

fn words(trace: &Trace) -> Vec<(Vec<Words>, Vec<String>, Vec<String>)> {
    let args = |id| -> Vec<(String, String)> {
        let value = |value| match value {
            Arg::Str(id) => trace.text(id).to_owned(),
            other => format!("{other:?}"),
        };
        trace.args_of(id).map(|(k, v)| (k.to_owned(), value(v))).collect()
    };
    let slice = |s: &super::super::Slice| {
        (s.start_ns, s.dur_ns, s.depth, s.flags.0, trace.text(s.name).to_owned(), args(s.args))
    };
    let track = |t: &super::super::Track| {
        (
            t.slices.iter().map(slice).collect(),
            t.instants.iter().map(|i| format!("{} {} {:?}", i.ts_ns, trace.text(i.name), args(i.args))).collect(),
            t.counters.iter().map(|c| format!("{c:?}")).collect(),
        )
    };
    trace.tracks.iter().map(track).collect()
}

/// A grown trace with its indices, refreshed by the changes alone.
#[derive(Default)]
struct Grown {
    trace: Trace,
    growth: Growth,
    index: Vec<TrackIndex>,
}

impl Grown {
    fn take(&mut self, feed: &LiveFeed) {
        let Some(batch) = feed.take() else { return };
        let before: Vec<Vec<super::super::Slice>> = self.trace.tracks.iter().map(|t| t.slices.clone()).collect();
        let changes = self.growth.apply(&mut self.trace, batch);
        // Tracks of slices alone have no ends that put others in another order.
        for (track, slices) in (0u32..).map(TrackId).zip(before).take(2) {
            for (index, slice) in (0u32..).zip(slices) {
                let moved = changes.moved(track, index).map(|i| self.trace.tracks[track.0 as usize].slices[i as usize]);
                assert_eq!(moved.map(|s| (s.start_ns, s.name)), Some((slice.start_ns, slice.name)));
            }
        }
        self.index.resize_with(self.trace.tracks.len(), TrackIndex::default);
        for (track, first) in changes.tracks {
            let at = track.0 as usize;
            self.index[at].refresh(&self.trace.tracks[at], first, &[], &|_| true);
        }
        // What the changes leave out must be as if built afresh.
        let (mut cells, mut expected) = (Vec::new(), Vec::new());
        let to_ns = self.growth.bounds_ns().map_or(1, |(_, last)| last + 1);
        for (track, index) in self.trace.tracks.iter().zip(&self.index) {
            let fresh = TrackIndex::build(track, &[], &|_| true);
            assert_eq!(fresh.depths(), index.depths());
            for depth in 0..fresh.depths() {
                index.cells(track, depth, 0, to_ns, 20, &mut cells);
                fresh.cells(track, depth, 0, to_ns, 20, &mut expected);
                assert_eq!(cells, expected);
                assert_eq!(index.row(depth), fresh.row(depth));
            }
        }
    }
}

fn compare(acts: &[Act]) {
    let mut plain = MemorySink::new();
    let (mut sink, feed) = live(usize::MAX);
    let (plain_tracks, tracks) = (open(&mut plain), open(&mut sink));
    let mut grown = Grown::default();
    for act in acts {
        perform(act, &mut plain, &plain_tracks);
        perform(act, &mut sink, &tracks);
        if matches!(act, Act::Take) {
            grown.take(&feed);
        }
    }
    // Nothing else happens at the last moment: slices without an end outlast all others.
    let last = Act::Instant { track: 4, ts: 100_000, args: 0 };
    perform(&last, &mut plain, &plain_tracks);
    perform(&last, &mut sink, &tracks);
    grown.take(&feed);
    let plain = plain.into_trace();
    assert_eq!(words(&grown.trace), words(&plain));
    assert_eq!(grown.growth.bounds_ns(), plain.bounds_ns());
    let people = |trace: &Trace| (format!("{:?}", trace.processes), format!("{:?}", trace.threads));
    assert_eq!(people(&grown.trace), people(&plain));
    assert!(feed.take().is_none());
}

/// Anything on any track; begins and ends in the order of time.
fn anything() -> impl Strategy<Value = Vec<Act>> {
    let act = (0..12u8, 0..2u32, 0..500u64, 0..120u64, 0..5usize, any::<u8>());
    prop::collection::vec(act, 0..150).prop_map(|all| {
        let mut raw_ns = 0;
        let act = |(kind, track, start, dur, name, args): (u8, u32, u64, u64, usize, u8)| match kind {
            0..4 => Act::Slice { track, start, dur, name, args },
            4..6 => {
                raw_ns += dur / 16;
                Act::Begin { track: 2, ts: raw_ns, name, args }
            }
            6..8 => {
                raw_ns += dur / 16;
                Act::End { track: 2, ts: raw_ns, args }
            }
            8 => Act::Instant { track: 4, ts: start, args },
            9 => Act::Counter { track: 4, ts: start, value: dur as f64 },
            10 => Act::Thread { name },
            _ => Act::Take,
        };
        all.into_iter().map(act).collect()
    })
}

/// Slices that nest, some told by begin and end, the others when they are over; unfinished at
/// the end. Children end before their parents do, so that no two are twins.
fn nested() -> impl Strategy<Value = Vec<Act>> {
    prop::collection::vec((0..4u8, 0..3u64, 0..5usize, any::<u8>(), any::<bool>()), 0..300).prop_map(|all| {
        let mut acts: Vec<Act> = Vec::new();
        let mut open: Vec<(u64, usize, u8, bool)> = Vec::new();
        let mut now = 0u64;
        for (kind, step, name, args, told) in all {
            match kind {
                0 | 1 => {
                    now += step;
                    if told {
                        acts.push(Act::Begin { track: 3, ts: now, name, args });
                    } else {
                        // A slice with the start of an open one's is told late: it may be no twin.
                        now += 1;
                    }
                    open.push((now, name, args, told));
                }
                2 => {
                    let Some((start, name, args, told)) = open.pop() else { continue };
                    now += step + 1;
                    acts.push(match told {
                        true => Act::End { track: 3, ts: now, args },
                        false => Act::Slice { track: 3, start, dur: now - start, name, args },
                    });
                }
                _ => acts.push(Act::Take),
            }
        }
        acts
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_batches_give_the_same_trace(acts in anything()) {
        compare(&acts);
    }

    #[test]
    fn begins_and_ends_mix_with_slices(acts in nested()) {
        compare(&acts);
    }
}

fn slice(sink: &mut LiveSink, track: TrackRef, start_ns: u64, dur_ns: u64, number: u64) {
    let args = [("number", ArgRef::U64(number))];
    let slice = SliceEvent { start_ns, dur_ns, name: "aten::mm", args: &args, flow: 0, estimate: false };
    sink.slice(track, &slice).unwrap();
}

#[test]
fn zero_length_twins_keep_their_order() {
    let begin = |args| Act::Begin { track: 2, ts: 0, name: 0, args };
    let end = |args| Act::End { track: 2, ts: 0, args };
    compare(&[begin(0), end(0), begin(0), Act::Take, begin(1), end(2), Act::Take, end(41)]);
}

#[test]
fn what_is_open_shows_at_once_and_grows() {
    let (mut sink, feed) = live(1000);
    let tracks = open(&mut sink);
    let mut grown = Grown::default();
    sink.begin(tracks[2], &Event { ts_ns: 100, name: "main", args: &[] }).unwrap();
    sink.begin(tracks[2], &Event { ts_ns: 150, name: "forward", args: &[] }).unwrap();
    slice(&mut sink, tracks[0], 200, 300, 0);
    grown.take(&feed);
    let seen = |grown: &Grown| -> Vec<(u64, u64, bool)> {
        let slices = &grown.trace.tracks[2].slices;
        slices.iter().map(|s| (s.start_ns, s.end_ns(), s.flags.has(super::super::Flags::UNFINISHED))).collect()
    };
    assert_eq!(seen(&grown), [(100, 500, true), (150, 500, true)]);
    sink.end(tracks[2], &Event { ts_ns: 600, name: "", args: &[] }).unwrap();
    slice(&mut sink, tracks[0], 600, 100, 0);
    let changes = grown.growth.apply(&mut grown.trace, feed.take().unwrap());
    assert_eq!(seen(&grown), [(100, 700, true), (150, 600, false)]);
    // The Python track's indices hold: nothing on it was moved.
    assert_eq!((changes.tracks.len(), changes.ended.len(), changes.structure), (1, 1, false));
}

#[test]
fn a_viewer_that_is_behind_loses_the_oldest() {
    let (mut sink, feed) = live(100);
    let tracks = open(&mut sink);
    sink.begin(tracks[2], &Event { ts_ns: 0, name: "main", args: &[("file", ArgRef::Str("train.py"))] }).unwrap();
    sink.begin(tracks[2], &Event { ts_ns: 1, name: "forward", args: &[] }).unwrap();
    for n in 0..1000 {
        slice(&mut sink, tracks[0], n * 10, 5, n);
    }
    sink.end(tracks[2], &Event { ts_ns: 9_000, name: "", args: &[] }).unwrap();
    let batch = feed.take().unwrap();
    assert!(batch.events() <= 203);
    assert_eq!(batch.events() as u64 + batch.dropped(), 1003);
    let mut grown = Grown::default();
    let dropped = batch.dropped();
    grown.growth.apply(&mut grown.trace, batch);
    assert_eq!(grown.growth.dropped(), dropped);
    // The last are there with their own arguments; what is open is paired as it was.
    let torch = &grown.trace.tracks[0].slices;
    assert_eq!(torch.last().map(|s| grown.trace.arg_u64(s.args, "number")), Some(Some(999)));
    let python: Vec<_> = grown.trace.tracks[2].slices.iter().map(|s| (grown.trace.text(s.name), s.end_ns())).collect();
    assert_eq!(python, [("main", 9995), ("forward", 9000)]);
    assert_eq!(grown.trace.arg_str(grown.trace.tracks[2].slices[0].args, "file"), Some("train.py"));
}

#[test]
fn the_oldest_is_forgotten() {
    let (mut sink, feed) = live(10_000);
    let tracks = open(&mut sink);
    let mut grown = Grown { growth: Growth::new(4000), ..Grown::default() };
    sink.begin(tracks[3], &Event { ts_ns: 0, name: "main", args: &[("number", ArgRef::U64(77))] }).unwrap();
    let mut forgot = 0;
    for n in 0..20_000 {
        slice(&mut sink, tracks[(n % 2) as usize * 3], n * 10, 5, n);
        sink.counter(tracks[4], n * 10, n as f64).unwrap();
        if n % 500 == 0 {
            let changes = grown.growth.apply(&mut grown.trace, feed.take().unwrap());
            forgot += usize::from(changes.forgot);
            assert!(grown.trace.slice_count() <= 4500);
            assert_eq!(grown.trace.slice_count() as u64 + grown.growth.forgotten(), n + 2);
        }
    }
    assert!(forgot >= 10, "{forgot}");
    let trace = &grown.trace;
    let both = &trace.tracks[3].slices;
    assert_eq!((trace.text(both[0].name), trace.arg_u64(both[0].args, "number")), ("main", Some(77)));
    assert!(both[1..].iter().all(|s| s.depth == 1 && trace.arg_u64(s.args, "number") == Some(s.start_ns / 10)));
    assert!(trace.tracks[0].slices.iter().all(|s| trace.arg_u64(s.args, "number") == Some(s.start_ns / 10)));
    assert!(trace.args.len() < 6000 && trace.tracks[4].counters.len() < 6000);
    let (first, last) = grown.growth.bounds_ns().unwrap();
    assert!(first > 150_000 && last >= 195_005, "{first} {last}");
    // And it goes on: what is open ends where it should.
    sink.end(tracks[3], &Event { ts_ns: 300_000, name: "", args: &[] }).unwrap();
    slice(&mut sink, tracks[3], 300_000, 5, 1);
    grown.growth.apply(&mut grown.trace, feed.take().unwrap());
    let both = &grown.trace.tracks[3].slices;
    assert_eq!((both[0].end_ns(), both.last().map(|s| s.depth)), (300_000, Some(0)));
}
