//! Looks at NVML again and again that always end. The calls are made by one process of their own,
//! which stays: starting NVML takes long. It answers each line on its stdin with what it reads, GPU
//! by GPU. One that is late is killed, or left behind if it is stuck in the kernel; the next look
//! starts another, unless it hangs there still.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{read, sample, session};
use crate::fault::gpu::facts::{Driver, End};
use crate::metrics::{Accelerators, GpuSample};

/// Second argument of the program, after [`session::ARGUMENT`].
pub const ARGUMENT: &str = "samples";

/// What the process tells, a line each.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    Started(Driver),
    Gpu(Box<GpuSample>),
    /// All GPUs have been read, or no more can be.
    Done(End),
}

/// The process, while it answers.
#[derive(Debug)]
struct Reader {
    child: Child,
    ask: ChildStdin,
    words: Receiver<Word>,
}

/// Looks at NVML through this program, started again.
#[derive(Debug)]
pub struct Sampler {
    program: PathBuf,
    reader: Option<Reader>,
    driver: Option<String>,
}

impl Sampler {
    /// One that starts `program` when it is first asked.
    pub fn new(program: &Path) -> Sampler {
        Sampler { program: program.to_owned(), reader: None, driver: None }
    }

    fn start(&self, deadline: Duration) -> Result<Reader, End> {
        if let Some(pid) = session::still_stuck(deadline) {
            return Err(End::StillHung { pid });
        }
        let mut command = Command::new(&self.program);
        command.args([session::ARGUMENT, ARGUMENT]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(|error| End::Broke(format!("no process: {error}")))?;
        let (Some(ask), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(End::Broke("no pipe".to_owned()));
        };
        Ok(Reader { child, ask, words: session::words(stdout) })
    }

    fn look(&mut self, deadline: Duration) -> (Vec<GpuSample>, End) {
        let end = Instant::now() + deadline;
        let mut reader = match self.reader.take() {
            Some(reader) => reader,
            None => match self.start(deadline) {
                Ok(reader) => reader,
                Err(why) => return (Vec::new(), why),
            },
        };
        // An error shows as the end of its words.
        let _ = reader.ask.write_all(b"\n").and_then(|()| reader.ask.flush());
        let mut gpus = Vec::new();
        let how = loop {
            match reader.words.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(Word::Started(driver)) => self.driver = driver.version,
                Ok(Word::Gpu(gpu)) => gpus.push(*gpu),
                Ok(Word::Done(End::Whole)) => {
                    self.reader = Some(reader);
                    return (gpus, End::Whole);
                }
                Ok(Word::Done(why)) => break why,
                Err(RecvTimeoutError::Timeout) => {
                    let state = session::state_of(reader.child.id());
                    let at = if self.driver.is_none() { "start".to_owned() } else { format!("GPU {}", gpus.len()) };
                    break End::Hung { at, state };
                }
                Err(RecvTimeoutError::Disconnected) => {
                    break End::Broke("the process that calls NVML ended early".to_owned());
                }
            }
        };
        self.driver = None;
        drop(reader.ask);
        session::stop(reader.child);
        (gpus, how)
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        if let Some(reader) = self.reader.take() {
            drop(reader.ask);
            session::stop(reader.child);
        }
    }
}

impl Accelerators for Sampler {
    fn read(&mut self, deadline: Duration) -> Result<Vec<GpuSample>, String> {
        match self.look(deadline) {
            (gpus, End::Whole) => Ok(gpus),
            (gpus, end) if gpus.is_empty() => Err(words(&end)),
            // GPUs before the one that hangs are told; it is told of those after it, too.
            (mut gpus, end) => {
                let why = words(&end);
                let index = gpus.last().map_or(0, |gpu| gpu.index + 1);
                gpus.push(GpuSample { index, blind: Some(why), ..GpuSample::default() });
                Ok(gpus)
            }
        }
    }

    fn driver(&self) -> Option<String> {
        self.driver.clone()
    }
}

/// How a look ended, in a sentence.
fn words(end: &End) -> String {
    match end {
        End::Whole => String::new(),
        End::NoLibrary(why) => format!("NVML can't be loaded: {}", why.lines().next().unwrap_or_default()),
        End::DriverNotLoaded => "NVIDIA's kernel module is not loaded".to_owned(),
        End::VersionMismatch => "library and kernel module of the driver are of different versions".to_owned(),
        End::Refused(why) => format!("NVML does not start: {why}"),
        End::Hung { at, state: Some('D') } => format!("NVML hangs in the kernel ({at})"),
        End::Hung { at, .. } => format!("NVML did not answer in time ({at})"),
        End::StillHung { pid } => format!("an earlier look at NVML hangs in the kernel still (process {pid})"),
        End::Broke(why) => why.clone(),
    }
}

/// What the process does: waits for a line, reads all GPUs, tells them; until its stdin ends.
pub fn answer() {
    session::settle_child(session::NAME);
    let mut stdout = std::io::stdout().lock();
    let mut tell = |word: &Word| {
        let line = serde_json::to_string(word).unwrap_or_default();
        writeln!(stdout, "{line}").and_then(|()| stdout.flush()).is_ok()
    };
    let nvml = match read::start() {
        Ok(nvml) => nvml,
        Err(why) => {
            tell(&Word::Done(why));
            return;
        }
    };
    tell(&Word::Started(read::driver(&nvml)));
    let mut seen = sample::Seen::default();
    for _ in std::io::stdin().lines().map_while(Result::ok) {
        let count = match read::count(&nvml) {
            Ok(count) => count,
            Err(why) => {
                tell(&Word::Done(why));
                break;
            }
        };
        let told = (0..count).all(|index| tell(&Word::Gpu(Box::new(sample::gpu(&nvml, index, &mut seen)))));
        if !told || !tell(&Word::Done(End::Whole)) {
            break;
        }
    }
    // Its shutdown could hang, and the process ends anyway.
    std::mem::forget(nvml);
}
