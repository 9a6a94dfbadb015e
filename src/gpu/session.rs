//! A look at NVML that always ends: the calls are made by a process of their own, which tells
//! fact by fact what it learns. One that is late is killed; one that is stuck in the kernel, where
//! no signal reaches it, is left behind. No second one is started while it hangs there.

use std::ffi::CStr;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::read;
use crate::fault::gpu::facts::{Driver, End, Gpu, Look};

/// First argument of the program when it is the process that makes the calls.
pub const ARGUMENT: &str = "__nvml";

/// Name of that process, by which it is found again.
pub(super) const NAME: &CStr = c"aictl-nvml";

/// What the process tells, a line each.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    /// NVML started.
    Started(Driver),
    /// GPUs that it counts.
    Count(u32),
    /// One of them.
    Gpu(Box<Gpu>),
    /// No more.
    End(End),
}

/// Reads all GPUs through this program, started again as `program ARGUMENT`; ends by the deadline.
pub fn look(program: &Path, deadline: Duration) -> Look {
    let begin = Instant::now();
    let mut look = Look { driver: None, count: None, gpus: Vec::new(), end: End::Whole, took_ms: 0 };
    look.end = match stuck(Path::new("/proc"), uptime().saturating_sub(deadline)) {
        Some(pid) => End::StillHung { pid },
        None => listen(program, begin + deadline, &mut look),
    };
    look.took_ms = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
    look
}

fn listen(program: &Path, end: Instant, look: &mut Look) -> End {
    let mut command = Command::new(program);
    command.arg(ARGUMENT).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return End::Broke(format!("no process: {error}")),
    };
    let Some(stdout) = child.stdout.take() else { return End::Broke("no pipe".to_owned()) };
    let words = words(stdout);
    loop {
        match words.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(Word::Started(driver)) => look.driver = Some(driver),
            Ok(Word::Count(count)) => look.count = Some(count),
            Ok(Word::Gpu(gpu)) => look.gpus.push(*gpu),
            Ok(Word::End(end)) => {
                stop(child);
                return end;
            }
            Err(RecvTimeoutError::Timeout) => {
                let at = match (&look.driver, look.count) {
                    (None, _) => "start".to_owned(),
                    (_, None) => "count".to_owned(),
                    _ => format!("GPU {}", look.gpus.len()),
                };
                let state = stat(&Path::new("/proc").join(child.id().to_string())).map(|stat| stat.state);
                stop(child);
                return End::Hung { at, state };
            }
            Err(RecvTimeoutError::Disconnected) => {
                let how = stop(child).map_or("it did not end".to_owned(), |status| status.to_string());
                return End::Broke(format!("the process that calls NVML ended early: {how}"));
            }
        }
    }
}

/// What a process tells on its stdout, a word a line.
pub(super) fn words<W: DeserializeOwned + Send + 'static>(stdout: ChildStdout) -> Receiver<W> {
    let (send, words) = mpsc::channel();
    // Ends with the pipe. Left behind if that never ends; it waits where signals reach it.
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let Ok(word) = serde_json::from_str(&line) else { continue };
            if send.send(word).is_err() {
                break;
            }
        }
    });
    words
}

