//! Models for people.

use super::super::settings::Settings;
use super::nodes::FleetSize;
use crate::preload::gc::Verdict;
use crate::preload::nodes::{NodeReport, NodeState, Planned};
use crate::preload::platform;
use crate::preload::snapshot::State;
use crate::preload::{Model, Plan};
use crate::view::style::{self, paint};
use crate::view::{Align, Table, human, text};

/// The table of models.
pub fn models(models: &[Model], wide: bool, settings: &Settings) -> String {
    let (width, unicode) = (settings.ui.width(), settings.ui.unicode());
    let mut columns = vec![
        ("SOURCE", Align::Flexible),
        ("REVISION", Align::Left),
        ("FILES", Align::Right),
        ("SIZE", Align::Right),
        ("DISK", Align::Right),
        ("CACHED", Align::Right),
        ("STATE", Align::Left),
    ];
    if wide {
        columns.extend([("PINNED", Align::Right), ("VERIFIED", Align::Left), ("PATH", Align::Left)]);
    }
    let mut table = Table::new(&columns);
    for model in models {
        let share = |bytes: u64| match model.bytes {
            0 => "100%".to_owned(),
            all => human::cell(&human::percent(bytes as f64 / all as f64)),
        };
        let mut row = vec![
            model.source.clone(),
            model.revision.chars().take(if wide { 64 } else { 8 }).collect(),
            human::count(model.files as u64),
            human::cell(&human::bytes(model.bytes)),
            share(model.on_disk_bytes),
            model.resident_bytes.map_or_else(|| "unknown".to_owned(), share),
            model.state.name().to_owned(),
        ];
        if wide {
            row.push(model.pinned_bytes.map_or_else(|| "unknown".to_owned(), share));
            row.push(if model.verified { "yes" } else { "no" }.to_owned());
            row.push(model.path.display().to_string());
        }
        table.row(row);
    }
    let colour = |row: usize| match models.get(row).map(|model| model.state) {
        Some(State::Damaged) => style::BAD,
        Some(State::Partial) => style::WARN,
        _ => anstyle::Style::new(),
    };
    let width = if wide { usize::MAX } else { width };
    let mut pages = vec![page(&table, width, unicode, colour)];
    pages.extend(models.iter().filter(|model| !model.per_file.is_empty()).map(|model| files(model, width, unicode)));
    pages.join("\n\n")
}

/// The files of one model.
fn files(model: &Model, width: usize, unicode: bool) -> String {
    let columns = [
        ("FILE", Align::Flexible),
        ("SIZE", Align::Right),
        ("CACHED", Align::Right),
        ("DIRTY", Align::Right),
        ("UNKNOWN", Align::Left),
    ];
    let any_unknown = model.per_file.iter().any(|file| file.unknown.is_some());
    let mut table = Table::new(if any_unknown { &columns } else { &columns[..4] });
    let bytes = |bytes: Option<u64>| bytes.map_or("unknown".to_owned(), |bytes| human::cell(&human::bytes(bytes)));
    for file in &model.per_file {
        let mut row =
            vec![file.name.clone(), bytes(Some(file.bytes)), bytes(file.resident_bytes), bytes(file.dirty_bytes)];
        row.extend(any_unknown.then(|| file.unknown.clone().unwrap_or_default()));
        table.row(row);
    }
    page(&table, width, unicode, |_| anstyle::Style::new())
}

/// What would be fetched.
pub fn plans(plans: &[Plan], settings: &Settings) -> String {
    let mut table = Table::new(&[
        ("SOURCE", Align::Flexible),
        ("REVISION", Align::Left),
        ("FILES", Align::Right),
        ("SIZE", Align::Right),
        ("TO-FETCH", Align::Right),
        ("TIME", Align::Right),
        ("FREE", Align::Right),
        ("FITS", Align::Left),
    ]);
    let bytes = |bytes: u64| human::cell(&human::bytes(bytes));
    for plan in plans {
        table.row([
            plan.source.clone(),
            plan.revision.chars().take(8).collect(),
            human::count(plan.files as u64),
            bytes(plan.bytes),
            bytes(plan.fetch_bytes),
            plan.estimate_s.map_or_else(|| "unknown".to_owned(), |seconds| human::cell(&human::seconds(seconds))),
            bytes(plan.free_bytes),
            if plan.fits { "yes" } else { "no" }.to_owned(),
        ]);
    }
    let colour =
        |row: usize| if plans.get(row).is_some_and(|plan| !plan.fits) { style::BAD } else { anstyle::Style::new() };
    let mut parts = vec![page(&table, settings.ui.width(), settings.ui.unicode(), colour)];
    for plan in plans.iter().filter(|plan| !plan.fits) {
        parts.push(match plan.evict.as_slice() {
            [] => format!("{} does not fit, and no cleaning would make room for it.", plan.source),
            paths => {
                let paths: Vec<String> = paths.iter().map(|path| format!("  {}", path.display())).collect();
                format!("{} would fit after these are removed (aictl preload gc):\n{}", plan.source, paths.join("\n"))
            }
        });
    }
    parts.push("Nothing was changed.".to_owned());
    parts.join("\n\n")
}

