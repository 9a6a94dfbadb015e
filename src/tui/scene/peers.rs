//! The same collective on other ranks.
//!
//! Ranks meet in the same order, so the k-th of a kind on one is the k-th on all. A capture
//! that began in the middle of one misses it on some ranks; then the order is lined up by when
//! the collectives end, which is when the ranks meet.

use super::{Partner, PartnerKind, Scene, SliceRef};
use crate::trace::{Arg, Layer, Parent, ProcessId, Slice, StrId, Trace, TrackId};

/// More collectives than this are not all gone over: only those near in time.
const ALL: usize = 300_000;
/// So many before and after on a track are near.
const NEAR: usize = 2048;
/// Orders are lined up by so many before and after.
const AROUND: usize = 16;
/// Ranks may have missed so many at the start of the capture.
const MISSED: isize = 4;

/// The same collective in every other process, ranks in order.
pub(super) fn peers(scene: &Scene, at: SliceRef) -> Vec<Partner> {
    let trace = &*scene.trace;
    let (Some(own), Some(slice), Some(process)) =
        (trace.tracks.get(at.track.0 as usize), scene.slice(at), scene.process_of(at.track))
    else {
        return Vec::new();
    };
    let on_device = |parent| matches!(parent, Parent::Process(_));
    let tracks: Vec<(TrackId, ProcessId)> = trace
        .tracks
        .iter()
        .enumerate()
        .filter(|(_, t)| t.layer == Layer::Nccl && on_device(t.parent) == on_device(own.parent))
        .filter_map(|(i, _)| Some((TrackId(i as u32), scene.process_of(TrackId(i as u32))?)))
        .collect();
    let whole = tracks.iter().map(|(t, _)| trace.tracks[t.0 as usize].slices.len()).sum::<usize>() <= ALL;
    let kind = Kind::of(trace, slice);
    let of = |wanted: ProcessId, kind: &Kind| -> Vec<(SliceRef, Slice)> {
        let mut all = Vec::new();
        for (id, _) in tracks.iter().filter(|(_, p)| *p == wanted) {
            let slices = &trace.tracks[id.0 as usize].slices;
            let middle = slices.partition_point(|s| s.start_ns < slice.start_ns);
            let (from, to) = if whole {
                (0, slices.len())
            } else {
                (middle.saturating_sub(NEAR), (middle + NEAR).min(slices.len()))
            };
            let here = slices.iter().enumerate().take(to).skip(from).filter(|(_, s)| kind.is(trace, s));
            all.extend(here.map(|(i, s)| (SliceRef { track: *id, index: i as u32 }, *s)));
        }
        all.sort_by_key(|(_, s)| s.start_ns);
        all
    };
    let mine = of(process, &kind);
    let Some(k) = mine.iter().position(|(other, _)| *other == at) else { return Vec::new() };
    let kind = kind.opposite(trace);
    let mut found: Vec<Partner> = Vec::new();
    for (p, other) in trace.processes.iter().enumerate() {
        let id = ProcessId(p as u32);
        if id == process || !tracks.iter().any(|(_, owner)| *owner == id) {
            continue;
        }
        let theirs = of(id, &kind);
        let place = if whole && mine.len() == theirs.len() { Some(k) } else { line_up(&mine, k, &theirs) };
        let at = place.and_then(|j| theirs.get(j)).map(|(at, _)| *at);
        found.extend(at.map(|at| Partner { kind: PartnerKind::OnRank(other.rank, other.pid), at }));
    }
    found.sort_by_key(|p| match p.kind {
        PartnerKind::OnRank(rank, pid) => (rank.unwrap_or(u32::MAX), pid),
        _ => (u32::MAX, u32::MAX),
    });
    found
}

/// Where the `k`-th of `mine` is among `theirs`, by when they end.
fn line_up(mine: &[(SliceRef, Slice)], k: usize, theirs: &[(SliceRef, Slice)]) -> Option<usize> {
    let end = mine.get(k)?.1.end_ns();
    let nearest = (0..theirs.len()).min_by_key(|j| theirs[*j].1.end_ns().abs_diff(end))?;
    let guess = nearest as isize - k as isize;
    let cost = |shift: isize| {
        let mut off: Vec<u64> = (k.saturating_sub(AROUND)..(k + AROUND).min(mine.len()))
            .filter_map(|i| {
                let j = usize::try_from(i as isize + shift).ok()?;
                Some(theirs.get(j)?.1.end_ns().abs_diff(mine[i].1.end_ns()))
            })
            .collect();
        off.sort_unstable();
        off.get(off.len() / 2).copied()
    };
    let shift = (guess - MISSED..=guess + MISSED)
        .filter_map(|shift| Some((cost(shift)?, shift.abs_diff(guess), shift)))
        .min()?
        .2;
    usize::try_from(k as isize + shift).ok().filter(|j| *j < theirs.len())
}

