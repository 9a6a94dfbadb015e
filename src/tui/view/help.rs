//! The page of keys, commands, the mouse and what colours mean, over the whole screen.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Clear, Widget};
use unicode_width::UnicodeWidthStr;

use crate::trace::Class;
use crate::tui::palette::{Look, Marks};
use crate::tui::scene::CLASS_NAMES;
use crate::tui::state::{Mode, Size, State};
use crate::tui::update::{BINDINGS, COMMANDS, Group};

/// What the mouse does.
const MOUSE: [(&str, &str); 8] = [
    ("wheel", "zoom at the pointer; over labels and panel: scroll"),
    ("Shift-wheel", "earlier, later"),
    ("click", "select what is drawn there; again: zoom to it"),
    ("drag", "mark a range"),
    ("label", "choose the row; again: fold"),
    ("mini-map", "go there; drag: move the view, or span a new one"),
    ("ruler", "put the cursor there; on the steps: that step"),
    ("verdict", "its evidence"),
];

/// What signs mean: in Unicode, in ASCII, for people.
const SIGNS: [(&str, &str, &str); 11] = [
    ("▁▄▇", ".:#", "many slices: how much of the cell's time they take"),
    ("─", "-", "idle"),
    ("╍", "~", "waits for a lock"),
    ("╱", "/", "an estimate"),
    ("◆", "*", "a point in time"),
    ("≈", "~", "cut to fit what it is in"),
    ("▓▒░", ">", "has no end in the recording"),
    ("cpri", "cpri", "without colours: compute, Python, other ranks, input; g: GPU, d: files"),
    ("▾", "!", "outlier: much longer than usual"),
    ("×", "x", "events were lost or thinned here"),
    ("│", "|", "cursor"),
];

/// Columns of the keys.
const KEYS: usize = 22;
/// From this width on there are two columns.
const WIDE: u16 = 120;

/// A row of the page.
enum Row {
    Title(&'static str),
    Entry(String, String),
    Class(usize),
    Sign(usize),
    Blank,
}

/// Draws the page where the mode asks for it.
pub fn draw(state: &State, look: Look, area: Rect, buffer: &mut Buffer) {
    let Mode::Help(down) = state.mode else { return };
    let area = area.intersection(buffer.area);
    if area.is_empty() {
        return;
    }
    Clear.render(area, buffer);
    let title = Rect { height: 1, ..area };
    buffer.set_style(title, look.bar());
    let more = if down < help_end(state.size) { "j or PgDn scrolls, " } else { "" };
    let text = look.text(&format!(" Keys and commands. {more}Esc leaves"));
    buffer.set_stringn(title.x, title.y, text, usize::from(title.width), look.bar());

    let body = Rect { y: area.y + 1, height: area.height - 1, ..area };
    let columns = columns(area.width);
    let width = body.width / columns.len().max(1) as u16;
    for (column, rows) in columns.iter().enumerate() {
        let x = body.x + column as u16 * width;
        for (row, y) in rows.iter().skip(usize::from(down)).zip(body.top()..body.bottom()) {
            line(row, look, usize::from(width))
                .render(Rect { x, y, width: width.saturating_sub(1), height: 1 }, buffer);
        }
    }
}

/// How far the page can be scrolled down on a screen.
pub fn help_end(size: Size) -> u16 {
    let rows = columns(size.columns).iter().map(Vec::len).max().unwrap_or(0);
    u16::try_from(rows).unwrap_or(u16::MAX).saturating_sub(size.rows.saturating_sub(1))
}

fn line(row: &Row, look: Look, width: usize) -> Line<'static> {
    match row {
        Row::Blank => Line::default(),
        Row::Title(text) => Line::from(Span::styled(format!(" {text}"), look.strong())),
        Row::Entry(keys, help) => {
            let keys = look.text(keys);
            // Where the keys take more than their columns, what they do moves on.
            let gap = KEYS.min(width / 2).saturating_sub(keys.width() + 2).max(2);
            Line::from(vec![
                Span::styled(format!("  {keys}{}", " ".repeat(gap)), look.accent()),
                Span::raw(look.text(help)),
            ])
        }
        Row::Sign(at) => {
            let (unicode, ascii, help) = SIGNS.get(*at).copied().unwrap_or_default();
            let sign = if look.marks == Marks::Unicode { unicode } else { ascii };
            Line::from(vec![Span::styled(format!("  {sign:<4}"), look.accent()), Span::raw(format!("  {help}"))])
        }
        Row::Class(class) => {
            let name = CLASS_NAMES.get(*class).copied().unwrap_or("");
            let style = Style::new().fg(look.class(Class(*class as u8)));
            let block = look.sign('█', '#').to_string().repeat(4);
            Line::from(vec![Span::raw("  "), Span::styled(block, style), Span::raw(format!("  {name}"))])
        }
    }
}

