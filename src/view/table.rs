//! Tables as kubectl prints them: no borders, upper-case header, three spaces between columns.

use comfy_table::{CellAlignment, presets};

use super::text;

/// How a column's cells line up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Texts.
    Left,
    /// Numbers.
    Right,
    /// Texts that may be cut in the middle when the line is too long.
    Flexible,
}

/// A table on its way to the terminal.
#[derive(Debug, Clone)]
pub struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

/// Spaces between columns.
const GUTTER: usize = 3;
/// Where lines are narrower than this, columns move closer before a cell is cut or a line is too long, which a terminal
/// breaks anywhere.
const NARROW: usize = 80;
/// A flexible column is never cut below this.
const NARROWEST: usize = 16;

impl Table {
    /// Starts a table with these headers.
    pub fn new(columns: &[(&'static str, Align)]) -> Table {
        Table { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; an empty cell shows as `<none>`.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let shown = |cell: String| if cell.is_empty() { "<none>".to_owned() } else { text::plain(&cell) };
        self.rows.push(cells.into_iter().map(shown).collect());
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// As [`Table::render`], without the columns of these names, one after the other, as long as lines
    /// are longer than `width`.
    pub fn fit(mut self, width: usize, unicode: bool, droppable: &[&str]) -> Vec<String> {
        for name in droppable {
            let lines = self.lay(width, GUTTER, unicode);
            if lines.iter().all(|line| line.chars().count() <= width) {
                return lines;
            }
            self.drop_column(name);
        }
        self.render(width, unicode)
    }

    /// Leaves a column out; nothing if there is none of that name.
    pub fn drop_column(&mut self, name: &str) {
        while let Some(at) = self.columns.iter().position(|(own, _)| *own == name) {
            self.columns.remove(at);
            for row in &mut self.rows {
                if at < row.len() {
                    row.remove(at);
                }
            }
        }
    }

    /// Leaves a column out in which no row says anything: all are `-`, `0` or empty.
    pub fn drop_if_silent(&mut self, name: &str) {
        let Some(at) = self.columns.iter().position(|(own, _)| *own == name) else { return };
        let silent = |row: &Vec<String>| row.get(at).is_none_or(|cell| matches!(cell.as_str(), "-" | "0" | "<none>"));
        if self.rows.iter().all(silent) {
            self.drop_column(name);
        }
    }

    /// Renders header and rows, one line each, cut to `width` where a column allows it.
    pub fn render(&self, width: usize, unicode: bool) -> Vec<String> {
        let closest = if width < NARROW { 1 } else { GUTTER };
        let gutters = || (closest..=GUTTER).rev();
        let whole = |gutter: usize| self.widths().iter().sum::<usize>() + gutter * self.columns.len().saturating_sub(1);
        let uncut = gutters().find(|gutter| whole(*gutter) <= width);
        let gutter = uncut.or_else(|| gutters().find(|gutter| self.least(*gutter) <= width)).unwrap_or(closest);
        self.lay(width, gutter, unicode)
    }

    /// Lays it out with so many spaces between columns.
    fn lay(&self, width: usize, gutter: usize, unicode: bool) -> Vec<String> {
        let limits = self.limits(width, gutter);
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(self.columns.iter().map(|(name, _)| *name));
        for row in &self.rows {
            table.add_row(row.iter().zip(&limits).map(|(cell, limit)| text::shorten(cell, *limit, unicode)));
        }
        for (index, (_, align)) in self.columns.iter().enumerate() {
            if let Some(column) = table.column_mut(index) {
                column.set_padding((0, gutter as u16));
                if *align == Align::Right {
                    column.set_cell_alignment(CellAlignment::Right);
                }
            }
        }
        table.lines().map(|line| line.trim_end().to_owned()).collect()
    }

    /// How wide the columns are if nothing is cut.
    fn widths(&self) -> Vec<usize> {
        let widest = |i: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(i)).map(|cell| cell.chars().count());
            cells.max().unwrap_or(0).max(self.columns[i].0.len())
        };
        (0..self.columns.len()).map(widest).collect()
    }

    /// How wide a line is if all is cut that may be.
    fn least(&self, gutter: usize) -> usize {
        let width = |(width, (_, align)): (usize, &(&str, Align))| match align {
            Align::Flexible => width.min(NARROWEST),
            _ => width,
        };
        let columns: usize = self.widths().into_iter().zip(&self.columns).map(width).sum();
        columns + gutter * self.columns.len().saturating_sub(1)
    }

    /// The widest each column may be.
    fn limits(&self, width: usize, gutter: usize) -> Vec<usize> {
        let widths = self.widths();
        let gutters = gutter * self.columns.len().saturating_sub(1);
        let excess = (widths.iter().sum::<usize>() + gutters).saturating_sub(width);
        let flexible = |i: usize| self.columns[i].1 == Align::Flexible;
        // What is too long is taken from the flexible columns, from the widest first.
        let mut limits = widths;
        for _ in 0..excess {
            let widest = (0..limits.len()).filter(|&i| flexible(i)).max_by_key(|&i| limits[i]);
            match widest {
                Some(i) if limits[i] > NARROWEST => limits[i] -= 1,
                _ => break,
            }
        }
        limits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Table {
        let mut table = Table::new(&[("NAME", Align::Flexible), ("TIME", Align::Right), ("WHERE", Align::Left)]);
        table.row(["a_rather_long_function_name".to_owned(), "1.2s".to_owned(), "train.py:31".to_owned()]);
        table.row(["short".to_owned(), "30ms".to_owned(), String::new()]);
        table
    }

    #[test]
    fn columns_line_up() {
        let lines = sample().render(80, true);
        assert_eq!(
            lines,
            [
                "NAME                          TIME   WHERE",
                "a_rather_long_function_name   1.2s   train.py:31",
                "short                         30ms   <none>",
            ]
        );
    }

    #[test]
    fn a_flexible_column_gives_way() {
        let lines = sample().render(40, true);
        assert_eq!(lines[1], "a_rather_…tion_name   1.2s   train.py:31");
        assert!(lines.iter().all(|line| line.chars().count() <= 40), "{lines:#?}");
    }

    #[test]
    fn columns_move_closer_in_a_narrow_terminal() {
        let lines = sample().render(33, true);
        assert_eq!(lines[1], "a_rather…on_name 1.2s train.py:31");
        assert_eq!(sample().render(44, true)[1], "a_rather_long_function_name 1.2s train.py:31");
        assert_eq!(sample().render(46, true)[1], "a_rather_long_function_name  1.2s  train.py:31");
        assert_eq!(sample().render(34, true)[1], "a_rather…ion_name 1.2s train.py:31");
        assert_eq!(sample().render(35, true)[1], "a_rather…on_name  1.2s  train.py:31");
        assert_eq!(sample().render(37, true)[1], "a_rather…on_name   1.2s   train.py:31");
    }

    #[test]
    fn columns_go_where_there_is_no_room_or_nothing_to_say() {
        let lines = sample().fit(34, true, &["WHERE"]);
        assert_eq!(lines[0].split_whitespace().collect::<Vec<_>>(), ["NAME", "TIME"]);
        assert!(lines.iter().all(|line| line.chars().count() <= 34), "{lines:#?}");
        assert_eq!(sample().fit(80, true, &["WHERE"]), sample().render(80, true));
        let mut table = Table::new(&[("NAME", Align::Left), ("POS", Align::Right)]);
        table.row(["a".to_owned(), "-".to_owned()]);
        table.drop_if_silent("POS");
        assert_eq!(table.render(80, true), ["NAME", "a"]);
    }
}
