//! The icicle: the chosen frame in words, then callers above callees.

use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};
use ratatui::style::{Modifier, Style};

use super::paint;
use crate::tui::palette::{Colors, Look};
use crate::tui::panel::{Bar, FlameRun, PanelLine, Tone};
use crate::tui::state::State;

/// Draws the flame; the chosen frame's row is kept in view.
pub fn draw(state: &State, look: Look, area: Rect, buffer: &mut Buffer) {
    let Some((run, whole)) = state.flame() else {
        return paint::line(&PanelLine::of(Tone::Faint, " merging frames…"), look, area, buffer);
    };
    let chosen = state.flame_chosen();
    let words = match chosen {
        Some((frame, _)) => state.flame_words(frame),
        None if whole => format!("no {} frames here", run.scope.layer.name()),
        None => "merging frames…".to_owned(),
    };
    let bar = PanelLine::of(Tone::Strong, format!(" {words}")).with(Tone::Faint, format!("  of {}", run.scope.of));
    paint::line(&bar, look, Rect { height: 1, ..area }, buffer);
    let below = Rect { y: area.y + 1, height: area.height - 1, ..area }.intersection(buffer.area);
    let height = usize::from(below.height);
    let top = first_row(state, height);
    let mut number = 0;
    let mut row = usize::MAX;
    let bars = state.flame_bars(usize::from(below.width));
    for bar in &bars {
        number = if bar.row == row { number + 1 } else { 0 };
        row = bar.row;
        let Some(y) = bar.row.checked_sub(top).filter(|y| *y < height) else { continue };
        let place =
            Rect { x: below.x + bar.from as u16, y: below.y + y as u16, width: (bar.to - bar.from) as u16, height: 1 };
        let is_chosen = chosen.is_some_and(|(frame, _)| frame == bar.frame);
        draw_bar(state, look, run, bar, (number, is_chosen), place, buffer);
    }
    let deepest = bars.last().map_or(0, |bar| bar.row);
    if deepest >= top + height && height > 0 && below.width > 0 {
        let more = look.sign('▾', 'v');
        buffer[(below.right() - 1, below.bottom() - 1)].set_char(more).set_style(look.faint());
    }
}

/// The first row shown: one of what the chosen frame calls stays in view below it.
fn first_row(state: &State, height: usize) -> usize {
    let depth = state.flame_chosen().map_or(0, |(_, depth)| depth);
    (depth + 2).saturating_sub(height.max(1)).min(depth)
}

/// The frame at a place, as the arrow keys count them.
pub fn row_at(state: &State, area: Rect, at: Position) -> Option<usize> {
    let y = usize::from(at.y.checked_sub(area.y + 1)?) + first_row(state, usize::from(area.height.saturating_sub(1)));
    let x = usize::from(at.x - area.x);
    let bar =
        state.flame_bars(usize::from(area.width)).into_iter().find(|b| b.row == y && (b.from..b.to).contains(&x))?;
    state.flame_order().iter().position(|(frame, _)| *frame == bar.frame)
}

fn draw_bar(
    state: &State,
    look: Look,
    run: &FlameRun,
    bar: &Bar,
    (number, chosen): (usize, bool),
    place: Rect,
    buffer: &mut Buffer,
) {
    let class = run.frames.get(bar.frame).and_then(|f| state.scene.classes.get(f.key.name.0 as usize));
    let class = class.copied().unwrap_or_default();
    // Neighbours differ in shade, so that each is seen to begin.
    let shade = if (number + bar.row).is_multiple_of(2) { 1 } else { -1 };
    let style = if chosen {
        look.selected()
    } else if look.colors == Colors::None && number % 2 == 1 {
        Style::new().add_modifier(Modifier::REVERSED)
    } else {
        look.filled(class, shade)
    };
    buffer.set_style(place, style);
    let edge = look.sign('▏', '|');
    let few = place.width < 3;
    let label = if few { String::new() } else { state.flame_label(run, bar.frame) };
    let text = format!("{edge}{label}");
    let shown = paint::clip(&text, usize::from(place.width), look);
    let shown = if few { edge.to_string() } else { shown };
    buffer.set_stringn(place.x, place.y, shown, usize::from(place.width), style);
}
