//! Synthetic stacks, and that what comes out always nests.

use std::io;
use std::sync::Arc;

use proptest::prelude::*;

use super::code::Code;
use super::linetable::Lines;
use super::loops::Loops;
use super::merge::{Call, Line, Merger, Stack, Timeline};
use super::offsets::LineFormat;

const MS: u64 = 1_000_000;
const PERIOD: u64 = 10 * MS;

/// Slices as (name, start, end, depth), in order of their begin.
#[derive(Default)]
struct Slices {
    all: Vec<(String, u64, u64, usize)>,
    open: Vec<usize>,
    last: u64,
}

impl Slices {
    fn begin(&mut self, ts: u64, name: String) -> io::Result<()> {
        assert!(ts >= self.last, "time goes back");
        self.last = ts;
        self.open.push(self.all.len());
        self.all.push((name, ts, 0, self.open.len() - 1));
        Ok(())
    }

    /// "name start-end" in milliseconds, indented by depth.
    fn text(&self) -> String {
        let line = |(name, start, end, depth): &(String, u64, u64, usize)| {
            format!("{}{name} {}-{}\n", "  ".repeat(*depth), *start as f64 / 1e6, *end as f64 / 1e6)
        };
        self.all.iter().map(line).collect()
    }
}

impl Timeline for Slices {
    fn call(&mut self, ts_ns: u64, code: &Code, call_line: u32) -> io::Result<()> {
        let from = if call_line == 0 { String::new() } else { format!("@{call_line}") };
        self.begin(ts_ns, format!("{}{from}", code.name))
    }
    fn line(&mut self, ts_ns: u64, line: &Line) -> io::Result<()> {
        let waiting = if line.waiting { " waiting" } else { "" };
        let native = line.native.as_ref().map_or(String::new(), |native| format!(" in {native}"));
        self.begin(ts_ns, format!(":{}{native}{waiting}", line.line))
    }
    fn end(&mut self, ts_ns: u64) -> io::Result<()> {
        assert!(ts_ns >= self.last, "time goes back");
        self.last = ts_ns;
        let index = self.open.pop().expect("an end has its begin");
        self.all[index].2 = ts_ns;
        Ok(())
    }
}

/// A function of straight code, one line every two bytes: line n at position 2n.
fn function(name: &str, loops: Loops) -> Arc<Code> {
    let table = [2_u8, 1].repeat(100);
    Arc::new(Code {
        name: name.into(),
        file: "/x/f.py".into(),
        base: "f.py".into(),
        first_line: 0,
        lines: Lines::decode(LineFormat::Ranges, &table, 0),
        loops,
    })
}

struct World(Vec<Arc<Code>>);

impl World {
    /// main has a loop, the others have none.
    fn new() -> World {
        let main = function("main", Loops::Known(vec![(100, 0)]));
        World(std::iter::once(main).chain(["f", "g", "h"].map(|name| function(name, Loops::Known(vec![])))).collect())
    }

    /// A stack of (function, line), frames one after the other.
    fn stack(&self, start: u64, end: u64, calls: &[(usize, u32)]) -> Stack {
        let call = |(depth, &(code, line)): (usize, &(usize, u32))| Call {
            key: code as u64,
            at: depth as u64,
            code: self.0[code].clone(),
            lasti: Some(2 * (line - 1)),
        };
        Stack {
            start: start * MS,
            end: end * MS,
            calls: calls.iter().enumerate().map(call).collect(),
            truncated: false,
            waiting: end > start,
            gil: false,
            native: None,
        }
    }
}

fn merged(stacks: impl IntoIterator<Item = Stack>, end: u64) -> String {
    let (mut merger, mut slices) = (Merger::new(PERIOD), Slices::default());
    for stack in stacks {
        merger.add(stack, &mut slices).unwrap();
    }
    merger.close(end * MS, &mut slices).unwrap();
    assert!(slices.open.is_empty());
    slices.text()
}

#[test]
fn samples_of_one_call_are_one_slice_and_edges_lie_between_samples() {
    let world = World::new();
    let sample = |ms, calls: &[(usize, u32)]| world.stack(ms, ms, calls);
    let text = merged(
        [
            sample(10, &[(0, 1), (1, 5)]),
            sample(20, &[(0, 1), (1, 5)]),
            sample(30, &[(0, 1), (1, 6)]),
            sample(40, &[(0, 2), (2, 1)]),
        ],
        42,
    );
    assert_eq!(text, "main 5-42\n  f@1 5-35\n    :5 5-25\n    :6 25-35\n  g@2 35-42\n    :1 35-42\n");
}

#[test]
fn a_wait_is_exact_and_its_line_goes_on_around_it() {
    let world = World::new();
    let text = merged(
        [
            world.stack(10, 10, &[(0, 1), (1, 5)]),
            world.stack(14, 34, &[(0, 1), (1, 5)]),
            world.stack(40, 40, &[(0, 1), (1, 5)]),
        ],
        41,
    );
    assert_eq!(text, "main 5-41\n  f@1 5-41\n    :5 5-14\n    :5 waiting 14-34\n    :5 34-41\n");
    // Another line before and after: the edges to it are in the middle.
    let text = merged(
        [
            world.stack(10, 10, &[(0, 1), (1, 5)]),
            world.stack(14, 34, &[(0, 1), (1, 6)]),
            world.stack(40, 40, &[(0, 1), (1, 7)]),
        ],
        41,
    );
    assert_eq!(text, "main 5-41\n  f@1 5-41\n    :5 5-12\n    :6 waiting 14-34\n    :7 37-41\n");
}

