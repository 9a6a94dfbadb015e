//! One frame without a terminal.

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use unicode_width::UnicodeWidthStr;

use super::ansi;
use super::palette::Look;
use super::state::State;
use super::svg;
use super::view;

/// A frame as text or as a picture.
#[derive(Debug, Clone)]
pub struct Snapshot {
    buffer: Buffer,
    look: Look,
}

/// Draws one frame of the state's size.
pub fn snapshot(state: &State, look: Look) -> Snapshot {
    let backend = TestBackend::new(state.size.columns, state.size.rows);
    let buffer = match Terminal::new(backend) {
        Ok(mut terminal) => match terminal.draw(|frame| view::draw(state, look, frame)) {
            Ok(done) => done.buffer.clone(),
            Err(never) => match never {},
        },
        Err(never) => match never {},
    };
    Snapshot { buffer, look }
}

impl Snapshot {
    /// The characters, a line a row, without trailing spaces.
    pub fn text(&self) -> String {
        let width = usize::from(self.buffer.area.width).max(1);
        let row = |cells: &[ratatui::buffer::Cell]| {
            let mut text = String::new();
            let mut wide = 0;
            for cell in cells {
                // A wide character takes the place of what is in the cell after it.
                if wide > 1 {
                    wide -= 1;
                    continue;
                }
                wide = cell.symbol().width();
                text.push_str(cell.symbol());
            }
            text.truncate(text.trim_end().len());
            text.push('\n');
            text
        };
        self.buffer.content.chunks(width).map(row).collect()
    }

    /// The same with colours, as escape sequences.
    pub fn ansi(&self) -> String {
        ansi::ansi(&self.buffer)
    }

    /// The frame as an SVG document.
    pub fn svg(&self) -> String {
        svg::svg(&self.buffer, self.look)
    }
}
