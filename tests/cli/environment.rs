//! A place of its own for each test: empty environment, empty home, fixed width, no colour.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use tempfile::TempDir;

/// A directory and an environment that hold nothing but what the test puts there.
pub struct TestEnvironment {
    directory: TempDir,
    variables: Vec<(String, String)>,
}

impl TestEnvironment {
    /// Makes an empty one.
    pub fn new() -> TestEnvironment {
        TestEnvironment { directory: TempDir::new().unwrap(), variables: Vec::new() }
    }

    /// Sets a variable.
    pub fn set(mut self, name: &str, value: &str) -> TestEnvironment {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Path of a file in the test's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file there.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    /// aictl, ready to run here.
    pub fn command(&self) -> Command {
        self.command_of(binary())
    }

    /// Another program (or a copy of aictl), ready to run here.
    pub fn command_of(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", self.directory.path())
            .env("COLUMNS", "100")
            .env("LANG", "C.UTF-8")
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .current_dir(self.directory.path())
            .stdin(Stdio::null());
        command
    }

    /// Runs aictl to its end.
    pub fn run(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Ran {
        self.ran(self.command().args(arguments).output().unwrap())
    }

    /// What a finished command said, with this directory's path replaced.
    pub fn ran(&self, output: Output) -> Ran {
        let text =
            |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(&self.directory.path().display().to_string(), "$DIR");
        Ran { status: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }
}

/// What a run said, for snapshots.
pub struct Ran {
    /// Exit code; `None` if a signal ended it.
    pub status: Option<i32>,
    /// Data.
    pub stdout: String,
    /// The rest.
    pub stderr: String,
}

impl fmt::Display for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status {
            Some(code) => writeln!(f, "status: {code}")?,
            None => writeln!(f, "status: ended by a signal")?,
        }
        for (name, text) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            if !text.is_empty() {
                writeln!(f, "----- {name}\n{}", text.trim_end())?;
            }
        }
        Ok(())
    }
}

/// The program under test: `AICTL_TEST_BINARY`, such as a release build that is measured, or cargo's.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    let given = || std::env::var_os("AICTL_TEST_BINARY").map_or_else(|| env!("CARGO_BIN_EXE_aictl").into(), Into::into);
    BINARY.get_or_init(given)
}