#[test]
fn the_next_call_of_a_function_is_another_slice() {
    let world = World::new();
    let sample = |ms, calls: &[(usize, u32)]| world.stack(ms, ms, calls);
    // Called from another line of main.
    let text = merged([sample(10, &[(0, 1), (1, 5)]), sample(20, &[(0, 2), (1, 5)])], 20);
    assert_eq!(text, "main 5-20\n  f@1 5-15\n    :5 5-15\n  f@2 15-20\n    :5 15-20\n");
    // From the same line, but f has no loop that would lead back from line 9 to line 3.
    let text = merged([sample(10, &[(0, 1), (1, 9)]), sample(20, &[(0, 1), (1, 3)])], 20);
    assert_eq!(text, "main 5-20\n  f@1 5-15\n    :9 5-15\n  f@1 15-20\n    :3 15-20\n");
    // main has one.
    let text = merged([sample(10, &[(0, 9)]), sample(20, &[(0, 3)])], 20);
    assert_eq!(text, "main 5-20\n  :9 5-15\n  :3 15-20\n");
    // Another frame.
    let mut other = sample(20, &[(0, 1), (1, 5)]);
    other.calls[1].at = 77;
    let text = merged([sample(10, &[(0, 1), (1, 5)]), other], 20);
    assert_eq!(text, "main 5-20\n  f@1 5-15\n    :5 5-15\n  f@1 15-20\n    :5 15-20\n");
}

#[test]
fn where_nothing_was_seen_nothing_is_claimed_at_the_bottom() {
    let world = World::new();
    let sample = |ms, calls: &[(usize, u32)]| world.stack(ms, ms, calls);
    let text = merged([sample(10, &[(0, 1), (1, 5)]), sample(100, &[(0, 1), (1, 5)])], 100);
    assert_eq!(text, "main 5-100\n  f@1 5-100\n    :5 5-15\n    :5 95-100\n");
    // After a second, not even the calls.
    let text = merged([sample(10, &[(0, 1)]), sample(2000, &[(0, 1)])], 2000);
    assert_eq!(text, "main 5-15\n  :1 5-15\nmain 1995-2000\n  :1 1995-2000\n");
}

#[test]
fn a_cut_stack_is_completed_from_the_open_calls() {
    let world = World::new();
    let mut cut = world.stack(20, 20, &[(0, 1), (1, 5), (2, 1), (3, 1)]);
    cut.calls.drain(..1);
    cut.truncated = true;
    let text = merged([world.stack(10, 10, &[(0, 1), (1, 5), (2, 1)]), cut.clone()], 20);
    assert_eq!(text, "main 5-20\n  f@1 5-20\n    g@5 5-20\n      :1 5-15\n      h@1 15-20\n        :1 15-20\n");
    let text = merged([cut], 20);
    assert_eq!(text, "f 15-20\n  g@5 15-20\n    h@1 15-20\n      :1 15-20\n");
}

#[test]
fn a_sample_sent_before_an_earlier_wait_takes_its_place() {
    let world = World::new();
    let text = merged([world.stack(30, 30, &[(0, 2)]), world.stack(10, 29, &[(0, 1)])], 31);
    assert_eq!(text, "main 10-31\n  :1 waiting 10-29\n  :2 29.5-31\n");
}

proptest! {
    #[test]
    fn any_stacks_nest(
        events in proptest::collection::vec(
            (0_u64..60, 0_u64..40, proptest::collection::vec((0_usize..4, 1_u32..20), 0..6), any::<[bool; 3]>()),
            1..60,
        ),
    ) {
        let world = World::new();
        let (mut merger, mut slices) = (Merger::new(PERIOD), Slices::default());
        let mut now = 100;
        for (step, length, calls, [truncated, late, flush]) in events {
            // Some come late, some overlap what was before.
            now += step;
            let end = if late { now.saturating_sub(90) } else { now };
            let mut stack = world.stack(end.saturating_sub(length), end, &calls);
            stack.truncated = truncated;
            merger.add(stack, &mut slices).unwrap();
            if flush {
                merger.flush((now - 50) * MS, &mut slices).unwrap();
            }
        }
        merger.close(now * MS, &mut slices).unwrap();
        // `Slices` has checked order and pairing; now that children lie in their parents.
        prop_assert!(slices.open.is_empty());
        let mut parents: Vec<(u64, u64)> = Vec::new();
        for (_, start, end, depth) in &slices.all {
            parents.truncate(*depth);
            prop_assert!(start <= end);
            if let Some((parent_start, parent_end)) = parents.last() {
                prop_assert!(parent_start <= start && end <= parent_end);
            }
            parents.push((*start, *end));
        }
    }
}
