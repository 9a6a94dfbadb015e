//! Python stacks: finds the CPython of a process, tells the kernel where its frames are, names
//! the frames that come back, and joins them into slices.
//!
//! Uses `host::maps`, and reads the target's memory while it runs. Never stops a target, never
//! writes to it, and trusts nothing that it reads there.

mod code;
mod detect;
mod linetable;
mod loops;
mod memory;
mod merge;
mod native;
mod offsets;
mod sampler;
mod strings;
mod symbols;

#[cfg(test)]
mod live_tests;
#[cfg(test)]
mod merge_tests;
#[cfg(test)]
mod table_tests;
#[cfg(test)]
mod test_sink;

use std::io;
use std::sync::Arc;

use aya::maps::MapData;
use rustc_hash::{FxHashMap, FxHashSet};

use super::output::Output;
use super::records::{Frame, StackHead, stack_flag};
use crate::host::maps::Mapping;
use crate::trace::{ArgRef, Event, Layer, PythonMeta};
use code::{Code, Codes, UNKNOWN};
use detect::{Interpreter, Running};
use memory::ProcessMemory;
use merge::{Call, Line, Merger, Stack, Timeline};
use native::Libraries;
pub(crate) use offsets::PyProcess;
pub(crate) use sampler::Sampler;
use symbols::Symbols;

/// Files remembered by what they hold; beyond it, all are forgotten.
const FILES_KEPT: usize = 1024;
/// A stack is held back this long for an earlier one that was sent later.
const REORDER_NS: u64 = 50_000_000;
/// How often a process whose interpreter does not run yet is looked at again.
const RETRY_NS: u64 = 100_000_000;
/// A thread not seen for so long is looked up, whether it is still there.
const GONE_NS: u64 = 2_000_000_000;

/// The Pythons of all followed processes.
pub(crate) struct Pythons {
    py_procs: aya::maps::HashMap<MapData, u32, PyProcess>,
    processes: FxHashMap<u32, Process>,
    threads: FxHashMap<u32, Thread>,
    ended: Vec<(u32, Thread)>,
    /// What is in a file, by device and inode.
    files: FxHashMap<(u64, u64), Option<Arc<Symbols>>>,
    /// Processes whose Python is not supported, said once.
    refused: FxHashSet<(u32, (u64, u64))>,
    period_ns: u64,
    started: Vec<u32>,
    looked_ns: u64,
    swept_ns: u64,
}

struct Process {
    interpreter: Interpreter,
    running: Option<Running>,
    codes: Codes,
    libraries: Libraries,
    tried_ns: u64,
}

struct Thread {
    pid: u32,
    merger: Merger,
}

impl Pythons {
    /// Starts with no process; `py_procs` is the kernel's map of that name.
    pub fn new(py_procs: aya::maps::HashMap<MapData, u32, PyProcess>) -> Self {
        Pythons {
            py_procs,
            processes: FxHashMap::default(),
            threads: FxHashMap::default(),
            ended: Vec::new(),
            files: FxHashMap::default(),
            refused: FxHashSet::default(),
            period_ns: 1_000_000_000 / 99,
            started: Vec::new(),
            looked_ns: 0,
            swept_ns: 0,
        }
    }

    /// Tells at which rate stacks come, samples a second.
    pub fn set_hz(&mut self, hz: u32) {
        self.period_ns = 1_000_000_000 / u64::from(hz.max(1));
        self.threads.values_mut().for_each(|thread| thread.merger.set_period(self.period_ns));
    }

