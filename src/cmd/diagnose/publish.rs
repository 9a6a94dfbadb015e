//! `--local --publish`: what this machine's look found, said to the cluster; once, or as the
//! node's agent that looks again and again, at once when the kernel tells of a fault.

use std::cell::RefCell;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::super::error::Error;
use super::super::fault_log::FaultLog;
use super::super::runtime::block_on;
use super::super::settings::Settings;
use super::super::{Done, env};
use crate::act::Look;
use crate::act::publish::{Published, Publisher, Sighting};
use crate::cluster::{Cluster, ClusterError};
use crate::fault::gpu::XidEvents;
use crate::fault::{Findings, Severity, State};
use crate::gpu::events::{Ear, Heard};
use crate::host::machine;

/// This program, even if its file was replaced while it runs.
const PROGRAM: &str = "/proc/self/exe";

/// Longest time that one attempt to publish may hold up the next look.
const ATTEMPT: Duration = Duration::from_secs(10);
/// Between attempts while the server is away, growing from the one to the other.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// A burst of records is one look.
const BURST: Duration = Duration::from_millis(50);
/// Between two looks that records ask for.
const SPACING: Duration = Duration::from_secs(1);
/// How often a file of a test is read.
const POLL: Duration = Duration::from_millis(100);

/// The node's name: as given, else from the environment, else the machine's.
pub fn node(named: Option<&str>) -> String {
    let told = || std::env::var(env::NODE_NAME).ok().filter(|name| !name.is_empty());
    named.map(str::to_owned).or_else(told).unwrap_or_else(machine::node_name)
}

/// Publishes one look.
pub fn once(node: &str, findings: &Findings, gpus: Option<u64>, settings: &Settings) -> Result<(), Error> {
    let sighting = sighting(findings.clone(), gpus);
    block_on(async {
        let cluster = Cluster::connect(&settings.cluster).await?;
        let mut publisher = Publisher::new(cluster, node.to_owned());
        publisher.publish(&sighting).await.map_err(explained)?;
        Ok(())
    })
}

/// How the agent watches.
pub struct Watch<'w> {
    /// The node.
    pub node: &'w str,
    /// Between two looks.
    pub interval: Duration,
    /// Where /dev hangs.
    pub root: &'w Path,
    /// Take programs' words (tests).
    pub trusting: bool,
    /// There are GPUs, whose Xids NVML may tell of.
    pub gpus: bool,
}

/// Looks and publishes until a signal ends it. The server being away ends nothing: looks go on, and
/// the latest is published when it is back.
pub fn watch(
    watch: &Watch<'_>,
    events: &RefCell<XidEvents>,
    settings: &Settings,
    mut look: impl FnMut() -> (Findings, Option<u64>),
) -> Done {
    block_on(async {
        let (send, xids) = unbounded_channel();
        let _ear = watch.gpus.then(|| Ear::open(Path::new(PROGRAM), move |heard| _ = send.send(heard)));
        let cluster = Cluster::connect(&settings.cluster).await?;
        let mut agent = Agent {
            publisher: Publisher::new(cluster, watch.node.to_owned()),
            ears: Ears::open(&watch.root.join("dev/kmsg"), watch.trusting),
            xids,
            events,
            pause: BACK_OFF.0,
            trouble: None,
            settings,
        };
        if let Ears::Deaf(why) = &agent.ears {
            settings.ui.warn(&format!("the kernel's log can't be heard: {why}; faults show at the next look only"));
        }
        settings.ui.note(&format!("watching node {}, a look every {} s", watch.node, watch.interval.as_secs_f64()));
        loop {
            let began = Instant::now();
            let (findings, gpus) = look();
            agent.serve(&sighting(findings, gpus), began + watch.interval, began + SPACING).await;
        }
    })
}

struct Agent<'a> {
    publisher: Publisher,
    ears: Ears,
    xids: UnboundedReceiver<Heard>,
    /// Where Xids are written down for the next look.
    events: &'a RefCell<XidEvents>,
    pause: Duration,
    /// What failed last, said once.
    trouble: Option<String>,
    settings: &'a Settings,
}

