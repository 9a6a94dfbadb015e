//! The bottom line: the prompt, a message, or the most useful keys of the moment; on the right
//! where the cursor is and how much time is shown.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Widget;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::tui::palette::Look;
use crate::tui::state::{Mode, Panel, Prompt, PromptKind, State};
use crate::tui::update::{Action, first_key, length_words};
use crate::view::human;
use crate::view::text::plain;

/// Draws it.
pub fn draw(state: &State, look: Look, area: Rect, buffer: &mut Buffer) {
    let area = area.intersection(buffer.area);
    if area.is_empty() {
        return;
    }
    if let Mode::Prompt(prompt) = &state.mode {
        return typing(state, prompt, look, area, buffer);
    }
    let width = usize::from(area.width);
    let right = look.text(&position(state));
    // Where both do not fit, the message is what was asked for last.
    let room = width.saturating_sub(right.width() + 2);
    let (left, needed) = match said(state, look) {
        Some((text, style)) => {
            let needed = text.width();
            (Line::from(Span::styled(text, style)), needed)
        }
        None => (hints(state, look, room), 0),
    };
    if needed <= room && right.width() <= width {
        let at = area.right() - right.width() as u16;
        Line::from(Span::styled(right, look.faint())).render(Rect { x: at, width: area.right() - at, ..area }, buffer);
        left.render(Rect { width: at.saturating_sub(area.x), ..area }, buffer);
    } else {
        left.render(area, buffer);
    }
}

fn said(state: &State, look: Look) -> Option<(String, Style)> {
    if let Some(message) = &state.message {
        let style = if message.bad { look.bad() } else { look.accent() };
        return Some((look.text(&plain(&message.text)), style));
    }
    let going = state.search.as_ref().is_some_and(|search| !search.scan.whole);
    state.search_status().filter(|_| going).map(|text| (look.text(&plain(&text)), look.accent()))
}

/// "at 1.2345s, 12.0 ms shown".
fn position(state: &State) -> String {
    let bounds = state.bounds();
    // No more digits than a column tells apart.
    let column = (state.view.len_ns() / u64::from(state.size.columns.max(1))).max(1);
    let step = 10u64.pow(column.ilog10());
    let at = state.cursor_ns.saturating_sub(bounds.from_ns) / step * step;
    let shown = human::seconds(state.view.len_ns() as f64 / 1e9);
    let filter = if state.filter.is_on() { format!("{}  ", state.filter_words()) } else { String::new() };
    let live = match &state.live {
        Some(live) if !live.ended && !live.follows => "frozen  ",
        _ => "",
    };
    format!("{live}{filter}at {}, {shown} shown", length_words(at))
}

/// As many keys as there is room for, the most useful first.
fn hints(state: &State, look: Look, room: usize) -> Line<'static> {
    use Action::*;
    let live = state.live.as_ref().is_some_and(|live| !live.ended);
    let mut wanted: Vec<(Action, &str)> = Vec::new();
    let mut want = |when: bool, hints: &[(Action, &'static str)]| {
        if when {
            wanted.extend_from_slice(hints);
        }
    };
    let marking = state.mark.is_some();
    let panel = state.panel_focus;
    want(marking, &[(Mark, "end the range"), (Escape, "drop it"), (Next, "further")]);
    want(panel, &[(PanelDown, "choose"), (PanelEnter, "go there"), (Unfocus, "back to the rows")]);
    want(live && !panel, &[(Space, if state.live.as_ref().is_some_and(|l| l.follows) { "freeze" } else { "follow" })]);
    let selected = state.selected.is_some() && !panel && !marking;
    want(selected, &[(Fit, "centre, fit"), (Next, "next"), (NextSame, "same name"), (Range, "as range")]);
    want(state.search.is_some() && !panel, &[(NextHit, "next hit"), (PreviousHit, "previous")]);
    let ranged = state.range.is_some() && !selected && !panel && !marking;
    want(ranged, &[(Table, "table"), (Flame, "flame"), (Escape, "drop the range")]);
    want(!panel && !marking, &[(ZoomIn, "zoom in"), (ZoomOut, "out"), (PanLeft, "earlier"), (PanRight, "later")]);
    let judged = state.scene.report.is_some() && state.panel != Panel::Verdict;
    want(judged && !panel && !marking, &[(Verdict, "verdict"), (NextOutlier, "outlier")]);
    want(!panel && !marking, &[(Search, "search"), (Command, "command")]);

    let help = [(Help, "help"), (Quit, "quit")];
    let width = |(action, words): &(Action, &str)| first_key(*action).width() + 1 + words.width() + 2;
    let kept: usize = help.iter().map(width).sum();
    let mut used = 0;
    let mut spans = Vec::new();
    let fitting = wanted.iter().take_while(|hint| {
        used += width(hint);
        used + kept <= room + 2
    });
    for (action, words) in fitting.chain(help.iter()) {
        spans.push(Span::styled(look.text(&first_key(*action)), look.accent()));
        spans.push(Span::styled(format!(" {words}  "), look.faint()));
    }
    Line::from(spans)
}

