//! The finder: tracks, threads, processes and ranks by some of their letters.

use nucleo_matcher::pattern::{CaseMatching, Normalization, Pattern};
use nucleo_matcher::{Config, Matcher, Utf32Str};

use crate::tui::scene::{NodeId, NodeKind};
use crate::tui::state::{Finder, Mode, Prompt, PromptKind, State};

/// So many are kept: nobody reads further.
const KEPT: usize = 200;
/// Nodes a frame looks at.
pub(super) const PORTION: usize = 8_000;

impl State {
    /// A node's label behind those it hangs under: "rank 3 / python3 812 / torch".
    pub fn node_path(&self, id: NodeId) -> String {
        let mut labels = Vec::new();
        let mut node = self.scene.tree.get(id);
        while let Some(at) = node {
            labels.push(at.label.as_str());
            node = at.parent.and_then(|id| self.scene.tree.get(id));
        }
        labels.reverse();
        labels.join(" / ")
    }

    /// Starts to look for what is typed; small recordings are looked through at once.
    pub(super) fn look_for_nodes(&mut self) {
        self.finder = Finder { hits: Vec::new(), next: Some(0) };
        self.advance_finder(PORTION);
    }

    /// Goes on looking; true once all nodes were seen.
    pub(super) fn advance_finder(&mut self, portion: usize) -> bool {
        let Mode::Prompt(Prompt { kind: PromptKind::Finder, text, .. }) = &self.mode else { return true };
        let Some(from) = self.finder.next else { return true };
        let pattern = Pattern::parse(text, CaseMatching::Smart, Normalization::Smart);
        let mut matcher = Matcher::new(Config::DEFAULT);
        let mut letters = Vec::new();
        let to = self.scene.tree.nodes.len().min(from.saturating_add(portion));
        let mut hits = std::mem::take(&mut self.finder.hits);
        for at in from..to {
            let id = NodeId(at as u32);
            if let Some(score) = pattern.score(Utf32Str::new(&self.node_path(id), &mut letters), &mut matcher) {
                hits.push((score, id));
            }
        }
        hits.sort_by_key(|(score, id)| (std::cmp::Reverse(*score), *id));
        hits.truncate(KEPT);
        let whole = to == self.scene.tree.nodes.len();
        self.finder = Finder { hits, next: (!whole).then_some(to) };
        whole
    }

    /// Goes to the line of the chosen hit, unfolding what it is under.
    pub(super) fn go_to_found(&mut self, choice: usize) {
        match self.finder.hits.get(choice) {
            Some(&(_, id)) => self.go_to_node(id),
            None => self.say("no such track: Ctrl-P looks again"),
        }
    }

    /// Goes to a node's line, unfolding what it is under.
    pub(super) fn go_to_node(&mut self, id: NodeId) {
        if let Some(NodeKind::Track(track)) = self.scene.tree.get(id).map(|node| node.kind)
            && self.unhide(track)
        {
            self.say("the filter hid this track: it now shows its layer and rank");
            self.rebuild_lines();
        }
        self.unfold_to(id);
        self.choose_node(id);
        self.select_under_cursor();
    }
}
