//! `aictl profile`: record running processes, then say where their time went.

mod launch;
mod live;
mod pods;
mod progress;
mod source;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueHint;
use clap_complete::{ArgValueCandidates, ArgValueCompleter, CompletionCandidate};

use super::error::{BLIND, DONE, Error, INTERRUPTED};
use super::interrupt::Interrupt;
use super::recording::{self, Format, NewRecording};
use super::settings::{OutputFormat, Settings};
use super::timeline::ViewerArgs;
use super::values::{self, LayerList, Length, Share};
use super::{Done, env, report};
use crate::agent::Target;
use crate::profile::{CaptureOptions, CaptureProgress};
use crate::trace::{CaptureMeta, Sink};
use crate::view::{Ui, human};
use launch::Launched;
use pods::PodArgs;
use progress::Teller;
use source::Source;

/// Record running processes through eBPF, then say where their time went
///
/// Attaches to processes that are already running, without a restart or a change to their code,
/// follows their forks, and detaches without a trace. The recording opens in ui.perfetto.dev,
/// and `aictl report` reads it again.
///
/// Ends after --duration, at Ctrl-C, or when the processes end; the report is printed in all
/// three cases. A second Ctrl-C ends aictl at once; what was written until then can be read.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "aictl profile [OPTIONS] --pid <PID>...\n       aictl profile [OPTIONS] -- <COMMAND>...\n       aictl profile [OPTIONS] <TARGET>... | -l <LABELS>",
    after_help = EXAMPLES,
    after_long_help = AFTER_LONG_HELP
)]
pub struct Args {
    /// Process to record; again for more, such as the ranks of one job
    #[arg(short, long = "pid", value_name = "PID", value_parser = values::pid, value_delimiter = ',', add = ArgValueCandidates::new(running_pythons))]
    pids: Vec<u32>,
    /// Pods to record, on whatever nodes they run: NAME or pod/NAME, job/, jobset/, pytorchjob/,
    /// trainjob/, rayjob/NAME
    #[arg(value_name = "TARGET", add = ArgValueCandidates::new(super::names::pods))]
    targets: Vec<String>,
    /// Command to start and record
    #[arg(last = true, value_name = "COMMAND", value_hint = ValueHint::CommandWithArguments)]
    command: Vec<OsString>,
    /// End after this long: 10s, 1m30s, 500ms [default: at Ctrl-C]
    #[arg(short, long, value_name = "TIME", env = env::DURATION, hide_env = true)]
    duration: Option<Length>,
    /// File to write; .json and .json.gz in Chrome's format, others in Perfetto's, - for stdout
    /// [default: aictl-<PID or COMMAND>-<TIME>.pftrace]
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    write: Option<PathBuf>,
    /// What to record: all, or some of sched, syscall, io, python, torch, cuda, nccl [default: all]
    #[arg(long, value_name = "LIST", env = env::LAYERS, hide_env = true, add = ArgValueCompleter::new(values::complete_layers))]
    layers: Option<LayerList>,
    /// How much the processes may be slowed down; probes are thinned to hold it [default: 2%]
    #[arg(long, value_name = "SHARE", env = env::MAX_OVERHEAD, hide_env = true)]
    max_overhead: Option<Share>,
    /// Python stacks a second and CPU [default: 99]
    #[arg(long, value_name = "HZ", env = env::PYTHON_HZ, hide_env = true, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    python_hz: Option<u32>,
    /// Record system calls one by one from this length on; shorter ones are counted [default: 100us]
    #[arg(long, value_name = "TIME", env = env::SYSCALL_THRESHOLD, hide_env = true)]
    syscall_threshold: Option<Length>,
    /// Only record
    #[arg(long)]
    no_report: bool,
    /// Watch it in the terminal while it is recorded; q ends both, and the report follows
    #[arg(long)]
    live: bool,
    #[command(flatten)]
    viewer: ViewerArgs,
    #[command(flatten)]
    pods: PodArgs,
}

