//! What follows once the files are on disk: page cache and GPU memory.

use std::path::{Path, PathBuf};

use clap::ValueHint;
use clap::builder::PossibleValuesParser;
use globset::{Glob, GlobSetBuilder};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::super::env;
use super::super::error::{BLIND, DONE, Error, FOUND, Kind};
use super::super::interrupt::Interrupt;
use super::super::settings::Settings;
use super::super::values::{Amount, Length};
use super::gpu;
use crate::host::tree::Tree;
use crate::preload::event::Sink;
use crate::preload::gpu::GpuLoad;
use crate::preload::loader::Loader;
use crate::preload::memory_error::MemoryError;
use crate::preload::part::{self, Part};
use crate::preload::pin::{self, Held, Pins};
use crate::preload::portion::{self, Portion};
use crate::preload::room::Terms;
use crate::preload::snapshot::Presence;
use crate::preload::tensors::{Choice, Rank};
use crate::preload::warm::{self, Outcome, Plan};
use crate::preload::{Model, Snapshot};
use crate::view::human;

/// Flags of `aictl preload` for memory.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Memory")]
pub struct MemoryArgs {
    /// Read the files into the page cache as well, and prove that they are there
    #[arg(long)]
    page_cache: bool,
    /// Keep them there: a small process locks their pages until `aictl preload evict`
    #[arg(long)]
    pin: bool,
    /// With --pin: be that process and stay, for a service manager
    #[arg(long, requires = "pin")]
    foreground: bool,
    /// Load the tensors into the memory of GPU N and say how fast it was; again for more
    #[arg(long, value_name = "N")]
    gpu: Vec<u32>,
    /// With --gpu: keep them there for a loader, behind CUDA IPC handles
    #[arg(long, requires = "gpu")]
    keep: bool,
    /// Who will load the model: vllm, sglang, transformers, runai, fastsafetensors; says what it
    /// needs so that a warm cache helps it
    #[arg(long, value_name = "NAME", hide_possible_values = true, value_parser = PossibleValuesParser::new(Loader::ALL.map(Loader::name)))]
    loader: Option<String>,
    /// Only the tensors that pipeline rank I of N needs: whole layers, as vLLM splits them; the
    /// embeddings with the first, the head with the last
    #[arg(long, value_name = "I/N")]
    rank: Option<Rank>,
    /// Only tensors whose names match; again for more
    #[arg(long, value_name = "GLOB")]
    tensors: Vec<String>,
    /// Memory that stays available to others [default: 5 % of it, at most 16GiB]
    #[arg(long, value_name = "BYTES")]
    reserve: Option<Amount>,
    /// Take free memory only, and let no cached pages of other files go
    #[arg(long)]
    only_free: bool,
    /// Where not all of it fits, take what does, in the loader's order; exits with 3
    #[arg(long)]
    fit: bool,
    #[command(flatten)]
    pins: PinsPlace,
    /// Longest time the driver may say nothing; the first call may set up all GPUs of a machine
    #[arg(long, value_name = "TIME", hide = true, default_value = "60s")]
    gpu_deadline: Length,
    /// Way to read: sendfile, populate, pread (for measuring)
    #[arg(long, value_name = "WAY", hide = true, value_parser = way)]
    way: Option<warm::Way>,
    /// Threads that read (for measuring)
    #[arg(long, value_name = "N", hide = true)]
    threads: Option<usize>,
}

/// Where it is recorded which processes hold models.
#[derive(Debug, Clone, clap::Args)]
pub struct PinsPlace {
    /// Directory of the records of processes that hold models (default: /run/aictl/pins for root)
    #[arg(long, value_name = "DIR", hide = true, env = env::PRELOAD_PINS, hide_env = true, value_hint = ValueHint::DirPath)]
    pins: Option<PathBuf>,
}

impl PinsPlace {
    /// The records.
    pub fn pins(&self) -> Result<Pins, Error> {
        let given = self.pins.as_ref().map(Pins::in_directory);
        given.or_else(Pins::usual).ok_or_else(|| Error::usage("nowhere to record what is held: HOME is not set"))
    }
}

fn way(text: &str) -> Result<warm::Way, String> {
    let ways = [warm::Way::Sendfile, warm::Way::Populate, warm::Way::Pread];
    ways.into_iter().find(|way| way.name() == text).ok_or_else(|| "not a way".to_owned())
}

/// What came of it.
#[derive(Debug)]
pub struct After {
    /// The models, with what is in memory.
    pub models: Vec<Model>,
    /// The exit code so far.
    pub code: u8,
    /// Whether anything was changed.
    pub changed: bool,
    /// Files that this process holds: to be waited with once all is said.
    pub held: Vec<Held>,
}

