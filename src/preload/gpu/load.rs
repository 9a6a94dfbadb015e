//! Loads files into GPU memory, several pieces at once, and compares a sample.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::super::portion;
use super::super::tensors::Header;
use super::driver::{DeviceMemory, Gpu};
use super::report::{GpuLoad, Handle, KeptTensor, Order, OrderedFile, Unable};
use super::staging::{BUFFER, CarryError, Staging};

/// Threads that read and queue copies. One reads some GB/s from the page cache; four keep the link
/// of a current server busy.
const THREADS: usize = 4;
/// Bytes of a sample that is compared.
const SAMPLE: usize = 1 << 20;
/// Samples of each file.
const SAMPLES: u64 = 4;

/// One copy: from a file to its memory.
struct Piece {
    file: usize,
    from: u64,
    to: usize,
    size: usize,
}

/// Everything in GPU memory: an allocation a file.
pub struct Loaded<'g> {
    memory: Vec<Option<DeviceMemory<'g>>>,
    /// What came of it.
    pub report: GpuLoad,
}

/// Loads. `tell` hears of progress, in bytes.
pub fn load<'g>(gpu: &'g Gpu, order: &Order, tell: &(dyn Fn(u64) + Sync)) -> Result<Loaded<'g>, Unable> {
    let name = gpu.name()?;
    let free_bytes = gpu.free_bytes()?;
    let needed_bytes = order.files.iter().map(OrderedFile::bytes).sum();
    // Pinned buffers take none of the GPU's memory; the driver keeps a little for itself.
    if needed_bytes > free_bytes {
        return Err(Unable::TooLarge { gpu: order.gpu, free_bytes, needed_bytes });
    }
    let mut memory = Vec::new();
    let mut opened = Vec::new();
    for file in &order.files {
        let failed = |error: std::io::Error| Unable::File { path: file.path.clone(), why: error.to_string() };
        opened.push(portion::open(&file.path).map_err(failed)?);
        let size = usize::try_from(file.bytes()).unwrap_or(usize::MAX);
        memory.push(if size > 0 { Some(gpu.allocate(size)?) } else { None });
    }
    let pieces = pieces(&order.files);
    let mut link = 0.0;
    if let Some(largest) = memory.iter().flatten().max_by_key(|memory| memory.bytes()) {
        link = Staging::new(gpu)?.link_rate(gpu, largest)?;
    }
    let begin = Instant::now();
    carry_all(gpu, order, &opened, &memory, &pieces, tell)?;
    let seconds = begin.elapsed().as_secs_f64();
    let (compared_bytes, matches) = compare(order, &opened, &memory)?;
    let report = GpuLoad {
        gpu: order.gpu,
        name,
        bytes: needed_bytes,
        files: order.files.len(),
        seconds,
        gigabytes_per_second: if seconds > 0.0 { needed_bytes as f64 / seconds / 1e9 } else { 0.0 },
        host_to_device_gigabytes_per_second: link / 1e9,
        compared_bytes,
        matches,
        free_bytes,
        keeper: None,
        handles: None,
    };
    Ok(Loaded { memory, report })
}

/// Cuts all files into pieces of a buffer's size, in order.
fn pieces(files: &[OrderedFile]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    for (file, ordered) in files.iter().enumerate() {
        let mut to = 0;
        for range in &ordered.ranges {
            let mut from = range.start;
            while from < range.end {
                let size = usize::try_from(range.end - from).unwrap_or(usize::MAX).min(BUFFER);
                pieces.push(Piece { file, from, to, size });
                from += size as u64;
                to += size;
            }
        }
    }
    pieces
}

fn carry_all(
    gpu: &Gpu,
    order: &Order,
    opened: &[File],
    memory: &[Option<DeviceMemory<'_>>],
    pieces: &[Piece],
    tell: &(dyn Fn(u64) + Sync),
) -> Result<(), Unable> {
    let next = AtomicUsize::new(0);
    let done = AtomicU64::new(0);
    let running = AtomicUsize::new(0);
    let broken: Mutex<Option<Unable>> = Mutex::new(None);
    let is_broken = || broken.lock().map_or(true, |broken| broken.is_some());
    let work = || -> Result<(), Unable> {
        let mut staging = Staging::new(gpu)?;
        while let Some(piece) = pieces.get(next.fetch_add(1, Ordering::Relaxed)).filter(|_| !is_broken()) {
            let Some(memory) = &memory[piece.file] else { continue };
            let carried = staging.carry(&opened[piece.file], piece.from, piece.size, memory, piece.to);
            carried.map_err(|error| match error {
                CarryError::Gpu(error) => error,
                CarryError::Read(error) => {
                    Unable::File { path: order.files[piece.file].path.clone(), why: error.to_string() }
                }
            })?;
            done.fetch_add(piece.size as u64, Ordering::Relaxed);
        }
        staging.finish()
    };
    let threads = THREADS.min(pieces.len());
    running.store(threads, Ordering::Relaxed);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                if let Err(error) = work()
                    && let Ok(mut broken) = broken.lock()
                {
                    broken.get_or_insert(error);
                }
                running.fetch_sub(1, Ordering::Release);
            });
        }
        let mut told = Instant::now();
        while running.load(Ordering::Acquire) > 0 {
            std::thread::sleep(Duration::from_millis(1));
            if told.elapsed() > Duration::from_millis(100) {
                told = Instant::now();
                tell(done.load(Ordering::Relaxed));
            }
        }
    });
    broken.into_inner().unwrap_or_default().map_or(Ok(()), Err)
}

