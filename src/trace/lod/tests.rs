//! Levels of detail against the plain way: every slice looked at for every cell.

use proptest::prelude::*;

use super::super::model::{ArgsId, Flags, Layer, Parent, Slice, StrId, Track};
use super::super::nest::nest;
use super::*;

const CLASS_OF: [Class; 6] = [Class(0), Class(3), Class(7), Class(15), Class(200), Class(1)];

fn track(slices: impl IntoIterator<Item = (u64, u64, u32, bool)>) -> Track {
    let mut slices: Vec<Slice> = slices
        .into_iter()
        .map(|(start_ns, dur_ns, name, estimate)| Slice {
            start_ns,
            dur_ns,
            name: StrId(name),
            args: ArgsId(0),
            depth: 0,
            flags: if estimate { Flags::ESTIMATE } else { Flags::default() },
        })
        .collect();
    nest(&mut slices);
    Track {
        parent: Parent::Global,
        name: StrId(0),
        layer: Layer::Torch,
        slices,
        instants: Vec::new(),
        counters: Vec::new(),
    }
}

/// One cell, by looking at every slice.
fn plain_cell(track: &Track, depth: usize, from_ns: u64, to_ns: u64, keep: &dyn Fn(&Slice) -> bool) -> Cell {
    let mut cell = Cell::default();
    let mut by_class = [0u64; CLASSES];
    let mut longest_ns = 0;
    for (i, s) in track.slices.iter().enumerate() {
        let touches = s.start_ns < to_ns && (s.end_ns() > from_ns || s.start_ns >= from_ns);
        if usize::from(s.depth) != depth || !touches || !keep(s) {
            continue;
        }
        let inside = s.end_ns().min(to_ns).saturating_sub(s.start_ns.max(from_ns));
        cell.busy_ns += inside;
        let class = CLASS_OF.get(s.name.0 as usize).map_or(0, |c| usize::from(c.0).min(CLASSES - 1));
        by_class[class] += inside.max(1);
        if s.flags.has(Flags::ESTIMATE) {
            cell.estimate_ns += inside;
        }
        if cell.count == 0 || s.dur_ns > longest_ns {
            longest_ns = s.dur_ns;
            cell.longest = i as u32;
        }
        cell.count += 1;
    }
    let dominant = by_class.iter().enumerate().max_by_key(|(i, ns)| (**ns, CLASSES - i)).map_or(0, |(i, _)| i);
    cell.class = Class(dominant as u8);
    cell
}

fn check(index: &TrackIndex, track: &Track, from_ns: u64, to_ns: u64, columns: usize, keep: &dyn Fn(&Slice) -> bool) {
    let mut cells = Vec::new();
    for depth in 0..index.depths() + 1 {
        index.cells(track, depth, from_ns, to_ns, columns, &mut cells);
        assert_eq!(cells.len(), columns);
        for (column, cell) in cells.iter().enumerate() {
            let edge = |column: usize| from_ns + ((to_ns - from_ns) as usize * column / columns) as u64;
            let (from, to) = (edge(column), edge(column + 1).max(edge(column) + 1));
            assert_eq!(*cell, plain_cell(track, depth, from, to, keep), "depth {depth}, {from}..{to}");
            assert_eq!(*cell, index.cell(track, depth, from, to));
        }
        let row: Vec<u32> = (0u32..)
            .zip(&track.slices)
            .filter(|(_, s)| usize::from(s.depth) == depth && keep(s))
            .map(|(i, _)| i)
            .collect();
        assert_eq!(index.row(depth), row);
    }
}