impl Agent<'_> {
    /// Publishes a sighting, and waits until the next look: at its time, or when the kernel speaks.
    async fn serve(&mut self, sighting: &Sighting, next: Instant, not_before: Instant) {
        let mut retry = Some(Instant::now());
        loop {
            if retry.is_some_and(|at| at <= Instant::now()) {
                retry = self.attempt(sighting).await.err().map(|pause| Instant::now() + pause);
            }
            let wake = retry.map_or(next, |at| at.min(next));
            tokio::select! {
                () = async {
                    tokio::select! {
                        () = self.ears.heard() => {}
                        () = heard(&mut self.xids, self.events) => {}
                    }
                } => {
                    sleep_until((Instant::now() + BURST).max(not_before)).await;
                    // What came meanwhile belongs to the same look.
                    while let Ok(heard) = self.xids.try_recv() {
                        note(heard, self.events);
                    }
                    return;
                }
                () = sleep_until(wake) => if Instant::now() >= next { return },
            }
        }
    }

    /// Tries once; on failure says how long to wait.
    async fn attempt(&mut self, sighting: &Sighting) -> Result<(), Duration> {
        let tried = timeout(ATTEMPT, self.publisher.publish(sighting)).await;
        let error = match tried {
            Ok(Ok(done)) => {
                self.pause = BACK_OFF.0;
                if self.trouble.take().is_some() {
                    self.settings.ui.note("the cluster is back");
                }
                self.say(sighting, done);
                return Ok(());
            }
            Ok(Err(error)) => explained(error).line(),
            Err(_) => format!("cannot publish: no answer within {} s", ATTEMPT.as_secs()),
        };
        if self.trouble.as_ref() != Some(&error) {
            self.settings.ui.warn(&format!("{error}; looking on, and trying again"));
            self.trouble = Some(error);
        }
        // Agents of a thousand nodes must not come back all at once.
        let pause = self.pause.mul_f64(0.5 + fastrand::f64());
        self.pause = (self.pause * 2).min(BACK_OFF.1);
        Err(pause)
    }

    fn say(&self, sighting: &Sighting, done: Published) {
        if !done.condition && done.events == 0 {
            return;
        }
        let faults = sighting.look.findings.iter().filter(|finding| finding.severity > Severity::Info).count();
        let blind = sighting.look.checks.iter().filter(|check| check.state == State::Blind).count();
        let worst = sighting.look.findings.first().filter(|finding| finding.severity > Severity::Info);
        let worst = worst.map_or(String::new(), |worst| format!(", the worst {}", worst.fault));
        self.settings.ui.note(&format!("published: {faults} faults{worst}, {blind} checks blind"));
    }
}

/// Waits for an Xid that NVML tells of. That nobody listens is news only if somebody did.
async fn heard(xids: &mut UnboundedReceiver<Heard>, events: &RefCell<XidEvents>) {
    while let Some(heard) = xids.recv().await {
        if note(heard, events) {
            return;
        }
    }
    std::future::pending().await
}

/// Writes down what was heard; whether it is worth a look.
fn note(heard: Heard, events: &RefCell<XidEvents>) -> bool {
    let mut events = events.borrow_mut();
    match heard {
        Heard::Listening(gpus) => events.listening(gpus),
        Heard::Deaf(why) => events.deaf(why),
        Heard::Xid(event) => {
            events.add(event, Timestamp::now());
            return true;
        }
    }
    false
}

/// Hears when the kernel's log tells of a fault.
enum Ears {
    Woken(AsyncFd<FaultLog>),
    /// A file can't wake anybody.
    Polled(Box<FaultLog>),
    Deaf(String),
}

impl Ears {
    fn open(path: &Path, trusting: bool) -> Ears {
        let is_file = path.metadata().is_ok_and(|metadata| metadata.is_file());
        match FaultLog::follow(path, trusting) {
            Ok(log) if is_file => Ears::Polled(Box::new(log)),
            // SAFETY: the log keeps the one file that it was opened with until it is dropped.
            Ok(log) => match unsafe { AsyncFd::register_with_interest(log, Interest::READABLE) } {
                Ok(log) => Ears::Woken(log),
                Err(error) => Ears::Deaf(error.to_string()),
            },
            Err(error) => Ears::Deaf(error.to_string()),
        }
    }

    /// Waits for a record that tells of a fault.
    async fn heard(&mut self) {
        loop {
            let heard = match self {
                Ears::Deaf(_) => std::future::pending().await,
                Ears::Polled(log) => {
                    sleep(POLL).await;
                    log.told()
                }
                Ears::Woken(log) => match log.readable_mut().await {
                    Ok(mut guard) => {
                        let heard = guard.get_inner_mut().told();
                        guard.clear_ready();
                        heard
                    }
                    Err(error) => Err(error),
                },
            };
            match heard {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => *self = Ears::Deaf(error.to_string()),
            }
        }
    }
}

fn sighting(findings: Findings, gpus: Option<u64>) -> Sighting {
    let Findings { node, boot_id, checks, findings, .. } = findings;
    Sighting { at: Timestamp::now(), gpus, look: Look { node, boot_id, checks, findings, gpus: Vec::new() } }
}

/// With what to do where the cluster lacks something that deploy/ installs.
fn explained(error: ClusterError) -> Error {
    let hint = match &error {
        ClusterError::NotFound { what, .. } if what.contains("nodefindings") => {
            Some("kubectl apply -k deploy/ installs the resource")
        }
        ClusterError::NotFound { .. } => Some("--node names this machine's node, or the environment's NODE_NAME"),
        _ => None,
    };
    let error = Error::from(error);
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}
