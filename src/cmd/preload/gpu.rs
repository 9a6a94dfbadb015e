//! `--gpu`: tensors into GPU memory.

use std::path::PathBuf;
use std::time::Duration;

use super::super::error::{Error, Kind};
use super::super::interrupt::Interrupt;
use super::super::settings::Settings;
use super::memory;
use crate::preload::gpu::{self, GpuLoad, Keep, Order, OrderedFile, Unable};
use crate::preload::memory_error::MemoryError;
use crate::preload::pin::Pins;
use crate::preload::portion::{self, Portion};
use crate::preload::tensors::Header;
use crate::view::human;

/// What to load, and where.
pub struct Wanted<'a> {
    /// What the model is called.
    pub source: &'a str,
    /// What is meant of it.
    pub portions: &'a [Portion],
    /// GPUs, one after the other.
    pub gpus: &'a [u32],
    /// Whether it is kept.
    pub keep: bool,
    /// A driver that says nothing for this long hangs.
    pub silence: Duration,
    /// Where it is recorded then.
    pub pins: &'a Pins,
}

/// Loads, and says how fast it was.
pub fn load(wanted: &Wanted<'_>, interrupt: &Interrupt, settings: &Settings) -> Result<Vec<GpuLoad>, Error> {
    let files = files(wanted.portions)?;
    let bytes: u64 = files.iter().map(OrderedFile::bytes).sum();
    if bytes == 0 {
        return Err(Error::new(Kind::Failed, format!("{} has no tensors in safetensors files", wanted.source)));
    }
    let program = memory::program()?;
    let ui = &settings.ui;
    let mut loads = Vec::new();
    for &number in wanted.gpus {
        let kept = wanted.pins.holders(wanted.portions).into_iter().find(|pin| pin.gpu == Some(number));
        if let Some(pin) = kept.filter(|_| wanted.keep) {
            ui.note(&format!("{}: process {} keeps it in the memory of GPU {number} already", wanted.source, pin.pid));
            continue;
        }
        let keep =
            wanted.keep.then(|| Keep { handles: handles(wanted, number), pins: wanted.pins.directory().to_owned() });
        let order = Order { source: wanted.source.to_owned(), gpu: number, files: files.clone(), keep };
        let progress = ui.progress();
        let tell = |done: u64| {
            progress.set(&format!("GPU {number}: {} of {}", human::bytes(done), human::bytes(bytes)));
        };
        let loaded = gpu::load(&program, &order, wanted.silence, &tell, interrupt.flag());
        progress.clear();
        let load = loaded.map_err(|why| error(wanted.source, number, &why))?;
        ui.note(&said(&load));
        if !load.matches {
            ui.error(&format!("GPU {number}: what was copied back differs from the file"));
        }
        loads.push(load);
    }
    Ok(loads)
}

/// The tensors' bytes of each file, without the headers.
fn files(portions: &[Portion]) -> Result<Vec<OrderedFile>, Error> {
    let mut files = Vec::new();
    for portion in portions.iter().filter(|portion| portion::has_tensors(&portion.name)) {
        if portion.ranges.is_empty() {
            continue;
        }
        let file = portion::open(&portion.path).map_err(|error| MemoryError::file("open", &portion.path, error))?;
        let header = Header::read(&file);
        let header = header.map_err(|source| MemoryError::Header { path: portion.path.clone(), source })?;
        let data = portion.ranges.iter().map(|range| range.start.max(header.data_start)..range.end);
        let ranges = data.filter(|range| range.start < range.end).collect();
        let path = std::fs::canonicalize(&portion.path).unwrap_or_else(|_| portion.path.clone());
        files.push(OrderedFile { path, ranges });
    }
    Ok(files)
}

/// A file of its own for each model and GPU, beside the records.
fn handles(wanted: &Wanted<'_>, gpu: u32) -> PathBuf {
    let readable: String = wanted
        .source
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect::<String>()
        .trim_matches('-')
        .to_owned();
    let directory = wanted.pins.directory().parent().unwrap_or(wanted.pins.directory());
    // Names have at most 255 bytes; the end of a source tells more than its beginning.
    let start = readable.len().saturating_sub(160);
    directory.join("handles").join(format!("{}-gpu{gpu}.json", &readable[start..]))
}

fn said(load: &GpuLoad) -> String {
    let mut text = format!(
        "GPU {} ({}): {} in {}, {:.2} GB/s; the link alone {:.2} GB/s; {} compared",
        load.gpu,
        load.name,
        human::bytes(load.bytes),
        human::seconds(load.seconds),
        load.gigabytes_per_second,
        load.host_to_device_gigabytes_per_second,
        human::bytes(load.compared_bytes)
    );
    if let (Some(pid), Some(handles)) = (load.keeper, &load.handles) {
        text.push_str(&format!("; process {pid} keeps it, handles in {}", handles.display()));
    }
    text
}

fn error(source: &str, gpu: u32, why: &Unable) -> Error {
    let (kind, hint) = match why {
        Unable::NoDriver(_) => (
            Kind::Blind,
            Some("--gpu needs an NVIDIA GPU and its driver's libcuda.so.1; in a container, the runtime brings it"),
        ),
        Unable::NoGpu { .. } => (Kind::Blind, Some("nvidia-smi lists them; CUDA_VISIBLE_DEVICES hides some")),
        Unable::Hung { .. } => (Kind::Blind, Some("look at the GPU: sudo aictl diagnose --local")),
        Unable::Broke(_) => (Kind::Blind, None),
        Unable::TooLarge { .. } => (Kind::Failed, Some("free it, or load what one rank needs: --rank I/N")),
        Unable::Interrupted => (Kind::Interrupted, None),
        Unable::Call { .. } | Unable::File { .. } => (Kind::Failed, None),
    };
    let made = Error::new(kind, format!("cannot load {source} into GPU {gpu}: {why}"));
    match hint {
        Some(hint) => made.hint(hint),
        None => made,
    }
}
