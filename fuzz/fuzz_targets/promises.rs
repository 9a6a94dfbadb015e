// What every trace promises, whatever it was read from.

use aictl::trace::{Trace, read};

pub fn open_and_check(bytes: &[u8]) {
    let Ok(trace) = read(&mut { bytes }) else { return };
    check(&trace);
}

fn check(trace: &Trace) {
    for track in &trace.tracks {
        let parents = track.parents();
        for (slice, parent) in track.slices.iter().zip(parents) {
            if let Some(parent) = track.slices.get(parent as usize) {
                assert!(parent.start_ns <= slice.start_ns && slice.end_ns() <= parent.end_ns());
            }
            trace.args_of(slice.args).count();
        }
        assert!(track.slices.is_sorted_by_key(|s| (s.start_ns, s.depth)));
        assert_eq!(track.self_times().count(), track.slices.len());
    }
    trace.bounds_ns();
}
