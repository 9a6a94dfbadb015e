//! A job's output: the file that Slurm writes it to, on a file system that this machine shares.

use std::collections::VecDeque;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::record::Record;
use super::source::Source;
use super::{request, state};
use crate::queue::lines::{self, LineReader};
use crate::queue::{Lines, LogLine, LogOptions, QueueError, Ranks};

/// Between two looks at a file that grows.
const LOOK: Duration = Duration::from_millis(300);
/// Looks at the file between two questions whether the job still runs.
const LOOKS_A_QUESTION: u32 = 7;
/// As much is read at a time.
const PORTION: usize = 1 << 18;

/// Where a job's output is, with Slurm's patterns filled in ("filename pattern" in sbatch(1)).
pub(super) fn path(record: &Record) -> PathBuf {
    let plain = match (record.output.as_str(), record.task) {
        ("", Some(_)) => "slurm-%A_%a.out",
        ("", None) => "slurm-%j.out",
        (given, _) => given,
    };
    let mut path = String::new();
    let mut letters = plain.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            path.push(letter);
            continue;
        }
        let mut width = String::new();
        let mut pattern = letters.next();
        while let Some(digit) = pattern.filter(char::is_ascii_digit) {
            width.push(digit);
            pattern = letters.next();
        }
        let width = width.parse::<usize>().unwrap_or(0).min(10);
        let padded = |number: u64| format!("{number:0width$}");
        match pattern {
            Some('j') => path.push_str(&padded(record.id)),
            Some('A') => path.push_str(&padded(record.array.unwrap_or(record.id))),
            Some('a') => path.push_str(&padded(u64::from(record.task.unwrap_or(u32::MAX - 1)))),
            Some('x') => path.push_str(&record.name),
            Some('u') => path.push_str(&record.user),
            Some('N') => path.push_str(&record.batch_host),
            Some('t' | 'n' | 's') => path.push('0'),
            Some('J') => path.push_str(&record.id.to_string()),
            Some('%') => path.push('%'),
            Some(other) => path.extend(['%', other]),
            None => path.push('%'),
        }
    }
    Path::new(&record.workdir).join(path)
}

/// A line's rank and text: `3: words` where the job's lines begin with their rank, else rank 0.
fn split(line: &str, labelled: bool) -> (u32, &str) {
    if labelled
        && let Some((rank, text)) = line.split_once(':')
        && let Ok(rank) = rank.trim_start().parse()
    {
        return (rank, text.strip_prefix(' ').unwrap_or(text));
    }
    (0, line)
}

/// A file that is read as it grows.
struct Tail {
    path: PathBuf,
    offset: u64,
    /// What was read after the last line end.
    rest: Vec<u8>,
    labelled: bool,
    ranks: Ranks,
}

impl Tail {
    /// Reads on; `None` if the file is not there. Whether there may be more at once is told as well.
    fn read(&mut self) -> std::io::Result<Option<(Vec<LogLine>, bool)>> {
        // Opened anew each time: on a network file system this is what brings its new length.
        let mut file = match std::fs::File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        if file.metadata()?.len() < self.offset {
            // It was put back into its queue and writes from the start.
            self.offset = 0;
            self.rest.clear();
        }
        file.seek(SeekFrom::Start(self.offset))?;
        let mut portion = Vec::new();
        file.take(PORTION as u64).read_to_end(&mut portion)?;
        self.offset += portion.len() as u64;
        let more = portion.len() == PORTION;
        self.rest.extend_from_slice(&portion);
        let mut lines = Vec::new();
        let mut begin = 0;
        while let Some(length) = self.rest[begin..].iter().position(|byte| *byte == b'\n') {
            lines.extend(self.line(&self.rest[begin..begin + length]));
            begin += length + 1;
        }
        self.rest.drain(..begin);
        Ok(Some((lines, more)))
    }

