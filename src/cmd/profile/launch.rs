//! A command that waits before its first instruction until the probes are in place.

use std::ffi::{OsStr, OsString};
use std::fs::OpenOptions;
use std::io::{self, PipeWriter, Read, Write, pipe};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use super::super::error::{Error, Kind};
use super::super::interrupt::Interrupt;
use crate::view::Ui;

/// A started command.
#[derive(Debug)]
pub struct Launched {
    pid: u32,
    program: PathBuf,
    /// Lets it go when written to; makes it end when dropped before that.
    gate: Option<PipeWriter>,
    end: Receiver<io::Result<ExitStatus>>,
}

/// Finds a program as the shell does, so that a typing error shows before anything is attached.
pub fn find(program: &OsStr) -> Result<PathBuf, Error> {
    let path = Path::new(program);
    let runs = |path: &Path| path.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0);
    if path.components().count() > 1 || path.is_absolute() {
        return match (runs(path), path.exists()) {
            (true, _) => Ok(path.to_owned()),
            (false, true) => Err(Error::usage(format!("cannot run {}", path.display())).hint("it is not executable")),
            (false, false) => Err(Error::usage(format!("cannot run {}: no such file", path.display()))),
        };
    }
    let directories = std::env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/local/bin:/usr/bin:/bin"));
    std::env::split_paths(&directories)
        .map(|directory| directory.join(program))
        .find(|path| runs(path))
        .ok_or_else(|| Error::usage(format!("command not found: {}", path.display())))
}

impl Launched {
    /// Forks; the child waits in front of its exec. With a log, its output goes there, and it gets
    /// no input: the terminal is someone else's. Where aictl's own stdout is data (`beside`), the
    /// child's goes to stderr.
    pub fn start(program: &Path, command: &[OsString], log: Option<&Path>, beside: bool) -> Result<Launched, Error> {
        let cannot = |error: io::Error| Error::failed("cannot start the command", error);
        let (mut pid_reader, pid_writer) = pipe().map_err(cannot)?;
        let (gate_reader, gate) = pipe().map_err(cannot)?;
        let (ended, end) = channel();
        let mut child = Command::new(program);
        if let [name, arguments @ ..] = command {
            child.arg0(name).args(arguments);
        }
        if let Some(log) = log {
            let open = || {
                let file = OpenOptions::new().create(true).append(true).open(log)?;
                Ok((file.try_clone()?, file))
            };
            let cannot = |error: io::Error| Error::failed(format!("cannot write {}", log.display()), error);
            let (out, err) = open().map_err(cannot)?;
            child.stdin(Stdio::null()).stdout(out).stderr(err);
        } else if beside {
            child.stdout(io::stderr().as_fd().try_clone_to_owned().map_err(cannot)?);
        }
        let (pid_fd, gate_fd, our_end) = (pid_writer.as_raw_fd(), gate_reader.as_raw_fd(), gate.as_raw_fd());
        // SAFETY: between fork and exec `wait_at_gate` makes system calls only, on descriptors
        // that the parent keeps open until the child has run or given up.
        unsafe { child.pre_exec(move || wait_at_gate(pid_fd, gate_fd, our_end)) };
        // `spawn` returns only once the child runs, so it waits in a thread of its own, which then reaps the child.
        std::thread::Builder::new()
            .name("command".to_owned())
            .spawn(move || {
                let status = child.spawn().and_then(|mut child| child.wait());
                drop((pid_writer, gate_reader));
                // Nobody listens any more when aictl is about to end.
                let _ = ended.send(status);
            })
            .map_err(cannot)?;
        let mut pid = [0; 4];
        if pid_reader.read_exact(&mut pid).is_err() {
            let error = end.recv().ok().and_then(Result::err).unwrap_or(io::ErrorKind::Other.into());
            return Err(cannot(error));
        }
        Ok(Launched { pid: u32::from_ne_bytes(pid), program: program.to_owned(), gate: Some(gate), end })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Lets it run.
    pub fn release(&mut self) {
        if let Some(mut gate) = self.gate.take() {
            // It can only fail if the child is gone, which the capture notices by itself.
            let _ = gate.write_all(b"g");
        }
    }

    /// Ends a command that was never let go; returns why it could not be run, if that is so.
    pub fn give_up(mut self) -> Option<Error> {
        let released = self.gate.take().is_none();
        if !released {
            // The gate is shut: the child leaves, and its thread with it.
            return None;
        }
        match self.end.recv_timeout(Duration::from_millis(200)) {
            Ok(Err(error)) => Some(self.cannot_run(error)),
            _ => None,
        }
    }

    /// Waits for the command to end and tells how it ended.
    pub fn finish(self, ui: &Ui, interrupt: &Interrupt) -> Result<(), Error> {
        let mut told = false;
        let mut terminated = false;
        let status = loop {
            if interrupt.terminated() && !terminated {
                terminated = true;
                self.terminate();
            }
            match self.end.recv_timeout(Duration::from_millis(if told { 200 } else { 500 })) {
                Ok(status) => break status,
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Err(RecvTimeoutError::Timeout) if !told => {
                    told = true;
                    ui.note(&format!("{} (pid {}) goes on; aictl waits for it", self.program.display(), self.pid));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        };
        let status = status.map_err(|error| self.cannot_run(error))?;
        match (status.code(), status.signal()) {
            (Some(0), _) => {}
            (Some(code), _) => ui.warn(&format!("{} ended with exit code {code}", self.program.display())),
            (None, Some(signal)) => ui.warn(&format!("{} was ended by signal {signal}", self.program.display())),
            (None, None) => {}
        }
        Ok(())
    }

    /// Passes SIGTERM on: who ends aictl means its command, too.
    fn terminate(&self) {
        if let Some(pid) = i32::try_from(self.pid).ok().and_then(rustix::process::Pid::from_raw) {
            // Already gone is as good.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
    }

    fn cannot_run(&self, error: io::Error) -> Error {
        Error::new(Kind::Usage, format!("cannot run {}", self.program.display())).because(error)
    }
}

/// In the child: tells its pid, then waits for a byte; an end of file means that aictl is gone.
fn wait_at_gate(pid_fd: i32, gate_fd: i32, parents_end: i32) -> io::Result<()> {
    // SAFETY: plain system calls on descriptors inherited from the parent; the buffers live on this stack.
    unsafe {
        // Our copy of the gate's writing end would keep it open when aictl dies.
        libc::close(parents_end);
        let pid = libc::getpid();
        if libc::write(pid_fd, (&raw const pid).cast(), 4) != 4 {
            return Err(io::Error::last_os_error());
        }
        let mut byte = 0u8;
        loop {
            match libc::read(gate_fd, (&raw mut byte).cast(), 1) {
                1 => return Ok(()),
                -1 if *libc::__errno_location() == libc::EINTR => {}
                _ => return Err(io::Error::from_raw_os_error(libc::ECANCELED)),
            }
        }
    }
}
