//! What earlier looks saw, kept in a file between runs.

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::fault::{Check, History, State};
use crate::host::{machine, state_file};

/// The file's name in the usual place.
const FILE: &str = "diagnose.json";

/// Where the history is kept, if anywhere.
pub struct Kept {
    path: Option<PathBuf>,
    /// It is read and not written.
    untouched: bool,
    trouble: Option<String>,
}

impl Kept {
    /// Where to keep it: the file that was named, else the usual place of this machine's. A tree
    /// of a test has none of its own.
    pub fn new(named: Option<PathBuf>, none: bool, untouched: bool, root: &Path) -> Kept {
        let usual = || if root == Path::new("/") { state_file::usual_place(FILE) } else { None };
        Kept { path: if none { None } else { named.or_else(usual) }, untouched, trouble: None }
    }

    /// Reads it. A file that can't be read is as none, and said.
    pub fn read(&mut self, boot_id: Option<&str>) -> History {
        let text = match self.path.as_deref().map(state_file::read) {
            Some(Ok(text)) => text,
            Some(Err(error)) => {
                self.trouble = Some(format!("cannot read it: {error}"));
                None
            }
            None => None,
        };
        let parsed = text.map(|text| serde_json::from_str::<History>(&text));
        let history = match parsed {
            Some(Ok(history)) => history,
            Some(Err(_)) => {
                self.trouble = Some("it was not whole, and begins anew".to_owned());
                History::default()
            }
            None => History::default(),
        };
        history.resume(boot_id, Timestamp::now())
    }

    /// Writes it, and says how it went.
    pub fn write(mut self, mut history: History) -> Check {
        let last = history.last_look();
        let now = history.now();
        history.close();
        let check = |state, detail: String| Check { name: "history".to_owned(), state, detail };
        let Some(path) = &self.path else {
            return check(State::Skipped, "nothing is remembered, so no rates are judged".to_owned());
        };
        let shown = path.display();
        let written = serde_json::to_string(&history)
            .map_err(std::io::Error::other)
            .and_then(|text| if self.untouched { Ok(()) } else { state_file::write(path, &text) });
        if let Err(error) = written {
            self.trouble.get_or_insert(format!("cannot write it: {error}"));
        }
        match (self.trouble, last) {
            (Some(trouble), _) => check(State::Skipped, format!("{shown}: {trouble}; rates may not be judged")),
            (None, Some(last)) => {
                let seconds = now.duration_since(last).as_secs();
                check(State::Ok, format!("rates are judged since {seconds} s ago, from {shown}"))
            }
            (None, None) => {
                let boot =
                    if machine::boot_id().is_some() { "first look at this boot" } else { "the boot is not known" };
                check(State::Ok, format!("{boot}: rates are judged from the next on, by {shown}"))
            }
        }
    }
}
