//! The mouse: wheel, clicks and drags, each by where it happens.

use crossterm::event::{KeyModifiers, MouseButton, MouseEvent, MouseEventKind};
use ratatui::layout::{Position, Rect};

use super::areas;
use crate::tui::scene::Window;
use crate::tui::state::{Drag, Mode, Panel, State};

/// Rows that a turn of the wheel scrolls.
const ROWS: isize = 3;

impl State {
    /// A click, a drag or a turn of the wheel.
    pub(super) fn mouse_event(&mut self, event: MouseEvent) {
        if let Mode::Help(_) = self.mode {
            return match event.kind {
                MouseEventKind::ScrollUp => self.scroll_help(-3),
                MouseEventKind::ScrollDown => self.scroll_help(3),
                MouseEventKind::Down(_) => self.mode = Mode::Browse,
                _ => {}
            };
        }
        match event.kind {
            MouseEventKind::Down(MouseButton::Left) => self.press_button(event),
            MouseEventKind::Drag(MouseButton::Left) => self.drag(event),
            MouseEventKind::Up(MouseButton::Left) => self.release_button(event),
            MouseEventKind::ScrollUp | MouseEventKind::ScrollDown => self.wheel(event),
            MouseEventKind::ScrollLeft => self.pan(1, 10, false),
            MouseEventKind::ScrollRight => self.pan(1, 10, true),
            _ => {}
        }
    }

    fn wheel(&mut self, event: MouseEvent) {
        let up = event.kind == MouseEventKind::ScrollUp;
        let at = Position::new(event.column, event.row);
        let areas = areas(self);
        let rows = if up { -ROWS } else { ROWS };
        if areas.labels.contains(at) {
            self.scroll(rows, areas.body.height.into());
        } else if areas.panel.contains(at) {
            self.move_in_panel(rows);
        } else if event.modifiers.contains(KeyModifiers::SHIFT) {
            self.pan(1, 10, !up);
        } else if areas.body.contains(at) || areas.ruler.contains(at) || areas.minimap.contains(at) {
            let on_map = areas.minimap.contains(at);
            let (over, area) = if on_map { (self.bounds(), areas.minimap) } else { (self.view, areas.body) };
            let anchor = moment(over, area, at.x);
            // A turn is half a key: three out of four.
            if up { self.zoom(3, 4, anchor) } else { self.zoom(4, 3, anchor) }
        }
    }

    fn press_button(&mut self, event: MouseEvent) {
        let at = Position::new(event.column, event.row);
        let areas = areas(self);
        self.message = None;
        self.history.settle();
        if areas.body.contains(at) {
            let from_ns = moment(self.view, areas.body, at.x);
            self.mouse.drag = Drag::Range { column: at.x, row: at.y, from_ns, moved: false };
            return;
        }
        self.mouse.clicked = None;
        if areas.labels.contains(at) {
            self.click_label(at.y - areas.labels.y, areas.body.height.into());
        } else if areas.minimap.contains(at) {
            let ts = moment(self.bounds(), areas.minimap, at.x);
            let whole = self.view == self.bounds();
            if self.view.holds(ts) && !whole {
                self.mouse.drag = Drag::View(ts - self.view.from_ns);
            } else {
                self.mouse.drag = Drag::NewView(ts);
                if !whole {
                    self.centre(ts);
                }
            }
        } else if areas.ruler.contains(at) && at.y > areas.ruler.y {
            let ts = moment(self.view, areas.ruler, at.x);
            let number = self.steps_here().map_or(0, |steps| steps.boundaries_ns.partition_point(|edge| *edge <= ts));
            self.go_to_step(number);
        } else if areas.ruler.contains(at) {
            self.mouse.drag = Drag::Cursor;
            self.drag(event);
        } else if areas.verdict.contains(at) {
            self.panel = Panel::Verdict;
            self.panel_focus = true;
            self.panel_row = 0;
        } else if areas.panel.contains(at) {
            let row = crate::tui::view::panel_row_at(self, areas.panel, at);
            let again = self.panel_focus && row == Some(self.panel_row);
            self.panel_focus = true;
            match row {
                Some(_) if again => self.panel_enter(),
                Some(row) => self.panel_row = row,
                None => {}
            }
        }
    }

