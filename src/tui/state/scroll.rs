//! Which line is on which row of the body: pinned lines stay on top, the others scroll below.

use super::State;

impl State {
    /// Rows that the pinned lines take of a body `height` rows high: at most half of it while
    /// there are others.
    pub fn pinned_rows(&self, height: usize) -> usize {
        let pinned = self.pinned_lines.min(self.lines.len());
        if pinned == self.lines.len() { pinned.min(height) } else { pinned.min(height / 2) }
    }

    /// The line on a row of a body `height` rows high.
    pub fn line_on_row(&self, row: usize, height: usize) -> Option<usize> {
        let pinned = self.pinned_rows(height);
        let line = if row < pinned { self.first_pinned(pinned) + row } else { self.top + (row - pinned) };
        (row < height && line < self.lines.len()).then_some(line)
    }

    /// The row of a line in a body `height` rows high; `None` where it is scrolled away.
    pub fn row_of_line(&self, line: usize, height: usize) -> Option<usize> {
        let pinned = self.pinned_rows(height);
        let row = if line < self.pinned_lines {
            line.checked_sub(self.first_pinned(pinned)).filter(|row| *row < pinned)?
        } else {
            line.checked_sub(self.top)? + pinned
        };
        (row < height && line < self.lines.len()).then_some(row)
    }

    /// Scrolls so that the chosen line is on the screen, and no row stays empty without need.
    pub fn keep_line_visible(&mut self, height: usize) {
        let room = height.saturating_sub(self.pinned_rows(height)).max(1);
        let least = self.pinned_lines.min(self.lines.len());
        if self.line >= self.pinned_lines {
            self.top = self.top.clamp((self.line + 1).saturating_sub(room).min(self.line), self.line);
        }
        let most = self.lines.len().saturating_sub(room).max(least);
        self.top = self.top.clamp(least, most);
    }

    /// Pinned lines that have no row are scrolled, too, when the chosen line is among them.
    fn first_pinned(&self, rows: usize) -> usize {
        if self.line < self.pinned_lines { (self.line + 1).saturating_sub(rows) } else { 0 }
    }
}
