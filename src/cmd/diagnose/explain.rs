//! `--explain`: what a fault is, and what to do.

use serde::Serialize;

use super::super::error::{DONE, Error};
use super::super::settings::{OutputFormat, Settings};
use super::Done;
use crate::fault::{Catalogue, Entry, Rating};
use crate::view::style::{self, paint};
use crate::view::text;

/// An entry for programs.
#[derive(Debug, Serialize)]
struct Shown<'c> {
    schema: &'static str,
    fault: &'c str,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u32>,
    name: &'c str,
    title: &'c str,
    severity: &'static str,
    scope: &'c str,
    action: &'c str,
    #[serde(skip_serializing_if = "Option::is_none")]
    then: Option<&'c str>,
    explain: &'c str,
    #[serde(skip_serializing_if = "Option::is_none")]
    disputed: Option<&'c str>,
    source: &'c str,
}

/// Prints an entry; it may be named as people do: 79, "XID 79", xid79.
pub fn print(asked: &str, catalogue: &Catalogue, settings: &Settings) -> Done {
    let Some(entry) = find(asked, catalogue) else {
        let near = nearest(asked, catalogue);
        let error = Error::usage(format!("no fault is called '{}'", text::plain(asked)));
        return Err(match near {
            Some(near) => error.hint(format!("aictl diagnose --explain {near}")),
            None => error.hint("such as xid-79, sxid-20034, oom-memcg"),
        });
    };
    let shown = Shown {
        schema: "aictl.fault/v1",
        fault: &entry.fault,
        code: entry.code,
        name: &entry.name,
        title: &entry.title,
        severity: severity(entry.severity),
        scope: &entry.scope,
        action: &entry.action,
        then: entry.then.as_deref(),
        explain: catalogue.explain(entry),
        disputed: entry.disputed.as_deref(),
        source: &entry.source,
    };
    let ui = &settings.ui;
    match settings.output {
        OutputFormat::Json => ui.json(&shown),
        OutputFormat::Yaml => ui.yaml(&shown),
        OutputFormat::Name => ui.print(&entry.fault),
        OutputFormat::Table | OutputFormat::Wide => {
            let words = page(entry, catalogue, ui.width());
            ui.print(&if ui.unicode() { words } else { text::to_ascii(&words) })
        }
    }
    .map_err(Error::output)?;
    Ok(DONE)
}

fn page(entry: &Entry, catalogue: &Catalogue, width: usize) -> String {
    let mut lines = vec![paint(style::STRONG, &format!("{}: {}", entry.fault, entry.title))];
    if !entry.name.is_empty() {
        lines.push(paint(style::FAINT, &entry.name));
    }
    lines.push(String::new());
    let mut field = |name: &str, value: &str| {
        if !value.is_empty() {
            lines.push(text::wrap(&format!("{name:<12}"), value, width));
        }
    };
    field("what", catalogue.explain(entry));
    let then = entry.then.as_ref().map_or(String::new(), |then| format!("; if it comes back {then}"));
    field("do", &format!("{}{then}", entry.action));
    field("severity", &format!("{}, reaches: {}", severity(entry.severity), entry.scope));
    if let Some(rate) = &entry.escalate {
        let (count, within) = (rate.count, crate::view::human::seconds(f64::from(rate.within_s)));
        field("often", &format!("{count} times within {within}: {}, {}", severity(rate.severity), rate.action));
    }
    for variant in &entry.variants {
        let words =
            format!("{}: {}, {}. {}", variant.title, severity(variant.severity), variant.action, variant.explain);
        field(&variant.when.replace('_', " "), words.trim());
    }
    field("disputed", entry.disputed.as_deref().unwrap_or_default());
    field("source", &entry.source);
    lines.join("\n")
}

fn severity(rating: Rating) -> &'static str {
    match rating {
        Rating::ByLine => "critical if the line says Fatal, else a warning",
        Rating::Info => "info",
        Rating::Warning => "warning",
        Rating::Error => "error",
        Rating::Critical => "critical",
    }
}

fn find<'c>(asked: &str, catalogue: &'c Catalogue) -> Option<&'c Entry> {
    let name = asked.trim().to_ascii_lowercase().replace(['_', ' '], "-");
    let dashed = |kind: &str| {
        let number = name.strip_prefix(kind)?.trim_start_matches('-');
        number.bytes().all(|b| b.is_ascii_digit()).then(|| format!("{kind}-{number}"))
    };
    let number = name.bytes().all(|b| b.is_ascii_digit()).then(|| format!("xid-{name}"));
    [Some(name.clone()), dashed("xid"), dashed("sxid"), number].iter().flatten().find_map(|name| catalogue.get(name))
}

/// The entry whose name is most like what was asked for.
fn nearest<'c>(asked: &str, catalogue: &'c Catalogue) -> Option<&'c str> {
    let asked = asked.to_ascii_lowercase();
    let holds = catalogue.iter().find(|entry| {
        asked.len() >= 3 && (entry.fault.contains(&asked) || entry.title.to_ascii_lowercase().contains(&asked))
    });
    holds.map(|entry| entry.fault.as_str())
}
