//! What a job's pods print, and commands beside them.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{AsyncBufReadExt, StreamExt, TryStreamExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{AttachParams, ListParams, LogParams};
use tokio::sync::mpsc;

use super::Kubernetes;
use super::find::{self, Found};
use super::kinds;
use crate::cluster::answer;
use crate::queue::engine::{ExecStreams, Lines, LogLine, LogOptions, Ranks};
use crate::queue::{Job, QueueError};

/// How long to wait before a lost connection is taken up again, and between looks for new pods.
const AGAIN: Duration = Duration::from_secs(1);

/// The pods of a job by rank; the newest where a rank has had several.
async fn pods(engine: &Kubernetes, found: &Found) -> Result<BTreeMap<u32, Pod>, QueueError> {
    let api: Api<Pod> = Api::namespaced(engine.cluster()?.client(), &found.namespace);
    let selector = format!("{}={}", found.kind.name_label, found.name);
    let list = ListParams::default().labels(&selector);
    let what = format!("cannot list the pods of {}", found.name);
    let mut pods = crate::cluster::read(&what, || api.list(&list)).await?.items;
    pods.sort_by_key(|pod| (pod.metadata.creation_timestamp.as_ref().map(|time| time.0), pod.metadata.name.clone()));
    let mut by_rank = BTreeMap::new();
    for (index, pod) in (0u32..).zip(pods) {
        // Masters are rank 0, workers count on after them; MPI's launcher prints for all.
        let label = |name: &str| {
            let meta = &pod.metadata;
            let label = meta.labels.as_ref().and_then(|labels| labels.get(name));
            label.or_else(|| meta.annotations.as_ref().and_then(|annotations| annotations.get(name))).cloned()
        };
        let role = label("training.kubeflow.org/replica-type").unwrap_or_default().to_lowercase();
        let number = label(found.kind.rank_label).and_then(|rank| rank.parse::<u32>().ok());
        let rank = match (number, role.as_str()) {
            (Some(number), "worker") if found.kind == kinds::PYTORCHJOB => number + 1,
            (Some(_), "worker") if found.kind == kinds::MPIJOB => continue,
            (Some(number), _) => number,
            (None, _) if found.kind.rank_label.starts_with("batch.") => 0,
            (None, _) => index,
        };
        by_rank.insert(rank, pod);
    }
    Ok(by_rank)
}

/// The exit code of the first container that failed, else of rank 0; `None` while none ended.
pub async fn exit_code(engine: &Kubernetes, found: &Found) -> Option<i32> {
    let pods = pods(engine, found).await.ok()?;
    let codes = pods.values().filter_map(|pod| {
        let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
        Some(statuses.first()?.state.as_ref()?.terminated.as_ref()?.exit_code)
    });
    let codes: Vec<i32> = codes.collect();
    codes.iter().copied().find(|code| *code != 0).or(codes.first().copied())
}

