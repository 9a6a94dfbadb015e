//! Where a node's events arrive: most of the work on them is done here, a node beside the other, so that
//! the one who writes the recording only writes.

use super::link::FromNode;
use crate::trace::{Apart, NodeNote, RelayError, RelayReader};

/// Takes a node's events, in order.
pub struct Landing(Option<Here>);

struct Here {
    reader: RelayReader,
    part: Apart,
}

impl Landing {
    /// Into a part of the recording; without one, events are handed on as they came.
    pub fn new(part: Option<Apart>) -> Landing {
        Landing(part.map(|part| Here { reader: RelayReader::new(), part }))
    }

    /// Told before the first events, whose times it moves.
    pub fn about(&self, note: &NodeNote) {
        if let Some(here) = &self.0 {
            here.part.about(note.clone());
        }
    }

    /// Takes a run of events; gives what is to be written.
    ///
    /// # Errors
    /// If they are broken: the node's stream can't be gone on with.
    pub fn land(&mut self, events: &[u8]) -> Result<FromNode, RelayError> {
        match &mut self.0 {
            Some(here) => {
                here.reader.feed(events, &mut here.part.sink())?;
                Ok(FromNode::Written(here.part.take()))
            }
            None => Ok(FromNode::Events(events.to_vec())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{
        ChromeWriter, ClockSnapshot, Joiner, Layer, PerfettoWriter, RelayWriter, Sink, SliceEvent, TrackDef, read,
    };

    fn run(rank: u32) -> Vec<u8> {
        let mut relay = RelayWriter::new();
        relay.process(41, "python3", None, Some(rank)).unwrap();
        let def = TrackDef { pid: Some(41), tid: Some(41), name: "torch", layer: Layer::Torch, counter_unit: None };
        let track = relay.track(def).unwrap();
        for number in 0..1000 {
            let start_ns = 1_000_000 + number * 100;
            let slice = SliceEvent { start_ns, dur_ns: 50, name: "aten::mm", args: &[], flow: 0, estimate: false };
            relay.slice(track, &slice).unwrap();
        }
        relay.take()
    }

    #[test]
    fn nodes_land_on_threads_of_their_own_and_are_one_recording() {
        let mut bytes = Vec::new();
        let mut writer = PerfettoWriter::new(&mut bytes, ClockSnapshot::default()).unwrap();
        let mut joiner = Joiner::new(&mut writer, 4);
        let mut threads = Vec::new();
        for node in 0..4u32 {
            let mut landing = Landing::new(joiner.apart(node as usize));
            threads.push(std::thread::spawn(move || {
                let about = NodeNote { clock_offset_ns: i64::from(node) * 1000, ..NodeNote::default() };
                landing.about(&about);
                landing.land(&run(node)).unwrap()
            }));
        }
        for thread in threads {
            let FromNode::Written(written) = thread.join().unwrap() else { panic!("the sink has branches") };
            joiner.append(&written).unwrap();
        }
        joiner.finish().unwrap();
        drop(writer);
        let trace = read(&mut bytes.as_slice()).unwrap();
        assert!(trace.warnings.is_empty(), "{:?}", trace.warnings);
        let mut ranks: Vec<Option<u32>> = trace.processes.iter().map(|process| process.rank).collect();
        ranks.sort_unstable();
        assert_eq!(ranks, [Some(0), Some(1), Some(2), Some(3)]);
        let mut starts: Vec<u64> =
            trace.tracks.iter().filter(|t| !t.slices.is_empty()).map(|t| t.slices[0].start_ns).collect();
        starts.sort_unstable();
        assert_eq!(starts, [997_000, 998_000, 999_000, 1_000_000]);
        assert!(trace.tracks.iter().all(|t| t.slices.is_empty() || t.slices.len() == 1000));
    }

    #[test]
    fn a_format_without_branches_gets_events_as_they_came() {
        let mut writer = ChromeWriter::new(Vec::new());
        let mut joiner = Joiner::new(&mut writer, 1);
        let mut landing = Landing::new(joiner.apart(0));
        let events = run(0);
        assert!(matches!(landing.land(&events), Ok(FromNode::Events(same)) if same == events));
    }

    #[test]
    fn a_broken_stream_is_an_error() {
        let mut bytes = Vec::new();
        let mut writer = PerfettoWriter::new(&mut bytes, ClockSnapshot::default()).unwrap();
        let mut landing = Landing::new(Joiner::new(&mut writer, 1).apart(0));
        assert!(matches!(landing.land(&[0xee]), Err(RelayError::Broken(_))));
    }
}
