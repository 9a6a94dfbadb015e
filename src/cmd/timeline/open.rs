//! Recordings into one view.

use std::path::{Path, PathBuf};

use clap::ValueEnum;

use super::super::error::Error;
use super::super::recording;
use crate::trace::{self, Alignment, Trace};
use crate::view::Ui;
use crate::view::text;

/// How several recordings are put together in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Align {
    /// By their clocks where they overlap, else by their starts
    #[default]
    Auto,
    /// By their clocks
    Clock,
    /// Each starts at zero
    Start,
}

/// Recordings read and put together.
pub struct Opened {
    /// All of them.
    pub trace: Trace,
    /// What to call them.
    pub title: String,
}

/// Reads all files; the first that can't be read is an error.
pub fn read(files: &[PathBuf], align: Align, ui: &Ui) -> Result<Opened, Error> {
    if files.iter().filter(|file| is_stdin(file)).count() > 1 {
        return Err(Error::usage("stdin can be read once only; name - once"));
    }
    let mut parts = Vec::new();
    for file in files {
        parts.push(trace::Part { name: name(file), trace: recording::read(file, ui)? });
    }
    let title = match files {
        [only] => shown(only),
        [first, rest @ ..] => format!("{} + {}", shown(first), rest.len()),
        [] => String::new(),
    };
    let how = match align {
        Align::Auto => Alignment::Auto,
        Align::Clock => Alignment::Clock,
        Align::Start => Alignment::Start,
    };
    Ok(Opened { trace: trace::merge(parts, how), title: text::plain(&title) })
}

fn is_stdin(file: &Path) -> bool {
    file == Path::new("-")
}

fn shown(file: &Path) -> String {
    if is_stdin(file) { "stdin".to_owned() } else { file.display().to_string() }
}

/// The file's name without its place and its endings.
fn name(file: &Path) -> String {
    let name = file.file_name().map_or_else(|| shown(file), |name| name.to_string_lossy().into_owned());
    let known = [".gz", ".json", ".pftrace", ".perfetto-trace", ".pt.trace", ".trace"];
    known.iter().fold(name, |name, ending| name.strip_suffix(ending).map_or(name.clone(), str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_called_by_their_names() {
        for (file, called) in
            [("a/rank0.json.gz", "rank0"), ("run.pftrace", "run"), ("host.1.pt.trace.json", "host.1"), ("x", "x")]
        {
            assert_eq!(name(Path::new(file)), called);
        }
        assert_eq!(name(Path::new("-")), "-");
    }
}
