//! What remediation sees: faults through `aictl diagnose` in a process of its own, so that a
//! driver that hangs can't hold us; holders of GPUs; clocks.

use std::cell::RefCell;
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::Error;
use crate::act::{Eyes, Holder, Look};
use crate::fault::playbook::{Clock, GpuFacts, Reach};
use crate::fault::{Check, FINDINGS_SCHEMA, Finding};
use crate::host::{gpu_holders, machine};

/// Longest time a look may take.
const LOOK: Duration = Duration::from_secs(60);

/// How long a look that is ended may take to end what it has started.
const PARTING: Duration = Duration::from_secs(2);

/// Things that tests make up: `--pretend KEY=VALUE`.
#[derive(Debug, Clone, Default)]
pub struct Pretend {
    /// Another time than now.
    now: Option<Timestamp>,
    /// Another time since boot, in seconds.
    up_s: Option<f64>,
    /// Another boot.
    boot: Option<String>,
    /// Where /dev and /proc/driver hang.
    root: Option<PathBuf>,
    /// A program that looks, instead of this one.
    diagnose: Option<PathBuf>,
    /// Programs that write to the kernel's log are believed.
    trust: bool,
    /// A lease that lasts so many seconds.
    pub lease_s: Option<u64>,
}

impl Pretend {
    pub fn of(words: &[String]) -> Result<Pretend, Error> {
        let mut pretend = Pretend::default();
        for word in words {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            match key {
                "now" => pretend.now = value.parse().ok(),
                "up" => pretend.up_s = value.parse().ok(),
                "boot" => pretend.boot = Some(value.to_owned()),
                "root" => pretend.root = Some(value.into()),
                "lease" => pretend.lease_s = value.parse().ok(),
                "trust" => pretend.trust = true,
                "diagnose" => pretend.diagnose = Some(value.into()),
                _ => return Err(Error::usage(format!("--pretend {key}: no such thing"))),
            }
        }
        Ok(pretend)
    }
}

/// The zone of a policy's hours.
pub fn zone(name: Option<&str>) -> Result<TimeZone, Error> {
    match name {
        None => Ok(TimeZone::system()),
        Some(name) => TimeZone::get(name)
            .map_err(|error| Error::usage(format!("policy.time_zone: no zone {name}")).because(error)),
    }
}

/// The eyes.
#[derive(Debug)]
pub struct Sight {
    node: String,
    boot_id: String,
    machine_id: Option<String>,
    reach: Reach,
    zone: TimeZone,
    catalogue: Vec<PathBuf>,
    /// Checks of a site's own.
    checks: Option<PathBuf>,
    /// Where a look remembers earlier ones.
    memory: Option<PathBuf>,
    /// Nothing is done about what is seen: a look writes nothing, and ends once this is set.
    dry: Option<Arc<AtomicBool>>,
    pretend: Pretend,
    began: Instant,
    /// A look that took too long, and may hang in the kernel for ever.
    stuck: RefCell<Option<Child>>,
    /// GPUs that are reset together, as a look last said.
    groups: RefCell<Vec<GpuFacts>>,
}

/// Findings as they are read.
#[derive(Debug, Deserialize)]
struct Reading {
    schema: String,
    #[serde(default)]
    node: Option<String>,
    #[serde(default)]
    boot_id: Option<String>,
    #[serde(default)]
    checks: Vec<Check>,
    #[serde(default)]
    findings: Vec<Finding>,
    #[serde(default, rename = "reset_groups")]
    gpus: Vec<GpuFacts>,
}

impl Sight {
    pub fn new(zone: Option<&str>, catalogue: Vec<PathBuf>, pretend: Pretend) -> Result<Sight, Error> {
        let zone = self::zone(zone)?;
        let boot_id = pretend.boot.clone().or_else(machine::boot_id);
        let boot_id = boot_id.ok_or_else(|| {
            Error::new(super::super::error::Kind::Blind, "this machine does not say which boot it is in")
        })?;
        let (node, began) = (machine::node_name(), Instant::now());
        Ok(Sight {
            node,
            boot_id,
            machine_id: machine::machine_id(),
            reach: Reach::Machine,
            zone,
            catalogue,
            checks: None,
            memory: None,
            dry: None,
            pretend,
            began,
            stuck: RefCell::new(None),
            groups: RefCell::default(),
        })
    }

    /// The same, with a site's own checks, and a state directory in which looks are remembered.
    pub fn looking(mut self, checks: Option<PathBuf>, state_directory: &Path) -> Sight {
        self.checks = checks;
        self.memory = Some(state_directory.to_owned());
        self
    }

    /// The same for a dry run: a look writes nothing, and is cut off once `stop` is set.
    pub fn that_changes_nothing(mut self, stop: Arc<AtomicBool>) -> Sight {
        self.dry = Some(stop);
        self
    }

    /// The same, by the name that this machine has in its cluster.
    pub fn in_cluster(mut self, name: Option<String>) -> Sight {
        self.reach = Reach::Node;
        self.node = name.unwrap_or(self.node);
        self
    }

