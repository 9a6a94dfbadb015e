//! Pairs begins with ends and makes slices nest, mending what can't be true.

use std::cmp::Reverse;

use super::model::{ArgsId, Flags, Slice, StrId, Trace};

/// From this many slices on, a track is sorted in place: the scratch of a stable sort would
/// be half as large as the slices.
const STABLE_SORT_LIMIT: usize = 1 << 20;

/// Whether a [`RawEvent`] opens or closes a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RawKind {
    Begin,
    End,
}

/// A begin or an end that still looks for its partner.
#[derive(Debug, Clone, Copy)]
pub(super) struct RawEvent {
    pub ts_ns: u64,
    pub name: StrId,
    pub args: ArgsId,
    pub flags: Flags,
    pub kind: RawKind,
}

/// What had to be mended, over all tracks.
#[derive(Debug, Default)]
pub(super) struct Mended {
    /// Ends without a begin, left out.
    pub orphan_ends: u64,
    /// Begins without an end, closed at the recording's end.
    pub unfinished: u64,
    /// Slices shortened because they crossed another.
    pub crossed: u64,
}

impl Mended {
    /// The warnings, for people.
    pub fn words(&self) -> impl Iterator<Item = String> {
        let line = |count: u64, one: &str, many: &str| match count {
            0 => None,
            1 => Some(format!("1 {one}")),
            n => Some(format!("{n} {many}")),
        };
        [
            line(self.orphan_ends, "end without a begin was left out", "ends without a begin were left out"),
            line(
                self.unfinished,
                "slice has no end and was closed where the recording ends",
                "slices have no end and were closed where the recording ends",
            ),
            line(
                self.crossed,
                "slice crossed another on its track and was cut",
                "slices crossed others on their track and were cut",
            ),
        ]
        .into_iter()
        .flatten()
    }
}

/// Pairs one track's begins and ends as a stack, by time and then by order of arrival, and adds
/// the slices to the track.
pub(super) fn pair(trace: &mut Trace, track: usize, mut raw: Vec<RawEvent>, last_ns: u64, mended: &mut Mended) {
    if !raw.is_sorted_by_key(|e| e.ts_ns) {
        raw.sort_by_key(|e| e.ts_ns);
    }
    let Some(target) = trace.tracks.get_mut(track) else { return };
    let mut slices = std::mem::take(&mut target.slices);
    let mut open: Vec<usize> = Vec::new();
    for event in raw {
        match event.kind {
            RawKind::Begin => {
                open.push(slices.len());
                slices.push(Slice {
                    start_ns: event.ts_ns,
                    dur_ns: 0,
                    name: event.name,
                    args: event.args,
                    depth: 0,
                    flags: event.flags,
                });
            }
            RawKind::End => {
                let Some(index) = open.pop() else {
                    mended.orphan_ends += 1;
                    continue;
                };
                let slice = &mut slices[index];
                slice.dur_ns = event.ts_ns - slice.start_ns;
                if slice.args.0 == 0 {
                    slice.args = event.args;
                } else if event.args.0 != 0 {
                    let both: Vec<_> = trace.args.run(slice.args).chain(trace.args.run(event.args)).collect();
                    slice.args = trace.push_args(both);
                }
            }
        }
    }
    for index in open {
        mended.unfinished += 1;
        let slice = &mut slices[index];
        slice.dur_ns = last_ns.saturating_sub(slice.start_ns);
        slice.flags = slice.flags.with(Flags::UNFINISHED);
    }
    if let Some(target) = trace.tracks.get_mut(track) {
        target.slices = slices;
    }
}

/// A parent comes before its children.
fn key(slice: &Slice) -> (u64, Reverse<u64>) {
    (slice.start_ns, Reverse(slice.end_ns()))
}

/// Sorts by moving late arrivals to their place, which is near where finished calls are written
/// as they finish. Returns false, with the rest unsorted, where that costs too much.
fn insert_sort(slices: &mut [Slice]) -> bool {
    let mut moves_left = slices.len().saturating_mul(32);
    for i in 1..slices.len() {
        let late = key(&slices[i]);
        if key(&slices[i - 1]) <= late {
            continue;
        }
        let near = i.saturating_sub(32);
        let to = if key(&slices[near]) <= late {
            near + slices[near..i].partition_point(|s| key(s) <= late)
        } else {
            slices[..near].partition_point(|s| key(s) <= late)
        };
        match moves_left.checked_sub(i - to) {
            Some(left) => moves_left = left,
            None => return false,
        }
        slices[to..=i].rotate_right(1);
    }
    true
}

/// Sorts slices so that a parent comes before its children; twins (same start, same end) keep
/// their order.
pub(super) fn sort(slices: &mut [Slice]) {
    if insert_sort(slices) {
        return;
    }
    if slices.len() < STABLE_SORT_LIMIT {
        return slices.sort_by_key(key);
    }
    // `depth` is free until slices are placed.
    let mut twin = 0u16;
    for i in 1..slices.len() {
        twin = if key(&slices[i]) == key(&slices[i - 1]) { twin.saturating_add(1) } else { 0 };
        slices[i].depth = twin;
    }
    slices.sort_unstable_by_key(|s| (s.start_ns, Reverse(s.end_ns()), s.depth));
}

