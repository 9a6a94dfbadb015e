//! A real terminal that can be read: tmux.

use std::cell::Cell;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::environment::TestEnvironment;
use super::support;

/// Whether the machine has tmux; says so where not.
pub fn there_is_one() -> bool {
    support::require("tmux", support::program("tmux").is_some())
}

/// A tmux server of the test's own with a shell in it, ended when dropped.
pub struct Terminal {
    socket: String,
    place: PathBuf,
    runs: Cell<u32>,
}

impl Terminal {
    /// Starts one of a size.
    pub fn start(environment: &TestEnvironment, columns: u16, rows: u16) -> Terminal {
        // A server of its own: one that was told to end a moment ago may still answer.
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let socket = format!("tmux-{}", STARTED.fetch_add(1, Ordering::Relaxed));
        let terminal = Terminal {
            socket: environment.path(&socket).display().to_string(),
            place: environment.path(""),
            runs: Cell::new(0),
        };
        let (columns, rows) = (columns.to_string(), rows.to_string());
        let home = environment.path("").display().to_string();
        let shell = format!("env -u NO_COLOR -u COLORTERM HOME={home} PS1='$ ' LANG=C.UTF-8 LC_ALL= sh");
        terminal.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", &columns, "-y", &rows, "-c", &home, &shell]);
        terminal
    }

    /// Asks tmux itself.
    pub fn tmux(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("tmux");
        command.args(["-u", "-S", &self.socket]).args(arguments).env_remove("TMUX");
        String::from_utf8_lossy(&command.output().unwrap().stdout).into_owned()
    }

    /// Presses keys, named as tmux names them.
    pub fn keys(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    /// Types a line.
    pub fn line(&self, text: &str) {
        self.tmux(&["send-keys", "-l", text]);
        self.keys(&["Enter"]);
    }

    /// Has the shell run a command on a cleared screen. The command comes from a file: no word of it is ever on the
    /// screen, where a test that waits for the word would take it for output.
    pub fn run(&self, command: &str) {
        let run = self.runs.get() + 1;
        self.runs.set(run);
        let script = format!(
            "clear\nstty -a > before\n{command}\ncode=$?\nstty -a > after\necho \"[run {run} ended with $code]\"\n"
        );
        std::fs::write(self.place.join(format!("run-{run}")), script).unwrap();
        self.line(&format!(". ./run-{run}"));
    }

    /// Waits until the last command has ended: its code, and the screen it left.
    pub fn ended(&self) -> (i32, String) {
        let mark = format!("[run {} ended with ", self.runs.get());
        let code = |screen: &str| screen.split_once(&mark)?.1.split_once(']')?.0.parse().ok();
        let screen = self.wait_until("the end", |screen| code(screen).is_some());
        (code(&screen).unwrap(), screen)
    }

    /// Asserts that the terminal's modes are what they were before the last command.
    pub fn assert_as_before(&self) {
        assert_eq!(self.switches(), "alternate 0 cursor 1 mouse 0");
        // The size, in the first line, is the terminal's own affair.
        let modes = |name: &str| {
            let modes = std::fs::read_to_string(self.place.join(name)).unwrap();
            modes.split_once('\n').map(|(_, settings)| settings.to_owned()).unwrap()
        };
        assert_eq!(modes("after"), modes("before"));
    }

    /// Changes the size.
    pub fn resize(&self, columns: u16, rows: u16) {
        self.tmux(&["resize-window", "-x", &columns.to_string(), "-y", &rows.to_string()]);
    }

    /// What is on the screen.
    pub fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// What programs have switched on: the alternate screen, the cursor, the mouse.
    pub fn switches(&self) -> String {
        self.tmux(&["display-message", "-p", "alternate #{alternate_on} cursor #{cursor_flag} mouse #{mouse_any_flag}"])
            .trim()
            .to_owned()
    }

    /// Waits until the screen is as wanted.
    pub fn wait_until(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let start = Instant::now();
        loop {
            let screen = self.screen();
            if wanted(&screen) {
                return screen;
            }
            assert!(start.elapsed() < Duration::from_secs(60), "{what}: not on\n{screen}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until the screen shows a text.
    pub fn wait_for(&self, text: &str) -> String {
        self.wait_until(text, |screen| screen.contains(text))
    }

    /// The process of a program that runs in the shell.
    pub fn child(&self, program: &str) -> i32 {
        let shell = self.tmux(&["display-message", "-p", "#{pane_pid}"]);
        let shell = shell.trim();
        let start = Instant::now();
        loop {
            let children = std::fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).unwrap_or_default();
            let is = |pid: &&str| {
                std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim_end() == program)
            };
            if let Some(pid) = children.split_whitespace().find(is) {
                return pid.parse().unwrap();
            }
            assert!(start.elapsed() < Duration::from_secs(30), "no {program} runs");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}