impl MemoryArgs {
    /// Whether anything is to be done in memory.
    pub fn wants_memory(&self) -> bool {
        self.page_cache || self.pin || !self.gpu.is_empty()
    }

    /// The choice of tensors.
    pub fn choice(&self) -> Result<Choice, Error> {
        let mut names = None;
        if !self.tensors.is_empty() {
            let wrong = |error: globset::Error| Error::usage(format!("--tensors: {error}"));
            let mut set = GlobSetBuilder::new();
            for pattern in &self.tensors {
                set.add(Glob::new(pattern).map_err(wrong)?);
            }
            names = Some(set.build().map_err(wrong)?);
        }
        Ok(Choice { names, rank: self.rank })
    }

    /// The part of a model that is to be fetched; `None` for all of it.
    pub fn part(&self) -> Result<Option<Part>, Error> {
        let choice = self.choice()?;
        if choice.is_all() {
            return Ok(None);
        }
        let mut label = match self.rank {
            Some(rank) => format!("rank-{}-of-{}", rank.index, rank.count),
            None => "tensors".to_owned(),
        };
        if !self.tensors.is_empty() {
            let mut patterns = self.tensors.clone();
            patterns.sort();
            label = format!("{label}-{}", &part::fingerprint(&patterns)[..8]);
        }
        Ok(Some(Part { choice, label }))
    }

    /// A flag among those given that means this node alone.
    pub fn only_here(&self) -> Option<&'static str> {
        match () {
            () if self.pin => Some("--pin"),
            () if !self.gpu.is_empty() => Some("--gpu"),
            () => None,
        }
    }

    /// The flags that another node is to be given, too, as they would be typed.
    pub fn flags_again(&self) -> Vec<String> {
        let mut again = Vec::new();
        for (name, given) in [("--page-cache", self.page_cache), ("--only-free", self.only_free), ("--fit", self.fit)] {
            again.extend(given.then(|| name.to_owned()));
        }
        let loader = self.loader.clone().map(|loader| ("--loader", loader));
        let rank = self.rank.map(|rank| ("--rank", rank.to_string()));
        let reserve = self.reserve.map(|reserve| ("--reserve", reserve.0.to_string()));
        let tensors = self.tensors.iter().map(|glob| ("--tensors", glob.clone()));
        for (name, value) in [loader, rank, reserve].into_iter().flatten().chain(tensors) {
            again.push(format!("{name}={value}"));
        }
        again
    }

    fn terms(&self) -> Terms {
        Terms { reserve: self.reserve.map(|amount| amount.0), only_free: self.only_free }
    }

    fn warming(&self) -> warm::Options {
        warm::Options { terms: self.terms(), fit: self.fit, way: self.way, threads: self.threads }
    }
}

/// Brings snapshots that are whole on disk into memory, as asked for; with `dry_run` only says what
/// would be done.
pub fn after(
    args: &MemoryArgs,
    snapshots: &[Snapshot],
    dry_run: bool,
    sink: &dyn Sink,
    settings: &Settings,
) -> Result<After, Error> {
    let choice = args.choice()?;
    let ui = &settings.ui;
    let mut done = After { models: Vec::new(), code: DONE, changed: false, held: Vec::new() };
    if !args.wants_memory() {
        done.models.extend(snapshots.iter().map(|snapshot| Model::of(snapshot, resident_bytes(snapshot))));
        return Ok(done);
    }
    let pins = args.pins.pins()?;
    let loader = Loader::ALL.into_iter().find(|loader| args.loader.as_deref() == Some(loader.name()));
    if let Some(bypass) = loader.and_then(Loader::bypass).filter(|_| args.page_cache || args.pin) {
        ui.warn(bypass);
    }
    let interrupt = Interrupt::catch().map_err(|error| Error::failed("cannot catch signals", error))?;
    for snapshot in snapshots {
        let step = Step { args, choice: &choice, pins: &pins, sink, settings, interrupt: &interrupt, snapshot };
        let gpus = match step.all(dry_run, &mut done) {
            Ok(gpus) => gpus,
            // The others are brought in all the same.
            Err(Stop::Wrong(error)) => {
                error.show(ui);
                done.code = FOUND;
                Vec::new()
            }
            Err(Stop::Failed(error)) => return Err(error),
        };
        let mut model = Model::of(snapshot, resident_bytes(snapshot));
        model.pinned_bytes = Some(pins.pinned_bytes(&whole(snapshot)));
        model.gpus = gpus;
        done.models.push(model);
    }
    Ok(done)
}