/// Kills a process and gives it a moment; one that does not end is left to the kernel.
pub(super) fn stop(mut child: Child) -> Option<std::process::ExitStatus> {
    // One that has ended by itself keeps its status.
    for attempt in 0..40 {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        if attempt == 2 {
            let _ = child.kill();
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    None
}

/// An earlier process of ours that is stuck in the kernel: one that was started before a time since
/// boot. A younger one may be another look that goes well: the driver's calls sleep so for moments.
fn stuck(proc: &Path, before: Duration) -> Option<u32> {
    let processes = fs::read_dir(proc).ok()?.flatten();
    processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).find(|pid| {
        stat(&proc.join(pid.to_string()))
            .is_some_and(|stat| stat.state == 'D' && stat.name.as_bytes() == NAME.to_bytes() && stat.started < before)
    })
}

/// An earlier process of ours that is stuck in the kernel since before the deadline of any look.
pub(super) fn still_stuck(deadline: Duration) -> Option<u32> {
    stuck(Path::new("/proc"), uptime().saturating_sub(deadline))
}

/// What a process does: 'D' is stuck in the kernel.
pub(super) fn state_of(pid: u32) -> Option<char> {
    stat(&Path::new("/proc").join(pid.to_string())).map(|stat| stat.state)
}

/// Makes this process the one that calls: it ends with its parent, and is found by its name.
pub(super) fn settle_child(name: &CStr) {
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    let _ = rustix::thread::set_name(name);
}

/// Time since boot.
fn uptime() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// A process as /proc/PID/stat has it.
struct Stat {
    name: String,
    state: char,
    /// Since boot.
    started: Duration,
}

/// USER_HZ is 100 on every Linux of our kind.
const TICK_MS: u64 = 10;

/// Reads what a process does. This file waits for nobody, unlike its command line.
fn stat(process: &Path) -> Option<Stat> {
    let bytes = fs::read(process.join("stat")).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let (before, after) = text.rsplit_once(')')?;
    let name = before.split_once('(')?.1.to_owned();
    let mut fields = after.split_whitespace();
    let state = fields.next()?.chars().next()?;
    let ticks: u64 = fields.nth(18)?.parse().ok()?;
    Some(Stat { name, state, started: Duration::from_millis(ticks.saturating_mul(TICK_MS)) })
}

/// What the process with [`ARGUMENT`] does: reads all GPUs, and tells on stdout.
pub fn answer() {
    settle_child(NAME);
    let mut stdout = std::io::stdout().lock();
    let mut tell = |word: &Word| {
        let line = serde_json::to_string(word).unwrap_or_default();
        writeln!(stdout, "{line}").and_then(|()| stdout.flush()).is_ok()
    };
    let end = match read_all(&mut tell) {
        Ok(()) => End::Whole,
        Err(end) => end,
    };
    tell(&Word::End(end));
}

fn read_all(tell: &mut impl FnMut(&Word) -> bool) -> Result<(), End> {
    let nvml = read::start()?;
    tell(&Word::Started(read::driver(&nvml)));
    let count = read::count(&nvml)?;
    tell(&Word::Count(count));
    for index in 0..count {
        if !tell(&Word::Gpu(Box::new(read::gpu(&nvml, index)))) {
            break;
        }
    }
    // Its shutdown could hang, too, and the process ends anyway.
    std::mem::forget(nvml);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_says_nothing_is_left_in_time() {
        let directory = tempfile::tempdir().unwrap();
        let script = directory.path().join("mute");
        // Written by another process: what this one has open is open in children of other tests, and can't be run.
        let text = "printf '#!/bin/sh\\nexec sleep 600\\n' >\"$1\" && chmod 755 \"$1\"";
        let written = std::process::Command::new("sh").args(["-c", text, "sh"]).arg(&script).status().unwrap();
        assert!(written.success());
        let begin = Instant::now();
        let look = look(&script, Duration::from_millis(100));
        assert!(begin.elapsed() < Duration::from_secs(60));
        assert!(matches!(&look.end, End::Hung { at, .. } if at == "start"), "{look:?}");
    }

    #[test]
    fn a_process_that_ends_early_is_no_health() {
        let look = look(Path::new("/bin/true"), Duration::from_secs(20));
        assert!(matches!(&look.end, End::Broke(why) if why.contains("early")), "{look:?}");
        let look = super::look(Path::new("/no/such/program"), Duration::from_secs(20));
        assert!(matches!(look.end, End::Broke(_)));
    }

    #[test]
    fn one_that_hangs_in_the_kernel_is_found_by_its_name() {
        let proc = tempfile::tempdir().unwrap();
        for (pid, name, state, ticks) in
            [(7, "aictl-nvml", 'S', 1), (8, "a) D", 'D', 1), (9, "aictl-nvml", 'D', 500), (10, "aictl-nvml", 'D', 9000)]
        {
            fs::create_dir(proc.path().join(pid.to_string())).unwrap();
            let line = format!("{pid} ({name}) {state} 1 7 7 0 -1 4194304 1 2 3 4 5 6 0 0 20 0 1 0 {ticks} 1 1");
            fs::write(proc.path().join(pid.to_string()).join("stat"), line).unwrap();
        }
        assert_eq!(stuck(proc.path(), Duration::from_secs(10)), Some(9));
        assert_eq!(stuck(proc.path(), Duration::from_secs(5)), None, "a look beside this one");
        let own = stat(Path::new("/proc/self")).unwrap();
        assert!(own.started <= uptime() && uptime() - own.started < Duration::from_secs(86_400));
    }
}
