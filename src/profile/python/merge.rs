//! Joins the stacks of one thread into slices: calls, and at the bottom the lines they were on.
//!
//! Two stacks of a thread share a call where code, frame address and the place it was called
//! from are the same, and the function can have gone from the first place to the second without
//! returning. Edges lie in the middle between two samples; those of a blocking system call,
//! whose stack is taken at its end, are exact.

use std::io;
use std::sync::Arc;

use super::code::Code;

/// Calls nested deeper than this are left out.
const DEPTH_LIMIT: usize = 512;
/// Samples that wait for one that was sent later but happened earlier.
const QUEUE: usize = 2;
/// A thread not seen for so long may have left its calls and come back.
const FORGET_NS: u64 = 1_000_000_000;

/// One call of a stack.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// Address of the code object.
    pub key: u64,
    /// Address of the frame.
    pub at: u64,
    /// What it runs.
    pub code: Arc<Code>,
    /// Position in it, bytes.
    pub lasti: Option<u32>,
}

/// A stack at a moment, or over a blocking system call.
#[derive(Debug, Clone)]
pub(crate) struct Stack {
    pub start: u64,
    pub end: u64,
    /// Outermost first.
    pub calls: Vec<Call>,
    /// Outer calls are missing.
    pub truncated: bool,
    pub waiting: bool,
    pub gil: bool,
    pub native: Option<Arc<str>>,
}

/// The line a thread was on, as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    pub file: Arc<str>,
    pub base: Arc<str>,
    pub line: u32,
    pub native: Option<Arc<str>>,
    pub gil: bool,
    pub waiting: bool,
}

/// Where slices go; begins and ends come in order of time and pair up as a stack.
pub(crate) trait Timeline {
    /// A call begins; `call_line` is the caller's line, 0 if there is none.
    fn call(&mut self, ts_ns: u64, code: &Code, call_line: u32) -> io::Result<()>;
    /// A line begins.
    fn line(&mut self, ts_ns: u64, line: &Line) -> io::Result<()>;
    /// What began last ends.
    fn end(&mut self, ts_ns: u64) -> io::Result<()>;
}

/// One thread's open slices.
pub(crate) struct Merger {
    period_ns: u64,
    queue: Vec<Stack>,
    open: Vec<Call>,
    /// The open line slice.
    line: Option<Line>,
    /// The line of the wait that ended at `seen_ns`: the thread may go on with it.
    waited: Option<u32>,
    /// Last moment the open calls were seen.
    seen_ns: u64,
    /// Last moment written.
    written_ns: u64,
}

impl Merger {
    /// Starts with nothing open; samples come every `period_ns` while the thread runs.
    pub fn new(period_ns: u64) -> Merger {
        Merger {
            period_ns,
            queue: Vec::with_capacity(QUEUE + 1),
            open: Vec::new(),
            line: None,
            waited: None,
            seen_ns: 0,
            written_ns: 0,
        }
    }

    /// Changes the sampling period.
    pub fn set_period(&mut self, period_ns: u64) {
        self.period_ns = period_ns;
    }

    /// Last moment of the last stack taken in.
    pub fn seen_ns(&self) -> u64 {
        self.queue.last().map_or(self.seen_ns, |stack| stack.end)
    }

    /// Takes a stack in; what is certain by then is written.
    pub fn add(&mut self, stack: Stack, to: &mut impl Timeline) -> io::Result<()> {
        let at = self.queue.partition_point(|other| other.end <= stack.end);
        self.queue.insert(at, stack);
        while self.queue.len() > QUEUE {
            let first = self.queue.remove(0);
            self.merge(first, to)?;
        }
        Ok(())
    }

    /// Takes in what waits and ended before `until_ns`.
    pub fn flush(&mut self, until_ns: u64, to: &mut impl Timeline) -> io::Result<()> {
        while self.queue.first().is_some_and(|stack| stack.end < until_ns) {
            let first = self.queue.remove(0);
            self.merge(first, to)?;
        }
        Ok(())
    }

    /// Ends everything: the calls at `now_ns`, the line where it was last certain.
    pub fn close(&mut self, now_ns: u64, to: &mut impl Timeline) -> io::Result<()> {
        self.flush(u64::MAX, to)?;
        let last = self.edge_after().min(now_ns);
        self.end_line(last, to)?;
        self.end_calls(0, now_ns.max(last), to)
    }

    /// Where the last stack's certainty ends if nothing follows soon.
    fn edge_after(&self) -> u64 {
        self.seen_ns + self.period_ns / 2
    }