/// Why a model is left.
enum Stop {
    /// What was to be reached is not: exit code 3.
    Wrong(Error),
    /// Anything else.
    Failed(Error),
}

impl From<MemoryError> for Stop {
    fn from(error: MemoryError) -> Stop {
        match error {
            MemoryError::TooLarge { .. } => Stop::Wrong(error.into()),
            error => Stop::Failed(error.into()),
        }
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Stop {
        Stop::Failed(error)
    }
}

/// One model's way into memory.
struct Step<'a> {
    args: &'a MemoryArgs,
    choice: &'a Choice,
    pins: &'a Pins,
    sink: &'a dyn Sink,
    settings: &'a Settings,
    interrupt: &'a Interrupt,
    snapshot: &'a Snapshot,
}

impl Step<'_> {
    fn all(&self, dry_run: bool, done: &mut After) -> Result<Vec<GpuLoad>, Stop> {
        let args = self.args;
        let portions = portion::portions(&files(self.snapshot), self.choice)?;
        if args.page_cache || args.pin {
            if args.pin {
                self.affordable(&portions)?;
            }
            let plan = warm::plan(portions.clone(), &args.warming(), &Tree::new("/"))?;
            if dry_run {
                self.say_plan(&plan);
            } else {
                self.warm(&plan, done)?;
                if args.pin {
                    self.pin(&portions, done)?;
                }
            }
        }
        if args.gpu.is_empty() || dry_run {
            return Ok(Vec::new());
        }
        let wanted = gpu::Wanted {
            source: &self.snapshot.source,
            portions: &portions,
            gpus: &args.gpu,
            keep: args.keep,
            silence: args.gpu_deadline.0,
            pins: self.pins,
        };
        let loads = gpu::load(&wanted, self.interrupt, self.settings)?;
        if loads.iter().any(|load| !load.matches) {
            done.code = FOUND;
        }
        done.changed |= !loads.is_empty();
        Ok(loads)
    }

    /// What is locked can't be taken back, so it is looked at before anything is read.
    fn affordable(&self, portions: &[Portion]) -> Result<(), Stop> {
        if self.pins.holder_of_all(portions).is_some() {
            return Ok(());
        }
        let resident = crate::preload::residency::resident_bytes(&crate::preload::residency::look(portions));
        let bytes = portions.iter().map(Portion::bytes).sum();
        pin::affordable(bytes, resident.unwrap_or(0), &self.args.terms(), &Tree::new("/"))?;
        Ok(())
    }

    fn say_plan(&self, plan: &Plan) {
        let text = format!(
            "{}: {} to read into the page cache, {} there already; room for {} (limited by {})",
            self.snapshot.source,
            human::bytes(plan.read_bytes),
            human::bytes(plan.resident_bytes),
            human::bytes(plan.room.bytes),
            plan.room.limit
        );
        self.settings.ui.note(&text);
        let from_others = plan.read_bytes.saturating_sub(plan.room.free_bytes);
        if from_others > 0 {
            let text = format!("up to {} of other files' cached pages would be let go", human::bytes(from_others));
            self.settings.ui.note(&text);
        }
    }

    fn warm(&self, plan: &Plan, done: &mut After) -> Result<(), Stop> {
        if plan.read_bytes == 0 && plan.left_out_bytes == 0 {
            return Ok(());
        }
        done.changed = true;
        let ui = &self.settings.ui;
        let (name, terms) = (&self.snapshot.source, self.args.terms());
        let outcome = warm::run(plan, name, &terms, &Tree::new("/"), self.sink, self.interrupt.flag())?;
        ui.note(&said(name, &outcome));
        let short = outcome.resident_bytes.map(|resident| outcome.bytes.saturating_sub(resident));
        match short {
            Some(0) => {}
            Some(missing) => {
                let why = match () {
                    () if outcome.left_out_bytes > 0 => {
                        format!("the rest does not fit (limited by {})", plan.room.limit)
                    }
                    () if outcome.ran_short => "memory ran short on the way".to_owned(),
                    () => "the kernel let go of it while the rest came".to_owned(),
                };
                ui.error(&format!("{name}: {} are not in the page cache: {why}", human::bytes(missing)));
                done.code = FOUND;
            }
            None => {
                let why = outcome.files.iter().find_map(|file| file.unknown.as_deref()).unwrap_or("unknown");
                ui.warn(&format!("{name}: what is in the page cache can't be seen: {why}"));
                if done.code == DONE {
                    done.code = BLIND;
                }
            }
        }
        Ok(())
    }

    fn pin(&self, portions: &[Portion], done: &mut After) -> Result<(), Stop> {
        let ui = &self.settings.ui;
        let name = &self.snapshot.source;
        if let Some(pin) = self.pins.holder_of_all(portions) {
            if ui.verbose() > 0 {
                ui.note(&format!("{name}: process {} holds it already", pin.pid));
            }
            return Ok(());
        }
        done.changed = true;
        if self.args.foreground {
            let files: Result<Vec<_>, _> =
                portions.iter().filter(|portion| !portion.ranges.is_empty()).map(pin::PinnedFile::of).collect();
            let files = files.map_err(|error| Error::failed(format!("cannot hold {name}"), error))?;
            done.held.push(pin::hold(name, &files, self.pins).map_err(MemoryError::Holder)?);
            return Ok(());
        }
        let pin = pin::start(&program()?, name, portions, self.pins)?;
        ui.note(&format!("{name}: process {} holds {} in memory", pin.pid, human::bytes(pin.bytes)));
        Ok(())
    }
}

