//! The capture's end.

use std::io;
use std::sync::{Arc, Mutex};

use super::super::meta::CaptureMeta;
use super::super::sink::{Branch, Event, Sink, SliceEvent, TrackDef, TrackRef};
use super::numbers::Numbers;
use super::{Inbox, lock};

/// A [`Sink`] whose other end is a [`LiveFeed`](super::LiveFeed). Never fails, never waits for
/// the viewer. Its branches are the same sink: each event has its turn.
#[derive(Debug)]
pub struct LiveSink(Arc<Mutex<Numbers>>);

impl LiveSink {
    pub(super) fn new(inbox: Inbox, limit: usize) -> LiveSink {
        LiveSink(Arc::new(Mutex::new(Numbers::new(inbox, limit))))
    }
}

impl Sink for LiveSink {
    fn process(&mut self, pid: u32, name: &str, cmdline: Option<&str>, rank: Option<u32>) -> io::Result<()> {
        lock(&self.0).process(pid, name, cmdline, rank)
    }

    fn thread(&mut self, pid: u32, tid: u32, name: &str) -> io::Result<()> {
        lock(&self.0).thread(pid, tid, name)
    }

    fn track(&mut self, def: TrackDef<'_>) -> io::Result<TrackRef> {
        lock(&self.0).track(def)
    }

    fn slice(&mut self, track: TrackRef, slice: &SliceEvent<'_>) -> io::Result<()> {
        lock(&self.0).slice(track, slice)
    }

    fn begin(&mut self, track: TrackRef, event: &Event<'_>) -> io::Result<()> {
        lock(&self.0).begin(track, event)
    }

    fn end(&mut self, track: TrackRef, event: &Event<'_>) -> io::Result<()> {
        lock(&self.0).end(track, event)
    }

    fn instant(&mut self, track: TrackRef, event: &Event<'_>) -> io::Result<()> {
        lock(&self.0).instant(track, event)
    }

    fn counter(&mut self, track: TrackRef, ts_ns: u64, value: f64) -> io::Result<()> {
        lock(&self.0).counter(track, ts_ns, value)
    }

    fn meta(&mut self, ts_ns: u64, meta: &CaptureMeta) -> io::Result<()> {
        lock(&self.0).meta(ts_ns, meta)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn branch(&mut self) -> Option<Box<dyn Branch>> {
        Some(Box::new(LiveSink(Arc::clone(&self.0))))
    }
}

impl Branch for LiveSink {
    /// Nothing waits here.
    fn take(&mut self) -> Vec<u8> {
        Vec::new()
    }
}