/// The sections of the page.
fn sections() -> Vec<Vec<Row>> {
    let mut sections: Vec<Vec<Row>> = Group::ALL
        .into_iter()
        .map(|group| {
            let bindings = BINDINGS.iter().filter(|binding| binding.group == group);
            let entries = bindings.map(|binding| {
                let keys: Vec<String> = binding.keys.iter().map(ToString::to_string).collect();
                Row::Entry(keys.join(" "), binding.help.to_owned())
            });
            std::iter::once(Row::Title(group.title())).chain(entries).collect()
        })
        .collect();
    let commands = COMMANDS.iter().map(|command| {
        let usage = if command.usage.is_empty() { String::new() } else { format!(" {}", command.usage) };
        Row::Entry(format!(":{}{usage}", command.name), command.help.to_owned())
    });
    sections.push(std::iter::once(Row::Title("commands")).chain(commands).collect());
    let mouse = MOUSE.iter().map(|(what, does)| Row::Entry((*what).to_owned(), (*does).to_owned()));
    sections.push(std::iter::once(Row::Title("mouse")).chain(mouse).collect());
    let signs = (0..SIGNS.len()).map(Row::Sign);
    sections.push(std::iter::once(Row::Title("signs")).chain(signs).collect());
    let classes = (0..CLASS_NAMES.len()).map(Row::Class);
    sections.push(std::iter::once(Row::Title("colours")).chain(classes).collect());
    sections
}

/// The page in one column, or in two of about the same height.
fn columns(width: u16) -> Vec<Vec<Row>> {
    let sections = sections();
    let all: usize = sections.iter().map(|section| section.len() + 1).sum();
    let mut columns = vec![Vec::new()];
    for section in sections {
        let full = columns.last().is_some_and(|column| column.len() + section.len() / 2 > all / 2);
        if width >= WIDE && columns.len() == 1 && full {
            columns.push(Vec::new());
        }
        if let Some(column) = columns.last_mut() {
            column.extend(section);
            column.push(Row::Blank);
        }
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::palette::{Background, Colors};
    use crate::tui::testing::two_ranks;

    /// The page in the colours and signs of a plain terminal.
    fn page(columns: u16, rows: u16, down: u16) -> String {
        let look = Look { colors: Colors::None, background: Background::Dark, marks: Marks::Ascii };
        let mut state = two_ranks().state(columns, rows);
        state.mode = Mode::Help(down);
        crate::tui::snapshot(&state, look).text()
    }

    #[test]
    fn every_key_and_command_is_listed() {
        for columns in [80, 160] {
            let page = page(columns, 200, 0);
            for binding in BINDINGS {
                let keys: Vec<String> = binding.keys.iter().map(ToString::to_string).collect();
                let row = page.lines().find(|line| line.contains(&keys.join(" ")) && line.contains(binding.help));
                assert!(row.is_some(), "{keys:?} {} at {columns} columns", binding.help);
            }
            for command in COMMANDS {
                assert!(page.contains(&format!(":{}", command.name)), "{}", command.name);
            }
            for class in CLASS_NAMES {
                assert!(page.contains(class), "{class}");
            }
        }
    }

    #[test]
    fn the_end_can_be_scrolled_to() {
        for (columns, rows) in [(80, 24), (160, 30), (20, 5)] {
            let end = help_end(Size { columns, rows });
            assert!(end > 0);
            let last = CLASS_NAMES[CLASS_NAMES.len() - 1];
            assert!(page(columns, rows, end).contains(last), "{columns}x{rows}");
        }
        assert_eq!(help_end(Size { columns: 80, rows: 1000 }), 0);
    }
}
