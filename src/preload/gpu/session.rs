//! The process that calls CUDA, and who listens to it.

use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::super::pin::{End, Pin, PinnedFile, Pins};
use super::super::portion::Portion;
use super::driver::Gpu;
use super::load::load as load_here;
use super::report::{GpuLoad, Handle, Order, OrderedFile, Unable, Word};
use crate::host::state_file;

/// First argument of the program when it is the process that calls CUDA.
pub const ARGUMENT: &str = "__cuda";

/// Schema of the file with handles.
const HANDLES_SCHEMA: &str = "aictl.gpu_handles/v1";

/// Loads through `program ARGUMENT`. `tell` hears how many bytes there are so far; the process is
/// killed when it says nothing for `silence`, or when `stop` is set.
///
/// # Errors
/// If nothing was loaded.
pub fn load(
    program: &Path,
    order: &Order,
    silence: Duration,
    tell: &dyn Fn(u64),
    stop: &AtomicBool,
) -> Result<GpuLoad, Unable> {
    let broke = |error: io::Error| Unable::Broke(error.to_string());
    let mut command = Command::new(program);
    command.arg(ARGUMENT).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(broke)?;
    let order = serde_json::to_string(order).map_err(|error| Unable::Broke(error.to_string()))?;
    let sent = child.stdin.take().map_or(Ok(()), |mut stdin| writeln!(stdin, "{order}"));
    let Some(stdout) = child.stdout.take() else { return Err(Unable::Broke("no pipe".to_owned())) };
    let (send, words) = mpsc::channel();
    // Ends with the pipe. Left behind if that never ends; it waits where signals reach it.
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let Ok(word) = serde_json::from_str::<Word>(&line) else { continue };
            if send.send(word).is_err() {
                break;
            }
        }
    });
    let mut heard = Instant::now();
    let end = loop {
        match words.recv_timeout(Duration::from_millis(50)) {
            Ok(Word::Progress(bytes)) => {
                heard = Instant::now();
                tell(bytes);
            }
            Ok(Word::Done(load)) => {
                if load.keeper.is_none() {
                    let _ = child.wait();
                }
                return Ok(*load);
            }
            Ok(Word::Unable(why)) => break Err(why),
            Err(RecvTimeoutError::Timeout) if stop.load(Ordering::Relaxed) => break Err(Unable::Interrupted),
            Err(RecvTimeoutError::Timeout) if heard.elapsed() > silence => {
                break Err(Unable::Hung { seconds: silence.as_secs() });
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                let how = sent.map_or_else(|error| error.to_string(), |()| "without a word".to_owned());
                break Err(Unable::Broke(how));
            }
        }
    };
    // One that is stuck in the driver is left to the kernel.
    let _ = child.kill();
    for _ in 0..50 {
        if !matches!(child.try_wait(), Ok(None)) {
            break;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    end
}

/// What the process with [`ARGUMENT`] does: loads as its order on stdin says, and tells on stdout.
pub fn serve() {
    let _ = rustix::thread::set_name(c"aictl-cuda");
    let told: Mutex<io::Stdout> = Mutex::new(io::stdout());
    let tell = |word: &Word| {
        let line = serde_json::to_string(word).unwrap_or_default();
        let Ok(mut stdout) = told.lock() else { return };
        let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
    };
    if let Err(why) = serve_order(&tell) {
        tell(&Word::Unable(why));
    }
}

fn serve_order(tell: &(dyn Fn(&Word) + Sync)) -> Result<(), Unable> {
    let mut line = String::new();
    let read = io::stdin().lock().read_line(&mut line);
    read.map_err(|error| Unable::Broke(error.to_string()))?;
    let order: Order = serde_json::from_str(&line).map_err(|error| Unable::Broke(error.to_string()))?;
    // Before the driver makes threads of its own.
    let end = order.keep.is_some().then(End::begin);
    if end.is_none() {
        // Nobody waits for it when the one who asked is gone.
        let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    }
    let gpu = Gpu::open(order.gpu)?;
    tell(&Word::Progress(0));
    let loaded = load_here(&gpu, &order, &|bytes| tell(&Word::Progress(bytes)))?;
    let mut report = loaded.report.clone();
    let kept = order.keep.as_ref().zip(end).filter(|_| report.matches);
    let Some((keep, end)) = kept else {
        drop(loaded);
        tell(&Word::Done(Box::new(report)));
        return Ok(());
    };
    let failed = |error: io::Error| Unable::File { path: keep.handles.clone(), why: error.to_string() };
    write_handles(&keep.handles, &order, &report, loaded.handles(&order)?).map_err(failed)?;
    let pin = record(&order).map_err(failed)?;
    let pins = Pins::in_directory(&keep.pins);
    pins.write(&pin).map_err(failed)?;
    (report.keeper, report.handles) = (Some(pin.pid), Some(keep.handles.clone()));
    tell(&Word::Done(Box::new(report)));
    end.wait_alone();
    let _ = std::fs::remove_file(&keep.handles);
    pins.remove(&pin);
    Ok(())
}

/// By this record the memory is found, and let go of with the model.
fn record(order: &Order) -> io::Result<Pin> {
    let file = |file: &OrderedFile| {
        let portion = Portion { name: String::new(), path: file.path.clone(), length: 0, ranges: Vec::new() };
        PinnedFile::of(&portion)
    };
    let files = order.files.iter().map(file).collect::<io::Result<Vec<PinnedFile>>>()?;
    Pin::of_this_process(&order.source, files, Some(order.gpu))
}

/// The file with handles, for a loader.
#[derive(Serialize)]
struct Handles<'a> {
    schema: &'static str,
    source: &'a str,
    gpu: u32,
    gpu_name: &'a str,
    /// The process that keeps the memory; it ends with it.
    pid: u32,
    allocations: Vec<Handle>,
}

fn write_handles(path: &Path, order: &Order, report: &GpuLoad, allocations: Vec<Handle>) -> io::Result<()> {
    let handles = Handles {
        schema: HANDLES_SCHEMA,
        source: &order.source,
        gpu: order.gpu,
        gpu_name: &report.name,
        pid: std::process::id(),
        allocations,
    };
    let text = serde_json::to_string_pretty(&handles).map_err(io::Error::other)?;
    state_file::write(path, &text)
}
