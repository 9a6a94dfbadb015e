//! `aictl timeline`: look at recordings in the terminal.

mod feed;
mod jobs;
mod judge;
mod look;
mod open;
mod place;
pub mod screen;
mod still;

use std::path::PathBuf;
use std::sync::Arc;

use clap::ValueHint;
use regex::Regex;

use super::error::{DONE, Error, INTERRUPTED};
use super::interrupt::{Interrupt, Stops};
use super::settings::Settings;
use super::{Done, env};
use crate::analyze;
use crate::tui::scene::Scene;
use crate::tui::state::{Message, Size, State};
use crate::tui::{Left, Msg, Outcome, update};
pub use feed::Outside;
use feed::RecordingFeed;
pub use jobs::Jobs;
pub use judge::Judge;
pub use look::{Target, Theme, look};
pub use open::Align;
use place::{At, PanelName};
use still::FrameSize;

/// Look at recordings in the terminal: a timeline to move, zoom and search in
///
/// Tracks are grouped rank, process, thread, layer; the verdict of `aictl report` stands above
/// them, and its evidence leads to the slices. Several files become one view, aligned in time, a
/// group a rank. ? lists the keys, q leaves.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, after_long_help = AFTER_LONG_HELP)]
pub struct Args {
    /// Recordings: of aictl, other Perfetto TrackEvent traces, or Chrome JSON as PyTorch's profiler
    /// writes it, gzip or plain; - for stdin
    #[arg(value_name = "FILE", required = true, value_hint = ValueHint::FilePath)]
    files: Vec<PathBuf>,
    /// What to show, from the recording's start: 12.5s, 1.2s..1.4s, 'step 42', 'step 40..44'
    /// [default: all]
    #[arg(long, value_name = "TIME|STEP")]
    at: Option<At>,
    /// Select the longest slice whose name matches, and show it unless --at is given
    #[arg(long, value_name = "REGEX")]
    select: Option<Regex>,
    /// What the lower part shows [default: details]
    #[arg(long, value_enum, value_name = "NAME")]
    panel: Option<PanelName>,
    /// How several files are put together
    #[arg(long, value_enum, value_name = "HOW", default_value = "auto")]
    align: Align,
    /// Print one frame and end; needs no terminal
    #[arg(long, value_name = "COLUMNSxROWS")]
    snapshot: Option<FrameSize>,
    /// Write that frame as a picture instead; - for stdout
    #[arg(long, value_name = "FILE", requires = "snapshot", value_hint = ValueHint::FilePath)]
    svg: Option<PathBuf>,
    #[command(flatten)]
    viewer: ViewerArgs,
}

/// Flags of every viewer.
#[derive(Debug, clap::Args)]
pub struct ViewerArgs {
    /// Colours for which background; safe for the colour-blind, all of them [default: auto]
    #[arg(long, value_enum, value_name = "THEME", env = env::THEME, hide_env = true)]
    theme: Option<Theme>,
    /// Leave the mouse to the terminal, so that it selects text
    #[arg(long)]
    no_mouse: bool,
}

impl ViewerArgs {
    /// Flag over environment over configuration over default.
    pub fn theme(&self, settings: &Settings) -> Theme {
        self.theme.or(settings.config.timeline.theme).unwrap_or_default()
    }

    /// Whether the mouse is ours.
    pub fn mouse(&self, settings: &Settings) -> bool {
        !self.no_mouse && settings.config.timeline.mouse.unwrap_or(true)
    }
}

/// In short help and in long help alike.
macro_rules! examples {
    () => {
        "\
Examples:
  aictl timeline run.pftrace
  aictl timeline rank0.json.gz rank1.json.gz             ranks side by side, aligned in time
  aictl timeline run.pftrace --at 'step 40..44'
  aictl timeline run.pftrace --select 'DataLoader' --snapshot 120x40
  aictl timeline run.pftrace --at 1.2s..1.4s --snapshot 160x48 --svg ticket.svg
  zcat run.pftrace.gz | aictl timeline -"
    };
}

