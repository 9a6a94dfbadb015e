//! The column of labels: the tree with folds and pins, ranks by colour, what is left out.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};

use super::{body, pen};
use crate::tui::palette::{Colors, Look};
use crate::tui::scene::{Node, NodeKind};
use crate::tui::state::{Line, LineKind, State};

/// Draws the labels of the rows that are on the screen.
pub fn draw(state: &State, look: Look, area: Rect, buffer: &mut Buffer) {
    if area.width < 3 {
        return;
    }
    let height = usize::from(area.height);
    let mut above = None;
    for (row, y) in (area.top()..area.bottom()).enumerate() {
        let Some(at) = state.line_on_row(row, height) else { break };
        let Some(line) = state.lines.get(at) else { break };
        let pinned = at < state.pinned_lines;
        let here = Rect { y, height: 1, ..area };
        let first = above != Some((line.node, pinned));
        label(state, look, here, line, (first, at == state.line, pinned), buffer);
        above = Some((line.node, pinned));
    }
}

fn label(state: &State, look: Look, area: Rect, line: &Line, at: (bool, bool, bool), buffer: &mut Buffer) {
    let (first, chosen, pinned) = at;
    let Some(node) = state.scene.tree.get(line.node) else { return };
    let text = Rect { width: area.width - 1, ..area };
    if chosen {
        let style = look.chosen();
        let focused = if state.panel_focus { style.add_modifier(Modifier::DIM) } else { style };
        buffer.set_style(text, focused);
    }
    if let Some(rank) = rank_of(state, node) {
        let mark = if look.colors == Colors::None { ' ' } else { look.sign('▎', '|') };
        pen::sign(buffer, (area.x, area.y), mark, Style::new().fg(look.rank(rank)));
    }
    if pinned {
        pen::sign(buffer, (area.x, area.y), look.sign('◆', '^'), look.accent());
    }
    if !first {
        return;
    }
    let right = beside(state, look, line, node);
    let indent = u16::from(node.level).min(area.width / 4);
    let fold = match node.kind {
        NodeKind::Track(_) => ' ',
        _ if !state.has_more(line) => ' ',
        _ if state.folded.contains(&line.node) => look.sign('▸', '+'),
        _ => look.sign('▾', '-'),
    };
    let mut x = area.x + 1 + indent;
    pen::sign(buffer, (x, area.y), fold, look.faint());
    x += if matches!(node.kind, NodeKind::Track(_)) { 1 } else { 2 };
    let room = text.right().saturating_sub(x);
    let wide = pen::columns(&right) as u16;
    // What is beside the label gives way to it.
    let end = pen::put(buffer, (x, area.y), room, &node.label, style_of(look, node, chosen), look);
    if wide > 0 && end + wide < text.right() {
        pen::put(buffer, (text.right() - wide, area.y), wide, &right, look.faint(), look);
    }
}

fn style_of(look: Look, node: &Node, chosen: bool) -> Style {
    let style = match node.kind {
        NodeKind::Rank(_) | NodeKind::Process(_) => look.strong(),
        NodeKind::Idle(_) => look.faint(),
        NodeKind::Thread(_) | NodeKind::Lanes(_) | NodeKind::Track(_) => Style::new(),
    };
    if chosen { style.add_modifier(Modifier::BOLD) } else { style }
}

/// What stands at the right of a label: a counter's maximum in view, depths not shown.
fn beside(state: &State, look: Look, line: &Line, node: &Node) -> String {
    match (line.kind, node.kind) {
        (LineKind::Counter(track), _) => {
            let name = state.scene.trace.tracks.get(track.0 as usize).map_or("", |t| state.scene.trace.text(t.name));
            let most = body::maximum(state, track);
            most.map(|value| format!("{}{}", look.sign('≤', '<'), body::words(name, value))).unwrap_or_default()
        }
        (LineKind::Depth(..), NodeKind::Track(track)) => match state.depths_left_out(line.node, track) {
            0 => String::new(),
            left_out => format!("+{left_out}"),
        },
        _ => String::new(),
    }
}

fn rank_of(state: &State, node: &Node) -> Option<u32> {
    let mut node = node;
    loop {
        if let NodeKind::Rank(rank) = node.kind {
            return Some(rank);
        }
        node = state.scene.tree.get(node.parent?)?;
    }
}
