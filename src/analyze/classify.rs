//! Puts one moment of a driving thread into exactly one category.
//!
//! The order is the precedence: what the time is for (collectives, loading, saving, the
//! device) comes before how it is spent (off the CPU and why, operators, interpreter).

use super::frames::FrameId;
use super::index::Index;
use super::layers::{Context, Layers};
use super::names::{CallKind, NativeClass, Reason};
use super::report::Category;
use super::roles::Roles;
use crate::trace::{Layer, StrId};

/// Operators shorter than this cost more to launch than to run: a dispatch from Python
/// takes 5–10 µs, so below 30 µs a third or more of the call is overhead.
pub(super) const TINY_OP_NS: u64 = 30_000;

/// How the time of a category was spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum How {
    /// On the CPU in the interpreter.
    Interpreter,
    /// On the CPU in a library.
    Native,
    /// In an operator.
    Operator,
    /// In operators too small to be worth their launch.
    Launch,
    /// Waiting for the GIL.
    Gil,
    /// In a sleep call.
    Sleep,
    /// Waiting for another thread or process to hand something over.
    Queue,
    /// Reading a file or waiting for the disk to.
    Read,
    /// Writing a file or waiting for the disk to.
    Write,
    /// fsync and the like.
    Sync,
    /// Waiting on a socket.
    Socket,
    /// In a collective.
    Collective,
    /// Waiting for the device.
    Device,
    /// Waiting for another thread or process to end or to finish its part.
    Join,
    /// Waiting, nobody knows for what.
    Wait,
}

/// One moment, judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Moment {
    pub category: Category,
    pub how: How,
    /// The function it is for: the loader, the saver, else the user's innermost.
    pub frame: FrameId,
    /// The user's function that called it (for loaders and savers), and the line there.
    pub caller: FrameId,
    pub line: u32,
    /// The user's function inside it (for loaders and savers), and the line there.
    pub inner: FrameId,
    pub inner_line: u32,
    /// Operator, library, file or call; 0 if none.
    pub what: StrId,
    /// Where to look.
    pub layer: Layer,
    pub slice: u32,
    pub preempted: bool,
}

/// Facts about the process around the thread.
pub(super) struct Surroundings<'a, 't> {
    pub index: &'a Index<'t>,
    pub roles: &'a Roles,
    /// The thread's process.
    pub process: usize,
    /// Some thread of the process has a `python` track with slices.
    pub has_python: bool,
    /// The thread has a `torch` track with slices.
    pub has_torch: bool,
}