    /// Looks for a CPython in a process, given its mappings, and has its stacks taken from now
    /// on. May be called at any time: after the attach, a fork, an exec, a new mapping.
    ///
    /// None if there is no Python, an error's text (once) if there is one that is not supported.
    pub fn add(&mut self, pid: u32, maps: &[Mapping]) -> Result<Option<PythonMeta>, String> {
        let executable = std::fs::read_link(format!("/proc/{pid}/exe")).ok();
        let executable = executable.map(|path| {
            let text = path.to_string_lossy();
            text.strip_suffix(" (deleted)").map_or_else(|| path.clone(), std::path::PathBuf::from)
        });
        let memory = ProcessMemory(pid);
        for mapping in detect::candidates(executable.as_deref(), maps) {
            let symbols = match self.symbols(pid, mapping) {
                Ok(Some(symbols)) => symbols,
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied && looks_like_python(mapping) => {
                    if !self.refused.insert((pid, mapping.file)) {
                        return Ok(None);
                    }
                    let path = mapping.path.display();
                    return Err(format!("not permitted to read {path}: needs root or CAP_DAC_READ_SEARCH"));
                }
                Ok(None) | Err(_) => continue,
            };
            let known = self.processes.get(&pid);
            if let Some(process) = known
                && process.interpreter.file == mapping.file
                && symbols.bias(mapping).map(|bias| bias.wrapping_add(symbols.runtime))
                    == Some(process.interpreter.runtime)
            {
                let meta = process.meta(pid);
                if process.running.is_none() {
                    self.look(pid)?;
                }
                return Ok(Some(meta));
            }
            let interpreter = match detect::identify(&memory, mapping, &symbols) {
                Ok(interpreter) => interpreter,
                Err(_) if !self.refused.insert((pid, mapping.file)) => return Ok(None),
                Err(text) => return Err(text),
            };
            if self.processes.contains_key(&pid) {
                self.remove(pid);
            }
            let codes = Codes::new(interpreter.code_type);
            let process = Process { interpreter, running: None, codes, libraries: Libraries::default(), tried_ns: 0 };
            let meta = process.meta(pid);
            self.processes.insert(pid, process);
            self.look(pid)?;
            return Ok(Some(meta));
        }
        if self.processes.contains_key(&pid) {
            // What it ran before an exec.
            self.remove(pid);
        }
        Ok(None)
    }

    /// Forgets a process that is gone; its open slices are closed by the next `tick`.
    pub fn remove(&mut self, pid: u32) {
        // An error only says that the kernel had no such entry.
        let _ = self.py_procs.remove(&pid);
        self.processes.remove(&pid);
        self.refused.retain(|(refused, _)| *refused != pid);
        self.ended.extend(self.threads.extract_if(|_, thread| thread.pid == pid));
    }

    /// Addresses that belong to the GIL: its mutexes and condition variables. None while unknown.
    pub fn gil_range(&self, pid: u32) -> Option<(u64, u64)> {
        let process = self.processes.get(&pid)?;
        let gil = process.running?.gil;
        (gil != 0).then(|| (gil, gil.saturating_add(process.interpreter.layout.gil_size)))
    }