/// Reads the output.
///
/// # Errors
/// If the job has no pods, or the cluster can't be asked.
pub async fn logs<'a>(engine: &'a Kubernetes, id: &'a str, options: &'a LogOptions) -> Result<Lines<'a>, QueueError> {
    let found = find::place(engine, id).await?;
    let wanted = |rank: u32| options.ranks.include(rank);
    let mut first = pods(engine, &found).await?;
    first.retain(|rank, _| wanted(*rank));
    if first.is_empty() && !options.follow {
        let job = find::get(engine, id).await?;
        return Err(QueueError::Refused {
            what: format!("no output of {}", job.name),
            message: format!(
                "it is {} and has no {}",
                job.state,
                match options.ranks {
                    Ranks::All => "pods".to_owned(),
                    Ranks::One(rank) => format!("pod of rank {rank}"),
                }
            ),
        });
    }
    let (send, receive) = mpsc::channel(1024);
    let (client, options) = (engine.cluster()?.client(), *options);
    let read = async move {
        let mut readers = futures::stream::FuturesUnordered::new();
        let mut known = BTreeMap::new();
        let mut start = |pods: BTreeMap<u32, Pod>, readers: &mut futures::stream::FuturesUnordered<_>| {
            for (rank, pod) in pods.into_iter().filter(|(rank, _)| wanted(*rank)) {
                let name = pod.metadata.name.unwrap_or_default();
                if known.insert(rank, name.clone()).as_ref() != Some(&name) {
                    let api: Api<Pod> = Api::namespaced(client.clone(), &found.namespace);
                    readers.push(follow(api, name, rank, options, send.clone()));
                }
            }
        };
        start(first, &mut readers);
        loop {
            tokio::select! {
                ended = readers.next(), if !readers.is_empty() => {
                    if let Some(Err(error)) = ended {
                        let _ = send.send(Err(error)).await;
                        return;
                    }
                    if readers.is_empty() && !options.follow {
                        return;
                    }
                }
                () = tokio::time::sleep(AGAIN), if options.follow => {
                    // New pods come with restarts; the end of the job ends all.
                    match pods(engine, &found).await {
                        Ok(pods) => start(pods, &mut readers),
                        Err(error) if error.is_passing() => {}
                        Err(error) => {
                            let _ = send.send(Err(error)).await;
                            return;
                        }
                    }
                    if readers.is_empty() && over(engine, id).await {
                        return;
                    }
                }
                else => return,
            }
        }
    };
    let lines = futures::stream::unfold(receive, |mut receive| async move { Some((receive.recv().await?, receive)) });
    // The reader runs while the lines are asked for, and ends with them.
    let reader = futures::stream::once(read).filter_map(|()| async { None });
    Ok(futures::stream::select(lines, reader).boxed())
}

async fn over(engine: &Kubernetes, id: &str) -> bool {
    match find::get(engine, id).await {
        Ok(Job { state, .. }) => state.is_over(),
        Err(error) => !error.is_passing(),
    }
}

/// Where reading a pod's output was broken off: the time of the last line, and how many lines had
/// that very time, since times come in whole steps and a stretch is asked for anew by its time.
#[derive(Debug, Default, Clone, PartialEq)]
struct Mark {
    at: Option<Timestamp>,
    count: usize,
}

impl Mark {
    /// Whether a line is new; `seen` counts those of the mark's time since the connection was taken up.
    fn is_new(&mut self, at: Option<Timestamp>, seen: &mut usize) -> bool {
        let (Some(at), Some(last)) = (at, self.at) else {
            self.at = at.or(self.at);
            self.count = 1;
            return true;
        };
        if at < last {
            return false;
        }
        if at > last {
            *self = Mark { at: Some(at), count: 1 };
            *seen = 1;
            return true;
        }
        *seen += 1;
        if *seen > self.count {
            self.count = *seen;
            return true;
        }
        false
    }
}

