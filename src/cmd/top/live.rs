//! The live screen: a thread looks, the screen shows, and lends the terminal to aictl itself.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use jiff::Zoned;

use super::super::Done;
use super::super::error::{DONE, Error, INTERRUPTED};
use super::super::interrupt::{Interrupt, Stops, asked};
use super::super::settings::Settings;
use super::super::timeline::{Target, look, screen};
use super::source::{Shot, Source};
use super::{Args, Sort};
use crate::host::machine;
use crate::tui::state::Size;
use crate::tui::top::{Sort as Order, TopFeed, TopMsg, TopState, run_top};
use crate::tui::{Asked, Left};

/// This program.
const PROGRAM: &str = "/proc/self/exe";

/// Shows the screen until the user leaves it.
pub fn run(args: &Args, source: Source, interval: Duration, settings: &Settings) -> Done {
    screen::check("for one look without a terminal: aictl top --once")?;
    let cannot = |error| Error::failed("cannot handle signals", error);
    let (interrupt, stops) = (Interrupt::catch().map_err(cannot)?, Stops::catch().map_err(cannot)?);
    let local = source.is_local();
    let title = match &source {
        Source::Local(_) => machine::node_name(),
        Source::Agents(_) => settings.cluster.context.clone().unwrap_or_else(|| "fleet".to_owned()),
        Source::Prometheus(_) => "Prometheus".to_owned(),
    };
    let mut state = TopState::new(title, local, Size { columns: 80, rows: 24 });
    state.interval_s = interval.as_secs_f64();
    state.filter = args.filter.iter().map(|word| word.to_lowercase()).collect();
    state.idle_s = args.idle.map(|length| length.0.as_secs_f64());
    state.sort = args.sort.map_or(Order::Name, order);
    let (send, news) = mpsc::channel();
    let (ask, asked) = mpsc::channel();
    let watcher = std::thread::Builder::new().name("aictl-top".to_owned());
    watcher
        .spawn(move || watch(source, interval, &send, &asked))
        .map_err(|error| Error::failed("cannot start a thread", error))?;
    let mut feed = Feed { news, ask, interrupt: &interrupt, stops, settings };
    let look = look(args.viewer.theme(settings), Target::Terminal, settings);
    let left = screen::show_with(args.viewer.mouse(settings), &interrupt, |guard| {
        run_top(&mut state, look, guard, &mut feed)
    })?;
    Ok(if left == Left::Signal { INTERRUPTED } else { DONE })
}

fn order(sort: Sort) -> Order {
    match sort {
        Sort::Utilisation => Order::Utilisation,
        Sort::Memory => Order::Memory,
        Sort::Power => Order::Power,
        Sort::Temperature => Order::Temperature,
        Sort::Idle => Order::Idle,
        Sort::Owner => Order::Owner,
    }
}

/// Looks again and again, until nobody listens.
fn watch(mut source: Source, interval: Duration, send: &Sender<Result<Shot, String>>, asked: &Receiver<()>) {
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = send.send(Err(format!("cannot wait for the network: {error}")));
            return;
        }
    };
    loop {
        let begin = std::time::Instant::now();
        let shot = runtime.block_on(source.look()).map_err(|error| error.line());
        if send.send(shot).is_err() {
            return;
        }
        match asked.recv_timeout(interval.saturating_sub(begin.elapsed()).max(interval / 4)) {
            Ok(()) => while asked.try_recv().is_ok() {},
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

struct Feed<'s> {
    news: Receiver<Result<Shot, String>>,
    ask: Sender<()>,
    interrupt: &'s Interrupt,
    stops: Stops,
    settings: &'s Settings,
}

impl TopFeed for Feed<'_> {
    fn poll(&mut self) -> Vec<TopMsg> {
        // Of several looks that came meanwhile each is remembered.
        self.news
            .try_iter()
            .flat_map(|shot| match shot {
                Ok(shot) => {
                    let at = Zoned::now().strftime("%H:%M:%S").to_string();
                    let notes = shot.notes.into_iter().map(TopMsg::Said);
                    notes.chain([TopMsg::Look(shot.nodes, shot.owners, at)]).collect::<Vec<_>>()
                }
                Err(why) => vec![TopMsg::Failed(why)],
            })
            .collect()
    }

    fn look(&mut self) {
        let _ = self.ask.send(());
    }

    fn run(&mut self, arguments: &[String]) -> Result<(), String> {
        let cluster = &self.settings.cluster;
        let mut command = Command::new(PROGRAM);
        if let Some(file) = &cluster.kubeconfig {
            command.arg("--kubeconfig").arg(file);
        }
        if let Some(context) = &cluster.context {
            command.arg("--context").arg(context);
        }
        command.args(arguments).stdin(Stdio::inherit());
        let shown = arguments.iter().map(|word| crate::view::text::plain(word)).collect::<Vec<_>>().join(" ");
        let mut out = std::io::stdout();
        let _ = writeln!(out, "$ aictl {shown}").and_then(|()| out.flush());
        let mut child = command.spawn().map_err(|error| format!("cannot start aictl {shown}: {error}"))?;
        let status = loop {
            match child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) => std::thread::sleep(Duration::from_millis(30)),
                Err(error) => return Err(format!("cannot wait for aictl {shown}: {error}")),
            }
            // Ctrl-C goes to all of the terminal's programs; it is the child's.
            if self.interrupt.is_set() && !self.interrupt.terminated() {
                self.interrupt.forget();
            }
        };
        let how = status.code().map_or_else(|| "ended by a signal".to_owned(), |code| format!("exit code {code}"));
        let _ = write!(out, "\n[aictl {shown}: {how}; Enter goes back]").and_then(|()| out.flush());
        wait_for_enter();
        if !self.interrupt.terminated() {
            self.interrupt.forget();
        }
        Ok(())
    }

    fn asked(&mut self) -> Asked {
        asked(self.interrupt, &self.stops)
    }

    fn suspend(&mut self) -> Result<(), String> {
        self.stops.stop_here()
    }
}

/// Waits for a line from the terminal; its end, or a signal, is as good.
fn wait_for_enter() {
    let mut byte = [0];
    let mut terminal = std::fs::File::open("/dev/tty").ok();
    while let Some(file) = &mut terminal {
        match file.read(&mut byte) {
            Ok(1) if byte[0] != b'\n' && byte[0] != b'\r' => {}
            _ => return,
        }
    }
}
