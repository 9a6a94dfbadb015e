//! What each layer says about one thread at one moment, kept up to date as time moves on.

use super::cursor::Cursor;
use super::frames::{FrameId, begins_child, frame_args};
use super::index::Index;
use super::names::{CallKind, FrameClass, NativeClass, OpKind, Reason};
use crate::trace::{Layer, Slice, StrId, Track};

/// An outer Python frame that decides what its time is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Context {
    #[default]
    None,
    Load,
    Queue,
    Save,
    Communicate,
}

/// The `cpu` track.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sched {
    pub reason: Reason,
    pub call: CallKind,
    /// Thread that ended the wait; `u32::MAX` if unknown.
    pub waker: u32,
    pub slice: u32,
}

/// The `syscall` track.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Call {
    pub kind: CallKind,
    pub path: StrId,
    pub name: StrId,
    pub slice: u32,
}

/// The `python` track.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Py {
    pub context: Context,
    pub context_frame: FrameId,
    pub context_slice: u32,
    /// User function that called the context's frame, and the line of the call.
    pub caller: FrameId,
    pub caller_line: u32,
    /// Innermost user function and the line it is at.
    pub user: FrameId,
    pub user_line: u32,
    pub leaf_is_user: bool,
    /// Innermost function, the user's or not.
    pub leaf: FrameId,
    /// A line is known: a sample or a wait covers the moment.
    pub seen: bool,
    /// Innermost user function inside the context; none where the context holds none.
    pub inner: FrameId,
    pub joins: bool,
    pub waiting: bool,
    pub native: NativeClass,
    /// The library below Python; 0 in the interpreter.
    pub native_name: StrId,
    pub slice: u32,
}

/// The `torch` track.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ops {
    /// The `DataLoader`'s `__next__` it is inside of; 0 if none.
    pub loader: StrId,
    /// Inside a backward pass or an optimizer's step.
    pub scope: bool,
    pub collective: bool,
    /// Outermost operator, its length, and its place.
    pub op: StrId,
    pub op_ns: u64,
    pub slice: u32,
}

/// The `cuda` track.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cuda {
    pub any: bool,
    pub waits: bool,
    pub name: StrId,
    pub slice: u32,
}

/// The `nccl` track.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Nccl {
    pub any: bool,
    pub name: StrId,
    pub slice: u32,
}

/// All layers of one thread at one moment.
pub(super) struct Layers<'t, 'i> {
    index: &'i Index<'t>,
    sched: Cursor<'t, Sched>,
    call: Cursor<'t, Call>,
    py: Cursor<'t, Py>,
    ops: Cursor<'t, Ops>,
    cuda: Cursor<'t, Cuda>,
    nccl: Cursor<'t, Nccl>,
    /// Frames longer than this are the loop itself, whatever they are called.
    loop_ns: u64,
    /// The last line seen: between samples (a thread that can't run is not sampled) a frame
    /// is taken to go on with what it did.
    last: Py,
}

/// Copies to Python from the device that took this long waited for it.
const BLOCKING_COPY_NS: u64 = 100_000;

fn slices(track: Option<&Track>) -> &[Slice] {
    track.map(|t| t.slices.as_slice()).unwrap_or_default()
}

fn at(track: Option<&Track>, slice: &Slice) -> u32 {
    // Offset of a slice in its own track: cheaper than counting along.
    let first = slices(track).as_ptr();
    let bytes = std::ptr::from_ref(slice) as usize - first as usize;
    u32::try_from(bytes / size_of::<Slice>()).unwrap_or(u32::MAX)
}

impl<'t, 'i> Layers<'t, 'i> {
    /// Stands before the recording's start.
    pub fn new(index: &'i Index<'t>, thread: usize) -> Self {
        let t = &index.threads[thread];
        Layers {
            index,
            sched: Cursor::new(slices(t.sched)),
            call: Cursor::new(slices(t.syscall)),
            py: Cursor::new(slices(t.python)),
            ops: Cursor::new(slices(t.torch)),
            cuda: Cursor::new(slices(t.cuda)),
            nccl: Cursor::new(slices(t.nccl)),
            loop_ns: index.length_ns() / 2,
            last: Py::default(),
        }
    }

