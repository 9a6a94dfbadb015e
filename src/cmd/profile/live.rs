//! `aictl profile --live`: the capture on a thread of its own, the viewer on this one.
//!
//! The capture writes into the file and into the viewer's inbox and waits for neither the terminal
//! nor the viewer; what is drawn is drawn here alone.

mod feed;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use super::super::error::Error;
use super::super::interrupt::{Interrupt, Stops};
use super::super::recording::NewRecording;
use super::super::settings::Settings;
use super::super::timeline::{Outside, Target, look, screen};
use super::launch::Launched;
use super::progress::Teller;
use super::source::Source;
use super::{Args, open_sink};
use crate::profile::CaptureProgress;
use crate::trace::{CaptureMeta, LayerStatus, Tee, live};
use crate::tui::Left;
use crate::tui::scene::Scene;
use crate::tui::state::{Live, Size, State};
use feed::CaptureFeed;

/// So many events may wait for a viewer that is behind: some seconds of a busy capture.
const WAITING: usize = 2_000_000;

/// What the capture's thread tells the viewer's.
#[derive(Debug)]
enum News {
    Attached { took: Duration, layers: Vec<LayerStatus> },
    Recording { elapsed: Duration, events: u64, lost: u64, overhead: f64 },
    Note { text: String, warns: bool },
}

/// What is captured, and where to.
pub struct Job<'a> {
    /// As typed.
    pub args: &'a Args,
    /// Settled.
    pub settings: &'a Settings,
    /// What to capture.
    pub source: &'a Source,
    /// The file.
    pub recording: &'a NewRecording,
    /// The command to let go, if one is to be started.
    pub launched: Option<&'a mut Launched>,
    /// Signals.
    pub interrupt: &'a Interrupt,
}

/// Refuses what can't be watched.
pub fn check(args: &Args) -> Result<(), Error> {
    if args.write.as_deref() == Some(Path::new("-")) {
        return Err(Error::usage("--live draws on stdout, where the recording was to go")
            .hint("name a file with -w FILE, or leave -w out"));
    }
    screen::check("without a terminal, leave out --live; aictl timeline shows the recording later")
}

/// Where the output of a command goes that would be written over the screen.
pub fn log_of(recording: &Path) -> PathBuf {
    let mut name = recording.as_os_str().to_owned();
    name.push(".log");
    PathBuf::from(name)
}

/// Captures and shows it until the user leaves and the capture is over. The recording is whole
/// then, and the terminal as it was.
pub fn watch(job: Job<'_>) -> (Result<CaptureMeta, Error>, Option<Error>) {
    let stop = Stop::default();
    thread::scope(|scope| {
        // Whatever ends this, the capture ends with it, and with a whole file.
        let _ended = StopWhenDropped(&stop);
        let (tell, news) = channel();
        let (sink, inbox) = live(WAITING);
        let (args, source, recording, flag) = (job.args, job.source, job.recording, &*stop.0);
        let capturing = thread::Builder::new().name("capture".to_owned()).spawn_scoped(scope, move || {
            let file =
                open_sink(args, Some(recording)).map_err(|error| Error::failed("cannot write the recording", error))?;
            let mut tee = Tee::new(file, sink);
            source.capture(&mut tee, flag, &mut |progress| {
                if matches!(progress, CaptureProgress::Attached { .. }) {
                    recording.begin();
                }
                // Nobody listens any more once the viewer is closed.
                let _ = tell.send(News::from(&progress));
            })
        });
        let capturing = match capturing {
            Ok(thread) => thread,
            Err(error) => return (Err(Error::failed("cannot start a thread", error)), None),
        };
        let mut viewer = None;
        if let Some(layers) = attach(&job, &news, &stop) {
            job.launched.map(Launched::release);
            let is_over = || capturing.is_finished();
            let shown = show(job.settings, job.args, source, recording, job.interrupt, layers, (inbox, news, &is_over));
            viewer = shown.err();
        }
        stop.set();
        let result = match capturing.join() {
            Ok(result) => result,
            Err(_) => {
                Err(Error::failed("the capture failed inside, which is a bug of aictl", io::Error::other("panic")))
            }
        };
        (result, viewer)
    })
}

/// Ends the capture.
#[derive(Debug, Default, Clone)]
struct Stop(Arc<AtomicBool>);

impl Stop {
    fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct StopWhenDropped<'s>(&'s Stop);

impl Drop for StopWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.set();
    }
}

impl News {
    fn from(progress: &CaptureProgress<'_>) -> News {
        match *progress {
            CaptureProgress::Attached { took, layers } => News::Attached { took, layers: layers.to_vec() },
            CaptureProgress::Recording { elapsed, events, lost, overhead, .. } => {
                News::Recording { elapsed, events, lost, overhead }
            }
            CaptureProgress::Note { text, warns } => News::Note { text: text.to_owned(), warns },
        }
    }
}

/// Waits until the probes are in place; `None` if that fails, which the capture's own end tells.
fn attach(job: &Job<'_>, news: &Receiver<News>, stop: &Stop) -> Option<Vec<LayerStatus>> {
    let mut teller = Teller::new(&job.settings.ui, &job.source.words(), job.source.duration(), false);
    let attached = loop {
        if job.interrupt.is_set() {
            stop.set();
        }
        match news.recv_timeout(Duration::from_millis(50)) {
            Ok(News::Attached { took, layers }) => {
                teller.tell(&CaptureProgress::Attached { took, layers: &layers });
                break Some(layers);
            }
            Ok(News::Note { text, warns }) => teller.tell(&CaptureProgress::Note { text: &text, warns }),
            Ok(News::Recording { .. }) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break None,
        }
    };
    teller.end();
    attached
}

type Ends<'e> = (crate::trace::LiveFeed, Receiver<News>, &'e dyn Fn() -> bool);

fn show(
    settings: &Settings,
    args: &Args,
    source: &Source,
    recording: &NewRecording,
    interrupt: &Interrupt,
    layers: Vec<LayerStatus>,
    ends: Ends<'_>,
) -> Result<Left, Error> {
    let stops = Stops::catch().map_err(|error| Error::failed("cannot handle signals", error))?;
    let size = Size { columns: 80, rows: 24 };
    let mut state = State::new(Scene::new(Arc::default()), title(args, source), size);
    state.live = Some(Live { follows: true, ..Live::default() });
    let outside = Outside { settings, shown: vec![recording.path().to_owned()], interrupt, stops };
    let mut feed = CaptureFeed::new(outside, layers, ends);
    let look = look(args.viewer.theme(settings), Target::Terminal, settings);
    let left = screen::show(&mut state, look, args.viewer.mouse(settings), interrupt, &mut feed);
    feed.finish();
    left
}

/// What is recorded, for the top of the screen.
fn title(args: &Args, source: &Source) -> String {
    let words = match args.command.as_slice() {
        [] => source.title(),
        command => command.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" "),
    };
    crate::view::text::plain(&words)
}