/// In short help and in long help alike.
macro_rules! examples {
    () => {
        "\
Examples:
  sudo aictl profile --pid 41873 -d 10s
  sudo aictl profile -d 30s -w run.pftrace -- python train.py --epochs 1
  sudo aictl profile --pid 41873 --pid 41874 -d 10s          the ranks of one job: who is late?
  sudo aictl profile --pid 41873 --live                      watch it while it is recorded
  sudo aictl profile --pid 41873 --layers sched,python -d 5s
  aictl profile pod/train-0 -n ml -d 10s                     a pod, from a laptop
  aictl profile job/train --live                             all ranks of a job, on all their nodes
  aictl profile -l app=serve -c engine --process 'python.*worker' -d 10s
  sudo aictl profile --pid 41873 -d 10s -o json | jq .verdict"
    };
}

const EXAMPLES: &str = examples!();

const AFTER_LONG_HELP: &str = concat!(
    examples!(),
    "

A COMMAND is started once the probes are in place. When --duration is over it goes on, and aictl
waits for it; Ctrl-C reaches both. Its own exit code is printed, not returned. With -w - or -o json its
stdout goes to stderr: aictl's own is the data.

With --live the timeline is on the screen while it is recorded: Space freezes the view and not the
capture, ? lists the keys. When --duration is over or the processes end, the view stays; q leaves it,
saves the recording and prints the report. A COMMAND's output goes to FILE.log, since it would be
written over the screen, and it gets no input.

Pods need no root and no ssh: aictl puts a short-lived pod of its own on each of their nodes, which
sees the processes of their containers and nothing of it stays; it needs the verbs create, get and
delete on pods and pods/exec. Clocks of nodes are aligned, and how well is said. docs/profile-pods.md
says what that pod may do and why.

An existing FILE is overwritten if it is a recording, and only once the first event is there.

Exit codes: 0 recorded (also after Ctrl-C) · 1 failed, or no such process · 2 usage, or COMMAND
cannot be run · 4 not permitted, the kernel lacks something, a node was lost, or the report is inconclusive · 130 at
the second Ctrl-C.

Environment: AICTL_DURATION, AICTL_LAYERS, AICTL_MAX_OVERHEAD, AICTL_PYTHON_HZ,
AICTL_SYSCALL_THRESHOLD, AICTL_THEME, AICTL_AGENT_IMAGE, AICTL_AGENT_NAMESPACE stand for the flags of the same name."
);

/// A file system with less than this is worth a word before a capture starts.
const SCARCE_BYTES: u64 = 200 << 20;

/// Records, then reports.
pub fn run(args: Args, settings: &Settings) -> Done {
    let ui = &settings.ui;
    let begin = std::time::Instant::now();
    check_targets(&args)?;
    if args.live {
        live::check(&args)?;
    }
    let mut options = options_of(&args, settings)?;
    let to_stdout = args.write.as_deref() == Some(Path::new("-"));
    if to_stdout && io::stdout().is_terminal() {
        return Err(Error::usage("a recording is not for the terminal").hint("pipe it on, or name a file with -w FILE"));
    }
    let command = args.command.first().map(|program| launch::find(program)).transpose()?;
    let plan = if args.names_pods() { Some(args.pods.plan(&args.targets, &options, begin, settings)?) } else { None };
    let recording = if to_stdout { None } else { Some(NewRecording::create(&file_for(&args))?) };
    if let Some(free) = recording.as_ref().and_then(|r| recording::free_bytes(r.path())).filter(|f| *f < SCARCE_BYTES) {
        ui.warn(&format!("only {} free where the recording goes", human::bytes(free)));
    }
    let interrupt = Interrupt::catch().map_err(|error| Error::failed("cannot handle signals", error))?;
    let mut launched = match command {
        Some(program) => {
            let log = recording.as_ref().filter(|_| args.live).map(|recording| live::log_of(recording.path()));
            if let Some(log) = &log {
                ui.note(&format!("output of {} goes to {}", program.display(), log.display()));
            }
            // What is printed there must be the recording or the report alone.
            let data = !args.no_report && !matches!(settings.output, OutputFormat::Table | OutputFormat::Wide);
            Some(Launched::start(&program, &args.command, log.as_deref(), to_stdout || data)?)
        }
        None => None,
    };
    options.pids.extend(launched.as_ref().map(Launched::pid));
    let source = plan.map_or_else(|| Source::Here(options), |plan| Source::Pods(Box::new(plan)));

    let (result, viewer) = match &recording {
        Some(recording) if args.live => live::watch(live::Job {
            args: &args,
            settings,
            source: &source,
            recording,
            launched: launched.as_mut(),
            interrupt: &interrupt,
        }),
        recording => (record(&args, ui, &source, recording.as_ref(), launched.as_mut(), &interrupt), None),
    };
    let meta = match result {
        Ok(meta) => meta,
        Err(error) => return Err(give_up(error, recording, launched)),
    };
    if let Some(error) = viewer {
        // The capture is whole nevertheless.
        ui.warn(&error.line());
    }
    if recording.as_ref().is_some_and(|recording| !recording.has_begun()) {
        // Ctrl-C came first.
        give_up(Error::usage("interrupted"), recording, launched);
        ui.note("interrupted before anything was recorded");
        return Ok(INTERRUPTED);
    }
    let code = match &recording {
        Some(recording) => after(&args, settings, recording, &meta),
        None => Ok(DONE),
    };
    if let Some(launched) = launched {
        launched.finish(ui, &interrupt)?;
    }
    code
}

