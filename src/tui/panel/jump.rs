//! Going to a slice that the panel names: selected, on a row that is not folded away, and in view
//! with what is around it.

use crate::tui::scene::{PartnerKind, SliceRef, Window};
use crate::tui::state::{Message, State};

/// A slice that takes less than this share of the view is zoomed to.
const TOO_SMALL: u64 = 40;
/// Slices around one are shown at least so wide.
const LEAST_NS: u64 = 1000;

impl State {
    /// Selects a slice, and shows it with what is around it; false where it is not there.
    pub fn look_at(&mut self, at: SliceRef) -> bool {
        let Some(slice) = self.scene.slice(at).copied() else { return false };
        self.stop_following();
        let window = Window::new(slice.start_ns, slice.end_ns());
        if window.len_ns() < self.view.len_ns() / TOO_SMALL || window.len_ns() > self.view.len_ns() {
            let around = window.len_ns().max(LEAST_NS);
            let (from, to) = (window.from_ns.saturating_sub(around), window.to_ns.saturating_add(around));
            self.show(Window::new(from, to));
        }
        self.go_to(at);
        true
    }

    /// Goes to what the selected slice belongs together with: again and again, round all ranks.
    pub fn go_to_partner(&mut self) {
        let Some(at) = self.selected else {
            return self.partner_message("select a slice first, then x goes to its partner");
        };
        let partners = self.scene.partners(at);
        let process = self.scene.process_of(at.track).and_then(|p| self.scene.trace.processes.get(p.0 as usize));
        let own = process.map(|p| (p.rank.unwrap_or(u32::MAX), p.pid));
        let later = |kind| match kind {
            PartnerKind::OnRank(rank, pid) => Some((rank.unwrap_or(u32::MAX), pid)) > own,
            _ => true,
        };
        let next = partners.iter().find(|p| later(p.kind)).or(partners.first()).copied();
        match next {
            Some(partner) => {
                let words =
                    format!("{} {}", partner.kind.words(), crate::view::text::plain(self.scene.name(partner.at)));
                self.look_at(partner.at);
                self.partner_message(&words);
            }
            None => self.partner_message("nothing is known that this slice belongs together with"),
        }
    }

    fn partner_message(&mut self, text: &str) {
        self.message = Some(Message { text: text.to_owned(), bad: false });
    }
}

#[cfg(test)]
mod tests {
    use crate::trace::{Layer, TrackId};
    use crate::tui::scene::{NodeId, SliceRef, Window};
    use crate::tui::state::LineKind;
    use crate::tui::testing::{MS, Recording};

    #[test]
    fn a_deep_slice_of_a_folded_thread_is_shown() {
        let mut recording = Recording::new().process(1, "a", None).thread(1, 1, "a");
        for depth in 0..9u64 {
            recording = recording.slice((1, 1), Layer::Python, "f", 500 * MS + depth, 100_000 - depth * 2);
        }
        let mut state = recording.slice((1, 1), Layer::Torch, "x", 0, 2000 * MS).state(80, 24);
        state.folded.insert(NodeId(0));
        state.rebuild_lines();
        let at = SliceRef { track: TrackId(0), index: 8 };
        assert!(state.look_at(at));
        assert_eq!(state.selected, Some(at));
        assert_eq!(state.lines[state.line].kind, LineKind::Depth(TrackId(0), 8));
        let slice = Window::new(500 * MS + 8, 500 * MS + 99_992);
        assert!(state.view.from_ns < slice.from_ns && slice.to_ns < state.view.to_ns && state.view.len_ns() < MS);
        assert!(slice.holds(state.cursor_ns));
        assert!(!state.look_at(SliceRef { track: TrackId(9), index: 0 }));
    }

    #[test]
    fn partners_go_round_the_ranks() {
        let mut recording = Recording::new();
        for rank in 0..3 {
            let pid = 10 + rank;
            recording = recording.process(pid, "python3", Some(rank)).thread(pid, pid, "python3");
            recording = recording.slice((pid, pid), Layer::Nccl, "allreduce", 100 * MS + u64::from(rank), MS);
        }
        let mut state = recording.state(80, 24);
        state.go_to_partner();
        assert_eq!(state.selected, None);
        state.look_at(SliceRef { track: TrackId(0), index: 0 });
        let mut seen = || {
            state.go_to_partner();
            state.selected.map(|at| at.track.0)
        };
        assert_eq!([seen(), seen(), seen(), seen()], [Some(1), Some(2), Some(0), Some(1)]);
    }
}
