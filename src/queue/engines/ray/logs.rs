//! A job's output. Ray's job server has all of it at one address; what is new is what stands beyond
//! what was read before, so a lost connection loses and doubles nothing.

use std::collections::VecDeque;
use std::time::Duration;

use super::Ray;
use crate::queue::lines::{self, LineReader};
use crate::queue::{Lines, LogLine, LogOptions, QueueError};

/// Between two readings: at least, and at most. A long log is read less often, since it comes whole.
const SHORTEST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(10);
/// For each of so many bytes one more of the shortest waits.
const BYTES_A_WAIT: usize = 4 << 20;
/// A server that is away for longer while a log is followed is given up.
const PATIENCE: Duration = Duration::from_secs(120);

/// A line of the job's own, by rank; `None` for what Ray writes beside it.
fn line(text: &str, ours: bool, at: usize) -> Option<(u32, &str)> {
    if ours
        && let Some((rank, rest)) = text.strip_prefix('[').and_then(|text| text.split_once("] "))
        && let Ok(rank) = rank.parse()
    {
        return Some((rank, rest));
    }
    if ours && text.starts_with('[') && text.ends_with(']') {
        // A line of the job's that is empty.
        if let Ok(rank) = text[1..text.len() - 1].parse() {
            return Some((rank, ""));
        }
    }
    // Ray's manager speaks first, and its core beneath the driver at any time:
    // "[2026-11-28 16:40:19,707 W 4572 4572] network_util.cc:330: …".
    let head = at < 4 && (text.contains("\tINFO job_manager.py:") || text.starts_with("Running entrypoint for job "));
    let core = ours
        && text.strip_prefix('[').and_then(|text| text.split_once("] ")).is_some_and(|(mark, _)| {
            let words: Vec<&str> = mark.split(' ').collect();
            words.len() == 5 && words[0].len() == 10 && matches!(words[2], "D" | "I" | "W" | "E")
        });
    if head || core { None } else { Some((0, text)) }
}

struct Following<'a> {
    ray: &'a Ray,
    id: &'a str,
    ours: bool,
    options: LogOptions,
    /// Bytes and lines of the log that were read.
    offset: usize,
    count: usize,
    ready: VecDeque<LogLine>,
    first: bool,
    over: bool,
}

/// A job's lines.
pub(super) async fn lines<'a>(ray: &'a Ray, id: &'a str, options: &LogOptions) -> Result<Lines<'a>, QueueError> {
    if options.since.is_some() {
        return Err(QueueError::Unsupported {
            engine: "Ray".to_owned(),
            what: "tell when a line was written".to_owned(),
            instead: "--tail N takes the last lines".to_owned(),
        });
    }
    let job = ray.job(id).await?;
    let following = Following {
        ray,
        id,
        ours: job.is_ours(),
        options: *options,
        offset: 0,
        count: 0,
        ready: VecDeque::new(),
        first: true,
        over: false,
    };
    Ok(lines::lines(following))
}

impl LineReader for Following<'_> {
    async fn next(&mut self) -> Result<Option<LogLine>, QueueError> {
        let mut away = Duration::ZERO;
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Ok(Some(line));
            }
            // What was read when it was over is all there is.
            if self.over {
                return Ok(None);
            }
            if !self.first {
                let waits = 1 + (self.offset / BYTES_A_WAIT) as u32;
                let wait = (SHORTEST * waits).min(LONGEST);
                tokio::time::sleep(wait).await;
                away += wait;
            }
            match self.read().await {
                Ok(()) => {
                    self.first = false;
                    away = Duration::ZERO;
                }
                Err(error) if error.is_passing() && !self.first && away < PATIENCE => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Following<'_> {
    async fn read(&mut self) -> Result<(), QueueError> {
        // Whether it is over is asked first: what it wrote last is in the log that is read after.
        let over = !self.options.follow || self.ray.job(self.id).await.map(|job| super::is_over(&job))?;
        let log = self.ray.log(self.id).await?;
        let new = log.get(self.offset..).unwrap_or_default();
        let whole = match new.rfind('\n') {
            _ if over => new,
            Some(end) => &new[..=end],
            None => "",
        };
        let mut new_lines = Vec::new();
        for text in whole.lines() {
            let made = line(text, self.ours, self.count);
            self.count += 1;
            if let Some((rank, text)) = made
                && self.options.ranks.include(rank)
            {
                new_lines.push(LogLine { rank, at: None, text: text.to_owned() });
            }
        }
        self.offset += whole.len();
        let tail = self.options.tail.filter(|_| self.first);
        self.ready.extend(lines::last(new_lines, tail));
        self.over = over;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_a_line_is() {
        assert_eq!(line("[1] a: [2] b", true, 9), Some((1, "a: [2] b")));
        assert_eq!(line("[1] a", false, 9), Some((0, "[1] a")));
        assert_eq!(line("[2026-11-28 16:40:19,707 W 4572 4572] network_util.cc:330: Failed", true, 2), None);
        assert_eq!(
            line("2026-11-28 16:40:16,883\tINFO job_manager.py:581 -- Runtime env is setting up.", true, 0),
            None
        );
        assert_eq!(line("Running entrypoint for job d1: exec", false, 1), None);
        assert_eq!(
            line("Traceback (most recent call last):", true, 5),
            Some((0, "Traceback (most recent call last):"))
        );
        assert_eq!(line("[nan] x", true, 5), Some((0, "[nan] x")));
    }
}
