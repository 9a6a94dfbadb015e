//! What changed between two recordings, for people and programs.

use super::super::Done;
use super::super::error::{BLIND, DONE, Error};
use super::super::settings::{OutputFormat, Settings};
use super::Page;
use super::words::titled;
use crate::analyze::{self, Change, Comparison, VerdictKind};
use crate::trace::Trace;
use crate::view::style::{self, paint};
use crate::view::{Align, Table, human, text};

/// Rows of what changed the most without `-o wide`.
const FEW: usize = 10;

/// Compares and prints.
pub fn print(before: &Trace, after: &Trace, settings: &Settings) -> Done {
    let reports = (analyze::judge(before), analyze::judge(after));
    let comparison = analyze::compare(&reports.0, &reports.1);
    let ui = &settings.ui;
    match settings.output {
        OutputFormat::Json => ui.json(&comparison),
        OutputFormat::Yaml => ui.yaml(&comparison),
        OutputFormat::Name => ui.print(comparison.verdict.after.name()),
        OutputFormat::Table | OutputFormat::Wide => {
            for (name, report) in [("before", &reports.0), ("after", &reports.1)] {
                report.warnings.iter().for_each(|warning| ui.warn(&format!("{name}: {warning}")));
            }
            ui.print(&render(&comparison, Page::of(settings)))
        }
    }
    .map_err(Error::output)?;
    let blind = [comparison.verdict.before, comparison.verdict.after].contains(&VerdictKind::Inconclusive);
    Ok(if blind { BLIND } else { DONE })
}

/// The comparison for people: one sentence, then the numbers.
pub fn render(comparison: &Comparison, page: Page) -> String {
    let parts =
        [summary(comparison, page), overview(comparison, page), breakdown(comparison, page), top(comparison, page)];
    let mut text = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n\n");
    text.push('\n');
    if page.unicode { text } else { text::to_ascii(&text) }
}

fn summary(comparison: &Comparison, page: Page) -> String {
    let style = match comparison.p50_ms.ratio {
        Some(ratio) if ratio > 1.05 => style::BAD,
        Some(ratio) if ratio < 0.95 => style::GOOD,
        _ => style::STRONG,
    };
    paint(style, &text::wrap("", &text::plain(&comparison.summary), page.width))
}

fn overview(comparison: &Comparison, page: Page) -> String {
    let mut table =
        Table::new(&[("", Align::Left), ("BEFORE", Align::Right), ("AFTER", Align::Right), ("CHANGE", Align::Right)]);
    for (name, change) in [("step p50", comparison.p50_ms), ("step p99", comparison.p99_ms)] {
        let time = |ms: Option<f64>| ms.map_or("-".to_owned(), |ms| human::cell(&human::seconds(ms / 1e3)));
        table.row([name.to_owned(), time(change.before), time(change.after), ratio(change)]);
    }
    let count = |steps: usize| human::count(steps as u64);
    table.row(["steps".to_owned(), count(comparison.steps_before), count(comparison.steps_after), "-".to_owned()]);
    let verdict = comparison.verdict;
    let changed = if verdict.changed { "changed" } else { "same" };
    table.row([
        "verdict".to_owned(),
        verdict.before.name().to_owned(),
        verdict.after.name().to_owned(),
        changed.to_owned(),
    ]);
    titled(&table, page)
}

/// "-44%", "+3.1%".
fn ratio(change: Change) -> String {
    change.ratio.map_or("-".to_owned(), |ratio| signed(ratio - 1.0, human::percent))
}

/// A change with its sign.
fn signed(value: f64, show: impl Fn(f64) -> String) -> String {
    let sign = if value > 0.0 {
        "+"
    } else if value < 0.0 {
        "-"
    } else {
        ""
    };
    format!("{sign}{}", human::cell(&show(value.abs())))
}

fn breakdown(comparison: &Comparison, page: Page) -> String {
    let title = if comparison.steps_before > 0 && comparison.steps_after > 0 { "PER STEP" } else { "TIME" };
    let mut table = Table::new(&[
        (title, Align::Left),
        ("BEFORE", Align::Right),
        ("AFTER", Align::Right),
        ("CHANGE", Align::Right),
    ]);
    let mut rows: Vec<_> = comparison.breakdown.iter().filter(|row| row.before_s > 0.0 || row.after_s > 0.0).collect();
    rows.sort_by(|a, b| b.delta_s.abs().total_cmp(&a.delta_s.abs()));
    for row in rows {
        table.row([
            row.category.name().to_owned(),
            human::cell(&human::seconds(row.before_s)),
            human::cell(&human::seconds(row.after_s)),
            signed(row.delta_s, human::seconds),
        ]);
    }
    if table.is_empty() { String::new() } else { titled(&table, page) }
}

fn top(comparison: &Comparison, page: Page) -> String {
    let columns = [
        ("LAYER", Align::Left),
        ("WHAT", Align::Flexible),
        ("BEFORE", Align::Right),
        ("AFTER", Align::Right),
        ("CHANGE", Align::Right),
    ];
    let mut table = Table::new(&columns);
    let mut rows: Vec<_> = comparison.top.iter().collect();
    rows.sort_by(|a, b| b.delta_s.abs().total_cmp(&a.delta_s.abs()));
    for row in rows.into_iter().take(if page.wide { usize::MAX } else { FEW }) {
        table.row([
            row.layer.to_owned(),
            row.name.clone(),
            human::cell(&human::seconds(row.before_s)),
            human::cell(&human::seconds(row.after_s)),
            signed(row.delta_s, human::seconds),
        ]);
    }
    if table.is_empty() { String::new() } else { titled(&table, page) }
}