    /// Whether programs that write to the kernel's log are believed.
    pub fn trusts(&self) -> bool {
        self.pretend.trust
    }

    /// Looks at the kernel's log alone: what has just been written there is acted on at once.
    pub fn glance(&self) -> Result<Look, String> {
        self.diagnose(&["--local".into(), "--no-state".into(), "--only".into(), "kernel-log".into()], Stdio::null())
    }

    /// Where /dev, /proc/driver and /run hang.
    pub fn root(&self) -> &Path {
        self.pretend.root.as_deref().unwrap_or(Path::new("/"))
    }

    /// Whether the driver has GPUs here.
    pub fn has_gpus(&self) -> bool {
        !gpu_holders::gpus(self.root()).is_empty()
    }

    /// The GPUs of this machine: all that the driver has, and what the latest look at them said of
    /// which go together. A glance at the log does not ask them, and what joins them does not change
    /// while the machine runs.
    pub fn gpus(&self, look: &Look) -> Vec<GpuFacts> {
        if !look.gpus.is_empty() {
            self.groups.replace(look.gpus.clone());
        }
        let groups = self.groups.borrow();
        let known = |pci: &String| groups.iter().find(|group| group.pci == *pci).and_then(|group| group.peers.clone());
        let mut gpus: Vec<GpuFacts> =
            gpu_holders::gpus(self.root()).into_iter().map(|pci| GpuFacts { peers: known(&pci), pci }).collect();
        // A lost one may no longer be the driver's.
        let others = groups.iter().filter(|group| !gpus.iter().any(|gpu| gpu.pci == group.pci));
        let others: Vec<GpuFacts> = others.cloned().collect();
        gpus.extend(others);
        gpus
    }

    /// Looks at a saved kernel log instead; with `local` only in place of this machine's.
    pub fn look_at_log(&self, log: &Path, local: bool) -> Result<Look, String> {
        let mut arguments = if local { self.here() } else { self.site() };
        arguments.extend(["--kernel-log".into(), log.into()]);
        self.diagnose(&arguments, Stdio::inherit())
    }

    /// How to look at this machine.
    fn here(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec!["--local".into()];
        arguments.extend(self.site());
        // A dry run makes no directory, and leaves the file as it is.
        match self.memory.as_ref().filter(|directory| directory.is_dir()) {
            Some(directory) => {
                arguments.extend(["--state".into(), directory.join("diagnose.json").into()]);
                arguments.extend(self.dry.as_ref().map(|_| "--keep-state".into()));
            }
            None => arguments.push("--no-state".into()),
        }
        arguments
    }

    /// The site's own checks.
    fn site(&self) -> Vec<OsString> {
        self.checks.iter().flat_map(|checks| ["--checks".into(), checks.into()]).collect()
    }

    fn diagnose(&self, arguments: &[OsString], stdin: Stdio) -> Result<Look, String> {
        // One that hangs is enough: they would pile up.
        if let Some(child) = self.stuck.borrow_mut().as_mut()
            && !matches!(child.try_wait(), Ok(Some(_)))
        {
            return Err(format!("an earlier look (pid {}) still hangs", child.id()));
        }
        let program = program(&self.pretend)?;
        let said = memory()?;
        let errors = memory()?;
        let to = |file: &File| file.try_clone().map(Stdio::from).map_err(|error| error.to_string());
        let mut command = Command::new(&program);
        command.arg("diagnose").args(arguments).args(["-o", "json", "--config", "/dev/null"]);
        for file in &self.catalogue {
            command.arg("--catalogue").arg(file);
        }
        if self.pretend.trust {
            command.arg("--trust-programs");
        }
        // Settings for this run are not for that one.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("AICTL_")) {
            command.env_remove(name);
        }
        let mut child = command
            .stdin(stdin)
            .stdout(to(&said)?)
            .stderr(to(&errors)?)
            .spawn()
            .map_err(|error| format!("cannot run {}: {error}", program.display()))?;
        let since = Instant::now();
        let late = || format!("diagnose took longer than {} s: a driver may hang", LOOK.as_secs());
        let code = loop {
            match child.try_wait() {
                Ok(Some(status)) => break status.code(),
                Ok(None) if self.dry.as_ref().is_some_and(|stop| stop.load(Ordering::Relaxed)) => {
                    if !end(&mut child) {
                        self.stuck.replace(Some(child));
                    }
                    return Err("interrupted".to_owned());
                }
                Ok(None) if since.elapsed() < LOOK => std::thread::sleep(Duration::from_millis(5)),
                Ok(None) if end(&mut child) => return Err(late()),
                Ok(None) => {
                    // It may hang in the driver, where no signal reaches it: nobody waits for it.
                    self.stuck.replace(Some(child));
                    return Err(late());
                }
                Err(error) => return Err(error.to_string()),
            }
        };
        if !matches!(code, Some(0 | 3 | 4)) {
            let text = text(errors)?;
            let line = text.lines().next().unwrap_or_default();
            return Err(format!("diagnose failed: {line}"));
        }
        let mut look = parse(&text(said)?)?;
        // It knows this machine by the name that it gives itself.
        if look.node.as_deref() == Some(machine::node_name().as_str()) {
            look.node = Some(self.node.clone());
        }
        Ok(look)
    }
}