impl Surroundings<'_, '_> {
    /// Judges the moment `layers` stands at; `collective` says that another thread of the
    /// process runs a collective.
    pub fn judge(&self, layers: &Layers<'_, '_>, collective: bool) -> Moment {
        let (sched, call, ops) = (layers.sched(), layers.call(), layers.ops());
        let (cuda, nccl) = (layers.cuda(), layers.nccl());
        let reason = if sched.reason == Reason::Unknown { reason_of(call.kind) } else { sched.reason };
        let preempted = reason == Reason::Preempted;
        let running = matches!(reason, Reason::Running | Reason::Preempted | Reason::Unknown);
        let in_call = call.kind != CallKind::Other && call.kind != CallKind::Futex;
        let py = if running && !in_call { layers.py_running() } else { layers.py() };
        let kind = if call.kind == CallKind::Other { sched.call } else { call.kind };
        let user = Moment {
            category: Category::Other,
            how: How::Wait,
            frame: py.user,
            caller: FrameId::default(),
            line: py.user_line,
            inner: FrameId::default(),
            inner_line: 0,
            what: StrId(0),
            layer: if running || !self.index.has_sched { Layer::Python } else { Layer::Sched },
            slice: if running || !self.index.has_sched { py.slice } else { sched.slice },
            preempted,
        };
        let context = Moment {
            frame: py.context_frame,
            caller: py.caller,
            line: py.caller_line,
            inner: py.inner,
            inner_line: if py.inner == FrameId::default() { 0 } else { py.user_line },
            layer: Layer::Python,
            slice: py.context_slice,
            ..user
        };
        let waker = (sched.waker != u32::MAX).then_some(sched.waker as usize);
        let peer = waker.is_some_and(|w| self.roles.is_peer(self.index, w, self.process));
        let fed = waker.is_some_and(|w| self.roles.feeds.get(w) == Some(&true));

        if nccl.any {
            let m = Moment { what: nccl.name, layer: Layer::Nccl, slice: nccl.slice, ..user };
            return Moment { category: Category::Communication, how: How::Collective, ..m };
        }
        if ops.collective {
            let m = Moment { what: ops.op, layer: Layer::Torch, slice: ops.slice, ..user };
            return Moment { category: Category::Communication, how: How::Collective, ..m };
        }
        if py.context == Context::Communicate {
            return Moment { category: Category::Communication, how: how(reason, kind, py.native), ..context };
        }
        if py.context == Context::Queue && peer {
            return Moment { category: Category::Communication, how: How::Socket, ..context };
        }
        if matches!(py.context, Context::Load | Context::Queue) {
            let what = if matches!(kind, CallKind::Read | CallKind::Open) { call.path } else { py.native_name };
            return Moment { category: Category::Input, how: how(reason, kind, py.native), what, ..context };
        }
        if ops.loader != StrId(0) {
            let m = Moment { frame: FrameId(0), caller: py.user, layer: Layer::Torch, slice: ops.slice, ..user };
            return Moment { category: Category::Input, how: how(reason, kind, py.native), what: ops.loader, ..m };
        }
        if cuda.any {
            let (category, how) =
                if cuda.waits { (Category::GpuWait, How::Device) } else { (Category::Python, How::Launch) };
            return Moment { category, how, what: cuda.name, layer: Layer::Cuda, slice: cuda.slice, ..user };
        }
        if py.context == Context::Save {
            let how = match how(reason, kind, py.native) {
                How::Read => How::Write,
                other => other,
            };
            return Moment { category: Category::Io, how, what: call.path, ..context };
        }
        if !running || matches!(call.kind, CallKind::Read | CallKind::Write | CallKind::Sync) {
            let op = ops.op != StrId(0) || ops.scope;
            if let Some((category, how)) = self.off_cpu(reason, kind, op, &py, collective, peer, fed, waker) {
                let (what, layer, slice) = if call.kind == CallKind::Other {
                    (StrId(0), user.layer, user.slice)
                } else {
                    (if call.path == StrId(0) { call.name } else { call.path }, Layer::Syscall, call.slice)
                };
                return Moment { category, how, what, layer, slice, ..user };
            }
        }
        self.on_cpu(layers, &py, user)
    }

    /// A moment in which the thread waits or is in a file call; `None` if it is to be judged as if it ran.
    #[allow(clippy::too_many_arguments)]
    fn off_cpu(
        &self,
        reason: Reason,
        kind: CallKind,
        op: bool,
        py: &super::layers::Py,
        collective: bool,
        peer: bool,
        fed: bool,
        waker: Option<usize>,
    ) -> Option<(Category, How)> {
        use Category::{Communication, ComputeCpu, Idle, Input, Io, Other, Python};
        Some(match reason {
            Reason::Gil => (Python, How::Gil),
            Reason::Disk | Reason::File | Reason::Unknown | Reason::Running | Reason::Preempted => match kind {
                CallKind::Sync => (Io, How::Sync),
                CallKind::Write => (Io, How::Write),
                // Files read in the loop itself: what else but data.
                CallKind::Read | CallKind::Open => (Input, How::Read),
                _ if reason == Reason::Disk => (Io, How::Write),
                _ => return None,
            },
            Reason::PageFault => {
                if op {
                    return None;
                }
                (Io, How::Read)
            }
            Reason::Sleep => (Idle, How::Sleep),
            Reason::Pipe => match kind {
                CallKind::Write | CallKind::Send => (Other, How::Queue),
                _ if peer => (Communication, How::Socket),
                _ => (Input, How::Queue),
            },
            Reason::Socket => {
                if kind == CallKind::Accept {
                    (Idle, How::Wait)
                } else if fed {
                    (Input, How::Queue)
                } else {
                    (Communication, How::Socket)
                }
            }
            Reason::Poll => {
                if peer || collective {
                    (Communication, How::Socket)
                } else if fed {
                    (Input, How::Queue)
                } else if py.joins {
                    (Other, How::Join)
                } else {
                    (Idle, How::Wait)
                }
            }
            Reason::Futex => {
                if collective || waker.is_some_and(|w| self.roles.moves.get(w) == Some(&true)) {
                    (Communication, How::Collective)
                } else if op || py.native != NativeClass::Interpreter {
                    // The other threads of the operator compute.
                    (ComputeCpu, How::Join)
                } else if peer {
                    (Communication, How::Socket)
                } else if fed {
                    (Input, How::Queue)
                } else if waker.is_some_and(|w| self.index.process_of(w) == self.process) {
                    self.helped(waker.unwrap_or_default())
                } else {
                    (Other, How::Wait)
                }
            }
            Reason::Wait => (Other, How::Join),
            Reason::Blocked => (Other, How::Wait),
        })
    }

