//! A sink for tests: checks that begins and ends pair up in order of time, and keeps the slices.

use std::collections::BTreeMap;
use std::io;

use crate::trace::{ArgRef, CaptureMeta, Event, Sink, SliceEvent, TrackDef, TrackRef};

/// A slice as the sink got it.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub name: String,
    pub start: u64,
    pub end: u64,
    pub depth: usize,
    pub args: BTreeMap<String, String>,
    pub parent: Option<usize>,
}

/// Checks that slices nest and keeps them.
#[derive(Default)]
pub(super) struct Recorder {
    pub slices: Vec<Seen>,
    tracks: Vec<u32>,
    pub open: BTreeMap<u32, Vec<usize>>,
    last: BTreeMap<u32, u64>,
}

impl Recorder {
    fn clock(&mut self, track: TrackRef, ts: u64) {
        let last = self.last.entry(track.0).or_default();
        assert!(ts >= *last, "time went back on track {}", track.0);
        *last = ts;
    }
}

impl Sink for Recorder {
    fn process(&mut self, _: u32, _: &str, _: Option<&str>, _: Option<u32>) -> io::Result<()> {
        Ok(())
    }
    fn thread(&mut self, _: u32, _: u32, _: &str) -> io::Result<()> {
        Ok(())
    }
    fn track(&mut self, def: TrackDef<'_>) -> io::Result<TrackRef> {
        self.tracks.push(def.tid.unwrap());
        Ok(TrackRef(self.tracks.len() as u32 - 1))
    }
    fn slice(&mut self, _: TrackRef, _: &SliceEvent<'_>) -> io::Result<()> {
        panic!("Python slices are begun and ended")
    }
    fn begin(&mut self, track: TrackRef, event: &Event<'_>) -> io::Result<()> {
        self.clock(track, event.ts_ns);
        let open = self.open.entry(track.0).or_default();
        let text = |arg: &ArgRef<'_>| match arg {
            ArgRef::Str(text) => (*text).to_owned(),
            ArgRef::U64(number) => number.to_string(),
            other => panic!("{other:?}"),
        };
        self.slices.push(Seen {
            name: event.name.to_owned(),
            start: event.ts_ns,
            end: 0,
            depth: open.len(),
            args: event.args.iter().map(|(key, value)| ((*key).to_owned(), text(value))).collect(),
            parent: open.last().copied(),
        });
        open.push(self.slices.len() - 1);
        Ok(())
    }
    fn end(&mut self, track: TrackRef, event: &Event<'_>) -> io::Result<()> {
        self.clock(track, event.ts_ns);
        let index = self.open.get_mut(&track.0).and_then(Vec::pop).expect("an end has its begin");
        self.slices[index].end = event.ts_ns;
        Ok(())
    }
    fn instant(&mut self, _: TrackRef, _: &Event<'_>) -> io::Result<()> {
        Ok(())
    }
    fn counter(&mut self, _: TrackRef, _: u64, _: f64) -> io::Result<()> {
        Ok(())
    }
    fn meta(&mut self, _: u64, _: &CaptureMeta) -> io::Result<()> {
        Ok(())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}
