//! The near end of one node's stream: over the API server's `exec`, again and again where it breaks.

use std::io::Read;
use std::time::{Duration, Instant};

use flate2::read::DeflateDecoder;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{AttachParams, AttachedProcess};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::AgentError;
use super::clock::{ClockOffset, now_ns};
use super::frame::{self, Frame, kind};
use super::pod::{self, Agent};
use super::protocol::{Hello, News, Order, PATIENCE_S, PROTOCOL, Welcome};
use crate::cluster::Cluster;
use crate::trace::NodeNote;

/// Unpacked events of one message; the far end packs runs of 64 KiB, and notes that are larger.
const LONGEST_RUN: u64 = 128 << 20;
/// Nothing at all was heard for this long, though a ping goes out every two seconds.
const SILENCE: Duration = Duration::from_secs(10);
/// A connection is there by then.
const CONNECT: Duration = Duration::from_secs(15);
/// Round trips in a row at the beginning, and what is between them; then what is between all others.
/// The clock is settled with the first event, which comes when the probes are in place: until then
/// there are round trips in number, for most are slow while both ends start.
const FIRST_PINGS: u32 = 40;
const BETWEEN_FIRST: Duration = Duration::from_millis(25);
const BETWEEN: Duration = Duration::from_secs(2);
/// Between two tries to connect: doubled each time, up to the second.
const AGAIN: Duration = Duration::from_millis(200);
const AGAIN_LATER: Duration = Duration::from_secs(3);
/// After the end was asked for, everything is there by then.
const LAST: Duration = Duration::from_secs(20);
/// What waits between the connection and the reader.
const BUFFER: usize = 256 << 10;

/// What comes from a node.
#[derive(Debug)]
pub enum FromNode {
    /// For people; it may spoil the recording.
    Note(String),
    /// About the node's part of the recording.
    About(NodeNote),
    /// Events, unpacked.
    Events(Vec<u8>),
    /// How it goes.
    News(News),
    /// Nothing more comes; the part is whole, or why not.
    Over(Result<(), AgentError>),
}

/// One node.
pub struct Link {
    /// Its place among the nodes.
    pub index: usize,
    /// Its name.
    pub node: String,
    /// The cluster.
    pub cluster: Cluster,
    /// Where to.
    pub agent: Agent,
    /// What to do there.
    pub order: Order,
    /// Listens.
    pub out: mpsc::Sender<(usize, FromNode)>,
    /// Turns true when the capture is to end.
    pub stop: watch::Receiver<bool>,
}

/// How a connection ended.
enum Broke {
    /// All has come.
    Done,
    /// It may be gone on with.
    Off(String),
    /// It may not.
    Failed(AgentError),
}

struct Progress {
    next: u64,
    clock: ClockOffset,
    resumed: u32,
    ordered: bool,
}

impl Link {
    /// Carries everything over, until the capture is over or the far end is gone for good.
    pub async fn run(mut self) -> Result<(), AgentError> {
        let mut progress = Progress { next: 0, clock: ClockOffset::default(), resumed: 0, ordered: false };
        let mut away: Option<Instant> = None;
        let mut again = AGAIN;
        let mut noted = false;
        loop {
            let before = progress.next;
            let why = match self.connection(&mut progress).await {
                Broke::Done => return Ok(()),
                Broke::Failed(error) => return Err(error),
                Broke::Off(why) => why,
            };
            if progress.next > before {
                away = None;
                again = AGAIN;
                noted = false;
            }
            let since = *away.get_or_insert_with(Instant::now);
            if let Some(why) = pod::lost(&self.cluster, &self.agent, &self.node).await {
                return Err(AgentError::Lost { node: self.node.clone(), why });
            }
            if since.elapsed() > Duration::from_secs(PATIENCE_S) {
                let why = format!("{why}; not to be reached for {PATIENCE_S} s");
                return Err(AgentError::Lost { node: self.node.clone(), why });
            }
            if progress.ordered && !std::mem::replace(&mut noted, true) {
                self.tell(FromNode::Note(format!("connection to node {} lost ({why}); taking it up again", self.node)))
                    .await;
            }
            progress.resumed += u32::from(progress.ordered);
            sleep(again).await;
            again = (again * 2).min(AGAIN_LATER);
        }
    }

    /// Hands on; who listens no more has ended all.
    async fn tell(&self, news: FromNode) {
        let _ = self.out.send((self.index, news)).await;
    }

    async fn about(&self, progress: &Progress, offset_ns: i64) {
        let note = NodeNote {
            node: self.node.clone(),
            clock_offset_ns: progress.clock.offset_ns(),
            clock_error_ns: progress.clock.error_ns(),
            round_trips: progress.clock.trips(),
            clock_drift_ns: progress.clock.drift_ns(offset_ns),
            resumed: progress.resumed,
            broke_off: None,
        };
        self.tell(FromNode::About(note)).await;
    }

