//! CUDA's calls as slices, and the device's work as estimates.

use std::io;
use std::rc::Rc;

use rustc_hash::FxHashMap;

use super::calls::{At, Direction, Function, What};
use super::gpu::{Estimate, Estimates, Streams, Work};
use super::kernel_name::{self, KernelName};
use super::nccl::Message;
use super::spaces::{self, Spaces};
use crate::profile::output::Output;
use crate::profile::records::{self, Call};
use crate::trace::{ArgRef, Layer, SliceEvent};

/// Work on the device, as its slice will show it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DeviceWork {
    name: Box<str>,
    flow: u64,
    message: Option<Message>,
}

/// What is known about the CUDA of the processes followed.
#[derive(Default)]
pub(crate) struct Cuda {
    /// Work not known to be over yet.
    streams: Streams<DeviceWork>,
    /// Kernels by (process, return address into the stub, handle).
    kernels: FxHashMap<(u32, u64, u64), Rc<KernelName>>,
    /// Mangled names of handles the driver gave out since the attach.
    handles: FxHashMap<(u32, u64), String>,
    /// Small numbers for a process's streams, in order of appearance; 0 is the default stream.
    numbers: FxHashMap<(u32, u64), u32>,
    flows: u64,
}

/// The value of an argument.
pub(crate) fn value(call: &Call, at: At) -> Option<u64> {
    match at {
        At::Arg(i) => call.args.get(i).copied(),
        At::Stack(i) => call.stack.get(i).copied(),
        At::None => None,
    }
}

fn dims(x: u64, y: u64, z: u64) -> String {
    let [x, y, z] = [x, y, z].map(|n| n as u32);
    format!("{x}x{y}x{z}")
}

/// A launch's configuration.
struct Config {
    function: u64,
    grid: String,
    block: String,
    shared: u64,
    stream: u64,
}

fn config(call: &Call, what: What) -> Option<Config> {
    let high = |word: u64| word >> 32;
    // cudaLaunchConfig_t and CUlaunchConfig begin alike: six 32-bit sizes, shared memory, stream.
    let size = |i: usize| u32::from_ne_bytes(call.text[i * 4..i * 4 + 4].try_into().unwrap_or_default()).into();
    let word = |i: usize| u64::from_ne_bytes(call.text[i * 8..i * 8 + 8].try_into().unwrap_or_default());
    let [a, b, c, d, e, f] = call.args;
    Some(match what {
        What::Launch => Config {
            function: a,
            grid: dims(b, high(b), c),
            block: dims(d, high(d), e),
            shared: call.stack[0],
            stream: call.stack[1],
        },
        What::DriverLaunch => Config {
            function: a,
            grid: dims(b, c, d),
            block: dims(e, f, call.stack[0]),
            shared: call.stack[1] & 0xffff_ffff,
            stream: call.extra,
        },
        What::LaunchConfig | What::DriverLaunchConfig => Config {
            function: b,
            grid: dims(size(0), size(1), size(2)),
            block: dims(size(3), size(4), size(5)),
            shared: if what == What::LaunchConfig { word(3) } else { word(3) & 0xffff_ffff },
            stream: word(4),
        },
        _ => return None,
    })
}

fn direction(call: &Call, direction: Direction) -> &'static str {
    // cudaMemcpyKind of driver_types.h.
    match direction {
        Direction::Fixed(text) => text,
        Direction::Kind(at) => match value(call, at).map(|kind| kind as u32) {
            Some(0) => "h2h",
            Some(1) => "h2d",
            Some(2) => "d2h",
            Some(3) => "d2d",
            _ => "default",
        },
    }
}

impl Cuda {
    /// A stream's small number.
    pub fn stream_number(&mut self, pid: u32, stream: u64) -> u32 {
        // cudaStreamLegacy is the default stream by another name.
        let stream = if stream == 1 { 0 } else { stream };
        if stream == 0 {
            return 0;
        }
        let next = self.numbers.keys().filter(|(p, _)| *p == pid).count() as u32 + 1;
        *self.numbers.entry((pid, stream)).or_insert(next)
    }

    /// A new arrow's number: unique within the recording.
    fn flow(&mut self) -> u64 {
        self.flows += 1;
        0x1000_0000_0000 + self.flows
    }

