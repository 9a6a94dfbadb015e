//! The way from records to the recording: makes processes, threads and tracks when their
//! first event comes, and hands events on to the sink.

use std::fs;
use std::io;

use rustc_hash::FxHashMap;

use crate::trace::{ArgRef, Layer, Sink, SliceEvent, TrackDef, TrackRef};

/// A sink plus what has been defined in it.
pub(crate) struct Output<'s> {
    sink: &'s mut dyn Sink,
    processes: FxHashMap<u32, ()>,
    threads: FxHashMap<u32, u32>,
    thread_tracks: FxHashMap<(u32, Layer), TrackRef>,
    named_tracks: FxHashMap<(u32, Layer, String), TrackRef>,
    /// Events handed on so far.
    pub events: u64,
}

impl<'s> Output<'s> {
    /// Wraps a sink.
    pub fn new(sink: &'s mut dyn Sink) -> Self {
        Output {
            sink,
            processes: FxHashMap::default(),
            threads: FxHashMap::default(),
            thread_tracks: FxHashMap::default(),
            named_tracks: FxHashMap::default(),
            events: 0,
        }
    }

    /// The sink itself, for begins, ends, instants and counters.
    pub fn sink(&mut self) -> &mut dyn Sink {
        self.events += 1;
        self.sink
    }

    /// Writes a finished slice.
    pub fn slice(&mut self, track: TrackRef, slice: &SliceEvent<'_>) -> io::Result<()> {
        self.events += 1;
        self.sink.slice(track, slice)
    }

    /// Writes a finished slice that is no estimate and has no arrows.
    pub fn plain(
        &mut self,
        track: TrackRef,
        start_ns: u64,
        dur_ns: u64,
        name: &str,
        args: &[(&str, ArgRef<'_>)],
    ) -> io::Result<()> {
        self.slice(track, &SliceEvent { start_ns, dur_ns, name, args, flow: 0, estimate: false })
    }

    /// The track of one layer of a thread, made at first use.
    pub fn thread_track(&mut self, pid: u32, tid: u32, layer: Layer) -> io::Result<TrackRef> {
        if let Some(&track) = self.thread_tracks.get(&(tid, layer)) {
            return Ok(track);
        }
        self.thread(pid, tid)?;
        let name = if layer == Layer::Sched { "cpu" } else { layer.name() };
        let track = self.sink.track(TrackDef { pid: Some(pid), tid: Some(tid), name, layer, counter_unit: None })?;
        self.thread_tracks.insert((tid, layer), track);
        Ok(track)
    }

    /// A further track of a thread, made at first use.
    pub fn thread_named_track(&mut self, pid: u32, tid: u32, name: &str, layer: Layer) -> io::Result<TrackRef> {
        if let Some(&track) = self.named_tracks.get(&(tid, layer, name.to_owned())) {
            return Ok(track);
        }
        self.thread(pid, tid)?;
        let track = self.sink.track(TrackDef { pid: Some(pid), tid: Some(tid), name, layer, counter_unit: None })?;
        self.named_tracks.insert((tid, layer, name.to_owned()), track);
        Ok(track)
    }

    /// A track under a process, made at first use; a counter if `unit` is given.
    pub fn process_track(&mut self, pid: u32, name: &str, layer: Layer, unit: Option<&str>) -> io::Result<TrackRef> {
        if let Some(&track) = self.named_tracks.get(&(pid, layer, name.to_owned())) {
            return Ok(track);
        }
        self.process(pid)?;
        let track = self.sink.track(TrackDef { pid: Some(pid), tid: None, name, layer, counter_unit: unit })?;
        self.named_tracks.insert((pid, layer, name.to_owned()), track);
        Ok(track)
    }

    /// Makes sure that a process is defined.
    pub fn process(&mut self, pid: u32) -> io::Result<()> {
        if self.processes.insert(pid, ()).is_some() {
            return Ok(());
        }
        self.describe(pid)
    }

    /// Defines a process again: its program or its name may have changed (exec).
    pub fn describe(&mut self, pid: u32) -> io::Result<()> {
        let read = |what: &str| fs::read(format!("/proc/{pid}/{what}")).unwrap_or_default();
        let comm = String::from_utf8_lossy(&read("comm")).trim_end().to_owned();
        let cmdline = String::from_utf8_lossy(&read("cmdline")).trim_end_matches('\0').replace('\0', " ");
        let rank = rank_of(&read("environ"));
        let cmdline = (!cmdline.is_empty()).then_some(cmdline.as_str());
        self.sink.process(pid, &comm, cmdline, rank)
    }

    /// Makes sure that a thread is defined.
    pub fn thread(&mut self, pid: u32, tid: u32) -> io::Result<()> {
        if self.threads.insert(tid, pid).is_some() {
            return Ok(());
        }
        self.process(pid)?;
        let name = fs::read_to_string(format!("/proc/{pid}/task/{tid}/comm")).unwrap_or_default();
        self.sink.thread(pid, tid, name.trim_end())
    }

    /// Forgets a process that ended, so that a new one of the same pid is defined again.
    pub fn forget_process(&mut self, pid: u32) {
        self.processes.remove(&pid);
        self.named_tracks.retain(|(owner, _, _), _| *owner != pid);
    }

    /// Forgets a thread that ended, so that a new one of the same tid gets tracks of its own.
    pub fn forget_thread(&mut self, tid: u32) {
        self.threads.remove(&tid);
        for layer in Layer::ALL {
            self.thread_tracks.remove(&(tid, layer));
        }
        self.named_tracks.retain(|(owner, _, _), _| *owner != tid);
    }
}

/// The rank in a process's environment: torchrun's RANK, else Open MPI's, PMI's or Slurm's.
pub fn rank_of(environ: &[u8]) -> Option<u32> {
    const NAMES: [&str; 4] = ["RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID"];
    NAMES.iter().find_map(|name| {
        environ.split(|b| *b == 0).find_map(|entry| {
            let value = entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
            std::str::from_utf8(value).ok()?.parse().ok()
        })
    })
}

#[cfg(test)]
mod tests {
    use super::rank_of;

    #[test]
    fn the_rank_is_read_from_the_environment() {
        assert_eq!(rank_of(b"PATH=/bin\0RANK=3\0X=1\0"), Some(3));
        assert_eq!(rank_of(b"LOCAL_RANK=1\0SLURM_PROCID=12\0"), Some(12));
        assert_eq!(rank_of(b"RANK=x\0MY_RANK=4\0"), None);
    }
}
