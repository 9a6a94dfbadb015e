//! `aictl timeline`: look at recordings in the terminal.

use std::path::PathBuf;
use std::sync::Arc;

use clap::ValueHint;

use super::error::{DONE, Error};
use super::settings::Settings;
use super::{Done, recording};
use crate::tui::scene::Scene;
use crate::tui::state::{Size, State};
use crate::tui::{Background, Colors, Look, Marks, snapshot};

/// Look at recordings in the terminal
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Recordings: Perfetto, Chrome JSON, PyTorch profiler's .json.gz
    #[arg(value_name = "FILE", required = true, value_hint = ValueHint::FilePath)]
    files: Vec<PathBuf>,
    /// Print one frame of this size and end
    #[arg(long, value_name = "COLUMNSxROWS", default_value = "160x48")]
    snapshot: String,
}

/// Opens the viewer.
pub fn run(args: Args, settings: &Settings) -> Done {
    let Some(file) = args.files.first() else { return Ok(DONE) };
    let trace = recording::read(file, &settings.ui)?;
    let size = args.snapshot.split_once('x').and_then(|(c, r)| Some((c.parse().ok()?, r.parse().ok()?)));
    let (columns, rows) = size.ok_or_else(|| Error::usage("not a size: give COLUMNSxROWS, such as 160x48"))?;
    let state = State::new(Scene::new(Arc::new(trace)), file.display().to_string(), Size { columns, rows });
    let look = Look { colors: Colors::None, background: Background::Dark, marks: Marks::Ascii };
    settings.ui.print(&snapshot(&state, look).text()).map_err(Error::output)?;
    Ok(DONE)
}