/// The line being typed, scrolled so that its cursor is seen.
fn typing(state: &State, prompt: &Prompt, look: Look, area: Rect, buffer: &mut Buffer) {
    let sign = match prompt.kind {
        PromptKind::Search => "/",
        PromptKind::Command => ":",
        PromptKind::Finder => "find track: ",
    };
    let (before, after) = prompt.text.split_at(prompt.at.min(prompt.text.len()));
    let before = look.text(&plain(before));
    let mut after = after.chars();
    let under = after.next().map_or(' ', |c| if c.is_control() { '?' } else { c });
    let under = look.text(&under.to_string());
    let after = look.text(&plain(after.as_str()));
    let room = usize::from(area.width).saturating_sub(sign.width() + under.width().max(1));
    let before = last_columns(&before, room);
    let mut spans = vec![
        Span::styled(sign, look.accent()),
        Span::raw(before.to_owned()),
        Span::styled(under, Style::new().add_modifier(Modifier::REVERSED)),
        Span::raw(after),
    ];
    let notes = match (&state.message, prompt.kind) {
        (Some(message), _) => Some((plain(&message.text), if message.bad { look.bad() } else { look.accent() })),
        (None, PromptKind::Search) => Some(("names and key=value; small letters match both".to_owned(), look.faint())),
        (None, PromptKind::Finder) => {
            let going = if state.finder.next.is_some() { "+" } else { "" };
            Some((format!("{}{going} found", state.finder.hits.len()), look.faint()))
        }
        (None, PromptKind::Command) if prompt.text.is_empty() => {
            Some(("Tab completes, ? lists all".to_owned(), look.faint()))
        }
        (None, PromptKind::Command) => usage(&prompt.text).map(|usage| (usage, look.faint())),
    };
    if let Some((text, style)) = notes {
        spans.push(Span::styled(format!("  {}", look.text(&text)), style));
    }
    Line::from(spans).render(area, buffer);
}

/// What comes behind the command being typed.
fn usage(text: &str) -> Option<String> {
    let (name, _) = text.split_once(char::is_whitespace)?;
    let command = crate::tui::update::command_named(name)?;
    Some(format!("{} {}: {}", command.name, command.usage, command.help))
}

/// The end of a text, at most so many columns wide.
fn last_columns(text: &str, columns: usize) -> &str {
    let mut used = 0;
    for (at, c) in text.char_indices().rev() {
        used += c.width().unwrap_or(0);
        if used > columns {
            return &text[at + c.len_utf8()..];
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::palette::{Background, Colors, Marks};
    use crate::tui::state::Size;
    use crate::tui::testing::two_ranks;

    /// The bottom line of a screen so wide.
    fn shown(state: &mut State, columns: u16, marks: Marks) -> String {
        let look = Look { colors: Colors::None, background: Background::Dark, marks };
        state.size = Size { columns, rows: 24 };
        let text = crate::tui::snapshot(state, look).text();
        text.lines().last().unwrap_or_default().to_owned()
    }

    #[test]
    fn the_most_useful_keys_of_the_moment() {
        let mut state = two_ranks().state(80, 24);
        let line = |state: &mut State, columns| shown(state, columns, Marks::Unicode);
        assert_eq!(
            line(&mut state, 80),
            "w zoom in  s out  a earlier  d later  ? help  q quit      at 400ms, 800 ms shown"
        );
        assert_eq!(line(&mut state, 40), "? help  q quit    at 400ms, 800 ms shown");
        assert_eq!(line(&mut state, 12), "? help  q qu");
        state.say("saved part.pftrace");
        assert_eq!(line(&mut state, 50), "saved part.pftrace          at 400ms, 800 ms shown");
        state.complain("can't write /a/very/long/path/to/a/file: no space is left");
        assert_eq!(line(&mut state, 50), "can't write /a/very/long/path/to/a/file: no space");
    }

    #[test]
    fn a_line_being_typed_shows_its_cursor_and_its_trouble() {
        let mut state = two_ranks().state(80, 24);
        let mut prompt = Prompt::new(PromptKind::Search);
        "grüße 漢字".chars().for_each(|c| prompt.insert(c));
        state.mode = Mode::Prompt(prompt.clone());
        assert_eq!(
            shown(&mut state, 60, Marks::Unicode),
            "/grüße 漢字   names and key=value; small letters match both"
        );
        assert_eq!(shown(&mut state, 7, Marks::Unicode), "/ 漢字");
        assert!(shown(&mut state, 60, Marks::Ascii).starts_with("/gr??e ??   names"));
        state.complain("unclosed group");
        assert_eq!(shown(&mut state, 60, Marks::Unicode), "/grüße 漢字   unclosed group");
        let mut prompt = Prompt::new(PromptKind::Command);
        prompt.set("rank 3");
        (state.mode, state.message) = (Mode::Prompt(prompt), None);
        assert_eq!(shown(&mut state, 60, Marks::Unicode), ":rank 3   rank N: go to rank N's rows");
    }

    #[test]
    fn the_end_of_a_long_line_is_seen() {
        assert_eq!(last_columns("abcdef", 3), "def");
        assert_eq!(last_columns("ab漢字", 3), "字");
        assert_eq!(last_columns("abc", 9), "abc");
        assert_eq!(last_columns("abc", 0), "");
    }
}