/// What would be done on nodes.
pub fn fleet_plan(
    planned: &[Planned],
    left_out: &[(String, String)],
    at_once: usize,
    size: &FleetSize,
    settings: &Settings,
) -> String {
    let mut table = Table::new(&[("NODE", Align::Flexible), ("JOB", Align::Left), ("ACTION", Align::Left)]);
    for one in planned {
        table.row([one.node.clone(), one.job.clone(), one.action.name().to_owned()]);
    }
    for (node, why) in left_out {
        table.row([node.clone(), String::new(), format!("none: {why}")]);
    }
    let colour = |row: usize| if row >= planned.len() { style::WARN } else { anstyle::Style::new() };
    let page = page(&table, settings.ui.width(), settings.ui.unicode(), colour);
    let amount = match (size.bytes, size.source_bytes) {
        (Some(one), Some(all)) => {
            let time = size.estimate_s.map(|seconds| format!(", {} at the limit", human::seconds(seconds)));
            format!(
                "{} a node, at most {} from the source{}.",
                human::bytes(one),
                human::bytes(all),
                time.unwrap_or_default()
            )
        }
        _ => format!("Size unknown: {}.", size.unknown.as_deref().unwrap_or("the source was not asked")),
    };
    format!("{page}\n\n{amount}\nAt most {at_once} at once. Nothing was changed; -o yaml prints the manifests.")
}

/// What became of nodes.
pub fn fleet(reports: &[NodeReport], settings: &Settings) -> String {
    let mut table = Table::new(&[
        ("NODE", Align::Flexible),
        ("STATE", Align::Left),
        ("SIZE", Align::Right),
        ("FETCHED", Align::Right),
        ("FROM-PEERS", Align::Right),
        ("TIME", Align::Right),
        ("TRIES", Align::Right),
        ("WHY", Align::Flexible),
    ]);
    let bytes = |bytes: u64| human::cell(&human::bytes(bytes));
    for report in reports {
        table.row([
            report.node.clone(),
            report.state.name().to_owned(),
            size(report).map_or_else(|| "unknown".to_owned(), bytes),
            bytes(report.fetched_bytes),
            bytes(report.peer_bytes),
            human::cell(&human::seconds(report.seconds)),
            human::count(u64::from(report.tries)),
            report.why.clone().unwrap_or_default(),
        ]);
    }
    let colour = |row: usize| match reports.get(row).map(|report| report.state) {
        Some(NodeState::Done) => anstyle::Style::new(),
        Some(NodeState::Blind) => style::WARN,
        _ => style::BAD,
    };
    page(&table, settings.ui.width(), settings.ui.unicode(), colour)
}

/// What would be done with a platform's objects.
pub fn platform_plan(planned: &[platform::Planned], settings: &Settings) -> String {
    let mut table = Table::new(&[("KIND", Align::Left), ("NAME", Align::Flexible), ("ACTION", Align::Left)]);
    for one in planned {
        table.row([one.kind.clone(), one.name.clone(), one.action.name().to_owned()]);
    }
    let page = page(&table, settings.ui.width(), settings.ui.unicode(), |_| anstyle::Style::new());
    format!("{page}\n\nNothing was changed; -o yaml prints the manifests.")
}

/// How a platform's objects stand.
pub fn platform(steps: &[platform::Step], settings: &Settings) -> String {
    let columns = [
        ("KIND", Align::Left),
        ("NAME", Align::Flexible),
        ("ACTION", Align::Left),
        ("PHASE", Align::Left),
        ("DETAIL", Align::Flexible),
    ];
    let mut table = Table::new(&columns);
    for step in steps {
        let detail = step.detail.clone().unwrap_or_default();
        table.row([step.kind.clone(), step.name.clone(), step.action.name().to_owned(), step.phase.clone(), detail]);
    }
    let colour = |row: usize| match steps.get(row) {
        Some(step) if step.done => anstyle::Style::new(),
        _ => style::BAD,
    };
    page(&table, settings.ui.width(), settings.ui.unicode(), colour)
}

/// Bytes of a node's models: a run that had nothing to do planned nothing, but has them.
fn size(report: &NodeReport) -> Option<u64> {
    let models = report.models.as_ref().and_then(|models| models.as_array());
    let sum = |models: &Vec<serde_json::Value>| {
        models.iter().filter_map(|model| model["bytes"].as_u64()).fold(0, u64::saturating_add)
    };
    models.map(sum).or(report.bytes)
}

/// What goes, or went.
pub fn verdicts(verdicts: &[&Verdict], settings: &Settings) -> String {
    let mut table = Table::new(&[
        ("SOURCE", Align::Flexible),
        ("REVISION", Align::Left),
        ("ACTION", Align::Left),
        ("FREES", Align::Right),
        ("UNUSED", Align::Right),
        ("WHY", Align::Flexible),
    ]);
    for verdict in verdicts {
        table.row([
            verdict.source.clone(),
            verdict.revision.chars().take(8).collect(),
            verdict.action.to_owned(),
            human::cell(&human::bytes(verdict.frees_bytes)),
            human::cell(&human::seconds(verdict.unused_s as f64)),
            verdict.why.clone(),
        ]);
    }
    page(&table, settings.ui.width(), settings.ui.unicode(), |_| anstyle::Style::new())
}

fn page(table: &Table, width: usize, unicode: bool, colour: impl Fn(usize) -> anstyle::Style) -> String {
    let lines = table.render(width, unicode);
    let colours = std::iter::once(style::HEADER).chain((0..).map(colour));
    let page = lines.iter().zip(colours).map(|(line, colour)| paint(colour, line)).collect::<Vec<_>>().join("\n");
    if unicode { page } else { text::to_ascii(&page) }
}