/// What two collectives have in common that are the same.
struct Kind {
    name: StrId,
    group: Option<StrId>,
    count: Option<u64>,
}

/// The group's name, unless it is an address, which is each rank's own.
fn group(trace: &Trace, slice: &Slice) -> Option<StrId> {
    match trace.arg(slice.args, "comm")? {
        Arg::Str(text) if !trace.text(text).starts_with("0x") => Some(text),
        _ => None,
    }
}

fn count(trace: &Trace, slice: &Slice) -> Option<u64> {
    trace.arg_u64(slice.args, "count").or_else(|| trace.arg_u64(slice.args, "bytes"))
}

impl Kind {
    fn of(trace: &Trace, slice: &Slice) -> Kind {
        Kind { name: slice.name, group: group(trace, slice), count: count(trace, slice) }
    }

    fn is(&self, trace: &Trace, slice: &Slice) -> bool {
        slice.name == self.name && group(trace, slice) == self.group && count(trace, slice) == self.count
    }

    /// What is met on the other side: a receive for a send.
    fn opposite(self, trace: &Trace) -> Kind {
        let name = trace.text(self.name);
        let swap = |from: &str, to: &str| name.contains(from).then(|| name.replacen(from, to, 1));
        let pairs = [("Send", "Recv"), ("Recv", "Send"), ("send", "recv"), ("recv", "send")];
        let swapped = pairs.iter().find_map(|(from, to)| swap(from, to)).and_then(|name| trace.strings.find(&name));
        // "sendrecv" is its own other side.
        let whole = name.to_ascii_lowercase();
        let both = whole.contains("send") && whole.contains("recv");
        Kind { name: swapped.filter(|_| !both).unwrap_or(self.name), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::ArgRef;
    use crate::tui::testing::Recording;

    fn ranks(skip: usize, calls: &[(u64, &str, &str)]) -> Scene {
        let mut recording = Recording::new();
        for rank in 0..2u32 {
            let pid = 10 + rank;
            recording = recording.process(pid, "python3", Some(rank)).thread(pid, pid, "python3");
            let skipped = if rank == 1 { skip } else { 0 };
            for (i, (size, zero, one)) in calls.iter().enumerate().skip(skipped) {
                let (start, end) = (i as u64 * 1000 + u64::from(rank) * 300, i as u64 * 1000 + 900);
                let name = if rank == 0 { zero } else { one };
                let comm = format!("0x{rank}f");
                let args = [("count", ArgRef::U64(*size)), ("comm", ArgRef::Str(&comm))];
                recording = recording.slice_with((pid, pid), Layer::Nccl, name, start, end - start, &args);
            }
        }
        recording.scene()
    }

    fn partner_of(scene: &Scene, nth: u32) -> Option<u64> {
        let partners = scene.partners(SliceRef { track: TrackId(0), index: nth });
        assert!(partners.len() <= 1, "{partners:?}");
        assert!(partners.iter().all(|p| p.kind == PartnerKind::OnRank(Some(1), 11)));
        partners.first().map(|p| scene.slice(p.at).unwrap().start_ns)
    }

    #[test]
    fn the_same_collective_is_the_one_of_the_same_number() {
        let mixed: Vec<(u64, &str, &str)> = (0..40)
            .map(|i| if i % 3 == 0 { (64, "allreduce", "allreduce") } else { (8, "broadcast", "broadcast") })
            .collect();
        let scene = ranks(0, &mixed);
        for nth in 0..40 {
            assert_eq!(partner_of(&scene, nth), Some(u64::from(nth) * 1000 + 300));
        }
    }

    #[test]
    fn a_capture_that_began_in_the_middle_is_lined_up() {
        let scene = ranks(2, &[(64, "allreduce", "allreduce"); 30]);
        assert_eq!(partner_of(&scene, 10), Some(10_300));
        assert_eq!(partner_of(&scene, 0), None, "the other rank's was not recorded");
    }

    #[test]
    fn a_send_finds_its_receive() {
        let scene =
            ranks(0, &[(64, "ncclSend", "ncclRecv"), (64, "ncclRecv", "ncclSend"), (64, "ncclSend", "ncclRecv")]);
        assert_eq!([0, 1, 2].map(|n| partner_of(&scene, n)), [Some(300), Some(1300), Some(2300)]);
    }
}