    /// Processes whose interpreter has begun to run since this was last asked: what
    /// [`Pythons::gil_range`] tells of them is new.
    pub fn started(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.started)
    }

    /// Takes in a stack.
    pub fn stack(&mut self, head: &StackHead, frames: &[Frame], out: &mut Output<'_>) -> io::Result<()> {
        let (pid, tid) = (head.head.tgid, head.head.tid);
        // A new program's slices must not begin inside the old one's.
        self.close_ended(out)?;
        let Some(process) = self.processes.get_mut(&pid) else { return Ok(()) };
        let end = head.head.start.saturating_add(head.head.dur);
        let flags = head.head.id;
        let stack = Stack {
            start: head.head.start,
            end,
            calls: process.calls(pid, frames, end),
            truncated: flags & (stack_flag::TRUNCATED | stack_flag::FAULT) != 0,
            waiting: flags & stack_flag::WAITING != 0,
            gil: flags & stack_flag::GIL_HELD != 0,
            native: process.libraries.at(pid, head.ip, process.interpreter.file, end),
        };
        let period_ns = self.period_ns;
        let new = || Thread { pid, merger: Merger::new(period_ns) };
        let thread = self.threads.entry(tid).or_insert_with(new);
        if thread.pid != pid {
            let mut old = std::mem::replace(thread, new());
            let end = old.merger.seen_ns();
            old.merger.close(end, &mut OnTrack { out, pid: old.pid, tid })?;
        }
        thread.merger.add(stack, &mut OnTrack { out, pid, tid })
    }

    /// Closes the slices of a thread that ended.
    pub fn thread_exit(&mut self, tid: u32, ts_ns: u64, out: &mut Output<'_>) -> io::Result<()> {
        match self.threads.remove(&tid) {
            Some(mut thread) => thread.merger.close(ts_ns, &mut OnTrack { out, pid: thread.pid, tid }),
            None => Ok(()),
        }
    }

    /// Writes what has become certain, closes what is gone, and looks again at interpreters that
    /// were still starting. To be called several times a second.
    pub fn tick(&mut self, now_ns: u64, out: &mut Output<'_>) -> io::Result<()> {
        self.close_ended(out)?;
        let until = now_ns.saturating_sub(REORDER_NS);
        for (tid, thread) in &mut self.threads {
            thread.merger.flush(until, &mut OnTrack { out, pid: thread.pid, tid: *tid })?;
        }
        if now_ns.saturating_sub(self.looked_ns) < RETRY_NS {
            return Ok(());
        }
        self.looked_ns = now_ns;
        if now_ns.saturating_sub(self.swept_ns) >= GONE_NS {
            self.swept_ns = now_ns;
            self.close_gone(now_ns, out)?;
        }
        let due = |(pid, process): (&u32, &mut Process)| process.incomplete(now_ns).then_some(*pid);
        let waiting: Vec<u32> = self.processes.iter_mut().filter_map(due).collect();
        // Whatever is wrong with a process will be said when its exit comes.
        waiting.into_iter().for_each(|pid| drop(self.look(pid)));
        Ok(())
    }

    /// Closes everything at the recording's end.
    pub fn finish(&mut self, now_ns: u64, out: &mut Output<'_>) -> io::Result<()> {
        self.tick(now_ns, out)?;
        for (tid, mut thread) in self.threads.drain() {
            thread.merger.close(now_ns, &mut OnTrack { out, pid: thread.pid, tid })?;
        }
        Ok(())
    }

    fn close_ended(&mut self, out: &mut Output<'_>) -> io::Result<()> {
        for (tid, mut thread) in self.ended.drain(..) {
            let end = thread.merger.seen_ns();
            thread.merger.close(end, &mut OnTrack { out, pid: thread.pid, tid })?;
        }
        Ok(())
    }

    fn close_gone(&mut self, now_ns: u64, out: &mut Output<'_>) -> io::Result<()> {
        let gone = |tid: &u32, thread: &mut Thread| {
            now_ns.saturating_sub(thread.merger.seen_ns()) > GONE_NS
                && !std::path::Path::new(&format!("/proc/{}/task/{tid}", thread.pid)).exists()
        };
        for (tid, mut thread) in self.threads.extract_if(gone) {
            let end = thread.merger.seen_ns();
            thread.merger.close(end, &mut OnTrack { out, pid: thread.pid, tid })?;
        }
        Ok(())
    }

    /// Looks at the interpreter's threads and tells the kernel what is known by now. Without
    /// knowing the thread state's slot, the kernel searches the interpreter's list of threads.
    fn look(&mut self, pid: u32) -> Result<(), String> {
        let Some(process) = self.processes.get_mut(&pid) else { return Ok(()) };
        let running = detect::running(&ProcessMemory(pid), &process.interpreter);
        let Running { gil, tls } = running.unwrap_or_default();
        if running.is_some() && process.running != running {
            self.started.push(pid);
        }
        process.running = running;
        let Interpreter { layout, runtime, .. } = &process.interpreter;
        self.py_procs
            .insert(pid, layout.kernel(*runtime, gil, tls), 0)
            .map_err(|error| format!("cannot have the kernel walk Python {}: {error}", process.interpreter.version))
    }

    fn symbols(&mut self, pid: u32, mapping: &Mapping) -> io::Result<Option<Arc<Symbols>>> {
        if let Some(known) = self.files.get(&mapping.file) {
            return Ok(known.clone());
        }
        if self.files.len() >= FILES_KEPT {
            self.files.clear();
        }
        let read = Symbols::read(pid, mapping)?.map(Arc::new);
        self.files.insert(mapping.file, read.clone());
        Ok(read)
    }
}

