//! Hears of Xids from NVML as they happen. As with a look, the calls are made by a process of their
//! own, which may hang; it tells on stdout, and is started again when it has ended.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{raw, read, session};
use crate::fault::gpu::XidEvent;
use crate::fault::gpu::facts::End;

/// First argument of the program when it is the process that listens.
pub const ARGUMENT: &str = "__nvml-events";
/// Name of that process.
const NAME: &std::ffi::CStr = c"aictl-nvml-xid";
/// A listener that has ended is started again after this long: a driver is loaded anew, or a GPU is.
const AGAIN: Duration = Duration::from_secs(30);
/// NVML hands events out one by one; between two it looks whether it is still wanted.
const WAIT_MS: u32 = 1000;
/// Waits that fail one after the other, after which a new session is begun.
const PATIENCE: u32 = 10;

/// What is heard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Heard {
    /// Somebody listens to so many GPUs.
    Listening(u32),
    /// An Xid.
    Xid(XidEvent),
    /// Nobody listens, and why.
    Deaf(String),
}

/// Somebody who listens, until this is dropped.
#[derive(Debug)]
pub struct Ear {
    stop: Arc<AtomicBool>,
    child: Arc<AtomicU32>,
    wake: mpsc::Sender<()>,
}

impl Ear {
    /// Begins to listen through this program, started again as `program ARGUMENT`; what is heard is
    /// given to `tell`, which runs on a thread of its own.
    pub fn open(program: &Path, mut tell: impl FnMut(Heard) + Send + 'static) -> Ear {
        let (wake, woken) = mpsc::channel();
        let ear = Ear { stop: Arc::default(), child: Arc::default(), wake };
        let (stop, child, program) = (Arc::clone(&ear.stop), Arc::clone(&ear.child), program.to_owned());
        std::thread::spawn(move || {
            while !stop.load(Ordering::SeqCst) {
                listen(&program, &child, &mut tell);
                // Told to end, or time for another try.
                if woken.recv_timeout(AGAIN) != Err(mpsc::RecvTimeoutError::Timeout) {
                    return;
                }
            }
        });
        ear
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = self.wake.send(());
        let pid = i32::try_from(self.child.load(Ordering::SeqCst)).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            // It is this process' own child, and not waited for before its number is taken back.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

fn listen(program: &PathBuf, running: &AtomicU32, tell: &mut impl FnMut(Heard)) {
    let mut command = Command::new(program);
    command.arg0("aictl").arg(ARGUMENT).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return tell(Heard::Deaf(format!("no process: {error}"))),
    };
    running.store(child.id(), Ordering::SeqCst);
    let mut why = None;
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            match serde_json::from_str(&line) {
                Ok(Heard::Deaf(words)) => why = Some(words),
                Ok(heard) => tell(heard),
                Err(_) => {}
            }
        }
    }
    running.store(0, Ordering::SeqCst);
    let _ = child.kill();
    let ended = child.wait();
    let how = || ended.map_or_else(|error| error.to_string(), |status| status.to_string());
    tell(Heard::Deaf(why.unwrap_or_else(|| format!("the process that listens ended: {}", how()))));
}

/// What the process with [`ARGUMENT`] does: waits for Xids, and tells of each on stdout.
pub fn answer() {
    session::settle_child(NAME);
    let mut stdout = std::io::stdout().lock();
    let mut tell = |heard: &Heard| {
        let line = serde_json::to_string(heard).unwrap_or_default();
        writeln!(stdout, "{line}").and_then(|()| stdout.flush()).is_ok()
    };
    let why = wait_for_all(&mut tell);
    tell(&Heard::Deaf(why));
}

/// Listens until that fails, and says why it did.
fn wait_for_all(tell: &mut impl FnMut(&Heard) -> bool) -> String {
    let nvml = match read::start() {
        Ok(nvml) => nvml,
        Err(End::NoLibrary(why)) => return format!("no NVML: {why}"),
        Err(End::DriverNotLoaded) => return "the driver is not loaded".to_owned(),
        Err(end) => return format!("NVML did not start: {end:?}"),
    };
    let set = match raw::EventSet::new(&nvml) {
        Ok(set) => set,
        Err(error) => return format!("no events: {error}"),
    };
    let count = nvml.device_count().unwrap_or(0);
    let mut listened = 0;
    for index in 0..count {
        // One that is lost does not keep the others from being heard.
        let registered = nvml.device_by_index(index).and_then(|device| set.register(&device));
        listened += u32::from(registered.is_ok());
    }
    if listened == 0 {
        return format!("none of {count} GPUs tells of Xids");
    }
    if !tell(&Heard::Listening(listened)) {
        return String::new();
    }
    let mut failures = 0;
    loop {
        match set.wait(WAIT_MS) {
            Ok(Some((device, code, instance))) => {
                failures = 0;
                let pci = device.pci_info().ok().and_then(|info| read::address(&info.bus_id));
                if !tell(&Heard::Xid(XidEvent { pci, code, instance })) {
                    return String::new();
                }
            }
            Ok(None) => failures = 0,
            Err(error) => {
                failures += 1;
                if failures >= PATIENCE {
                    return format!("NVML gives no more events: {error}");
                }
                std::thread::sleep(Duration::from_secs(1));
            }
        }
    }
}
