//! Jumping from step to step, and from outlier to outlier.

use crate::analyze::StepTimes;
use crate::tui::scene::{NodeKind, Window};
use crate::tui::state::State;

impl State {
    /// The steps that matter where the chosen line is: those of its process, else of its rank,
    /// else the first found.
    pub fn steps_here(&self) -> Option<&StepTimes> {
        let mut node = self.chosen_node();
        let (mut pid, mut rank) = (None, None);
        while let Some(at) = node.and_then(|id| self.scene.tree.get(id)) {
            match at.kind {
                NodeKind::Process(p) => pid = self.scene.trace.processes.get(p.0 as usize).map(|p| p.pid),
                NodeKind::Rank(r) => rank = Some(r),
                _ => {}
            }
            node = at.parent;
        }
        let steps = &self.scene.steps;
        let of_process = || steps.iter().find(|s| pid == Some(s.pid) && (rank.is_none() || s.rank == rank));
        let of_rank = || steps.iter().find(|s| rank.is_some() && s.rank == rank);
        of_process().or_else(of_rank).or(steps.first()).filter(|s| s.boundaries_ns.len() > 1)
    }

    /// The stretch of a step, counted from 1.
    pub fn step_window(&self, number: usize) -> Option<Window> {
        let edges = &self.steps_here()?.boundaries_ns;
        let from = *edges.get(number.checked_sub(1)?)?;
        Some(Window::new(from, *edges.get(number)?))
    }

    /// Goes to the next or the previous step.
    pub(super) fn step_by(&mut self, later: bool) {
        let Some(steps) = self.steps_here() else { return self.no_steps() };
        let (edges, count) = (&steps.boundaries_ns, steps.boundaries_ns.len() - 1);
        // The number of the step that the cursor is in; 0 before the first.
        let here = edges.partition_point(|edge| *edge <= self.cursor_ns);
        let to = if later { here + 1 } else { here.saturating_sub(1).min(count) };
        if (1..=count).contains(&to) {
            self.go_to_step(to);
        } else {
            self.say(if later { "this is the last step" } else { "this is the first step" });
        }
    }

    /// Goes to the next or the previous step or slice that took much longer than is usual.
    pub(super) fn outlier_by(&mut self, later: bool) {
        let all = self.scene.outliers();
        let at = if later {
            Some(all.partition_point(|outlier| outlier.window.from_ns <= self.cursor_ns))
        } else {
            // The one that the cursor is in does not count.
            let before = all.partition_point(|outlier| outlier.window.from_ns < self.cursor_ns);
            all.iter().take(before).rposition(|outlier| !outlier.window.holds(self.cursor_ns))
        };
        let Some(outlier) = at.and_then(|at| all.get(at)).copied() else {
            return self.say(match (self.scene.report.is_some(), all.is_empty(), later) {
                (false, ..) => "outliers are not known yet: the recording is still being judged",
                (true, true, _) => "no outliers: nothing took much longer than it usually does",
                (true, false, true) => "no later outlier; @ goes back",
                (true, false, false) => "no earlier outlier; ! goes on",
            });
        };
        let words = self.scene.outlier_words(&outlier);
        match self.scene.outlier_slice(&outlier) {
            Some(at) => self.go_to(at),
            None => self.show_range(outlier.window),
        }
        // The next one is looked for from here.
        self.set_cursor(outlier.window.from_ns);
        self.say(format!("{words}; Enter zooms to it"));
    }

    /// Makes a step the range and shows it.
    pub(super) fn go_to_step(&mut self, number: usize) {
        let Some(step) = self.step_window(number) else { return };
        self.show_range(step);
        let length = crate::view::human::seconds(step.len_ns() as f64 / 1e9);
        self.say(format!("step {number}, {length}; Enter zooms to it"));
    }

    /// Makes a stretch the range, brings it into view and puts the cursor on its start.
    fn show_range(&mut self, stretch: Window) {
        self.stop_following();
        self.range = Some(stretch);
        self.mark = None;
        self.selected = None;
        self.reveal(stretch);
        self.set_cursor(stretch.from_ns);
    }

    pub(super) fn no_steps(&mut self) {
        self.say(match self.scene.report {
            Some(_) => "no steps in this recording: none are marked, and nothing repeats often enough",
            None => "steps are not known yet: the recording is still being judged",
        });
    }
}