/// "hf://org/model: 14.5 GB in the page cache (7.1 GB read in 4.2 s, 1.7 GB/s)".
fn said(name: &str, outcome: &Outcome) -> String {
    let resident = outcome.resident_bytes.map_or_else(|| "unknown how much".to_owned(), human::bytes);
    let rate = human::bytes((outcome.read_bytes as f64 / outcome.seconds.max(1e-6)) as u64);
    format!(
        "{name}: {resident} in the page cache ({} read in {}, {rate}/s, {} CPU)",
        human::bytes(outcome.read_bytes),
        human::seconds(outcome.seconds),
        human::seconds(outcome.cpu_seconds)
    )
}

/// Keeps what is held until a signal comes; says so to a service manager.
pub fn stay(held: Vec<Held>) -> Result<(), Error> {
    if held.is_empty() {
        return Ok(());
    }
    let failed = |error| Error::failed("cannot catch signals", error);
    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(failed)?;
    if let Some(socket) = std::env::var_os("NOTIFY_SOCKET") {
        // A manager that does not listen is none of ours.
        let _ = pin::ready(&socket);
    }
    let _ = signals.forever().next();
    drop(held);
    Ok(())
}

/// This program, to be started again.
pub fn program() -> Result<PathBuf, Error> {
    std::env::current_exe().map_err(|error| Error::failed("cannot find this program", error))
}

/// Names and paths of the files of a snapshot that are there: whole, or in a directory of parts.
fn files(snapshot: &Snapshot) -> Vec<(String, PathBuf)> {
    let there = snapshot.files.iter().filter(|file| match file.presence {
        Presence::Whole => true,
        Presence::Partial(_) => file.path.exists(),
        Presence::Damaged | Presence::Missing => false,
    });
    there.map(|file| (file.name.clone(), file.path.clone())).collect()
}

/// All of each file of a snapshot that is there.
pub fn whole(snapshot: &Snapshot) -> Vec<Portion> {
    let portion = |(name, path): (String, PathBuf)| {
        let length = length(&path);
        let ranges = if length > 0 { std::iter::once(0..length).collect() } else { Vec::new() };
        Portion { name, path, length, ranges }
    };
    files(snapshot).into_iter().map(portion).collect()
}

fn length(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// What of a snapshot is in the page cache; `None` where it can't be known.
pub fn resident_bytes(snapshot: &Snapshot) -> Option<u64> {
    use crate::preload::residency;
    residency::resident_bytes(&residency::look(&whole(snapshot)))
}

impl From<MemoryError> for Error {
    fn from(error: MemoryError) -> Error {
        let kind = match &error {
            MemoryError::NoRoomKnown(_) => Kind::Blind,
            MemoryError::Interrupted => Kind::Interrupted,
            _ => Kind::Failed,
        };
        let what = match &error {
            MemoryError::TooLarge { needed_bytes, room } => format!(
                "{} more do not fit into memory: there is room for {}, limited by {}",
                human::bytes(*needed_bytes),
                human::bytes(room.bytes),
                room.limit
            ),
            MemoryError::LockLimit { limit_bytes, needed_bytes } => format!(
                "may lock {} of memory, and {} are needed",
                human::bytes(*limit_bytes),
                human::bytes(*needed_bytes)
            ),
            error => error.to_string(),
        };
        Error::worded(kind, what, &error, error.hint())
    }
}
