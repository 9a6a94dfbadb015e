//! Runs other programs on a leash: a deadline, bounded output, no way to stay behind.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::process;

/// What to run.
#[derive(Debug, Clone)]
pub struct Order {
    /// Program; without a slash it is looked for in [`PATH`].
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Variables beside [`PATH`] and the locale; nothing else is handed down.
    pub environment: Vec<(String, OsString)>,
    /// Where it runs.
    pub directory: Option<PathBuf>,
    /// Longest time it may take.
    pub timeout: Duration,
    /// Most bytes of stdout, and of stderr, that are kept.
    pub most_output: usize,
    /// Once it is set, the program is killed with all that it has started.
    pub stop: Option<Arc<AtomicBool>>,
}

/// How it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// How it ended.
    pub end: End,
    /// What it printed, as far as it is kept.
    pub stdout: String,
    /// The same of stderr.
    pub stderr: String,
    /// It printed more than is kept.
    pub cut: bool,
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With this code.
    Exited(i32),
    /// By this signal, which was not ours.
    Signalled(i32),
    /// It took too long and was killed, with all that it had started.
    Late,
    /// It was to stop, and was killed, with all that it had started.
    Stopped,
}

/// Where programs are looked for.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Variable that marks all processes of one run, so that those that leave its group are found.
const MARK: &str = "AICTL_RUN";

/// Longest file that a program may write: a runaway must not fill the disk.
const LONGEST_FILE: u64 = 256 << 20;

/// After the end of the program itself, its pipes may be kept open by what it has started.
const AFTERGLOW: Duration = Duration::from_millis(100);

/// Runs a program to its end, or to the deadline.
///
/// # Errors
/// If it can't be started: not found, or not executable.
pub fn run(order: &Order) -> io::Result<Ran> {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    let mark = format!("{}.{}", std::process::id(), RUNS.fetch_add(1, Ordering::Relaxed));
    let end = Instant::now() + order.timeout;
    let cpu_s = order.timeout.as_secs().saturating_add(2);
    let mut command = Command::new(&order.program);
    command
        .args(&order.arguments)
        .env_clear()
        .env("PATH", PATH)
        .env("LANG", "C.UTF-8")
        .envs(order.environment.iter().map(|(name, value)| (name, value)))
        .env(MARK, &mark)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    if let Some(directory) = &order.directory {
        command.current_dir(directory);
    }
    // SAFETY: between fork and exec only system calls that are safe there.
    unsafe {
        command.pre_exec(move || {
            let limit = |what, most: u64| {
                let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
                libc::setrlimit(what, &raw const limit)
            };
            limit(libc::RLIMIT_CORE, 0);
            limit(libc::RLIMIT_CPU, cpu_s);
            limit(libc::RLIMIT_FSIZE, LONGEST_FILE);
            limit(libc::RLIMIT_NOFILE, 1024);
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            Ok(())
        });
    }
    // Children of its children whose parents ended become ours, where they can be found.
    // SAFETY: a plain system call on this process.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) };
    let mut child = command.spawn()?;
    let mut pipes = Pipes::of(&mut child, order.most_output);
    let stopped = || order.stop.as_ref().is_some_and(|stop| stop.load(Ordering::Relaxed));
    let cut_off = pipes.follow(&child, end, stopped);
    kill_all(&child, &mark, cut_off.is_some());
    let status = collect(&mut child);
    let Pipes { stdout, stderr, cut, .. } = pipes;
    Ok(Ran {
        end: cut_off.unwrap_or_else(|| status.map_or(End::Late, ended)),
        stdout: String::from_utf8_lossy(&stdout).into_owned(),
        stderr: String::from_utf8_lossy(&stderr).into_owned(),
        cut,
    })
}

fn ended(status: ExitStatus) -> End {
    match (status.code(), status.signal()) {
        (Some(code), _) => End::Exited(code),
        // The limit on CPU time is the deadline by another clock.
        (None, Some(libc::SIGXCPU)) => End::Late,
        (None, signal) => End::Signalled(signal.unwrap_or(0)),
    }
}

struct Pipes {
    out: Option<std::process::ChildStdout>,
    err: Option<std::process::ChildStderr>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    most: usize,
    cut: bool,
}

