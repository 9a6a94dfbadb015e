//! Runs a command with a deadline. Never waits longer, whatever the command does.

use std::fs::File;
use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

/// How much of what a command says is kept.
const SAID: u64 = 4096;
/// From SIGTERM to SIGKILL, and from there to giving up.
const GRACE: Duration = Duration::from_secs(3);

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// With this exit code.
    Exit(i32),
    /// By this signal.
    Signal(i32),
    /// It took too long and was ended.
    Late,
    /// It took too long and can't be ended: it hangs in the kernel.
    Stuck,
}

/// What a command did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// How it ended.
    pub ending: Ending,
    /// The last line that it said, on either stream.
    pub said: String,
}

impl Outcome {
    /// Whether it succeeded.
    pub fn fine(&self) -> bool {
        self.ending == Ending::Exit(0)
    }
}

/// Runs a command; `held` is open in it as long as it runs, so that its lock tells of it even
/// after we are gone.
///
/// # Errors
/// If it can't be started.
pub fn run(words: &[String], environment: &[(&str, String)], timeout: Duration, held: File) -> Result<Outcome, String> {
    let [program, arguments @ ..] = words else { return Err("an empty command".to_owned()) };
    let mut said = tempfile_in_memory()?;
    let stream = |file: &File| file.try_clone().map(Stdio::from).map_err(|error| error.to_string());
    let mut child = Command::new(program)
        .args(arguments)
        .envs(environment.iter().map(|(name, value)| (*name, value.as_str())))
        .stdin(Stdio::from(held))
        .stdout(stream(&said)?)
        .stderr(stream(&said)?)
        // A signal for us is not one for a reset in the middle of its work.
        .process_group(0)
        .spawn()
        .map_err(|error| format!("cannot run {program}: {error}"))?;
    let ending = wait(&mut child, timeout);
    Ok(Outcome { ending, said: last_line(&mut said) })
}

fn wait(child: &mut Child, timeout: Duration) -> Ending {
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let signal = |signal| {
        if let Some(group) = group {
            let _ = kill_process_group(group, signal);
        }
    };
    if let Some(status) = wait_until(child, timeout) {
        return ended(status);
    }
    for last in [Signal::TERM, Signal::KILL] {
        signal(last);
        if wait_until(child, GRACE).is_some() {
            return Ending::Late;
        }
    }
    Ending::Stuck
}

fn wait_until(child: &mut Child, timeout: Duration) -> Option<ExitStatus> {
    let since = Instant::now();
    let mut pause = Duration::from_millis(2);
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Err(_) => return None,
            Ok(None) => {}
        }
        let left = timeout.checked_sub(since.elapsed()).filter(|left| !left.is_zero())?;
        std::thread::sleep(pause.min(left));
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

fn ended(status: ExitStatus) -> Ending {
    match (status.code(), status.signal()) {
        (Some(code), _) => Ending::Exit(code),
        (None, Some(signal)) => Ending::Signal(signal),
        (None, None) => Ending::Exit(-1),
    }
}

/// A file rather than a pipe: a command that leaves children behind must not keep us reading.
fn tempfile_in_memory() -> Result<File, String> {
    let file = rustix::fs::memfd_create("aictl-said", rustix::fs::MemfdFlags::CLOEXEC);
    file.map(File::from).map_err(|error| error.to_string())
}

fn last_line(said: &mut File) -> String {
    use std::io::{Seek, SeekFrom};
    let size = said.metadata().map_or(0, |data| data.len());
    let mut bytes = Vec::new();
    let _ = said.seek(SeekFrom::Start(size.saturating_sub(SAID)));
    let _ = said.take(SAID).read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes);
    let line = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    line.trim().chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, ms: u64) -> Result<Outcome, String> {
        let words = ["sh", "-c", script].map(str::to_owned);
        let null = File::open("/dev/null").unwrap();
        run(&words, &[("FAULT", "xid-79".to_owned())], Duration::from_millis(ms), null)
    }

    #[test]
    fn a_command_says_how_it_ended() {
        let outcome = sh("echo one; echo $FAULT >&2; exit 3", 20_000).unwrap();
        assert_eq!(outcome, Outcome { ending: Ending::Exit(3), said: "xid-79".to_owned() });
        assert!(sh("exit 0", 20_000).unwrap().fine());
        assert_eq!(sh("kill -9 $$", 20_000).unwrap().ending, Ending::Signal(9));
        let words = ["/no/such/program".to_owned()];
        assert!(run(&words, &[], GRACE, File::open("/dev/null").unwrap()).unwrap_err().contains("/no/such/program"));
    }

    #[test]
    fn a_command_that_takes_too_long_is_ended_with_its_children() {
        let since = Instant::now();
        assert_eq!(sh("sleep 60 & sleep 60", 200).unwrap().ending, Ending::Late);
        assert!(since.elapsed() < Duration::from_secs(50));
    }

    #[test]
    fn children_left_behind_keep_nobody_waiting() {
        let since = Instant::now();
        assert!(sh("sleep 50 >/dev/null & exit 0", 60_000).unwrap().fine());
        assert!(since.elapsed() < Duration::from_secs(40));
    }
}