    /// The track of a layer.
    pub fn track(index: &Index<'t>, thread: usize, layer: Layer) -> Option<&'t Track> {
        let t = &index.threads[thread];
        match layer {
            Layer::Sched => t.sched,
            Layer::Syscall => t.syscall,
            Layer::Python => t.python,
            Layer::Torch => t.torch,
            Layer::Cuda => t.cuda,
            Layer::Nccl => t.nccl,
            _ => None,
        }
    }

    /// Moves on to `now`.
    pub fn seek(&mut self, now: u64, thread: usize) {
        let index = self.index;
        let t = &index.threads[thread];
        self.sched.seek(now, |_, s| {
            let reason = index.name(s.name).reason;
            let (mut call, mut waker) = (CallKind::Other, u32::MAX);
            if !matches!(reason, Reason::Running | Reason::Preempted) {
                for (key, value) in index.args(s.args) {
                    if key == index.keys.syscall {
                        if let crate::trace::Arg::Str(name) = value {
                            call = index.name(name).call;
                        }
                    } else if key == index.keys.waker {
                        waker = super::index::as_u64(value)
                            .and_then(|tid| u32::try_from(tid).ok())
                            .and_then(|tid| index.by_tid.get(&tid))
                            .map_or(u32::MAX, |i| u32::try_from(*i).unwrap_or(u32::MAX));
                    }
                }
            }
            Sched { reason, call, waker, slice: at(t.sched, s) }
        });
        self.call.seek(now, |_, s| Call {
            kind: index.name(s.name).call,
            path: index.arg_str(s, index.keys.path).unwrap_or_default(),
            name: s.name,
            slice: at(t.syscall, s),
        });
        let loop_ns = self.loop_ns;
        self.py.seek(now, |parent, s| enter_python(index, loop_ns, parent, s, at(t.python, s)));
        let py = self.py.top();
        if py.seen && !py.waiting {
            self.last = py;
        }
        self.ops.seek(now, |parent, s| enter_op(index, parent, s, at(t.torch, s)));
        self.cuda.seek(now, |_, s| {
            let text = index.trace.text(s.name);
            let copies = s.dur_ns >= BLOCKING_COPY_NS && text.contains("Memcpy");
            Cuda { any: true, waits: index.name(s.name).cuda_waits || copies, name: s.name, slice: at(t.cuda, s) }
        });
        self.nccl.seek(now, |_, s| Nccl { any: true, name: s.name, slice: at(t.nccl, s) });
    }

    /// The next moment at which any layer changes.
    pub fn boundary(&self) -> u64 {
        self.sched
            .boundary()
            .min(self.call.boundary())
            .min(self.py.boundary())
            .min(self.ops.boundary())
            .min(self.cuda.boundary())
            .min(self.nccl.boundary())
    }

    pub fn sched(&self) -> Sched {
        self.sched.top()
    }

    pub fn call(&self) -> Call {
        self.call.top()
    }

    pub fn py(&self) -> Py {
        self.py.top()
    }

    /// What the thread was last seen doing while it ran, for moments in which it runs and no
    /// sample covers it: samples come at random, so the last one is as good a guess as any,
    /// while the frames that span the moment are only those that happen to be known.
    pub fn py_running(&self) -> Py {
        let py = self.py.top();
        if (py.seen && !py.waiting) || !self.last.seen { py } else { self.last }
    }

    pub fn ops(&self) -> Ops {
        self.ops.top()
    }

    pub fn cuda(&self) -> Cuda {
        self.cuda.top()
    }

    pub fn nccl(&self) -> Nccl {
        self.nccl.top()
    }
}

/// Adds a Python slice to what its parents say.
fn enter_python(index: &Index<'_>, loop_ns: u64, mut parent: Py, s: &Slice, at: u32) -> Py {
    let found = frame_args(index.trace, &index.keys, s);
    if index.name(s.name).is_line {
        let mut py = Py { slice: at, ..parent };
        if parent.leaf_is_user && found.line > 0 {
            py.user_line = found.line;
        }
        py.native = index.name(found.native).native;
        py.native_name = found.native;
        py.seen = true;
        py.waiting = found.waiting;
        return py;
    }
    let id = index.frames.id(s.name, found.file);
    let frame = index.frames.get(id);
    if begins_child(frame) {
        parent = Py::default();
    }
    let mut py = Py { slice: at, ..parent };
    if parent.leaf_is_user && found.call_line > 0 {
        py.user_line = found.call_line;
    }
    let context = match frame.class {
        FrameClass::Loader => Context::Load,
        FrameClass::LoadsByName if s.dur_ns < loop_ns => Context::Load,
        FrameClass::QueueGet => Context::Queue,
        FrameClass::Saves if s.dur_ns < loop_ns => Context::Save,
        FrameClass::Communicates if s.dur_ns < loop_ns => Context::Communicate,
        _ => Context::None,
    };
    // The outermost decides, but a loader around a queue says more than the queue.
    if parent.context == Context::None && context != Context::None {
        py.context = context;
        py.context_frame = id;
        py.context_slice = at;
        py.caller = parent.user;
        py.caller_line = py.user_line;
    }
    py.joins |= frame.class == FrameClass::Joins;
    py.leaf_is_user = frame.user;
    py.leaf = id;
    py.seen = false;
    if frame.user {
        if py.context != Context::None {
            py.inner = id;
        }
        py.user = id;
        // Known once a line or a callee says it.
        py.user_line = 0;
    }
    py.native = NativeClass::Interpreter;
    py.native_name = StrId(0);
    py.waiting = false;
    py
}

/// Adds a slice of the torch layer to what its parents say.
fn enter_op(index: &Index<'_>, parent: Ops, s: &Slice, at: u32) -> Ops {
    let mut ops = parent;
    match index.name(s.name).op {
        OpKind::Loader => {
            ops.loader = s.name;
            ops.slice = at;
        }
        OpKind::Backward | OpKind::Optimizer | OpKind::Node => ops.scope = true,
        OpKind::Collective => {
            ops.collective = true;
            ops.op = s.name;
            ops.slice = at;
        }
        OpKind::Operator if ops.op == StrId(0) => {
            ops.op = s.name;
            ops.op_ns = s.dur_ns;
            ops.slice = at;
        }
        _ => {}
    }
    ops
}