/// Captures until it is over, and tells how it goes.
fn record(
    args: &Args,
    ui: &Ui,
    source: &Source,
    recording: Option<&NewRecording>,
    mut launched: Option<&mut Launched>,
    interrupt: &Interrupt,
) -> Result<CaptureMeta, Error> {
    let mut sink = open_sink(args, recording).map_err(|e| Error::failed("cannot write the recording", e))?;
    let mut teller = Teller::new(ui, &source.words(), source.duration(), launched.is_some());
    let result = source.capture(sink.as_mut(), interrupt.flag(), &mut |news| {
        if matches!(news, CaptureProgress::Attached { .. }) {
            recording.iter().for_each(|recording| recording.begin());
            if let Some(launched) = &mut launched {
                launched.release();
            }
        }
        teller.tell(&news);
    });
    teller.end();
    result
}

/// Tells what was written, then reads it back for the report.
fn after(args: &Args, settings: &Settings, recording: &NewRecording, meta: &CaptureMeta) -> Done {
    let ui = &settings.ui;
    let seconds = meta.end_ns.saturating_sub(meta.start_ns) as f64 / 1e9;
    let path = recording.path();
    let Some(size) = recording.size() else { return Ok(DONE) };
    ui.note(&format!("recorded {} ({}, {})", path.display(), human::bytes(size), human::seconds(seconds)));
    if args.no_report {
        ui.hint(&format!("aictl report {}", quoted(path)));
        let cut = meta.nodes.iter().any(|node| node.broke_off.is_some());
        return Ok(if cut { BLIND } else { DONE });
    }
    let code = report::print(&recording::read(path, ui)?, settings)?;
    ui.hint(&format!("open {} in https://ui.perfetto.dev, or print this again: aictl report {0}", quoted(path)));
    Ok(code)
}

/// Cleans up after a capture that failed: nothing is left of what never started, and what
/// was written stays.
fn give_up(error: Error, recording: Option<NewRecording>, launched: Option<Launched>) -> Error {
    // If the command itself could not be run, that is the reason.
    let error = launched.and_then(Launched::give_up).unwrap_or(error);
    let Some(recording) = recording else { return error };
    if recording.has_begun() {
        return error
            .hint(format!("what was written until then can be read: aictl report {}", quoted(recording.path())));
    }
    recording.discard();
    error
}

/// Refuses what names nothing, or two kinds of things at once.
fn check_targets(args: &Args) -> Result<(), Error> {
    let named = [!args.pids.is_empty(), !args.command.is_empty(), args.names_pods()];
    match named {
        [false, false, false] => Err(Error::usage("nothing to record")
            .hint("name a process with --pid PID, a command after --, or a pod: aictl profile pod/NAME")),
        [true, true, _] => {
            Err(Error::usage("--pid and a command can't be recorded together").hint("choose one of the two"))
        }
        [true, _, true] | [_, true, true] => Err(Error::usage("pods can't be recorded together with processes here")
            .hint("choose one of the two; to start a command, put all of it after --")),
        _ => {
            if let Some(target) = args.targets.iter().find(|word| word.bytes().all(|b| b.is_ascii_digit())) {
                return Err(Error::usage(format!("'{target}' is no target"))
                    .hint(format!("for a process id: aictl profile --pid {target}")));
            }
            // Words of which one can't be a name are a command that was meant.
            if let [first, _, ..] = &args.targets[..]
                && !first.contains('/')
                && args.targets.iter().any(|word| Target::parse(word).is_err())
            {
                let words = args.targets.iter().map(|word| quoted(Path::new(word))).collect::<Vec<_>>().join(" ");
                return Err(Error::usage(format!("'{first}' is no target"))
                    .hint(format!("to start a command: aictl profile -- {words}")));
            }
            Ok(())
        }
    }
}

