//! A stretch of a timeline as a timeline of its own, fast, for a judge who works beside a capture.

use super::cut::notes;
use super::model::{ArgsId, CounterSample, Trace, Track};

/// What lies between two moments, both in ns, with all ids of processes, threads, tracks and texts
/// as they are; only slices are counted afresh. Slices that stick out are cut at the edges.
pub fn excerpt(trace: &Trace, from_ns: u64, to_ns: u64) -> Trace {
    let mut part = Trace {
        strings: trace.strings.clone(),
        processes: trace.processes.clone(),
        threads: trace.threads.clone(),
        clock: trace.clock,
        meta: trace.meta.as_ref().map(|meta| notes(meta, from_ns, to_ns)),
        ..Trace::default()
    };
    for track in &trace.tracks {
        let mut args = |id: ArgsId| if id.0 == 0 { id } else { part.args.push(trace.args.run(id)) };
        let mut slices = Vec::new();
        for (_, slice) in track.overlapping(from_ns, to_ns) {
            let (start_ns, end_ns) = (slice.start_ns.max(from_ns), slice.end_ns().min(to_ns));
            slices.push(super::Slice {
                start_ns,
                dur_ns: end_ns.saturating_sub(start_ns),
                args: args(slice.args),
                ..*slice
            });
        }
        let first = track.instants.partition_point(|instant| instant.ts_ns < from_ns);
        let inside = track.instants[first..].iter().take_while(|instant| instant.ts_ns < to_ns);
        let instants = inside.map(|instant| super::Instant { args: args(instant.args), ..*instant }).collect();
        let first = track.counters.partition_point(|sample| sample.ts_ns <= from_ns);
        let edge = first.checked_sub(1).and_then(|before| track.counters.get(before));
        let edge = edge.map(|sample| CounterSample { ts_ns: from_ns, ..*sample });
        let inside = track.counters[first..].iter().take_while(|sample| sample.ts_ns < to_ns).copied();
        let counters = edge.into_iter().chain(inside).collect();
        part.tracks.push(Track {
            parent: track.parent,
            name: track.name,
            layer: track.layer,
            slices,
            instants,
            counters,
        });
    }
    part
}

/// How many slices touch a stretch, about: each track's, by two searches.
pub fn slices_within(trace: &Trace, from_ns: u64, to_ns: u64) -> usize {
    let count = |track: &Track| {
        let before = |ts_ns| track.slices.partition_point(|slice| slice.start_ns < ts_ns);
        before(to_ns) - before(from_ns)
    };
    trace.tracks.iter().map(count).sum()
}

#[cfg(test)]
mod tests {
    use super::super::{ArgRef, Layer, MemorySink, Sink, SliceEvent, TrackDef};
    use super::*;

    #[test]
    fn ids_stay_and_edges_are_cut() {
        let mut sink = MemorySink::new();
        let def = |name| TrackDef { pid: None, tid: None, name, layer: Layer::Torch, counter_unit: None };
        let (_empty, track) = (sink.track(def("empty")).unwrap(), sink.track(def("busy")).unwrap());
        for n in 0..10u64 {
            let args = [("n", ArgRef::U64(n))];
            let slice = SliceEvent { start_ns: n * 100, dur_ns: 80, name: "a", args: &args, flow: 0, estimate: false };
            sink.slice(track, &slice).unwrap();
        }
        let trace = sink.into_trace();
        let part = excerpt(&trace, 250, 510);
        let slices: Vec<_> =
            part.tracks[1].slices.iter().map(|s| (s.start_ns, s.dur_ns, part.arg_u64(s.args, "n"))).collect();
        assert_eq!(slices, [(250, 30, Some(2)), (300, 80, Some(3)), (400, 80, Some(4)), (500, 10, Some(5))]);
        assert_eq!(part.text(part.tracks[1].name), "busy");
        assert_eq!(slices_within(&trace, 250, 510), 3);
    }
}