    /// What waiting for a thread of the same process is for: that thread's work.
    fn helped(&self, waker: usize) -> (Category, How) {
        let t = &self.roles.totals[waker];
        if t.python_ns > 0 && t.native_ns * 2 <= t.lines_ns {
            (Category::Python, How::Join)
        } else if t.running_ns > 0 {
            (Category::ComputeCpu, How::Join)
        } else {
            (Category::Other, How::Wait)
        }
    }

    /// A moment in which the thread runs, or could.
    fn on_cpu(&self, layers: &Layers<'_, '_>, py: &super::layers::Py, user: Moment) -> Moment {
        let ops = layers.ops();
        if ops.op != StrId(0) {
            let m = Moment { what: ops.op, layer: Layer::Torch, slice: ops.slice, ..user };
            return if ops.op_ns >= TINY_OP_NS {
                Moment { category: Category::ComputeCpu, how: How::Operator, ..m }
            } else {
                Moment { category: Category::Python, how: How::Launch, ..m }
            };
        }
        let native = Moment { what: py.native_name, ..user };
        match py.native {
            NativeClass::Compute => Moment { category: Category::ComputeCpu, how: How::Native, ..native },
            // Small operators that were not recorded, or an operator layer that was not there.
            NativeClass::Torch if self.index.torch_thinned && self.has_torch => {
                Moment { category: Category::Python, how: How::Launch, ..native }
            }
            NativeClass::Torch => Moment { category: Category::ComputeCpu, how: How::Native, ..native },
            NativeClass::Interpreter if ops.scope => {
                let category = if self.index.torch_thinned { Category::Python } else { Category::ComputeCpu };
                Moment { category, how: How::Launch, ..user }
            }
            NativeClass::Interpreter if self.has_python || self.has_torch => {
                Moment { category: Category::Python, how: How::Interpreter, ..user }
            }
            NativeClass::Interpreter => Moment { category: Category::ComputeCpu, how: How::Native, ..user },
        }
    }
}

/// How time inside a loader, a saver or a collective is spent.
fn how(reason: Reason, kind: CallKind, native: NativeClass) -> How {
    match (reason, kind) {
        (_, CallKind::Sync) => How::Sync,
        (Reason::Gil, _) => How::Gil,
        (Reason::Sleep, _) => How::Sleep,
        (
            Reason::Disk | Reason::File | Reason::Running | Reason::Preempted | Reason::Unknown,
            CallKind::Read | CallKind::Open,
        ) => How::Read,
        (Reason::Disk | Reason::File | Reason::Running | Reason::Preempted | Reason::Unknown, CallKind::Write) => {
            How::Write
        }
        (Reason::Disk | Reason::PageFault, _) => How::Read,
        (Reason::Pipe | Reason::Futex | Reason::Poll, _) => How::Queue,
        (Reason::Socket, _) => How::Socket,
        (Reason::Running | Reason::Preempted | Reason::Unknown, _) if native == NativeClass::Interpreter => {
            How::Interpreter
        }
        (Reason::Running | Reason::Preempted | Reason::Unknown, _) => How::Native,
        _ => How::Wait,
    }
}

/// What a thread in a system call waits for, where no scheduler track says.
fn reason_of(kind: CallKind) -> Reason {
    match kind {
        CallKind::Sleep => Reason::Sleep,
        CallKind::Poll => Reason::Poll,
        CallKind::Futex => Reason::Futex,
        CallKind::Receive | CallKind::Send | CallKind::Accept => Reason::Socket,
        CallKind::Wait => Reason::Wait,
        CallKind::Read | CallKind::Write | CallKind::Sync | CallKind::Open => Reason::File,
        CallKind::Other => Reason::Unknown,
    }
}
