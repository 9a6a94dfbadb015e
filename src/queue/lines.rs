//! A job's output, line by line: what all engines do alike with it.

use std::collections::{HashMap, VecDeque};

use futures::StreamExt;
use futures::stream;

use super::engine::{Lines, LogLine};
use super::error::QueueError;

/// Output that is read as it is asked for.
pub trait LineReader: Send {
    /// The next line, once there is one; `None` at the end. It is not asked again after an error.
    ///
    /// # Errors
    /// If the rest can't be read.
    fn next(&mut self) -> impl Future<Output = Result<Option<LogLine>, QueueError>> + Send;
}

/// The lines of a reader; an error is the last.
pub fn lines<'a>(reader: impl LineReader + 'a) -> Lines<'a> {
    let next = |reader: Option<_>| async move {
        let mut reader = reader?;
        match LineReader::next(&mut reader).await {
            Ok(Some(line)) => Some((Ok(line), Some(reader))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    };
    stream::unfold(Some(reader), next).boxed()
}

/// The last lines of each rank, or all without a `tail`.
pub fn last(lines: Vec<LogLine>, tail: Option<u64>) -> VecDeque<LogLine> {
    let Some(tail) = tail else { return lines.into() };
    let mut left: HashMap<u32, u64> = HashMap::new();
    let mut kept: VecDeque<LogLine> = VecDeque::new();
    for line in lines.into_iter().rev() {
        let count = left.entry(line.rank).or_insert(tail);
        if *count > 0 {
            *count -= 1;
            kept.push_front(line);
        }
    }
    kept
}