/// Puts the sorted slice `i` under those that are still open (their ends and indices), sets its
/// depth and cuts what crosses. `cut` is told of each slice that is cut: its index, and how it
/// was. Returns how many were cut.
///
/// Of two that cross, the cut is made where the least time is lost: the earlier one ends where
/// the later one starts, or the later one ends with the earlier one.
pub(super) fn place(
    slices: &mut [Slice],
    i: usize,
    open: &mut Vec<(u64, usize)>,
    mut cut: impl FnMut(usize, &Slice),
) -> u64 {
    let mut crossed = 0;
    let start = slices[i].start_ns;
    let mut end = slices[i].end_ns();
    while open.last().is_some_and(|&(open_end, _)| open_end <= start) {
        open.pop();
    }
    while let Some(&(open_end, index)) = open.last() {
        if open_end >= end {
            break;
        }
        let unfinished = |i: usize, slices: &[Slice]| slices[i].flags.has(Flags::UNFINISHED);
        if unfinished(i, slices) {
            // Closed with its parent: that is what UNFINISHED says, nothing was lost.
            cut(i, &slices[i]);
            end = open_end;
        } else if slices[index].start_ns < start && (unfinished(index, slices) || open_end - start <= end - open_end) {
            let earlier = &mut slices[index];
            cut(index, earlier);
            earlier.dur_ns = start - earlier.start_ns;
            if !earlier.flags.has(Flags::UNFINISHED) {
                earlier.flags = earlier.flags.with(Flags::CLAMPED);
                crossed += 1;
            }
            open.pop();
            continue;
        } else {
            cut(i, &slices[i]);
            end = open_end;
            slices[i].flags = slices[i].flags.with(Flags::CLAMPED);
            crossed += 1;
        }
        break;
    }
    slices[i].dur_ns = end - start;
    slices[i].depth = u16::try_from(open.len()).unwrap_or(u16::MAX);
    open.push((end, i));
    crossed
}

/// Sorts slices, sets depths and cuts those that cross. Returns how many were cut.
pub(super) fn nest(slices: &mut [Slice]) -> u64 {
    sort(slices);
    let mut open = Vec::new();
    (0..slices.len()).map(|i| place(slices, i, &mut open, |_, _| {})).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(start_ns: u64, end_ns: u64) -> Slice {
        Slice {
            start_ns,
            dur_ns: end_ns - start_ns,
            name: StrId(0),
            args: ArgsId(0),
            depth: 0,
            flags: Flags::default(),
        }
    }

    fn nested(mut slices: Vec<Slice>) -> (Vec<(u64, u64, u16, u16)>, u64) {
        let crossed = nest(&mut slices);
        (slices.iter().map(|s| (s.start_ns, s.end_ns(), s.depth, s.flags.0)).collect(), crossed)
    }

    #[test]
    fn children_may_arrive_before_their_parent() {
        let (slices, crossed) = nested(vec![slice(10, 20), slice(20, 30), slice(10, 30), slice(5, 40)]);
        assert_eq!(slices, [(5, 40, 0, 0), (10, 30, 1, 0), (10, 20, 2, 0), (20, 30, 2, 0)]);
        assert_eq!(crossed, 0);
    }

    #[test]
    fn any_order_of_arrival_is_sorted() {
        // Far moves, too many for moving them one by one.
        let backwards: Vec<_> = (0..5000).rev().map(|n| slice(n * 10, n * 10 + 5)).collect();
        let (slices, crossed) = nested(backwards);
        assert!(slices.is_sorted() && slices.len() == 5000 && crossed == 0);
        // One that comes last and belongs first.
        let mut late: Vec<_> = (1..5000).map(|n| slice(n * 10, n * 10 + 5)).collect();
        late.push(slice(0, 60_000));
        let (slices, _) = nested(late);
        assert_eq!(slices[0], (0, 60_000, 0, 0));
        assert!(slices[1..].iter().all(|s| s.2 == 1));
    }

    #[test]
    fn a_small_overlap_cuts_the_earlier_slice() {
        let (slices, crossed) = nested(vec![slice(0, 1003), slice(1000, 2000)]);
        assert_eq!(slices, [(0, 1000, 0, Flags::CLAMPED.0), (1000, 2000, 0, 0)]);
        assert_eq!(crossed, 1);
    }

    #[test]
    fn a_small_overhang_cuts_the_later_slice() {
        let (slices, _) = nested(vec![slice(0, 1000), slice(10, 1003)]);
        assert_eq!(slices, [(0, 1000, 0, 0), (10, 1000, 1, Flags::CLAMPED.0)]);
    }

    #[test]
    fn a_cut_slice_keeps_its_place_before_one_that_starts_with_it() {
        // The second is cut to [10, 12]; the third starts with it and must not come out above it.
        let (slices, _) = nested(vec![slice(0, 12), slice(10, 13), slice(10, 12), slice(10, 13)]);
        assert!(slices.is_sorted_by_key(|s| (s.0, s.2)), "{slices:?}");
        assert!(slices.iter().all(|s| s.1 <= 13));
    }

    #[test]
    fn the_end_of_time_is_no_trouble() {
        let mut far = slice(u64::MAX - 1, u64::MAX);
        far.dur_ns = u64::MAX;
        let (slices, _) = nested(vec![far, slice(0, u64::MAX)]);
        assert_eq!(slices, [(0, u64::MAX, 0, 0), (u64::MAX - 1, u64::MAX, 1, 0)]);
    }
}