impl Pipes {
    fn of(child: &mut Child, most: usize) -> Pipes {
        Pipes {
            out: child.stdout.take(),
            err: child.stderr.take(),
            stdout: Vec::new(),
            stderr: Vec::new(),
            most,
            cut: false,
        }
    }

    /// Reads until the program ends, or says why that was not waited for.
    fn follow(&mut self, child: &Child, end: Instant, stopped: impl Fn() -> bool) -> Option<End> {
        let mut ended: Option<Instant> = None;
        loop {
            if ended.is_none() && has_ended(child) {
                ended = Some(Instant::now() + AFTERGLOW);
            }
            let now = Instant::now();
            let open = self.out.is_some() || self.err.is_some();
            match ended {
                Some(until) if !open || now >= until => return None,
                None if stopped() => return Some(End::Stopped),
                None if now >= end => return Some(End::Late),
                _ => {}
            }
            // Short enough to notice the end of a program that has closed its pipes.
            self.take(Duration::from_millis(10).min(end.saturating_duration_since(now).max(Duration::from_millis(1))));
        }
    }

    fn take(&mut self, wait: Duration) {
        let mut polled = Vec::with_capacity(2);
        polled.extend(self.out.as_ref().map(|pipe| PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN)));
        polled.extend(self.err.as_ref().map(|pipe| PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN)));
        if polled.is_empty() {
            return std::thread::sleep(wait);
        }
        let timeout = Timespec::try_from(wait).unwrap_or(Timespec { tv_sec: 0, tv_nsec: 1_000_000 });
        let _ = poll(&mut polled, Some(&timeout));
        let ready: Vec<bool> = polled.iter().map(|fd| !fd.revents().is_empty()).collect();
        let has_out = self.out.is_some();
        drop(polled);
        let (out_ready, err_ready) = match (has_out, &ready[..]) {
            (true, [out, rest @ ..]) => (*out, rest.first().copied().unwrap_or(false)),
            (false, [err, ..]) => (false, *err),
            _ => (false, false),
        };
        if out_ready {
            read(&mut self.out, &mut self.stdout, self.most, &mut self.cut);
        }
        if err_ready {
            read(&mut self.err, &mut self.stderr, self.most, &mut self.cut);
        }
    }
}

/// One read; what is beyond the bound is thrown away, so that the program can go on.
fn read(pipe: &mut Option<impl Read>, kept: &mut Vec<u8>, most: usize, cut: &mut bool) {
    let Some(open) = pipe else { return };
    let mut chunk = [0; 1 << 14];
    match open.read(&mut chunk) {
        Ok(0) => *pipe = None,
        Ok(size) => {
            let room = most.saturating_sub(kept.len()).min(size);
            kept.extend_from_slice(&chunk[..room]);
            *cut |= room < size;
        }
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
        Err(_) => *pipe = None,
    }
}

/// Whether a child has ended, without collecting it: its number, which is its group's, too, stays
/// its own until then.
fn has_ended(child: &Child) -> bool {
    // SAFETY: all bytes zero is a siginfo, which the call fills in.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        libc::waitid(libc::P_PID, child.id(), &raw mut info, flags) != 0 || info.si_pid() != 0
    }
}