    /// What stands after the last line end, when nothing more will come.
    fn last(&mut self) -> Option<LogLine> {
        let rest = std::mem::take(&mut self.rest);
        if rest.is_empty() { None } else { self.line(&rest) }
    }

    fn line(&self, bytes: &[u8]) -> Option<LogLine> {
        let text = String::from_utf8_lossy(bytes);
        let (rank, text) = split(text.trim_end_matches('\r'), self.labelled);
        self.ranks.include(rank).then(|| LogLine { rank, at: None, text: text.to_owned() })
    }
}

/// Where the reading stands.
struct Following<'a> {
    source: &'a Source,
    id: &'a str,
    tail: Tail,
    ready: VecDeque<LogLine>,
    follow: bool,
    looks: u32,
    over: bool,
    done: bool,
}

/// A job's lines.
pub(super) async fn lines<'a>(source: &'a Source, id: &'a str, options: &LogOptions) -> Result<Lines<'a>, QueueError> {
    if options.since.is_some() {
        return Err(QueueError::Unsupported {
            engine: "Slurm".to_owned(),
            what: "tell when a line was written".to_owned(),
            instead: "--tail N takes the last lines".to_owned(),
        });
    }
    let records = source.job(id).await?;
    let record = match &records[..] {
        [record] if record.tasks_left.is_none() || record.task.is_some() => record,
        records => {
            let first =
                records.iter().find(|record| record.task.is_some()).map_or_else(|| format!("{id}_0"), Record::address);
            return Err(QueueError::Invalid {
                what: format!("job {id} is an array; each of its jobs has an output of its own"),
                hint: format!("name one: {first}"),
            });
        }
    };
    let labelled = request::is_labelled(&record.comment);
    if let Ranks::One(rank) = options.ranks {
        has_rank(record, rank, labelled)?;
    }
    let mut tail = Tail { path: path(record), offset: 0, rest: Vec::new(), labelled, ranks: options.ranks };
    let over = record.is_over();
    let mut begun = Vec::new();
    let mut there = false;
    while let Some((lines, more)) = tail.read().map_err(|error| unreadable(record, &tail.path, &error.to_string()))? {
        there = true;
        begun.extend(lines);
        if !more {
            break;
        }
    }
    let started = !state::state(record).is_waiting() && record.started.is_some();
    if !there && (over || (started && !options.follow)) {
        return Err(unreadable(record, &tail.path, "there is no such file on this machine"));
    }
    if over || !options.follow {
        begun.extend(tail.last());
    }
    let following = Following {
        source,
        id,
        tail,
        ready: lines::last(begun, options.tail),
        follow: options.follow && !over,
        looks: 0,
        over,
        done: false,
    };
    Ok(lines::lines(following))
}

/// Whether lines of a rank can be told from others.
fn has_rank(record: &Record, rank: u32, labelled: bool) -> Result<(), QueueError> {
    let (id, nodes) = (record.address(), record.nodes.max(1));
    if rank >= nodes {
        return Err(QueueError::Invalid {
            what: format!("job {id} has no rank {rank}: it has {nodes} node{}", if nodes == 1 { "" } else { "s" }),
            hint: "ranks count its nodes from 0".to_owned(),
        });
    }
    if rank > 0 && !labelled {
        return Err(QueueError::Invalid {
            what: format!("job {id}: which rank wrote a line can't be told, since aictl did not start its ranks"),
            hint: "leave --rank out for all of its output".to_owned(),
        });
    }
    Ok(())
}

