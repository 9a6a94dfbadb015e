//! The near end of one node's stream: over the API server's `exec`, again and again where it breaks.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::AgentError;
use super::clock::{ClockOffset, now_ns};
use super::dial::{Broke, LAST_AWAY, dial};
use super::frame::{self, Frame, Unpacker, kind};
use super::land::Landing;
use super::pod::{self, Agent};
use super::protocol::{Hello, News, Order, PATIENCE_S, PROTOCOL, Welcome};
use crate::cluster::Cluster;
use crate::trace::NodeNote;

/// Nothing at all was heard for this long, though a ping goes out every two seconds.
const SILENCE: Duration = Duration::from_secs(10);
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
/// What comes from a node.
#[derive(Debug)]
pub enum FromNode {
    /// For people; it may spoil the recording.
    Note(String),
    /// About the node's part of the recording.
    About(NodeNote),
    /// Events, unpacked: operations of a [`RelayWriter`](crate::trace::RelayWriter).
    Events(Vec<u8>),
    /// Events, as the recording has them ([`Joiner::append`](crate::trace::Joiner::append)).
    Written(Vec<u8>),
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
    /// Where its events arrive.
    pub landing: Landing,
    /// Listens.
    pub out: mpsc::Sender<(usize, FromNode)>,
    /// Turns true when the capture is to end.
    pub stop: watch::Receiver<bool>,
}

struct Progress {
    next: u64,
    clock: ClockOffset,
    resumed: u32,
    ordered: bool,
    /// When anything came last.
    heard: Option<Instant>,
}

impl Link {
    /// Carries everything over, until the capture is over or the far end is gone for good.
    pub async fn run(mut self) -> Result<(), AgentError> {
        let mut progress = Progress { next: 0, clock: ClockOffset::default(), resumed: 0, ordered: false, heard: None };
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
                return Err(self.lost(why, &progress));
            }
            let ends = *self.stop.borrow();
            if since.elapsed() > if ends { LAST_AWAY } else { Duration::from_secs(PATIENCE_S) } {
                return Err(self.lost(why, &progress));
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

    /// The node is given up.
    fn lost(&self, why: String, progress: &Progress) -> AgentError {
        let silent = progress.heard.map(|heard| heard.elapsed().as_secs()).filter(|seconds| *seconds > 0);
        let why = silent.map_or(why.clone(), |seconds| format!("{why}; nothing heard of it for {seconds} s"));
        AgentError::Lost { node: self.node.clone(), why }
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
        self.landing.about(&note);
        self.tell(FromNode::About(note)).await;
    }

    /// One connection.
    async fn connection(&mut self, progress: &mut Progress) -> Broke {
        let dialled = dial(&self.cluster, &self.agent, progress.ordered, self.stop.clone()).await;
        let mut process = match dialled {
            Ok(process) => process,
            Err(broke) => return broke,
        };
        let (Some(mut stdin), Some(mut stdout), Some(mut stderr)) =
            (process.stdin(), process.stdout(), process.stderr())
        else {
            return Broke::Off("the API server gave no streams".to_owned());
        };
        let status = process.take_status();
        // A message may come in pieces: whoever reads it is not interrupted. He unpacks as well, beside
        // the one who turns the events before into packets.
        let (sender, mut frames) = mpsc::channel::<std::io::Result<Frame>>(16);
        let reading = tokio::spawn(async move {
            let mut unpacker = Unpacker::default();
            loop {
                let frame = match frame::read_async(&mut stdout).await {
                    Ok(Some(frame)) => unpacker.open(frame),
                    Ok(None) => return,
                    Err(error) => Err(error),
                };
                let last = frame.is_err();
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
                    let frame = match frame {
                        Some(Ok(frame)) => frame,
                        Some(Err(error)) => return Broke::Off(error.to_string()),
                        None => return Broke::Off("the stream ended".to_owned()),
                    };
                    heard = Instant::now();
                    progress.heard = Some(heard);
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
    async fn sequenced(
        &mut self,
        progress: &mut Progress,
        frame: Frame,
    ) -> Result<Option<Result<(), AgentError>>, String> {
        let (number, body) = frame::number(&frame.body).ok_or("a message without a number")?;
        if number < progress.next {
            return Ok(None);
        }
        if number > progress.next {
            return Err(format!("message {} is missing", progress.next));
        }
        let news = match frame.kind {
            kind::EVENTS => {
                progress.next += 1;
                return match self.landing.land(body) {
                    Ok(landed) => {
                        self.tell(landed).await;
                        Ok(None)
                    }
                    // One agent's stream is broken; the others' are not.
                    Err(error) => Ok(Some(Err(AgentError::Lost { node: self.node.clone(), why: error.to_string() }))),
                };
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