/// Whether a file that can't be read is a CPython by its name.
fn looks_like_python(mapping: &Mapping) -> bool {
    mapping.path.file_name().is_some_and(|name| name.to_string_lossy().contains("python"))
}

impl Process {
    fn meta(&self, pid: u32) -> PythonMeta {
        let Interpreter { version, path, .. } = &self.interpreter;
        PythonMeta { pid, version: version.clone(), path: path.display().to_string() }
    }

    /// Whether it is time to look again for what was not there yet.
    fn incomplete(&mut self, now_ns: u64) -> bool {
        let missing = self.running.is_none_or(|running| running.tls == (0, 0) || running.gil == 0);
        // Often while it starts, now and then for one whose slot is nowhere to be found.
        let pause = if self.running.is_some() { 20 * RETRY_NS } else { RETRY_NS };
        let due = missing && now_ns.saturating_sub(self.tried_ns) >= pause;
        if due {
            self.tried_ns = now_ns;
        }
        due
    }

    /// Names a stack's frames, outermost first.
    fn calls(&mut self, pid: u32, frames: &[Frame], now_ns: u64) -> Vec<Call> {
        let layout = &self.interpreter.layout;
        let memory = ProcessMemory(pid);
        let named = frames.iter().rev().map(|frame| Call {
            key: frame.code,
            at: frame.at,
            code: self.codes.get(&memory, layout, frame.code, now_ns),
            lasti: layout.lasti(frame.code, frame.ip),
        });
        named.collect()
    }
}

/// A thread's Python track.
struct OnTrack<'o, 's> {
    out: &'o mut Output<'s>,
    pid: u32,
    tid: u32,
}

impl OnTrack<'_, '_> {
    fn begin(&mut self, ts_ns: u64, name: &str, args: &[(&str, ArgRef<'_>)]) -> io::Result<()> {
        let track = self.out.thread_track(self.pid, self.tid, Layer::Python)?;
        self.out.sink().begin(track, &Event { ts_ns, name, args })
    }
}

impl Timeline for OnTrack<'_, '_> {
    fn call(&mut self, ts_ns: u64, code: &Code, call_line: u32) -> io::Result<()> {
        let args = [
            ("file", ArgRef::Str(&code.file)),
            ("line", ArgRef::U64(code.first_line.into())),
            ("call_line", ArgRef::U64(call_line.into())),
        ];
        let known = if code.file.is_empty() { 0 } else { args.len() - usize::from(call_line == 0) };
        self.begin(ts_ns, &code.name, &args[..known])
    }

    fn line(&mut self, ts_ns: u64, line: &Line) -> io::Result<()> {
        let mut args = vec![("file", ArgRef::Str(&line.file)), ("line", ArgRef::U64(line.line.into()))];
        if let Some(native) = &line.native {
            args.push(("native", ArgRef::Str(native)));
        }
        if line.gil {
            args.push(("gil", ArgRef::U64(1)));
        }
        if line.waiting {
            args.push(("waiting", ArgRef::U64(1)));
        }
        if line.base.is_empty() {
            return self.begin(ts_ns, UNKNOWN, &args[2..]);
        }
        self.begin(ts_ns, &format!("{}:{}", line.base, line.line), &args)
    }

    fn end(&mut self, ts_ns: u64) -> io::Result<()> {
        let track = self.out.thread_track(self.pid, self.tid, Layer::Python)?;
        self.out.sink().end(track, &Event { ts_ns, name: "", args: &[] })
    }
}