    async fn exec(&self, ordered: bool) -> Result<AttachedProcess, Broke> {
        let pods: Api<Pod> = Api::namespaced(self.cluster.client(), &self.agent.namespace);
        let command = if ordered { &self.agent.again } else { &self.agent.first };
        let parameters = AttachParams {
            container: Some(self.agent.container.clone()),
            max_stdin_buf_size: Some(BUFFER),
            max_stdout_buf_size: Some(BUFFER),
            ..AttachParams::default()
        };
        match timeout(CONNECT, pods.exec(&self.agent.pod, command, &parameters.stdin(true).stdout(true).stderr(true)))
            .await
        {
            Ok(Ok(process)) => Ok(process),
            Ok(Err(kube::Error::Api(status))) if status.code == 403 => {
                let what = format!("cannot exec into {}/{}", self.agent.namespace, self.agent.pod);
                Err(Broke::Failed(
                    crate::cluster::ClusterError::Forbidden { what, message: status.message.clone() }.into(),
                ))
            }
            Ok(Err(error)) => Err(Broke::Off(words(&error))),
            Err(_) => Err(Broke::Off(format!("no answer within {} s", CONNECT.as_secs()))),
        }
    }

    /// One connection.
    async fn connection(&mut self, progress: &mut Progress) -> Broke {
        let mut process = match self.exec(progress.ordered).await {
            Ok(process) => process,
            Err(broke) => return broke,
        };
        let (Some(mut stdin), Some(mut stdout), Some(mut stderr)) =
            (process.stdin(), process.stdout(), process.stderr())
        else {
            return Broke::Off("the API server gave no streams".to_owned());
        };
        let status = process.take_status();
        // A message may come in pieces: whoever reads it is not interrupted.
        let (sender, mut frames) = mpsc::channel::<std::io::Result<Frame>>(16);
        let reading = tokio::spawn(async move {
            loop {
                let (frame, last) = match frame::read_async(&mut stdout).await {
                    Ok(Some(frame)) => (Ok(frame), false),
                    Ok(None) => return,
                    Err(error) => (Err(error), true),
                };
                if sender.send(frame).await.is_err() || last {
                    return;
                }
            }
        });
        let (to_send, mut waiting) = mpsc::channel::<Vec<u8>>(64);
        let writing = tokio::spawn(async move {
            while let Some(bytes) = waiting.recv().await {
                if stdin.write_all(&bytes).await.is_err() || stdin.flush().await.is_err() {
                    return;
                }
            }
        });
        let hello = Hello {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            next: progress.next,
            order: (!progress.ordered).then(|| self.order.clone()),
        };
        let sent_ns = now_ns();
        let _ = to_send.send(frame::encode(kind::HELLO, &serde_json::to_vec(&hello).unwrap_or_default())).await;
        let mut broke = self.converse(progress, &mut frames, &to_send, sent_ns).await;
        if let (Broke::Off(why), true) = (&mut broke, frames.is_closed() || !progress.ordered) {
            // What the program said of itself: no such command, no such file.
            let mut said = Vec::new();
            let _ = timeout(Duration::from_millis(300), (&mut stderr).take(2000).read_to_end(&mut said)).await;
            let said = String::from_utf8_lossy(&said).trim().to_owned();
            let status = match status {
                Some(status) => timeout(Duration::from_millis(300), status).await.ok().flatten(),
                None => None,
            };
            let status = status.filter(|status| status.status.as_deref() != Some("Success"));
            let status = status.and_then(|status| status.message).unwrap_or_default();
            let more = if said.is_empty() { status } else { said };
            if !more.is_empty() {
                *why = format!("{why}: {more}");
            }
        }
        // The last words (BYE) go out first.
        drop(to_send);
        let _ = timeout(Duration::from_secs(2), writing).await;
        reading.abort();
        process.abort();
        broke
    }