    fn drag(&mut self, event: MouseEvent) {
        let areas = areas(self);
        match self.mouse.drag {
            Drag::None => {}
            Drag::Range { column, row, from_ns, moved } => {
                if moved || event.column != column {
                    self.mouse.drag = Drag::Range { column, row, from_ns, moved: true };
                    self.mouse.clicked = None;
                    self.mark = None;
                    self.stop_following();
                    self.range = Some(dragged(self.view, areas.body, from_ns, event.column));
                }
            }
            Drag::View(before) => {
                let ts = moment(self.bounds(), areas.minimap, event.column);
                let from = ts.saturating_sub(before);
                self.nudge(Window::new(from, from.saturating_add(self.view.len_ns())));
            }
            Drag::NewView(from_ns) => {
                let view = dragged(self.bounds(), areas.minimap, from_ns, event.column);
                self.nudge(view);
            }
            Drag::Cursor => {
                self.stop_following();
                self.set_cursor(moment(self.view, areas.ruler, event.column));
            }
        }
    }

    fn release_button(&mut self, event: MouseEvent) {
        let drag = std::mem::take(&mut self.mouse.drag);
        if let Drag::Range { column, row, from_ns, moved: false } = drag {
            let cell = (column, row);
            let again = self.mouse.clicked == Some(cell);
            self.mouse.clicked = Some(cell);
            self.click(Position::new(event.column, row), from_ns, again);
        }
    }

    /// A click in the body selects; another one there fits what it selected.
    fn click(&mut self, at: Position, ts_ns: u64, again: bool) {
        let body = areas(self).body;
        let row = usize::from(at.y.saturating_sub(body.y));
        let Some(line) = self.line_on_row(row, body.height.into()) else { return };
        self.stop_following();
        if again && self.selected.is_some() && self.line == line {
            self.mouse.clicked = None;
            if let Some(stretch) = self.selected.and_then(|at| self.slice_window(at)) {
                self.fit_to(stretch);
            }
            return;
        }
        self.line = line;
        self.panel_focus = false;
        self.panel_row = 0;
        self.set_cursor(ts_ns);
        let columns = usize::from(body.width);
        let column = self.column_window(usize::from(at.x.saturating_sub(body.x)), columns);
        // What is drawn in the cell is the longest of what is in it.
        self.selected = self.longest_in(line, column);
    }

    fn click_label(&mut self, row: u16, height: usize) {
        let Some(line) = self.line_on_row(row.into(), height) else { return };
        self.panel_focus = false;
        if line == self.line {
            self.toggle_fold();
        } else {
            self.line = line;
            self.select_under_cursor();
        }
    }

    /// Scrolls the rows; the chosen line stays on the screen.
    fn scroll(&mut self, by: isize, height: usize) {
        let room = height.saturating_sub(self.pinned_rows(height)).max(1);
        let most = self.lines.len().saturating_sub(room);
        self.top = self.top.saturating_add_signed(by).min(most).max(self.pinned_lines.min(self.lines.len()));
        if self.line >= self.pinned_lines && !self.lines.is_empty() {
            let last = (self.top + room - 1).min(self.lines.len() - 1);
            let line = self.line.clamp(self.top.min(last), last);
            if line != self.line {
                self.line = line;
                self.select_under_cursor();
            }
        }
    }

    fn centre(&mut self, ts_ns: u64) {
        let length = self.view.len_ns();
        let from = ts_ns.saturating_sub(length / 2);
        self.show(Window::new(from, from.saturating_add(length)));
    }
}

/// The first moment of a column of the screen, where an area shows a stretch.
fn moment(stretch: Window, area: Rect, column: u16) -> u64 {
    let columns = u64::from(area.width).max(1);
    let column = u64::from(column.saturating_sub(area.x)).min(columns - 1);
    stretch.from_ns + super::navigate::scale(stretch.len_ns(), column, columns)
}

/// The stretch between a moment and a column, that column and the moment's included.
fn dragged(stretch: Window, area: Rect, from_ns: u64, column: u16) -> Window {
    let columns = u64::from(area.width).max(1);
    let here = u64::from(column.saturating_sub(area.x)).min(columns - 1);
    let edge = |column: u64| stretch.from_ns + super::navigate::scale(stretch.len_ns(), column, columns);
    let to = if edge(here) >= from_ns { edge(here + 1) } else { edge(here) };
    Window::new(from_ns.min(to), from_ns.max(to))
}