fn slices() -> impl Strategy<Value = Vec<(u64, u64, u32, bool)>> {
    prop_oneof![
        // Crossing, nested, without length, all in one place.
        prop::collection::vec((0..3000u64, 0..400u64, 0..7u32, any::<bool>()), 0..200),
        // Many side by side: blocks, and blocks of blocks.
        prop::collection::vec((0..4u64, 0..6u64, 0..7u32, any::<bool>()), 0..3000).prop_map(|steps| {
            let mut now = 0;
            let place = |(gap, dur, name, estimate)| {
                now += gap;
                let start = now;
                now += dur;
                (start, dur, name, estimate)
            };
            steps.into_iter().map(place).collect()
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_stretch_is_exact(slices in slices(), from in 0..9000u64, length in 1..9000u64, columns in 1..60usize) {
        let track = track(slices);
        let index = TrackIndex::build(&track, &CLASS_OF, &|_| true);
        check(&index, &track, from, from + length, columns, &|_| true);
        check(&index, &track, 0, 20_000, columns, &|_| true);
        let keep = |s: &Slice| s.dur_ns >= 3;
        check(&TrackIndex::build(&track, &CLASS_OF, &keep), &track, from, from + length, columns, &keep);
    }

    #[test]
    fn a_changed_tail_is_taken_in(old in slices(), new in slices(), cut in 0..3000usize) {
        let (old, new) = (track(old), track(new));
        let mut index = TrackIndex::build(&old, &CLASS_OF, &|_| true);
        // The new slices from `cut` on, behind the old ones before it.
        let cut = cut.min(old.slices.len());
        let mut both = old.clone();
        both.slices.truncate(cut);
        let shift = both.slices.iter().map(Slice::end_ns).max().unwrap_or(0);
        both.slices.extend(new.slices.iter().map(|s| Slice { start_ns: s.start_ns + shift, ..*s }));
        index.refresh(&both, cut, &CLASS_OF, &|_| true);
        check(&index, &both, 0, shift + 5000, 37, &|_| true);
    }

    #[test]
    fn neighbours_are_found(slices in slices(), ts in 0..4000u64) {
        let track = track(slices);
        let index = TrackIndex::build(&track, &CLASS_OF, &|_| true);
        for depth in 0..index.depths() {
            let row = index.row(depth);
            let start = |i: u32| track.slices[i as usize].start_ns;
            prop_assert_eq!(index.next(&track, depth, ts), row.iter().copied().find(|&i| start(i) > ts));
            prop_assert_eq!(index.previous(&track, depth, ts), row.iter().copied().rev().find(|&i| start(i) < ts));
            let covers = |i: &u32| start(*i) == ts || (start(*i)..track.slices[*i as usize].end_ns()).contains(&ts);
            prop_assert_eq!(index.at(&track, depth, ts), row.iter().copied().rfind(covers));
            for pair in row.windows(2) {
                prop_assert_eq!(index.beside(&track, pair[0], false), Some(pair[1]));
                prop_assert_eq!(index.beside(&track, pair[1], true), Some(pair[0]));
            }
        }
    }
}

#[test]
fn the_last_slice_of_a_row_may_grow() {
    let mut track = track((0..64).map(|n| (n * 10, 5, 1, false)));
    let index = TrackIndex::build(&track, &CLASS_OF, &|_| true);
    track.slices[63].dur_ns = 5000;
    check(&index, &track, 0, 7000, 50, &|_| true);
}

#[test]
fn a_deep_track_is_refreshed_at_its_end() {
    let deep = 10_000u64;
    let mut all: Vec<_> = (0..deep).map(|n| (n, 2 * deep - n, 1, false)).collect();
    all.extend((0..50).map(|n| (deep + n * 2, 1, 2, false)));
    let mut track = track(all);
    let mut index = TrackIndex::build(&track, &CLASS_OF, &|_| true);
    assert_eq!(index.depths() as u64, deep + 1);
    track.slices.truncate(track.slices.len() - 10);
    index.refresh(&track, track.slices.len(), &CLASS_OF, &|_| true);
    assert_eq!(index.row(deep as usize).len(), 40);
    track.slices.truncate(100);
    index.refresh(&track, 100, &CLASS_OF, &|_| true);
    assert_eq!(index.depths(), 100);
}

#[test]
fn times_at_the_end_of_all_time_do_no_harm() {
    let track = track([(u64::MAX - 1, 1, 1, false), (0, u64::MAX, 2, true), (u64::MAX, 0, 1, false)]);
    let index = TrackIndex::build(&track, &CLASS_OF, &|_| true);
    let mut cells = Vec::new();
    index.cells(&track, 0, 0, u64::MAX, 10, &mut cells);
    assert!(cells.iter().all(|cell| cell.count > 0 && cell.busy_ns > 0));
    index.cells(&track, 0, u64::MAX - 1, u64::MAX, 10, &mut cells);
    index.cells(&track, 0, 5, 5, 0, &mut cells);
    assert!(cells.is_empty());
    assert_eq!(index.next(&track, 0, u64::MAX), None);
}
