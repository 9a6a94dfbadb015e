//! What has to be read, and whether it fits.

use std::ops::Range;

use super::super::memory_error::MemoryError;
use super::super::portion::{self, Portion};
use super::super::room::{self, Room};
use super::{Options, Way};
use crate::host::block_device;
use crate::host::page_cache;
use crate::host::tree::Tree;

/// A part of a file that one thread reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Which of the plan's portions.
    pub portion: usize,
    /// Bytes of the file.
    pub range: Range<u64>,
    /// Whether the file goes on behind it with what is not meant: nothing may be read ahead then.
    pub exact: bool,
}

/// What is to be read.
#[derive(Debug, Clone)]
pub struct Plan {
    /// All that is meant, in the loader's order.
    pub portions: Vec<Portion>,
    /// What of it has to be read, in that order.
    pub spans: Vec<Span>,
    /// Bytes that are meant.
    pub bytes: u64,
    /// Those that were in the page cache, as far as it is known.
    pub resident_bytes: u64,
    /// Bytes to read: the spans'.
    pub read_bytes: u64,
    /// Bytes that do not fit and are left out.
    pub left_out_bytes: u64,
    /// Room that there was.
    pub room: Room,
    /// How the spans are read.
    pub way: Way,
    /// By how many threads.
    pub threads: usize,
}

/// What is partly resident is looked at in pieces of this size.
const LOOK: u64 = 8 << 20;

/// Plans. The device of the first file stands for all: models lie in one place.
///
/// # Errors
/// If a file can't be opened, the machine's memory can't be seen, or not all of it fits and
/// [`Options::fit`] is not set.
pub fn plan(portions: Vec<Portion>, options: &Options, tree: &Tree) -> Result<Plan, MemoryError> {
    let bytes = portions.iter().map(Portion::bytes).sum();
    let mut missing: Vec<Span> = Vec::new();
    let mut way = None;
    for (index, portion) in portions.iter().enumerate().filter(|(_, portion)| !portion.ranges.is_empty()) {
        let file = portion::open(&portion.path).map_err(|error| MemoryError::file("open", &portion.path, error))?;
        let path = block_device::read_path(tree, &file);
        if path.is_memory {
            continue;
        }
        // The weights decide, not the small files before them.
        if portion.length >= LOOK || way.is_none() {
            way = Some(Way::suited_to(path.read_ahead_bytes));
        }
        for range in &portion.ranges {
            for range in absent(&file, range.clone()) {
                missing.push(Span { portion: index, range, exact: false });
            }
        }
    }
    let missing_bytes = length(&missing);
    let resident_bytes = bytes - missing_bytes;
    let room = room::look(tree, &options.terms, resident_bytes)?;
    if missing_bytes > room.bytes && !options.fit {
        return Err(MemoryError::TooLarge { needed_bytes: missing_bytes, room });
    }
    let fitting = first(missing, room.bytes);
    let read_bytes = length(&fitting);
    let way = options.way.or(way).unwrap_or(Way::Populate);
    let spans = cut(fitting, way.span(), &portions);
    let threads = options.threads.unwrap_or(way.threads()).clamp(1, spans.len().max(1));
    let left_out_bytes = missing_bytes - read_bytes;
    Ok(Plan { portions, spans, bytes, resident_bytes, read_bytes, left_out_bytes, room, way, threads })
}

fn length(spans: &[Span]) -> u64 {
    spans.iter().map(|span| span.range.end - span.range.start).sum()
}

/// The parts of a range that are not wholly resident; where it is unknown, all of it.
pub(super) fn absent(file: &std::fs::File, range: Range<u64>) -> Vec<Range<u64>> {
    let resident = |range: &Range<u64>| page_cache::cached(file, range.clone()).map(|cached| cached.bytes);
    let size = range.end - range.start;
    match resident(&range) {
        Ok(bytes) if bytes >= size => return Vec::new(),
        Ok(0) | Err(_) => return vec![range],
        Ok(_) => {}
    }
    let mut absent: Vec<Range<u64>> = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let piece = at..range.end.min((at / LOOK + 1) * LOOK);
        at = piece.end;
        if resident(&piece).is_ok_and(|bytes| bytes >= piece.end - piece.start) {
            continue;
        }
        match absent.last_mut() {
            Some(last) if last.end == piece.start => last.end = piece.end,
            _ => absent.push(piece),
        }
    }
    absent
}

/// The first bytes of some spans.
fn first(spans: Vec<Span>, mut bytes: u64) -> Vec<Span> {
    let mut kept = Vec::new();
    for mut span in spans {
        let size = (span.range.end - span.range.start).min(bytes);
        bytes -= size;
        span.range.end = span.range.start + size;
        if size > 0 {
            kept.push(span);
        }
    }
    kept
}

/// The kernel may read so far ahead of a reader: twice the largest usual setting.
const READ_AHEAD: u64 = 32 << 20;

/// Cuts spans at multiples of a size, so that no two threads read one huge page.
fn cut(spans: Vec<Span>, size: u64, portions: &[Portion]) -> Vec<Span> {
    let mut cut = Vec::new();
    for Span { portion, range, .. } in spans {
        let goes_on = portions.get(portion).is_some_and(|portion| range.end < portion.length);
        let mut at = range.start;
        while at < range.end {
            let end = range.end.min((at / size + 1) * size);
            let exact = goes_on && end.saturating_add(READ_AHEAD) > range.end;
            cut.push(Span { portion, range: at..end, exact });
            at = end;
        }
    }
    cut
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn span(portion: usize, range: Range<u64>) -> Span {
        Span { portion, range, exact: false }
    }

    fn portion(length: u64) -> Portion {
        Portion { name: String::new(), path: "x".into(), length, ranges: Vec::new() }
    }

    #[test]
    fn spans_are_cut_where_huge_pages_end() {
        let portions = [portion(25), portion(20)];
        assert_eq!(
            cut(vec![span(0, 5..25), span(1, 10..20)], 10, &portions),
            [span(0, 5..10), span(0, 10..20), span(0, 20..25), span(1, 10..20)]
        );
        let far = READ_AHEAD * 2;
        let cut = cut(vec![span(0, 0..far)], READ_AHEAD / 2, &[portion(far + 1)]);
        let exact: Vec<bool> = cut.iter().map(|span| span.exact).collect();
        assert_eq!(exact, [false, false, true, true], "nothing is read ahead behind what is meant");
        assert_eq!(first(vec![span(0, 0..10), span(1, 5..10)], 12), [span(0, 0..10), span(1, 5..7)]);
        assert_eq!(first(vec![span(0, 0..10)], 0), []);
    }

    proptest! {
        #[test]
        fn cutting_loses_nothing(ranges in prop::collection::vec((0u64..1000, 1u64..500), 0..5), size in 1u64..300, room in 0u64..2000) {
            let spans: Vec<Span> = ranges.iter().enumerate().map(|(i, (from, size))| span(i, *from..from + size)).collect();
            let all = length(&spans);
            let fitting = first(spans, room);
            prop_assert_eq!(length(&fitting), all.min(room));
            let cut = cut(fitting, size, &[]);
            prop_assert_eq!(length(&cut), all.min(room));
            prop_assert!(cut.iter().all(|span| span.range.start / size == (span.range.end - 1) / size));
        }
    }
}