const EXAMPLES: &str = examples!();

const AFTER_LONG_HELP: &str = concat!(
    examples!(),
    "

The keys in short: w s or the wheel zoom, a d or dragging the ruler pan, the arrows walk from slice
to slice, f shows the selected one, / searches, : takes commands, ? tells all of them, q leaves.

Several FILEs: with --align auto, recordings of one machine, or of machines whose wall clocks the
files tell, keep their distance in time where they overlap; else each starts at zero. A rank comes
from the file, else from its name (rank3, r3).

-o has no meaning here: aictl report FILE -o json has the findings as data. --color, NO_COLOR and
--ascii hold for snapshots and for the viewer.

Exit codes: 0 done · 1 a file can't be read · 2 usage, or no terminal · 4 a snapshot of a recording
that holds nothing · 130 ended by a signal.

Environment: AICTL_THEME stands for --theme."
);

/// Opens the viewer, or prints a frame.
pub fn run(args: Args, settings: &Settings) -> Done {
    if args.snapshot.is_none() {
        screen::check("to print one frame without a terminal: aictl timeline FILE --snapshot 160x48")?;
    }
    let opened = open::read(&args.files, args.align, &settings.ui)?;
    let warnings = opened.trace.warnings.clone();
    let size = args.snapshot.map_or(Size { columns: 80, rows: 24 }, |size| size.0);
    let progress = settings.ui.progress();
    progress.set("making ready");
    let mut state = State::new(Scene::new(Arc::new(opened.trace)), opened.title, size);
    progress.clear();
    if let Some(panel) = args.panel {
        state.panel = panel.into();
    }
    // Steps have to be known before one can be shown, and a still frame is whole.
    let waits = args.snapshot.is_some() || matches!(args.at, Some(At::Steps(..)));
    let judge = if waits {
        let (report, steps) = analyze::judge_steps(&state.scene.trace);
        update(&mut state, Msg::Judged(Box::new(report), steps));
        Judge::silent()
    } else {
        Judge::start(Arc::clone(&state.scene.trace))
    };
    if let Some(pattern) = &args.select {
        place::select(&mut state, pattern, args.at.is_none())?;
    }
    if let Some(at) = args.at {
        place::go(&mut state, at)?;
    }
    // The chosen row comes onto the screen.
    update(&mut state, Msg::Resize(size));
    let theme = args.viewer.theme(settings);
    if args.snapshot.is_some() {
        warnings.iter().for_each(|warning| settings.ui.warn(warning));
        still::settle(&mut state);
        return still::print(&state, theme, args.svg.as_deref(), settings);
    }
    state.message = first_of(&warnings);
    let cannot = |error| Error::failed("cannot handle signals", error);
    let (interrupt, stops) = (Interrupt::catch().map_err(cannot)?, Stops::catch().map_err(cannot)?);
    let look = look(theme, Target::Terminal, settings);
    let outside = Outside { settings, shown: args.files, interrupt: &interrupt, stops };
    let mut feed = RecordingFeed::new(judge, outside);
    let left = screen::show(&mut state, look, args.viewer.mouse(settings), &interrupt, &mut feed)?;
    for outcome in feed.jobs.finish() {
        match outcome {
            Outcome::Said(text) => settings.ui.note(&text),
            Outcome::Failed(text) => settings.ui.warn(&text),
            Outcome::Compared(_) => {}
        }
    }
    Ok(if left == Left::Signal { INTERRUPTED } else { DONE })
}

/// The bottom line holds one warning.
fn first_of(warnings: &[String]) -> Option<Message> {
    let text = match warnings {
        [] => return None,
        [one] => one.clone(),
        [first, rest @ ..] => format!("{first} (and {} more: aictl report)", rest.len()),
    };
    Some(Message { text: crate::view::text::plain(&text), bad: true })
}
