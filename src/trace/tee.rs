//! One capture into two sinks: the file, and the viewer beside it.

use std::io;

use super::meta::CaptureMeta;
use super::sink::{Branch, Event, Sink, SliceEvent, TrackDef, TrackRef};

/// Hands everything on to both; each numbers its tracks by itself. Branches of the second hand on
/// by themselves ([`LiveSink`](super::LiveSink)'s do), so what is taken and appended is the first's.
#[derive(Debug)]
pub struct Tee<A, B> {
    first: A,
    second: B,
    tracks: Vec<(TrackRef, TrackRef)>,
}

impl<A: Sink, B: Sink> Tee<A, B> {
    /// Joins two sinks that nothing was written into so far.
    pub fn new(first: A, second: B) -> Tee<A, B> {
        Tee { first, second, tracks: Vec::new() }
    }

    fn both(&self, track: TrackRef) -> io::Result<(TrackRef, TrackRef)> {
        let known = self.tracks.get(track.0 as usize).copied();
        known.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no such track"))
    }
}

impl<A: Sink, B: Sink> Sink for Tee<A, B> {
    fn process(&mut self, pid: u32, name: &str, cmdline: Option<&str>, rank: Option<u32>) -> io::Result<()> {
        self.first.process(pid, name, cmdline, rank)?;
        self.second.process(pid, name, cmdline, rank)
    }

    fn thread(&mut self, pid: u32, tid: u32, name: &str) -> io::Result<()> {
        self.first.thread(pid, tid, name)?;
        self.second.thread(pid, tid, name)
    }

    fn track(&mut self, def: TrackDef<'_>) -> io::Result<TrackRef> {
        let both = (self.first.track(def)?, self.second.track(def)?);
        let track = TrackRef(u32::try_from(self.tracks.len()).map_err(io::Error::other)?);
        self.tracks.push(both);
        Ok(track)
    }

    fn slice(&mut self, track: TrackRef, slice: &SliceEvent<'_>) -> io::Result<()> {
        let (first, second) = self.both(track)?;
        self.first.slice(first, slice)?;
        self.second.slice(second, slice)
    }

    fn begin(&mut self, track: TrackRef, event: &Event<'_>) -> io::Result<()> {
        let (first, second) = self.both(track)?;
        self.first.begin(first, event)?;
        self.second.begin(second, event)
    }

    fn end(&mut self, track: TrackRef, event: &Event<'_>) -> io::Result<()> {
        let (first, second) = self.both(track)?;
        self.first.end(first, event)?;
        self.second.end(second, event)
    }

    fn instant(&mut self, track: TrackRef, event: &Event<'_>) -> io::Result<()> {
        let (first, second) = self.both(track)?;
        self.first.instant(first, event)?;
        self.second.instant(second, event)
    }

    fn counter(&mut self, track: TrackRef, ts_ns: u64, value: f64) -> io::Result<()> {
        let (first, second) = self.both(track)?;
        self.first.counter(first, ts_ns, value)?;
        self.second.counter(second, ts_ns, value)
    }

    fn meta(&mut self, ts_ns: u64, meta: &CaptureMeta) -> io::Result<()> {
        self.first.meta(ts_ns, meta)?;
        self.second.meta(ts_ns, meta)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.first.flush()?;
        self.second.flush()
    }

    fn finish(&mut self) -> io::Result<()> {
        self.first.finish()?;
        self.second.finish()
    }

    fn branch(&mut self) -> Option<Box<dyn Branch>> {
        Some(Box::new(Tee::new(self.first.branch()?, self.second.branch()?)))
    }

    fn append(&mut self, written: &[u8]) -> io::Result<()> {
        self.first.append(written)
    }
}

impl Branch for Tee<Box<dyn Branch>, Box<dyn Branch>> {
    fn take(&mut self) -> Vec<u8> {
        self.first.take()
    }
}

impl<S: Sink + ?Sized> Sink for Box<S> {
    fn process(&mut self, pid: u32, name: &str, cmdline: Option<&str>, rank: Option<u32>) -> io::Result<()> {
        (**self).process(pid, name, cmdline, rank)
    }

    fn thread(&mut self, pid: u32, tid: u32, name: &str) -> io::Result<()> {
        (**self).thread(pid, tid, name)
    }

    fn track(&mut self, def: TrackDef<'_>) -> io::Result<TrackRef> {
        (**self).track(def)
    }

    fn slice(&mut self, track: TrackRef, slice: &SliceEvent<'_>) -> io::Result<()> {
        (**self).slice(track, slice)
    }

    fn begin(&mut self, track: TrackRef, event: &Event<'_>) -> io::Result<()> {
        (**self).begin(track, event)
    }

    fn end(&mut self, track: TrackRef, event: &Event<'_>) -> io::Result<()> {
        (**self).end(track, event)
    }

    fn instant(&mut self, track: TrackRef, event: &Event<'_>) -> io::Result<()> {
        (**self).instant(track, event)
    }

    fn counter(&mut self, track: TrackRef, ts_ns: u64, value: f64) -> io::Result<()> {
        (**self).counter(track, ts_ns, value)
    }

    fn meta(&mut self, ts_ns: u64, meta: &CaptureMeta) -> io::Result<()> {
        (**self).meta(ts_ns, meta)
    }

    fn flush(&mut self) -> io::Result<()> {
        (**self).flush()
    }

    fn finish(&mut self) -> io::Result<()> {
        (**self).finish()
    }

    fn branch(&mut self) -> Option<Box<dyn Branch>> {
        (**self).branch()
    }

    fn append(&mut self, written: &[u8]) -> io::Result<()> {
        (**self).append(written)
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::Layer;
    use super::super::{ClockSnapshot, MemorySink, PerfettoWriter, read};
    use super::*;

    #[test]
    fn both_ends_get_the_same_whatever_their_numbers() {
        let mut memory = MemorySink::new();
        let def = |name| TrackDef { pid: None, tid: None, name, layer: Layer::Torch, counter_unit: None };
        // The second counts from 1.
        memory.track(def("before")).unwrap();
        let mut bytes = Vec::new();
        let mut tee = Tee::new(PerfettoWriter::new(&mut bytes, ClockSnapshot::default()).unwrap(), memory);
        let (a, b) = (tee.track(def("a")).unwrap(), tee.track(def("b")).unwrap());
        let slice = |name| SliceEvent { start_ns: 5, dur_ns: 2, name, args: &[], flow: 0, estimate: false };
        tee.slice(b, &slice("on b")).unwrap();
        tee.slice(a, &slice("on a")).unwrap();
        tee.begin(a, &Event { ts_ns: 8, name: "pair", args: &[] }).unwrap();
        tee.end(a, &Event { ts_ns: 9, name: "", args: &[] }).unwrap();
        assert!(tee.slice(TrackRef(2), &slice("nowhere")).is_err());
        tee.finish().unwrap();
        let second = tee.second.into_trace();
        drop(tee.first);
        let first = read(&mut bytes.as_slice()).unwrap();
        for trace in [first, second] {
            let names = |track: &str| -> Vec<&str> {
                let track = trace.tracks.iter().find(|t| trace.text(t.name) == track).unwrap();
                track.slices.iter().map(|s| trace.text(s.name)).collect()
            };
            assert_eq!((names("a"), names("b")), (vec!["on a", "pair"], vec!["on b"]));
        }
    }
}
