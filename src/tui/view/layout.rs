//! Where everything is on the screen; the mouse asks here, too.

use ratatui::layout::Rect;

use crate::tui::state::{Panel, State};

/// The parts of the screen; a part there is no room for is empty. Mini-map, ruler and body have
/// the same columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Areas {
    /// Title, state of the capture.
    pub title: Rect,
    /// The verdict.
    pub verdict: Rect,
    /// The whole recording, small.
    pub minimap: Rect,
    /// Time, then steps.
    pub ruler: Rect,
    /// Labels left of the body.
    pub labels: Rect,
    /// The rows' cells; its width is the number of columns a view is divided into.
    pub body: Rect,
    /// Details, flame or table; its first row separates it from the body.
    pub panel: Rect,
    /// Message, prompt, or the most useful keys.
    pub bottom: Rect,
}

/// Rows a panel has at least; with fewer it goes.
const PANEL_LEAST: u16 = 5;

/// Divides the screen. What is missed least goes first as the screen shrinks: the panel, the
/// mini-map, the verdict, the steps, the labels, the ruler, the title.
pub fn areas(state: &State, screen: Rect) -> Areas {
    let height = screen.height;
    let if_from = |least: u16, rows: u16| if height >= least { rows } else { 0 };
    let steps = state.scene.steps.iter().any(|steps| steps.boundaries_ns.len() > 1);
    let title = if_from(4, 1);
    let bottom = if_from(3, 1);
    let verdict = if_from(9, 1);
    let minimap = if_from(14, 1) + if_from(30, 1);
    let ruler = if_from(5, 1) + if steps { if_from(12, 1) } else { 0 };
    let room = height.saturating_sub(title + bottom + verdict + minimap + ruler);
    let wanted = match state.panel {
        Panel::Hidden => 0,
        Panel::Details | Panel::Verdict => (height / 4).min(14),
        Panel::Flame | Panel::Table => (height / 3).min(20),
    };
    let panel = if height >= 16 && wanted >= PANEL_LEAST { wanted.min(room / 2) } else { 0 };
    let label = label_width(screen.width);

    let mut y = screen.y;
    let mut row = |rows: u16| {
        let area = Rect { x: screen.x, y, width: screen.width, height: rows };
        y += rows;
        area
    };
    let right = |area: Rect| Rect { x: area.x + label, width: area.width - label, ..area };
    let title = row(title);
    let verdict = row(verdict);
    let minimap = right(row(minimap));
    let ruler = right(row(ruler));
    let middle = row(room - panel);
    let panel = row(panel);
    let bottom = row(bottom);
    Areas {
        title,
        verdict,
        minimap,
        ruler,
        labels: Rect { width: label, ..middle },
        body: right(middle),
        panel,
        bottom,
    }
}

/// Columns of the labels; the last is empty.
fn label_width(width: u16) -> u16 {
    match width {
        0..=29 => 0,
        30..=59 => width / 3,
        60..=99 => 20 + (width - 60) / 8,
        _ => (width / 4).min(38),
    }
}

/// The column of a moment in a view of `width` columns; `None` outside of it.
pub fn column_of(state: &State, ts_ns: u64, width: u16) -> Option<u16> {
    let view = state.view;
    if !view.holds(ts_ns) || width == 0 {
        return None;
    }
    let at = u128::from(ts_ns - view.from_ns) * u128::from(width) + u128::from(width) - 1;
    let column = u64::try_from(at / u128::from(view.len_ns())).unwrap_or(u64::MAX);
    // The column whose stretch holds the moment: stretches begin at rounded-down edges.
    let column = (column.min(u64::from(width) - 1)) as u16;
    Some(if edge_ns(state, column, width) > ts_ns { column.saturating_sub(1) } else { column })
}

/// Where the stretch of a column begins, as the levels of detail divide a view.
pub fn edge_ns(state: &State, column: u16, width: u16) -> u64 {
    let view = state.view;
    let share = u128::from(view.len_ns()) * u128::from(column) / u128::from(width.max(1));
    view.from_ns + share as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::scene::Window;
    use crate::tui::testing::two_ranks;

    #[test]
    fn every_screen_is_divided_without_overlap() {
        let mut state = two_ranks().state(80, 24);
        for panel in [Panel::Details, Panel::Table, Panel::Flame, Panel::Verdict, Panel::Hidden] {
            state.panel = panel;
            for (width, height) in (0..200).step_by(7).flat_map(|w| (0..80).map(move |h| (w, h))) {
                let screen = Rect { x: 0, y: 0, width, height };
                let a = areas(&state, screen);
                let rows: u16 =
                    [a.title, a.verdict, a.minimap, a.ruler, a.body, a.panel, a.bottom].map(|r| r.height).iter().sum();
                assert_eq!(rows, height, "{width}x{height}");
                assert_eq!(a.labels.width + a.body.width, width);
                assert!(height == 0 || a.body.height > 0);
                assert!(width == 0 || a.body.width > 0);
                assert_eq!((a.body.x, a.body.width), (a.ruler.x, a.ruler.width));
            }
        }
    }

    #[test]
    fn columns_and_moments_agree() {
        let mut state = two_ranks().state(80, 24);
        for view in [Window::new(0, 7), Window::new(3, 1_000_003), Window::new(0, 58), Window::new(5, 5)] {
            state.view = view;
            for width in [1, 2, 7, 58] {
                for column in 0..width {
                    let (from, to) = (edge_ns(&state, column, width), edge_ns(&state, column + 1, width));
                    if to > from {
                        assert_eq!(column_of(&state, from, width), Some(column), "{view:?} {width}");
                        assert_eq!(column_of(&state, to - 1, width), Some(column), "{view:?} {width}");
                    }
                }
            }
        }
        assert_eq!(column_of(&state, 100, 10), None);
    }
}