/// Copies samples back and compares them with the files: both ends of each file, and some between.
fn compare(order: &Order, opened: &[File], memory: &[Option<DeviceMemory<'_>>]) -> Result<(u64, bool), Unable> {
    let (mut back, mut there) = (vec![0; SAMPLE], vec![0; SAMPLE]);
    let mut compared = 0;
    for ((ordered, file), memory) in order.files.iter().zip(opened).zip(memory) {
        let Some(memory) = memory else { continue };
        for (from, to, size) in samples(ordered) {
            let (back, there) = (&mut back[..size], &mut there[..size]);
            memory.read(to, back)?;
            let failed = |error: std::io::Error| Unable::File { path: ordered.path.clone(), why: error.to_string() };
            file.read_exact_at(there, from).map_err(failed)?;
            compared += size as u64;
            if back != there {
                return Ok((compared, false));
            }
        }
    }
    Ok((compared, true))
}

/// Where samples are: in the file, in the memory, and how long.
fn samples(file: &OrderedFile) -> Vec<(u64, usize, usize)> {
    let all = file.bytes();
    let step = (all.saturating_sub(SAMPLE as u64) / (SAMPLES - 1)).max(1);
    let mut found = Vec::new();
    let mut start = 0;
    for range in &file.ranges {
        let length = range.end - range.start;
        for wanted in (0..SAMPLES).map(|i| i * step) {
            // The sample that begins here, up to the range's end.
            if (start..start + length).contains(&wanted) {
                let size = (SAMPLE as u64).min(start + length - wanted);
                let to = usize::try_from(wanted).unwrap_or(usize::MAX);
                found.push((range.start + (wanted - start), to, size as usize));
            }
        }
        start += length;
    }
    found
}

impl Loaded<'_> {
    /// Handles to all of it, with the tensors that are in it whole.
    pub fn handles(&self, order: &Order) -> Result<Vec<Handle>, Unable> {
        let mut handles = Vec::new();
        for (file, memory) in order.files.iter().zip(&self.memory) {
            let Some(memory) = memory else { continue };
            let hex = memory.ipc_handle()?.0.iter().map(|byte| format!("{byte:02x}")).collect();
            let tensors = tensors(&file.path, file)?;
            handles.push(Handle { path: file.path.clone(), ipc_handle: hex, bytes: memory.bytes() as u64, tensors });
        }
        Ok(handles)
    }
}

fn tensors(path: &Path, file: &OrderedFile) -> Result<Vec<KeptTensor>, Unable> {
    let failed = |why: String| Unable::File { path: path.to_owned(), why };
    let opened = portion::open(path).map_err(|error| failed(error.to_string()))?;
    let header = Header::read(&opened).map_err(|error| failed(error.to_string()))?;
    let place = |range: &std::ops::Range<u64>| {
        let mut start = 0;
        for own in &file.ranges {
            if own.start <= range.start && range.end <= own.end {
                return Some(start + (range.start - own.start));
            }
            start += own.end - own.start;
        }
        None
    };
    let kept = header.tensors.into_iter().filter_map(|tensor| {
        let (offset, bytes) = (place(&tensor.range)?, tensor.range.end - tensor.range.start);
        Some(KeptTensor { name: tensor.name, dtype: tensor.dtype, shape: tensor.shape, offset, bytes })
    });
    Ok(kept.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_and_samples_cover_what_they_should() {
        let long = BUFFER as u64 * 2 + 5;
        let file = OrderedFile { path: "x".into(), ranges: vec![100..100 + long, 500_000_000..500_000_010] };
        let pieces = pieces(std::slice::from_ref(&file));
        let sizes: Vec<usize> = pieces.iter().map(|piece| piece.size).collect();
        assert_eq!(sizes, [BUFFER, BUFFER, 5, 10]);
        assert_eq!((pieces[3].from, pieces[3].to), (500_000_000, BUFFER * 2 + 5));
        let samples = samples(&file);
        assert_eq!(samples.len(), 4);
        assert_eq!(samples[0], (100, 0, SAMPLE));
        assert!(samples.iter().all(|(_, to, size)| (*to + size) as u64 <= file.bytes()));
        let tiny = OrderedFile { path: "x".into(), ranges: std::iter::once(8..11).collect() };
        assert!(super::samples(&tiny).iter().all(|(from, to, size)| *from as usize + size <= 11 && to + size <= 3));
    }
}
