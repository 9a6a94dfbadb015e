//! The error of a whole command: a kind, what happened, what to do next; and the one `match`
//! that gives a kind its exit code.

use std::error::Error as StdError;
use std::io;
use std::process::ExitCode;

use crate::profile::CaptureError;
use crate::view::Ui;

/// Exit code: done, nothing wrong.
pub const DONE: u8 = 0;
/// Exit code: aictl failed.
pub const FAILED: u8 = 1;
/// Exit code: wrong usage.
pub const USAGE: u8 = 2;
/// Exit code: what was looked for is wrong; faults found, verification failed, job failed.
pub const FOUND: u8 = 3;
/// Exit code: could not see; not permitted, a reader is blind, data are missing.
pub const BLIND: u8 = 4;
/// Exit code: interrupted.
pub const INTERRUPTED: u8 = 130;

/// What went wrong, roughly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// aictl could not do what it should.
    Failed,
    /// The command line or the configuration is wrong.
    Usage,
    /// aictl was not let look, or the machine can't show it.
    Blind,
    /// Nobody reads stdout any more: no error.
    Closed,
    /// A signal ended the work.
    Interrupted,
}

/// The error of a command.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    what: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
    hints: Vec<String>,
}

impl Error {
    /// An error of a kind; `what` is a lower-case fragment.
    pub fn new(kind: Kind, what: impl Into<String>) -> Error {
        Error { kind, what: what.into(), source: None, hints: Vec::new() }
    }

    /// A wrong command line or configuration.
    pub fn usage(what: impl Into<String>) -> Error {
        Error::new(Kind::Usage, what)
    }

    /// Anything else that failed, with its cause.
    pub fn failed(what: impl Into<String>, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
        Error::new(Kind::Failed, what).because(source)
    }

    /// An error of a room: its words, what lies below them, what to do next.
    pub fn told(kind: Kind, error: &dyn StdError, hint: Option<impl Into<String>>) -> Error {
        Error::worded(kind, error.to_string(), error, hint)
    }

    /// The same in words of our own.
    pub fn worded(kind: Kind, what: impl Into<String>, error: &dyn StdError, hint: Option<impl Into<String>>) -> Error {
        let mut made = Error::new(kind, what);
        made.source = error.source().map(|source| source.to_string().into());
        made.hints.extend(hint.map(Into::into));
        made
    }

    /// Adds the cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
        self.source = Some(source.into());
        self
    }

    /// Adds what to do next.
    #[must_use]
    pub fn hint(mut self, text: impl Into<String>) -> Error {
        self.hints.push(text.into());
        self
    }

    /// What went wrong, roughly.
    #[cfg(test)]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether a signal ended the work.
    pub fn is_interruption(&self) -> bool {
        self.kind == Kind::Interrupted
    }

    /// stdout could not be written; a closed pipe is no error.
    pub fn output(error: io::Error) -> Error {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Error::new(Kind::Closed, "stdout is closed"),
            _ => Error::failed("cannot write to stdout", error),
        }
    }

    /// What a command ends with that knows its outcome and has said it: a reader that went away
    /// early changes nothing about that.
    pub fn unless_closed(said: Result<(), Error>, code: u8) -> Result<u8, Error> {
        match said {
            Err(error) if error.kind != Kind::Closed => Err(error),
            _ => Ok(code),
        }
    }

    /// The error in one line: what, why, what next.
    pub fn line(&self) -> String {
        let mut line = self.what.clone();
        let mut cause = self.source.as_deref().map(|source| source as &dyn StdError);
        while let Some(error) = cause {
            let text = error.to_string();
            if !line.contains(&text) {
                line = format!("{line}: {text}");
            }
            cause = error.source();
        }
        self.hints.iter().fold(line, |line, hint| format!("{line}; {hint}"))
    }

    /// Prints the error and returns its exit code.
    pub fn show(&self, ui: &Ui) -> ExitCode {
        let code = match self.kind {
            Kind::Closed => return DONE.into(),
            Kind::Failed => FAILED,
            Kind::Usage => USAGE,
            Kind::Blind => BLIND,
            Kind::Interrupted => INTERRUPTED,
        };
        ui.error(&self.what);
        let mut said = self.what.clone();
        let mut cause = self.source.as_deref().map(|source| source as &dyn StdError);
        while let Some(error) = cause {
            let text = error.to_string();
            // Some errors repeat their source in their own text.
            if !said.contains(&text) {
                ui.more("caused by", &text);
                said = text;
            }
            cause = error.source();
        }
        for hint in &self.hints {
            ui.more("hint", hint);
        }
        code.into()
    }
}

impl From<CaptureError> for Error {
    fn from(error: CaptureError) -> Error {
        let kind = match &error {
            CaptureError::NotPermitted { .. } | CaptureError::KernelLacks { .. } | CaptureError::Refused { .. } => {
                Kind::Blind
            }
            CaptureError::NoSuchProcess(_)
            | CaptureError::TargetExited(_)
            | CaptureError::Write(_)
            | CaptureError::Read { .. } => Kind::Failed,
        };
        let hint = error.hint();
        let mut shown = Error::new(kind, error.to_string());
        // The text is the error's own; only what lies below it is a cause.
        shown.source = match error {
            CaptureError::NotPermitted { source, .. }
            | CaptureError::Write(source)
            | CaptureError::Read { source, .. } => Some(source.into()),
            CaptureError::Refused { source, .. } => Some(source),
            CaptureError::NoSuchProcess(_) | CaptureError::TargetExited(_) | CaptureError::KernelLacks { .. } => None,
        };
        shown.hints.extend(hint.map(str::to_owned));
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_pipe_changes_no_outcome() {
        let closed = || Err(Error::output(io::ErrorKind::BrokenPipe.into()));
        let full = Err(Error::output(io::ErrorKind::StorageFull.into()));
        assert_eq!(Error::unless_closed(closed(), FOUND).unwrap(), FOUND);
        assert_eq!(Error::unless_closed(Ok(()), BLIND).unwrap(), BLIND);
        assert!(Error::unless_closed(full, FOUND).is_err());
    }
}
