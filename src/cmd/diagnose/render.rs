//! Findings for people: the table, then what the worst of them mean.

use jiff::Timestamp;

use super::super::settings::{OutputFormat, Settings};
use crate::fault::{Catalogue, Check, Finding, Findings, Severity, State};
use crate::view::style::{self, paint};
use crate::view::{Align, Table, human, text};

/// Findings explained below the table, unless all are asked for.
const EXPLAINED: usize = 5;

/// The page.
pub fn render(findings: &Findings, catalogue: &Catalogue, settings: &Settings) -> String {
    let ui = &settings.ui;
    let (width, unicode) = (ui.width(), ui.unicode());
    let wide = settings.output == OutputFormat::Wide;
    let mut parts = Vec::new();
    if !findings.findings.is_empty() {
        parts.push(table(&findings.findings, width, unicode));
        let shown = if wide { usize::MAX } else { EXPLAINED };
        let serious = findings.findings.iter().filter(|f| wide || f.severity > Severity::Info);
        parts.extend(serious.take(shown).map(|finding| explained(finding, catalogue, width, wide)));
    }
    parts.push(checks(&findings.checks, width));
    let page = parts.join("\n\n");
    if unicode { page } else { text::to_ascii(&page) }
}

/// The findings, a row each.
pub(super) fn table(findings: &[Finding], width: usize, unicode: bool) -> String {
    let mut table = Table::new(&[
        ("SEVERITY", Align::Left),
        ("FAULT", Align::Left),
        ("DEVICE", Align::Flexible),
        ("SCOPE", Align::Left),
        ("ACTION", Align::Left),
        ("COUNT", Align::Right),
        ("AGE", Align::Right),
    ]);
    let now = Timestamp::now();
    for finding in findings {
        let age = finding.last_seen.map_or(String::new(), |seen| age(now, seen));
        table.row([
            finding.severity.name().to_owned(),
            finding.fault.clone(),
            device(finding),
            finding.scope.clone(),
            finding.action.clone(),
            human::count(finding.count),
            age,
        ]);
    }
    let lines = table.render(width, unicode);
    let colours = std::iter::once(style::HEADER).chain(findings.iter().map(|f| colour(f.severity)));
    lines.iter().zip(colours).map(|(line, colour)| paint(colour, line)).collect::<Vec<_>>().join("\n")
}

/// The colour of a row.
pub(super) fn colour(severity: Severity) -> anstyle::Style {
    match severity {
        Severity::Critical => style::BAD,
        Severity::Error => style::WARN,
        Severity::Warning | Severity::Info => anstyle::Style::new(),
    }
}

/// The device in a word.
pub(super) fn device(finding: &Finding) -> String {
    let device = &finding.device;
    let place = device.pci.as_ref().or(device.name.as_ref()).cloned().unwrap_or_default();
    match &device.instance {
        Some(instance) => format!("{place}/GI{instance}"),
        None => place,
    }
}

/// "5m", "3h", "2d".
pub(super) fn age(now: Timestamp, seen: Timestamp) -> String {
    let seconds = now.duration_since(seen).as_secs().max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// What a finding means, in lines below its title.
pub(super) fn explained(finding: &Finding, catalogue: &Catalogue, width: usize, wide: bool) -> String {
    let place = Some(device(finding)).filter(|d| !d.is_empty()).map_or(String::new(), |d| format!(" on {d}"));
    let title = text::plain(&format!("{}{place}: {}", finding.fault, finding.title));
    let mut lines = vec![paint(style::STRONG, &title)];
    let mut say = |label: &str, words: &str| {
        if !words.is_empty() {
            lines.push(text::wrap(&format!("  {label:<9}"), &text::plain(words), width));
        }
    };
    let entry = catalogue.get(&finding.fault);
    say("what", entry.map_or("not in the catalogue; never acted on", |entry| catalogue.explain(entry)));
    say("because", finding.because.as_deref().unwrap_or_default());
    say("then", finding.then.as_deref().map_or(String::new(), |then| format!("if it comes back: {then}")).as_str());
    if let Some(pid) = finding.pid {
        say("process", &format!("{pid} {}", finding.process.as_deref().unwrap_or_default()));
    }
    let evidence = if wide { finding.evidence.len() } else { 1 };
    for line in finding.evidence.iter().rev().take(evidence) {
        say("line", line);
    }
    lines.join("\n")
}

/// The checks, a line each.
pub(super) fn checks(checks: &[Check], width: usize) -> String {
    // What is left out for one reason is one line.
    let mut groups: Vec<(State, Vec<&str>, &str)> = Vec::new();
    for check in checks {
        let same = |(state, _, detail): &&mut (State, Vec<&str>, &str)| {
            check.state == State::Skipped && *state == State::Skipped && *detail == check.detail
        };
        match groups.iter_mut().find(same) {
            Some((_, names, _)) => names.push(&check.name),
            None => groups.push((check.state, vec![&check.name], &check.detail)),
        }
    }
    let lines = groups.iter().map(|(state, names, detail)| {
        let (word, colour) = match state {
            State::Ok => ("ok", style::GOOD),
            State::Fault => ("fault", style::BAD),
            State::Blind => ("blind", style::WARN),
            State::Skipped => ("skipped", style::FAINT),
        };
        let line = text::wrap(&format!("{word:<8}"), &text::plain(&format!("{}: {detail}", names.join(", "))), width);
        line.replacen(word, &paint(colour, word), 1)
    });
    lines.collect::<Vec<_>>().join("\n")
}