/// Reads one pod's output to its end, over lost connections.
async fn follow(
    api: Api<Pod>,
    name: String,
    rank: u32,
    options: LogOptions,
    send: mpsc::Sender<Result<LogLine, QueueError>>,
) -> Result<(), QueueError> {
    let mut mark = Mark::default();
    let mut taken_up = false;
    loop {
        let since = mark.at.or(options.since);
        let parameters = LogParams {
            follow: options.follow,
            timestamps: true,
            tail_lines: options.tail.filter(|_| !taken_up).map(|lines| lines as i64),
            since_time: since,
            ..LogParams::default()
        };
        let mut seen = 0;
        let what = format!("cannot read the output of {name}");
        let stream = match answer(&what, api.log_stream(&name, &parameters)).await {
            Ok(stream) => stream,
            // Its container does not run yet, or its node is away for a moment.
            Err(crate::cluster::ClusterError::Refused { code: 400, .. }) if options.follow => {
                tokio::time::sleep(AGAIN).await;
                continue;
            }
            Err(error) if error.is_passing() && options.follow => {
                tokio::time::sleep(AGAIN).await;
                continue;
            }
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let mut lines = stream.lines();
        let broken = loop {
            match lines.try_next().await {
                Ok(Some(line)) => {
                    let (at, text) = match line.split_once(' ') {
                        Some((at, text)) if at.parse::<Timestamp>().is_ok() => (at.parse().ok(), text.to_owned()),
                        _ => (None, line),
                    };
                    if mark.is_new(at, &mut seen) && send.send(Ok(LogLine { rank, at, text })).await.is_err() {
                        return Ok(());
                    }
                }
                Ok(None) => break false,
                Err(_) => break true,
            }
        };
        taken_up = true;
        if !options.follow || (!broken && ended(&api, &name).await) {
            return Ok(());
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Whether a pod's program has ended, so that no more lines come.
async fn ended(api: &Api<Pod>, name: &str) -> bool {
    match crate::cluster::read("cannot read a pod", || api.get_opt(name)).await {
        Ok(Some(pod)) => {
            let phase = pod.status.and_then(|status| status.phase).unwrap_or_default();
            matches!(phase.as_str(), "Succeeded" | "Failed")
        }
        Ok(None) => true,
        Err(error) => !error.is_passing(),
    }
}

/// Runs a command beside a rank.
///
/// # Errors
/// If there is no such rank, or the cluster can't be asked.
pub async fn exec(
    engine: &Kubernetes,
    id: &str,
    rank: u32,
    command: &[String],
    mut streams: ExecStreams,
) -> Result<i32, QueueError> {
    let found = find::place(engine, id).await?;
    let pods = pods(engine, &found).await?;
    let Some(pod) = pods.get(&rank) else {
        let ranks: Vec<String> = pods.keys().map(u32::to_string).collect();
        return Err(QueueError::Refused {
            what: format!("{} has no rank {rank}", found.name),
            message: if ranks.is_empty() {
                "it has no pods".to_owned()
            } else {
                format!("ranks: {}", ranks.join(", "))
            },
        });
    };
    let api: Api<Pod> = Api::namespaced(engine.cluster()?.client(), &found.namespace);
    let name = pod.metadata.name.clone().unwrap_or_default();
    let what = format!("cannot run a command in {name}");
    let parameters = AttachParams::default().stdin(true).stdout(true).stderr(!streams.terminal).tty(streams.terminal);
    let mut attached = answer(&what, api.exec(&name, command, &parameters)).await?;
    let (stdin, stdout, stderr) = (attached.stdin(), attached.stdout(), attached.stderr());
    let write = async {
        if let Some(mut stdin) = stdin {
            let _ = tokio::io::copy(&mut streams.stdin, &mut stdin).await;
        }
        std::future::pending::<()>().await;
    };
    let read = async {
        let out = async {
            if let Some(mut stdout) = stdout {
                let _ = tokio::io::copy(&mut stdout, &mut streams.stdout).await;
            }
        };
        let err = async {
            if let Some(mut stderr) = stderr {
                let _ = tokio::io::copy(&mut stderr, &mut streams.stderr).await;
            }
        };
        futures::join!(out, err);
    };
    tokio::select! {
        () = write => {}
        () = read => {}
    }
    let status = match attached.take_status() {
        Some(status) => status.await,
        None => None,
    };
    let Some(status) = status else { return Ok(0) };
    if status.status.as_deref() == Some("Success") {
        return Ok(0);
    }
    let causes = status.details.and_then(|details| details.causes).unwrap_or_default();
    let code = causes.iter().find(|cause| cause.reason.as_deref() == Some("ExitCode"));
    match code.and_then(|cause| cause.message.as_ref()?.parse().ok()) {
        Some(code) => Ok(code),
        None => Err(QueueError::Refused { what, message: status.message.unwrap_or_default() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes through when output is asked for again from the mark on, which repeats lines.
    #[test]
    fn lines_of_a_connection_taken_up_again_come_once() {
        let at = |second: i64| Some(Timestamp::from_second(second).unwrap());
        let all = [(at(1), "a"), (at(2), "b"), (at(2), "c"), (at(2), "d"), (at(3), "e")];
        for broken_at in 0..all.len() {
            let mut mark = Mark::default();
            let mut got = Vec::new();
            let mut seen = 0;
            for (at, text) in &all[..broken_at] {
                if mark.is_new(*at, &mut seen) {
                    got.push(*text);
                }
            }
            let mut seen = 0;
            let since = mark.at;
            for (at, text) in all.iter().filter(|(at, _)| since.is_none() || *at >= since) {
                if (mark.at.is_none() || *at >= mark.at) && mark.is_new(*at, &mut seen) {
                    got.push(*text);
                }
            }
            assert_eq!(got, ["a", "b", "c", "d", "e"], "broken at {broken_at}");
        }
    }
}
