//! Puts the panel's lines into cells.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::tui::palette::{Look, Marks};
use crate::tui::panel::{PanelLine, Span, Tone};

/// The style of a tone.
pub fn style(tone: Tone, look: Look) -> Style {
    match tone {
        Tone::Plain => Style::new(),
        Tone::Faint => look.faint(),
        Tone::Strong => look.strong(),
        Tone::Bad => look.bad(),
        Tone::Warn => look.warn(),
        Tone::Accent => look.accent(),
        Tone::Class(class) => Style::new().fg(look.class(class)),
    }
}

/// Text as the terminal can show it; blocks become signs of as many cells.
pub fn text(text: &str, look: Look) -> String {
    if look.marks == Marks::Unicode {
        return text.to_owned();
    }
    let drawn: String = text
        .chars()
        .map(|c| match c {
            '■' => '#',
            '▁' => '_',
            '▂' | '▏' | '▎' => '.',
            '▃' | '▍' => ':',
            '▄' | '▌' => '-',
            '▅' | '▋' => '=',
            '▆' | '▊' => '+',
            '▇' | '▉' => '*',
            '█' => '#',
            '×' => 'x',
            other => other,
        })
        .collect();
    look.text(&drawn)
}

/// A text cut to so many cells; the cut is marked.
pub fn clip(what: &str, room: usize, look: Look) -> String {
    let all = text(what, look);
    if all.width() <= room {
        return all;
    }
    let mark = look.sign('…', '~');
    let mut out = String::new();
    let mut used = 0;
    for c in all.chars() {
        let wide = c.width().unwrap_or(0);
        if used + wide + 1 > room {
            break;
        }
        used += wide;
        out.push(c);
    }
    if room > 0 {
        out.push(mark);
    }
    out
}

/// Writes a line into a row; what does not fit is cut.
pub fn line(line: &PanelLine, look: Look, area: Rect, buffer: &mut Buffer) {
    spans(&line.spans, look, area, buffer);
}

/// Writes pieces of text into a row, one after the other.
pub fn spans(spans: &[Span], look: Look, area: Rect, buffer: &mut Buffer) {
    let area = area.intersection(buffer.area);
    if area.is_empty() {
        return;
    }
    let mut x = area.x;
    for (i, span) in spans.iter().enumerate() {
        let room = usize::from(area.right().saturating_sub(x));
        // What comes after must not begin where this was cut.
        let shown = clip(&span.text, room, look);
        let cut = text(&span.text, look).width() > room;
        x = buffer.set_stringn(x, area.y, shown, room, style(span.tone, look)).0;
        if cut || (x >= area.right() && i + 1 < spans.len()) {
            break;
        }
    }
}

/// A line as rows of so many cells: broken between words, later rows under where the first's
/// text begins.
pub fn wrap(line: &PanelLine, width: usize) -> Vec<Vec<Span>> {
    if !line.wraps || line.spans.iter().map(|s| s.text.width()).sum::<usize>() <= width {
        return vec![line.spans.clone()];
    }
    let indent = if line.spans.len() > 1 { line.spans[0].text.width() } else { 0 };
    let indent = if indent * 2 > width { 0 } else { indent };
    let mut rows: Vec<Vec<Span>> = vec![Vec::new()];
    let mut used = 0;
    for span in &line.spans {
        let words = span.text.split_inclusive(' ').flat_map(|word| pieces(word, width.saturating_sub(indent)));
        for word in words {
            let wide = word.trim_end().width();
            if used > indent && used + wide > width {
                if let Some(end) = rows.last_mut().and_then(|row| row.last_mut()) {
                    end.text.truncate(end.text.trim_end().len());
                }
                let blank = Span { text: " ".repeat(indent), tone: Tone::Plain };
                rows.push(if indent > 0 { vec![blank] } else { Vec::new() });
                used = indent;
            }
            used += word.width();
            let Some(row) = rows.last_mut() else { continue };
            match row.last_mut().filter(|last| last.tone == span.tone) {
                Some(last) => last.text.push_str(word),
                None => row.push(Span { text: word.to_owned(), tone: span.tone }),
            }
        }
    }
    rows
}

/// A word, in pieces where it is longer than a row.
fn pieces(word: &str, width: usize) -> Vec<&str> {
    let mut rest = word;
    let mut pieces = Vec::new();
    while width > 0 && rest.trim_end().width() > width {
        let mut used = 0;
        let fits = |c: char| {
            used += c.width().unwrap_or(0);
            used <= width
        };
        let cut: usize = rest
            .chars()
            .take_while({
                let mut fits = fits;
                move |c| fits(*c)
            })
            .map(char::len_utf8)
            .sum();
        // A character wider than the row.
        if cut == 0 {
            break;
        }
        let (piece, after) = rest.split_at(cut);
        pieces.push(piece);
        rest = after;
    }
    pieces.push(rest);
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::palette::{Background, Colors};

    fn texts(line: &PanelLine, width: usize) -> Vec<String> {
        wrap(line, width).iter().map(|row| row.iter().map(|s| s.text.as_str()).collect::<String>()).collect()
    }

    #[test]
    fn paragraphs_break_between_words() {
        let line =
            PanelLine::of(Tone::Faint, "because  ").with(Tone::Plain, "71 % of each step waits for data").wrapped();
        assert_eq!(texts(&line, 22), ["because  71 % of each", "         step waits", "         for data"]);
        assert_eq!(texts(&line, 80).len(), 1);
        assert_eq!(texts(&PanelLine { wraps: false, ..line.clone() }, 22).len(), 1);
        assert!(texts(&line, 0).len() > 1, "no room is no reason to fail");
        let path = PanelLine::of(Tone::Faint, "file  ").with(Tone::Plain, "/opt/train/data.py").wrapped();
        assert_eq!(texts(&path, 16), ["file  /opt/train", "      /data.py"]);
    }

    #[test]
    fn cuts_are_marked() {
        let look = Look { colors: Colors::None, background: Background::Dark, marks: Marks::Unicode };
        assert_eq!(clip("train_step", 10, look), "train_step");
        assert_eq!(clip("train_step", 6, look), "train…");
        assert_eq!(clip("模型训练", 5, look), "模型…");
        assert_eq!(clip("abc", 0, look), "");
        assert_eq!(clip("█▌ x", 9, Look { marks: Marks::Ascii, ..look }), "#- x");
    }
}