/// Ends the program's group, and those of its processes that left it. Of a program that was late,
/// the whole machine is searched for them: the kernel's lists of children can miss one while
/// others end.
fn kill_all(child: &Child, mark: &str, late: bool) {
    if let Ok(group) = libc::pid_t::try_from(child.id()) {
        // SAFETY: the group is the child's own, which is not collected yet.
        unsafe { libc::kill(-group, libc::SIGKILL) };
    }
    let marked = format!("{MARK}={mark}");
    // New ones may be born while the others die, and one that is about to become another program
    // shows no variables for a moment: only two empty looks in a row are the end.
    let mut quiet = 0;
    for _ in 0..40 {
        let near = if late { all_processes() } else { process::descendants(std::process::id()) };
        let ours = near.into_iter().filter(|pid| {
            let variables = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            *pid != child.id() && variables.split(|byte| *byte == 0).any(|entry| entry == marked.as_bytes())
        });
        let strays: Vec<u32> = ours.collect();
        quiet = if strays.is_empty() { quiet + 1 } else { 0 };
        if quiet == 2 {
            break;
        }
        for pid in strays.into_iter().filter_map(|pid| libc::pid_t::try_from(pid).ok()) {
            // SAFETY: a process that carries this run's own mark is ours to end and to collect;
            // a failure of either changes nothing.
            unsafe {
                libc::kill(pid, libc::SIGKILL);
                libc::waitpid(pid, std::ptr::null_mut(), libc::WNOHANG);
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Every process there is.
fn all_processes() -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Collects the child and what of its group became ours. One that is stuck in the kernel is left.
fn collect(child: &mut Child) -> Option<ExitStatus> {
    let group = libc::pid_t::try_from(child.id()).ok()?;
    for _ in 0..50 {
        if let Ok(Some(status)) = child.try_wait() {
            // SAFETY: waits only for children of this process in that group, and only for zombies.
            while unsafe { libc::waitpid(-group, std::ptr::null_mut(), libc::WNOHANG) } > 0 {}
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, timeout: Duration) -> Ran {
        run(&Order {
            program: "sh".into(),
            arguments: vec!["-c".into(), script.into()],
            environment: vec![("GIVEN".to_owned(), "yes".into())],
            directory: None,
            timeout,
            most_output: 1000,
            stop: None,
        })
        .unwrap()
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn code_output_and_environment() {
        let ran = shell("echo out $GIVEN $HOME; echo err >&2; exit 3", LONG);
        assert_eq!((ran.end, ran.stdout.as_str(), ran.stderr.as_str()), (End::Exited(3), "out yes\n", "err\n"));
        assert_eq!(shell("kill -9 $$", LONG).end, End::Signalled(9));
    }

    #[test]
    fn a_flood_is_cut_and_goes_on() {
        let ran = shell("head -c 5000000 /dev/zero | tr '\\0' x; exit 1", LONG);
        assert_eq!((ran.end, ran.stdout.len(), ran.cut), (End::Exited(1), 1000, true));
    }

    #[test]
    fn the_late_are_killed_with_their_children() {
        let begin = Instant::now();
        // One child in the group, one that left it, one that even lost its parent.
        let script = "sleep 987 & setsid sleep 987 & (setsid sh -c 'sleep 987 & exit' ) & echo up; wait";
        let ran = shell(script, Duration::from_secs(3));
        assert_eq!((ran.end, ran.stdout.as_str()), (End::Late, "up\n"));
        assert!(begin.elapsed() < Duration::from_secs(60));
        let lives = |pid: &u32| {
            process::is_alive(*pid)
                && std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|words| words == b"sleep\x00987\x00")
        };
        // Killed; on a busy machine they end a moment later.
        while process::descendants(std::process::id()).iter().any(lives) {
            assert!(begin.elapsed() < Duration::from_secs(60));
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn what_is_to_stop_leaves_nothing() {
        let stop = Arc::new(AtomicBool::new(false));
        let order = Order {
            program: "sh".into(),
            arguments: vec!["-c".into(), "sleep 985 & setsid sleep 985 & echo up; wait".into()],
            environment: Vec::new(),
            directory: None,
            timeout: LONG,
            most_output: 1000,
            stop: Some(Arc::clone(&stop)),
        };
        let sleeps = |pid: &u32| {
            process::is_alive(*pid)
                && std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|words| words == b"sleep\x00985\x00")
        };
        let count = || process::descendants(std::process::id()).iter().filter(|pid| sleeps(pid)).count();
        let begin = Instant::now();
        let ran = std::thread::scope(|scope| {
            let ran = scope.spawn(|| run(&order).unwrap());
            while count() < 2 {
                assert!(begin.elapsed() < LONG);
                std::thread::sleep(Duration::from_millis(10));
            }
            stop.store(true, Ordering::SeqCst);
            ran.join().unwrap()
        });
        assert_eq!(ran.end, End::Stopped);
        while count() > 0 {
            assert!(begin.elapsed() < LONG);
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn what_stays_behind_does_not_hold_us() {
        let begin = Instant::now();
        let ran = shell("sleep 986 & exit 0", LONG);
        assert_eq!(ran.end, End::Exited(0));
        assert!(begin.elapsed() < Duration::from_secs(60));
    }

    #[test]
    fn what_is_not_there_is_an_error() {
        let order = Order {
            program: "/no/such/program".into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            directory: None,
            timeout: LONG,
            most_output: 1,
            stop: None,
        };
        assert_eq!(run(&order).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
