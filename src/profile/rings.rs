//! The three rings the kernel fills, and the wait for them.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use aya::maps::{MapData, RingBuf};
use rustix::event::epoll;

use super::CaptureError;
use super::loader::Kernel;

/// The rings of common.bpf.h, by what they carry.
pub(crate) struct Rings {
    /// Many and small: scheduling, system calls, operators, CUDA calls.
    pub slices: RingBuf<MapData>,
    /// Python stacks.
    pub samples: RingBuf<MapData>,
    /// Few and needed: forks, paths, collectives, backward, block requests.
    pub rare: RingBuf<MapData>,
    epoll: rustix::fd::OwnedFd,
}

impl Rings {
    /// Takes the rings out of the loaded object.
    pub fn new(kernel: &mut Kernel) -> Result<Rings, CaptureError> {
        let (slices, samples, rare) = (kernel.ring("slices")?, kernel.ring("samples")?, kernel.ring("rare")?);
        let read_error =
            |source: rustix::io::Errno| CaptureError::Read { what: "the eBPF rings".to_owned(), source: source.into() };
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(read_error)?;
        for ring in [slices.as_raw_fd(), samples.as_raw_fd(), rare.as_raw_fd()] {
            // SAFETY: the ring owns the descriptor and outlives this call.
            let fd = unsafe { BorrowedFd::borrow_raw(ring) };
            // Edge-triggered: a ring with data in it is always readable, and asking again at once
            // would make the reader spin; only the kernel's explicit wake-ups may end the wait.
            let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
            epoll::add(&epoll, fd, epoll::EventData::new_u64(0), flags).map_err(read_error)?;
        }
        Ok(Rings { slices, samples, rare, epoll })
    }

    /// Sleeps until the kernel wakes us or the time is over.
    pub fn wait(&self, timeout: Duration) -> Result<(), CaptureError> {
        let mut events = [const { std::mem::MaybeUninit::uninit() }; 3];
        let timeout =
            rustix::time::Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: i64::from(timeout.subsec_nanos()) };
        match epoll::wait(self.epoll.as_fd(), &mut events[..], Some(&timeout)) {
            Ok(_) => Ok(()),
            // A signal: the caller looks at its stop flag.
            Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(CaptureError::Read { what: "the eBPF rings".to_owned(), source: error.into() }),
        }
    }
}
