//! The report for people: a line a thing, and below it what to do.

use super::super::settings::{OutputFormat, Settings};
use super::{Check, State};
use crate::view::style::{self, paint};
use crate::view::{human, text};

/// Renders all.
pub fn render(checks: &[Check], settings: &Settings) -> String {
    let ui = &settings.ui;
    let wide = settings.output == OutputFormat::Wide;
    let names = checks.iter().map(|check| check.name.chars().count()).max().unwrap_or(0);
    let mut out = Vec::new();
    let mut area = "";
    for check in checks {
        if check.area != area {
            if !area.is_empty() {
                out.push(String::new());
            }
            area = check.area;
            out.push(paint(style::HEADER, &area.to_uppercase()));
        }
        let (word, colour) = word(check.state);
        let name = text::plain(&check.name);
        let pad = " ".repeat(names.saturating_sub(name.chars().count()));
        // Cut by words; what was seen may hold anything.
        let first = format!("  {word:<7}  {name}{pad}  ");
        let line = text::wrap(&first, &text::plain(&check.detail), ui.width());
        out.push(line.replacen(word, &paint(colour, word), 1));
        let indent = " ".repeat(first.chars().count());
        if let Some(fix) = check.fix.as_ref().filter(|_| check.state != State::Ok) {
            let arrow = if ui.unicode() { "→ " } else { "-> " };
            let line = text::wrap(&format!("{indent}{arrow}"), &text::plain(fix), ui.width());
            out.push(line.replacen(arrow, &paint(style::HINT, arrow), 1));
        }
        if wide && !check.needed_for.is_empty() {
            let commands: Vec<String> =
                check.needed_for.iter().map(|command| format!("{command:?}").to_lowercase()).collect();
            out.push(paint(style::FAINT, &format!("{indent}for {}", commands.join(", "))));
        }
    }
    let count = |state| checks.iter().filter(|check| check.state == state).count();
    let sums = [State::Ok, State::Absent, State::Broken, State::Unknown].into_iter().filter_map(|state| {
        let (word, colour) = word(state);
        let count = count(state);
        (count > 0).then(|| format!("{} {}", human::count(count as u64), paint(colour, word)))
    });
    out.extend([String::new(), sums.collect::<Vec<_>>().join(", ")]);
    out.join("\n")
}

fn word(state: State) -> (&'static str, anstyle::Style) {
    match state {
        State::Ok => ("ok", style::GOOD),
        State::Absent => ("absent", style::WARN),
        State::Broken => ("broken", style::BAD),
        State::Unknown => ("unknown", style::WARN),
    }
}