    fn merge(&mut self, mut stack: Stack, to: &mut impl Timeline) -> io::Result<()> {
        self.complete(&mut stack);
        stack.calls.truncate(DEPTH_LIMIT);
        stack.end = stack.end.max(self.seen_ns);
        stack.start = stack.start.clamp(self.seen_ns, stack.end);
        let gap = stack.start - self.seen_ns;
        let lost = self.seen_ns == 0 || gap > 3 * self.period_ns;
        let shared = if gap > FORGET_NS.max(3 * self.period_ns) { 0 } else { self.shared(&stack) };
        // Between two sightings far apart neither stack is known to have run: leave a hole at the bottom.
        let (close, begin) = match (lost, stack.waiting) {
            (true, true) => (self.edge_after(), stack.start),
            (true, false) => (self.edge_after(), stack.start.saturating_sub(self.period_ns / 2)),
            (false, _) => (self.seen_ns + gap / 2, self.seen_ns + gap / 2),
        };
        let line = stack.calls.last().map(|call| Line {
            file: call.code.file.clone(),
            base: call.code.base.clone(),
            line: call.code.line(call.lasti),
            native: stack.native.clone(),
            gil: stack.gil,
            waiting: stack.waiting,
        });
        let same_call = !lost && shared == self.open.len() && shared == stack.calls.len();
        let before = self.line.as_ref().map(|line| line.line).or(self.waited);
        let same_line = same_call && before.zip(line.as_ref()).is_some_and(|(before, now)| before == now.line);
        match line {
            Some(line) if same_line => {
                self.set_positions(&stack);
                self.same_line(line, &stack, begin, to)?;
            }
            line => {
                self.end_line(close, to)?;
                self.end_calls(shared, close, to)?;
                self.set_positions(&stack);
                for index in shared..stack.calls.len() {
                    let ts = self.clock(begin);
                    let caller = index.checked_sub(1).and_then(|i| stack.calls.get(i));
                    let call_line = caller.map_or(0, |call| call.code.line(call.lasti));
                    to.call(ts, &stack.calls[index].code, call_line)?;
                    self.open.push(stack.calls[index].clone());
                }
                if let Some(line) = line {
                    self.new_line(line, &stack, begin, to)?;
                }
            }
        }
        self.seen_ns = stack.end;
        Ok(())
    }

    fn set_positions(&mut self, stack: &Stack) {
        for (open, now) in self.open.iter_mut().zip(&stack.calls) {
            open.lasti = now.lasti;
        }
    }

    /// The same line of the same calls: goes on, or waits now.
    fn same_line(&mut self, line: Line, stack: &Stack, begin: u64, to: &mut impl Timeline) -> io::Result<()> {
        if stack.waiting {
            // What ran goes on up to the call.
            self.end_line(stack.start, to)?;
            return self.wait(&line, stack, to);
        }
        if self.waited.take().is_some() {
            return self.begin_line(self.seen_ns, line, to);
        }
        if self.line.as_ref() != Some(&line) {
            // Another library, or the GIL given up or taken.
            self.end_line(begin, to)?;
            self.begin_line(begin, line, to)?;
        }
        Ok(())
    }

    /// Opens the line slice of calls that are new or have moved on.
    fn new_line(&mut self, line: Line, stack: &Stack, begin: u64, to: &mut impl Timeline) -> io::Result<()> {
        match stack.waiting {
            // From `begin` to the call is a hole: which lines led there was not seen.
            true => self.wait(&line, stack, to),
            false => self.begin_line(begin, line, to),
        }
    }

    /// Writes a wait, whose end is known. What follows it is a hole until a sample says more.
    fn wait(&mut self, line: &Line, stack: &Stack, to: &mut impl Timeline) -> io::Result<()> {
        let ts = self.clock(stack.start);
        to.line(ts, line)?;
        let ts = self.clock(stack.end);
        to.end(ts)?;
        self.waited = Some(line.line);
        Ok(())
    }

    fn begin_line(&mut self, ts_ns: u64, line: Line, to: &mut impl Timeline) -> io::Result<()> {
        let ts = self.clock(ts_ns);
        to.line(ts, &line)?;
        self.line = Some(line);
        Ok(())
    }

    fn end_line(&mut self, ts_ns: u64, to: &mut impl Timeline) -> io::Result<()> {
        self.waited = None;
        if self.line.take().is_some() {
            let ts = self.clock(ts_ns);
            to.end(ts)?;
        }
        Ok(())
    }

    fn end_calls(&mut self, keep: usize, ts_ns: u64, to: &mut impl Timeline) -> io::Result<()> {
        while self.open.len() > keep {
            self.open.pop();
            let ts = self.clock(ts_ns);
            to.end(ts)?;
        }
        Ok(())
    }

    /// Time never goes back on a track.
    fn clock(&mut self, ts_ns: u64) -> u64 {
        self.written_ns = self.written_ns.max(ts_ns);
        self.written_ns
    }

    /// Puts the outer calls that a cut stack lacks back in place, if its outermost call is open.
    fn complete(&self, stack: &mut Stack) {
        if !stack.truncated {
            return;
        }
        let Some(first) = stack.calls.first() else { return };
        if let Some(at) = self.open.iter().position(|open| open.key == first.key && open.at == first.at) {
            stack.calls.splice(0..0, self.open[..at].iter().cloned());
        }
    }

    /// How many of the open calls go on in `stack`.
    fn shared(&self, stack: &Stack) -> usize {
        let mut shared = 0;
        for (index, (before, now)) in self.open.iter().zip(&stack.calls).enumerate() {
            let called_alike = index == 0 || self.open[index - 1].lasti == stack.calls[index - 1].lasti;
            if before.key != now.key || before.at != now.at || !called_alike || !Arc::ptr_eq(&before.code, &now.code) {
                break;
            }
            if let (Some(from), Some(to)) = (before.lasti, now.lasti)
                && !now.code.loops.reach(from, to)
            {
                break;
            }
            shared += 1;
        }
        shared
    }
}