    /// Turns one call into slices.
    pub fn call(
        &mut self,
        function: &Function,
        call: &Call,
        spaces: &mut Spaces,
        out: &mut Output<'_>,
    ) -> io::Result<()> {
        let pid = call.head.tgid;
        let (start, dur) = (call.head.start, call.head.dur);
        let mut args: Vec<(&str, ArgRef<'_>)> = Vec::with_capacity(6);
        let mut done: Estimates<DeviceWork> = Vec::new();
        let mut launched: Option<(u64, Box<str>)> = None;
        let texts: [String; 2];
        let kernel;
        let stream_of = |at: At| value(call, at).unwrap_or(0);
        let mut stream = None;
        match function.what {
            What::Name | What::Function | What::Kernel => {
                self.learn(function.what, call, spaces);
                return Ok(());
            }
            What::Record => {
                self.streams.record(pid, call.args[0], call.args[1], start);
                return Ok(());
            }
            What::Order => return Ok(()),
            What::Launch | What::LaunchConfig | What::DriverLaunch | What::DriverLaunchConfig => {
                let driver = matches!(function.what, What::DriverLaunch | What::DriverLaunchConfig);
                // Watched at the entry only, the kernel can't tell a runtime call's inner half.
                if driver && dur == 0 && from_runtime(spaces, pid, call.caller) {
                    return Ok(());
                }
                let Some(config) = config(call, function.what) else { return Ok(()) };
                kernel = self.kernel(pid, call.caller, config.function, spaces);
                launched = Some((config.stream, kernel.short.as_str().into()));
                texts = [config.grid, config.block];
                args.push(("kernel", ArgRef::Str(&kernel.full)));
                args.push(("grid", ArgRef::Str(&texts[0])));
                args.push(("block", ArgRef::Str(&texts[1])));
                args.push(("shared_bytes", ArgRef::U64(config.shared)));
                stream = Some(config.stream);
            }
            What::Graph { stream: at } => {
                stream = Some(stream_of(at));
                launched = Some((stream_of(at), "graph".into()));
            }
            What::Copy { bytes, direction: way, stream: at } => {
                let count = value(call, bytes.0).unwrap_or(0) * value(call, bytes.1).unwrap_or(1);
                let way = direction(call, way);
                args.push(("bytes", ArgRef::U64(count)));
                args.push(("kind", ArgRef::Str(way)));
                if let Some(at) = at {
                    stream = Some(stream_of(at));
                    launched = Some((stream_of(at), format!("memcpy {way}").into()));
                } else {
                    // Runs in the default stream and waits for it.
                    done = self.streams.wait_stream(pid, 0, start, dur);
                }
            }
            What::Fill { bytes, unit, stream: at } => {
                args.push(("bytes", ArgRef::U64(value(call, bytes).unwrap_or(0) * unit)));
                stream = Some(stream_of(at));
                launched = Some((stream_of(at), "memset".into()));
            }
            What::Memory { bytes, stream: at } => {
                args.extend(value(call, bytes).map(|bytes| ("bytes", ArgRef::U64(bytes))));
                stream = value(call, at);
            }
            What::WaitStream => {
                stream = Some(call.args[0]);
                done = self.streams.wait_stream(pid, call.args[0], start, dur);
            }
            What::WaitDevice => done = self.streams.wait_device(pid, start, dur),
            What::WaitEvent => done = self.streams.wait_event(pid, call.args[0], start, dur),
            _ => return Ok(()),
        }
        if let Some(stream) = stream {
            args.push(("stream", ArgRef::U64(self.stream_number(pid, stream).into())));
        }
        let mut flow = 0;
        // What the runtime refused never reached the device.
        if let Some((stream, name)) = launched.filter(|_| call.ret as u32 == 0) {
            flow = self.flow();
            let what = DeviceWork { name, flow, message: None };
            done.extend(self.streams.launch(pid, stream, Work { launched_ns: start, what }));
        }
        if call.ret as u32 != 0 {
            args.push(("ret", ArgRef::U64(u64::from(call.ret as u32))));
        }
        let track = out.thread_track(pid, call.head.tid, Layer::Cuda)?;
        let slice =
            SliceEvent { start_ns: start, dur_ns: dur, name: function.name, args: &args, flow, estimate: false };
        out.slice(track, &slice)?;
        self.show(pid, done, out)
    }

    /// A collective was put into a stream.
    pub fn collective(&mut self, call: &Call, stream: u64, message: Message, out: &mut Output<'_>) -> io::Result<u64> {
        let flow = self.flow();
        let work = DeviceWork { name: message.name.into(), flow, message: Some(message) };
        let done = self.streams.launch(call.head.tgid, stream, Work { launched_ns: call.head.start, what: work });
        self.show(call.head.tgid, done, out)?;
        Ok(flow)
    }

    /// Forgets a process that ended; what it launched and never waited for is let go.
    pub fn forget(&mut self, pid: u32) {
        self.streams.forget(pid);
        self.kernels.retain(|(p, ..), _| *p != pid);
        self.handles.retain(|(p, _), _| *p != pid);
        self.numbers.retain(|(p, _), _| *p != pid);
    }

    /// Ends what nobody waited for.
    pub fn finish(&mut self, end_ns: u64, out: &mut Output<'_>) -> io::Result<()> {
        for (pid, stream, estimate) in self.streams.finish(end_ns) {
            self.show(pid, vec![(stream, estimate)], out)?;
        }
        Ok(())
    }

    fn show(&mut self, pid: u32, done: Estimates<DeviceWork>, out: &mut Output<'_>) -> io::Result<()> {
        for (stream, Estimate { start_ns, dur_ns, what }) in done {
            let number = self.stream_number(pid, stream);
            let track = out.process_track(pid, &format!("GPU stream {number} (estimated)"), Layer::Gpu, None)?;
            let mut args = vec![("stream", ArgRef::U64(number.into())), ("estimate", ArgRef::U64(1))];
            if let Some(message) = &what.message {
                message.describe(&mut args);
                args.extend(message.bus_gb_s(dur_ns).map(|rate| ("bus_gb_s", ArgRef::F64(rate))));
            }
            let slice = SliceEvent { start_ns, dur_ns, name: &what.name, args: &args, flow: what.flow, estimate: true };
            out.slice(track, &slice)?;
        }
        Ok(())
    }

    /// Takes note of a handle's name.
    fn learn(&mut self, what: What, call: &Call, spaces: &mut Spaces) {
        let (pid, handle) = (call.head.tgid, call.extra);
        if handle == 0 || call.ret as u32 != 0 {
            return;
        }
        let name = match what {
            What::Name => Some(spaces::read_text(pid, call.args[2], &records::text(&call.text))),
            What::Kernel => spaces.symbol(pid, call.args[1]).map(|(symbol, _)| symbol),
            _ => self.handles.get(&(pid, call.args[1])).cloned(),
        };
        if let Some(name) = name.filter(|n| !n.is_empty()) {
            self.kernels.retain(|(p, _, h), _| (*p, *h) != (pid, handle));
            self.handles.insert((pid, handle), name);
        }
    }

    /// The kernel of a launch: by its stub, which the launch returns to; by the handle; by the
    /// host function that is passed for it.
    fn kernel(&mut self, pid: u32, caller: u64, function: u64, spaces: &mut Spaces) -> Rc<KernelName> {
        if let Some(known) = self.kernels.get(&(pid, caller, function)) {
            return known.clone();
        }
        let stub = spaces.symbol(pid, caller).map(|(symbol, _)| symbol).filter(|s| kernel_name::is_stub(s));
        let symbol = stub.or_else(|| self.handles.get(&(pid, function)).cloned());
        // The start of a function is a host function; the middle of something is chance.
        let symbol = symbol.or_else(|| spaces.symbol(pid, function).filter(|(_, behind)| *behind == 0).map(|(s, _)| s));
        let name = match symbol {
            Some(symbol) => kernel_name::name(&symbol),
            None => {
                let place = spaces.place(pid, caller).unwrap_or_else(|| format!("{function:#x}"));
                KernelName { full: format!("kernel launched at {place}"), short: "kernel".to_owned() }
            }
        };
        let name = Rc::new(name);
        // Triton and the like load kernels as they go: bounded all the same.
        if self.kernels.len() >= 1 << 16 {
            self.kernels.clear();
        }
        self.kernels.insert((pid, caller, function), name.clone());
        name
    }
}

fn from_runtime(spaces: &Spaces, pid: u32, caller: u64) -> bool {
    let file = spaces.mapping(pid, caller).and_then(|m| m.path.file_name());
    file.is_some_and(|name| name.to_string_lossy().starts_with("libcudart"))
}