/// Ends a look, and says whether it is gone: by a signal that lets it end what it has started, then
/// by one that does not.
fn end(child: &mut Child) -> bool {
    let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid {
        // Already gone is as good.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
    let since = Instant::now();
    while since.elapsed() < PARTING {
        if matches!(child.try_wait(), Ok(Some(_))) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let _ = child.kill();
    std::thread::sleep(Duration::from_millis(20));
    matches!(child.try_wait(), Ok(Some(_)))
}

fn program(pretend: &Pretend) -> Result<PathBuf, String> {
    let own = std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"));
    pretend.diagnose.clone().map_or(own, Ok)
}

/// What `aictl diagnose` says of nodes of a cluster. No driver is asked: nothing hangs for ever.
pub fn ask(pretend: &Pretend, arguments: &[OsString]) -> Result<String, String> {
    let program = program(pretend)?;
    let mut command = Command::new(&program);
    command.arg("diagnose").args(arguments).args(["-o", "json", "--config", "/dev/null"]);
    for name in ["AICTL_OUTPUT", "AICTL_CONFIG", "AICTL_NODE"] {
        command.env_remove(name);
    }
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("cannot run {}: {error}", program.display()))?;
    if !matches!(output.status.code(), Some(0 | 3 | 4)) {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(format!("diagnose failed: {}", text.lines().next().unwrap_or_default()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Name of the JSON contract of a diagnosis of a cluster.
const FLEET_SCHEMA: &str = "aictl.fleet/v1";

/// Reads findings of many nodes: a diagnosis of a cluster, or of one node.
pub fn fleet(text: &str) -> Result<Vec<Look>, String> {
    #[derive(Deserialize)]
    struct Fleet {
        schema: String,
        #[serde(default)]
        nodes: Vec<Reading>,
    }
    let fleet: Fleet = serde_json::from_str(text).map_err(|error| format!("no findings: {error}"))?;
    if fleet.schema == FINDINGS_SCHEMA {
        return Ok(vec![parse(text)?]);
    }
    if fleet.schema != FLEET_SCHEMA {
        return Err(format!("no findings: the schema is {:?}, not {FLEET_SCHEMA}", fleet.schema));
    }
    let look = |reading: Reading| {
        let Reading { node, boot_id, checks, findings, gpus, .. } = reading;
        Look { node, boot_id, checks, findings, gpus }
    };
    Ok(fleet.nodes.into_iter().map(look).collect())
}

/// Reads findings, and checks that they are some.
pub fn parse(text: &str) -> Result<Look, String> {
    let reading: Reading = serde_json::from_str(text).map_err(|error| format!("no findings: {error}"))?;
    if reading.schema != FINDINGS_SCHEMA {
        return Err(format!("no findings: the schema is {:?}, not {FINDINGS_SCHEMA}", reading.schema));
    }
    let Reading { node, boot_id, checks, findings, gpus, .. } = reading;
    Ok(Look { node, boot_id, checks, findings, gpus })
}

fn memory() -> Result<File, String> {
    let file = rustix::fs::memfd_create("aictl-findings", rustix::fs::MemfdFlags::CLOEXEC);
    file.map(File::from).map_err(|error| error.to_string())
}

fn text(mut file: File) -> Result<String, String> {
    let mut bytes = Vec::new();
    let read = file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_end(&mut bytes));
    read.map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

impl Eyes for Sight {
    fn node(&self) -> &str {
        &self.node
    }

    fn boot_id(&self) -> &str {
        &self.boot_id
    }

    fn machine_id(&self) -> Option<&str> {
        self.machine_id.as_deref()
    }

    fn reach(&self) -> Reach {
        self.reach
    }

    fn clock(&self) -> Clock {
        let gone = self.began.elapsed();
        let later = |time: Timestamp| time.checked_add(SignedDuration::try_from(gone).unwrap_or_default()).ok();
        let now = self.pretend.now.and_then(later).unwrap_or_else(Timestamp::now);
        let up_s = self.pretend.up_s.map_or_else(|| machine::uptime().as_secs_f64(), |up| up + gone.as_secs_f64());
        Clock { now, local: now.to_zoned(self.zone.clone()).datetime(), up_s }
    }

    fn look(&self) -> Result<Look, String> {
        self.diagnose(&self.here(), Stdio::null())
    }

    fn holders(&self, pci: Option<&str>) -> Result<Vec<Holder>, String> {
        let holders = gpu_holders::holders(self.root(), pci)?;
        let holder = |h: gpu_holders::GpuHolder| Holder { pid: h.pid, started: h.started, name: h.name };
        Ok(holders.into_iter().map(holder).collect())
    }
}