impl LineReader for Following<'_> {
    async fn next(&mut self) -> Result<Option<LogLine>, QueueError> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Ok(Some(line));
            }
            if self.done || !self.follow {
                return Ok(None);
            }
            // Whether it is over is asked before the file is read for the last time.
            let over = self.over;
            let there = match self.tail.read() {
                Ok(Some((lines, more))) => {
                    self.ready.extend(lines);
                    if more {
                        continue;
                    }
                    true
                }
                Ok(None) => false,
                Err(error) => {
                    return Err(QueueError::Unreachable {
                        what: format!("cannot read {}", self.tail.path.display()),
                        message: error.to_string(),
                        passing: true,
                    });
                }
            };
            if over {
                self.ready.extend(self.tail.last());
                self.done = true;
                if !there && self.tail.offset == 0 {
                    return Err(QueueError::Unreachable {
                        what: format!("cannot read the output of job {}", self.id),
                        message: format!(
                            "{} is not there; is it on a file system that this machine shares?",
                            self.tail.path.display()
                        ),
                        passing: false,
                    });
                }
                continue;
            }
            if !self.ready.is_empty() {
                continue;
            }
            tokio::time::sleep(LOOK).await;
            self.looks += 1;
            if self.looks.is_multiple_of(LOOKS_A_QUESTION) {
                match self.source.job(self.id).await {
                    Ok(records) => {
                        self.over = records.iter().all(Record::is_over);
                        if let [record] = &records[..] {
                            // Known once it starts: the host in a name, or another name after a requeue.
                            self.move_to(path(record));
                        }
                    }
                    // Gone from Slurm's memory: it is over. Away for a moment: it may run on.
                    Err(QueueError::NoSuchJob { .. }) => self.over = true,
                    Err(error) if error.is_passing() => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }
}

impl Following<'_> {
    fn move_to(&mut self, path: PathBuf) {
        if path != self.tail.path && self.tail.offset == 0 {
            self.tail.path = path;
        }
    }
}

fn unreadable(record: &Record, path: &Path, why: &str) -> QueueError {
    let host = if record.batch_host.is_empty() { &record.node_list } else { &record.batch_host };
    QueueError::Unreachable {
        what: format!("cannot read the output of job {}: {} (written on {host})", record.address(), path.display()),
        message: format!("{why}; read it where that file system is mounted"),
        passing: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files() {
        let record = Record {
            id: 12,
            name: "a".to_owned(),
            workdir: "/w".to_owned(),
            batch_host: "n1".to_owned(),
            ..Record::default()
        };
        let of = |output: &str, record: &Record| {
            path(&Record { output: output.to_owned(), ..record.clone() }).display().to_string()
        };
        assert_eq!(of("", &record), "/w/slurm-12.out");
        assert_eq!(of("/o/%x-%5j-%N.%%", &record), "/o/a-00012-n1.%");
        let task = Record { array: Some(10), task: Some(3), ..record };
        assert_eq!(of("", &task), "/w/slurm-10_3.out");
        assert_eq!(of("o-%A-%3a", &task), "/w/o-10-003");
        assert_eq!(of("ends in %", &task), "/w/ends in %");
    }

    #[test]
    fn a_rank_that_is_not_there_is_no_empty_output() {
        let record = Record { id: 5, nodes: 2, ..Record::default() };
        assert!(has_rank(&record, 1, true).is_ok() && has_rank(&record, 0, false).is_ok());
        let error = has_rank(&record, 7, true).unwrap_err();
        assert_eq!(error.to_string(), "job 5 has no rank 7: it has 2 nodes");
        assert!(matches!(has_rank(&record, 1, false), Err(QueueError::Invalid { .. })));
    }

    #[test]
    fn lines_of_ranks() {
        assert_eq!(split(" 3: a: b", true), (3, "a: b"));
        assert_eq!(split("3: a", false), (0, "3: a"));
        assert_eq!(split("error: x", true), (0, "error: x"));
        let line = |rank, text: &str| LogLine { rank, at: None, text: text.to_owned() };
        let lines = vec![line(0, "a"), line(1, "b"), line(0, "c"), line(0, "d")];
        let kept: Vec<String> = lines::last(lines, Some(2)).into_iter().map(|line| line.text).collect();
        assert_eq!(kept, ["b", "c", "d"]);
    }
}
