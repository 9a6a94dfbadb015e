//! One thread's way from a file to a GPU: while one pinned buffer is copied, the other is filled.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::driver::{DeviceMemory, Event, Gpu, HostMemory, Stream};
use super::report::Unable;

/// Bytes of a buffer. Copies of some megabytes reach the link's rate; more only takes memory: with
/// four threads of two buffers, 128 MiB are pinned.
pub const BUFFER: usize = 16 << 20;

struct Buffer<'g> {
    memory: HostMemory<'g>,
    copied: Event<'g>,
}

/// Two buffers and a queue.
pub struct Staging<'g> {
    stream: Stream<'g>,
    buffers: [Buffer<'g>; 2],
    turn: usize,
}

impl<'g> Staging<'g> {
    /// Makes them; the GPU is made current for this thread.
    pub fn new(gpu: &'g Gpu) -> Result<Staging<'g>, Unable> {
        gpu.make_current()?;
        let buffer = || Ok(Buffer { memory: gpu.allocate_host(BUFFER)?, copied: gpu.event()? });
        Ok(Staging { stream: gpu.stream()?, buffers: [buffer()?, buffer()?], turn: 0 })
    }

    /// Reads `size` bytes of a file, no more than a buffer has, and queues their copy.
    pub fn carry(
        &mut self,
        file: &File,
        offset: u64,
        size: usize,
        to: &DeviceMemory<'_>,
        at: usize,
    ) -> Result<(), CarryError> {
        self.turn = (self.turn + 1) % self.buffers.len();
        let buffer = &mut self.buffers[self.turn];
        // Its last copy must have left it before it is filled again.
        buffer.copied.synchronize()?;
        let bytes = buffer.memory.bytes().get_mut(..size).ok_or_else(|| io::Error::other("more than a buffer"))?;
        file.read_exact_at(bytes, offset)?;
        to.fill(at, &buffer.memory, size, &self.stream)?;
        buffer.copied.record(&self.stream)?;
        Ok(())
    }

    /// Waits for all copies.
    pub fn finish(&self) -> Result<(), Unable> {
        self.stream.synchronize()
    }

    /// Copies a whole buffer again and again and returns bytes a second: the link's rate, without
    /// files.
    pub fn link_rate(&mut self, gpu: &Gpu, to: &DeviceMemory<'_>) -> Result<f64, Unable> {
        let size = BUFFER.min(to.bytes());
        let (begin, end) = (gpu.event()?, gpu.event()?);
        let copy = |times: usize| -> Result<f64, Unable> {
            begin.record(&self.stream)?;
            for _ in 0..times {
                to.fill(0, &self.buffers[0].memory, size, &self.stream)?;
            }
            end.record(&self.stream)?;
            end.synchronize()?;
            end.seconds_since(&begin)
        };
        // The first copy wakes the link up.
        copy(1)?;
        let times = 16;
        let seconds = copy(times)?;
        Ok(if seconds > 0.0 { size as f64 * times as f64 / seconds } else { 0.0 })
    }
}

impl Drop for Staging<'_> {
    fn drop(&mut self) {
        // Memory that is still copied from must not be freed.
        let _ = self.stream.synchronize();
    }
}

/// Either end may fail.
#[derive(Debug)]
pub enum CarryError {
    /// The file.
    Read(io::Error),
    /// The GPU.
    Gpu(Unable),
}

impl From<io::Error> for CarryError {
    fn from(error: io::Error) -> CarryError {
        CarryError::Read(error)
    }
}

impl From<Unable> for CarryError {
    fn from(error: Unable) -> CarryError {
        CarryError::Gpu(error)
    }
}