impl Args {
    /// Whether pods are meant.
    fn names_pods(&self) -> bool {
        !self.targets.is_empty() || self.pods.has_labels()
    }
}

/// Flags over environment over configuration over defaults.
fn options_of(args: &Args, settings: &Settings) -> Result<CaptureOptions, Error> {
    let config = &settings.config.profile;
    let default = CaptureOptions::default();
    let duration = args.duration.or(config.duration).map(|length| length.0);
    if duration == Some(Duration::ZERO) {
        return Err(Error::usage("a capture of no length shows nothing").hint("give it some seconds: -d 10s"));
    }
    let python_hz = args.python_hz.or(config.python_hz).unwrap_or(default.python_hz);
    if !(1..=10_000).contains(&python_hz) {
        return Err(Error::usage(format!("python_hz: {python_hz} is not in 1..=10000")));
    }
    let mut pids = args.pids.clone();
    pids.sort_unstable();
    pids.dedup();
    Ok(CaptureOptions {
        pids,
        layers: args.layers.or(config.layers).map_or(default.layers, |list| list.0),
        duration,
        max_overhead: args.max_overhead.or(config.max_overhead).map_or(default.max_overhead, |share| share.0),
        python_hz,
        syscall_threshold: args
            .syscall_threshold
            .or(config.syscall_threshold)
            .map_or(default.syscall_threshold, |length| length.0),
        cache_dir: cache_dir(),
    })
}

/// Where the operator scan keeps its results: `$XDG_CACHE_HOME/aictl`.
fn cache_dir() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")))?;
    Some(base.join("aictl"))
}

/// The file asked for, or `aictl-WHAT-TIME.pftrace` here.
fn file_for(args: &Args) -> PathBuf {
    if let Some(path) = &args.write {
        return path.clone();
    }
    let what = match (args.command.first(), args.pids.first(), args.targets.first()) {
        (Some(program), ..) => Path::new(program).file_name().unwrap_or(program).to_string_lossy().into_owned(),
        (None, Some(pid), _) => pid.to_string(),
        (None, None, Some(target)) => target.rsplit('/').next().unwrap_or(target).to_owned(),
        (None, None, None) => "run".to_owned(),
    };
    let time = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
    PathBuf::from(format!("aictl-{what}-{time}.pftrace"))
}

/// The way into the file, or into stdout.
fn open_sink(args: &Args, recording: Option<&NewRecording>) -> io::Result<Box<dyn Sink>> {
    let writer: Box<dyn Write> = match recording {
        Some(recording) => Box::new(recording.writer()?),
        // Not through `Stdout`, which looks for line ends.
        None => Box::new(File::from(io::stdout().as_fd().try_clone_to_owned()?)),
    };
    let format = args.write.as_deref().map_or(Format::Perfetto, Format::of);
    recording::sink(format, writer, recording::clock_snapshot())
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let safe = |c: char| c.is_ascii_alphanumeric() || "/._-+:=@%,".contains(c);
    if !text.is_empty() && text.chars().all(safe) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// Candidates for `--pid`: the processes that run Python.
fn running_pythons() -> Vec<CompletionCandidate> {
    let Ok(processes) = procfs::process::all_processes() else { return Vec::new() };
    processes
        .flatten()
        .filter_map(|process| {
            let name = process.stat().ok()?.comm;
            let line = process.cmdline().unwrap_or_default().join(" ");
            let about: String = line.chars().take(60).collect();
            (name.starts_with("python") || name.starts_with("pt_") || line.contains("python"))
                .then(|| CompletionCandidate::new(process.pid.to_string()).help(Some(about.into())))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_quoted_for_the_shell() {
        assert_eq!(quoted(Path::new("run/a-1.pftrace")), "run/a-1.pftrace");
        assert_eq!(quoted(Path::new("it's here")), r"'it'\''s here'");
    }
}
