//! Builds recordings by hand for tests.

use crate::trace::{Arg, CaptureMeta, Flags, Layer, Parent, Process, ProcessId, Slice, Thread, ThreadId, Trace, Track};

/// One millisecond in ns.
pub(super) const MS: u64 = 1_000_000;

/// A recording in the making.
#[derive(Default)]
pub(super) struct Build {
    pub trace: Trace,
}

/// A value of an argument.
#[derive(Clone, Copy)]
pub(super) enum V<'a> {
    N(u64),
    S(&'a str),
}

impl Build {
    /// A capture of ours with these targets.
    pub fn capture(targets: &[u32]) -> Build {
        let mut build = Build::default();
        build.trace.meta = Some(CaptureMeta { targets: targets.to_vec(), python_hz: 99, ..CaptureMeta::default() });
        build
    }

    /// Adds a process with its main thread; returns the thread.
    pub fn process(&mut self, pid: u32, rank: Option<u32>) -> ThreadId {
        self.trace.processes.push(Process { pid, name: "python3".to_owned(), rank, cmdline: None });
        self.thread(pid, pid)
    }

    /// Adds a thread to a process.
    pub fn thread(&mut self, pid: u32, tid: u32) -> ThreadId {
        let process = self.trace.processes.iter().position(|p| p.pid == pid).unwrap();
        self.trace.threads.push(Thread {
            process: ProcessId(u32::try_from(process).unwrap()),
            tid,
            name: "python3".to_owned(),
        });
        ThreadId(u32::try_from(self.trace.threads.len() - 1).unwrap())
    }

    /// Adds a slice (in time order, parents first); the depth follows from what is open.
    pub fn slice(&mut self, thread: ThreadId, layer: Layer, name: &str, start: u64, dur: u64, args: &[(&str, V<'_>)]) {
        let args: Vec<_> = args
            .iter()
            .map(|(key, value)| {
                let key = self.trace.strings.intern(key);
                let value = match value {
                    V::N(n) => Arg::U64(*n),
                    V::S(text) => Arg::Str(self.trace.strings.intern(text)),
                };
                (key, value)
            })
            .collect();
        let args = self.trace.push_args(args);
        let name = self.trace.strings.intern(name);
        let parent = Parent::Thread(thread);
        let track = match self.trace.tracks.iter().position(|t| t.parent == parent && t.layer == layer) {
            Some(i) => &mut self.trace.tracks[i],
            None => {
                let name = self.trace.strings.intern(layer.name());
                self.trace.tracks.push(Track {
                    parent,
                    name,
                    layer,
                    slices: Vec::new(),
                    instants: Vec::new(),
                    counters: Vec::new(),
                });
                self.trace.tracks.last_mut().unwrap()
            }
        };
        let depth = track.slices.iter().filter(|s| s.end_ns() > start).count();
        let depth = u16::try_from(depth).unwrap();
        track.slices.push(Slice { start_ns: start, dur_ns: dur, name, args, depth, flags: Flags::default() });
    }

    /// Adds a stay on or off the CPU.
    pub fn sched(&mut self, thread: ThreadId, name: &str, start: u64, dur: u64, waker: u64) {
        let args = [("waker", V::N(waker)), ("cpu", V::N(u64::from(thread.0)))];
        self.slice(thread, Layer::Sched, name, start, dur, &args);
    }

    /// Adds a Python frame of `/home/me/FILE`.
    pub fn frame(&mut self, thread: ThreadId, name: &str, at: (&str, u64, u64), start: u64, dur: u64) {
        let file = if at.0.starts_with('/') { at.0.to_owned() } else { format!("/home/me/{}", at.0) };
        let args = [("file", V::S(&file)), ("line", V::N(at.1)), ("call_line", V::N(at.2))];
        self.slice(thread, Layer::Python, name, start, dur, &args);
    }

    /// Adds a line under a frame.
    pub fn line(&mut self, thread: ThreadId, at: (&str, u64), native: Option<&str>, start: u64, dur: u64) {
        let file = format!("/home/me/{}", at.0);
        let mut args = vec![("file", V::S(file.as_str())), ("line", V::N(at.1))];
        args.extend(native.map(|n| ("native", V::S(n))));
        self.slice(thread, Layer::Python, &format!("{}:{}", at.0, at.1), start, dur, &args);
    }

    /// Adds a slice of the torch layer.
    pub fn op(&mut self, thread: ThreadId, name: &str, start: u64, dur: u64) {
        self.slice(thread, Layer::Torch, name, start, dur, &[]);
    }
}