    async fn converse(
        &mut self,
        progress: &mut Progress,
        frames: &mut mpsc::Receiver<std::io::Result<Frame>>,
        to_send: &mpsc::Sender<Vec<u8>>,
        hello_ns: u64,
    ) -> Broke {
        let mut pings = 0;
        let mut ticks = interval(BETWEEN_FIRST);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = Instant::now();
        let mut stopped: Option<Instant> = None;
        let mut told = false;
        let mut offset_ns = progress.clock.offset_ns();
        loop {
            if *self.stop.borrow() && stopped.is_none() {
                stopped = Some(Instant::now());
                let _ = to_send.send(frame::encode(kind::STOP, &[])).await;
            }
            tokio::select! {
                frame = frames.recv() => {
                    heard = Instant::now();
                    let frame = match frame {
                        Some(Ok(frame)) => frame,
                        Some(Err(error)) => return Broke::Off(error.to_string()),
                        None => return Broke::Off("the stream ended".to_owned()),
                    };
                    match frame.kind {
                        kind::WELCOME => {
                            let Ok(welcome) = serde_json::from_slice::<Welcome>(&frame.body) else {
                                return Broke::Off("the agent's words can't be read".to_owned());
                            };
                            progress.ordered = true;
                            progress.clock.add(hello_ns, welcome.monotonic_ns, now_ns());
                        }
                        kind::PONG => pong(&frame.body, &mut progress.clock),
                        kind::REFUSED => {
                            let why = String::from_utf8_lossy(&frame.body).into_owned();
                            return Broke::Failed(AgentError::Lost { node: self.node.clone(), why });
                        }
                        kind::EVENTS | kind::NEWS => {
                            if !told && frame.kind == kind::EVENTS {
                                // The clock as it is known by now: what comes is placed by it.
                                told = true;
                                offset_ns = progress.clock.offset_ns();
                                self.about(progress, offset_ns).await;
                            }
                            match self.sequenced(progress, frame).await {
                                Ok(over) => {
                                    let mut words = frame::encode(kind::ACK, &progress.next.to_le_bytes());
                                    if over.is_some() {
                                        words.extend(frame::encode(kind::BYE, &[]));
                                    }
                                    let _ = to_send.send(words).await;
                                    if let Some(result) = over {
                                        self.about(progress, offset_ns).await;
                                        return result.map_or_else(Broke::Failed, |()| Broke::Done);
                                    }
                                }
                                Err(why) => return Broke::Off(why),
                            }
                        }
                        _ => {}
                    }
                }
                _ = ticks.tick() => {
                    let _ = to_send.try_send(frame::encode(kind::PING, &now_ns().to_le_bytes()));
                    pings += 1;
                    if pings == FIRST_PINGS {
                        ticks = interval(BETWEEN);
                        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                        ticks.reset();
                    }
                    if self.out.is_closed() {
                        return Broke::Failed(AgentError::Lost { node: self.node.clone(), why: "given up".to_owned() });
                    }
                    if heard.elapsed() > SILENCE {
                        return Broke::Off(format!("silent for {} s", SILENCE.as_secs()));
                    }
                    if stopped.is_some_and(|stopped| stopped.elapsed() > LAST) {
                        let why = format!("it did not end within {} s", LAST.as_secs());
                        return Broke::Failed(AgentError::Lost { node: self.node.clone(), why });
                    }
                }
                changed = self.stop.changed(), if stopped.is_none() => {
                    if changed.is_err() {
                        return Broke::Failed(AgentError::Lost { node: self.node.clone(), why: "given up".to_owned() });
                    }
                }
            }
        }
    }

    /// One numbered message; `Some` if it was the last.
    async fn sequenced(&self, progress: &mut Progress, frame: Frame) -> Result<Option<Result<(), AgentError>>, String> {
        let (number, body) = frame::number(&frame.body).ok_or("a message without a number")?;
        if number < progress.next {
            return Ok(None);
        }
        if number > progress.next {
            return Err(format!("message {} is missing", progress.next));
        }
        let news = match frame.kind {
            kind::EVENTS => {
                let mut events = Vec::new();
                let unpacked = DeflateDecoder::new(body).take(LONGEST_RUN).read_to_end(&mut events);
                unpacked.map_err(|error| format!("events can't be unpacked: {error}"))?;
                progress.next += 1;
                self.tell(FromNode::Events(events)).await;
                return Ok(None);
            }
            _ => serde_json::from_slice::<News>(body)
                .map_err(|error| format!("the agent's news can't be read: {error}"))?,
        };
        progress.next += 1;
        Ok(match news {
            News::Ended => Some(Ok(())),
            News::Cut(why) => Some(Err(AgentError::Lost { node: self.node.clone(), why })),
            News::Failed(failure) => Some(Err(AgentError::Capture { node: self.node.clone(), failure })),
            news => {
                self.tell(FromNode::News(news)).await;
                None
            }
        })
    }
}

/// A round trip: our time in it, then theirs.
fn pong(body: &[u8], clock: &mut ClockOffset) {
    if let Some((sent, rest)) = frame::number(body)
        && let Some((answered, _)) = frame::number(rest)
    {
        clock.add(sent, answered, now_ns());
    }
}

/// An error and what lies below it, in a line.
fn words(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !words.contains(&text) {
            words = format!("{words}: {text}");
        }
        cause = error.source();
    }
    words
}
