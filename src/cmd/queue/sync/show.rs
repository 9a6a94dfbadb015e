//! Both sides for people and programs.

use crate::cmd::error::Error;
use crate::cmd::settings::{OutputFormat, Settings};
use crate::queue::sync::elastic::{Chosen, Decision};
use crate::queue::sync::{Row, Sheet};
use crate::view::style::{self, paint};
use crate::view::{Align, Table, text};

/// Names of nodes in a note; the rest is counted.
const NAMED: usize = 8;

/// Prints a sheet.
pub fn sheet(sheet: &Sheet, settings: &Settings) -> Result<(), Error> {
    let ui = &settings.ui;
    match settings.output {
        OutputFormat::Json => return ui.json(sheet).map_err(Error::output),
        OutputFormat::Yaml => return ui.yaml(sheet).map_err(Error::output),
        OutputFormat::Name => {
            let apart: Vec<&str> = sheet.nodes.iter().filter(|row| !row.agree).map(|row| row.node.as_str()).collect();
            return if apart.is_empty() { Ok(()) } else { ui.print(&apart.join("\n")).map_err(Error::output) };
        }
        OutputFormat::Table | OutputFormat::Wide => {}
    }
    if sheet.nodes.is_empty() {
        ui.note(&format!("{} and {} share no node", sheet.slurm, sheet.kubernetes));
        ui.hint("nodes are matched by name, host name and address, or by the label aictl.dev/slurm-node=NAME");
    } else {
        ui.print(&table(sheet, settings)).map_err(Error::output)?;
    }
    for (side, names) in [(&sheet.slurm, &sheet.only_slurm), (&sheet.kubernetes, &sheet.only_kubernetes)] {
        if !names.is_empty() {
            ui.note(&format!("only in {side}: {}", some(names)));
        }
    }
    let planned = sheet.nodes.iter().filter(|row| row.state == Some("planned")).count();
    if planned > 0 && !sheet.apply {
        ui.hint("--apply does what would be done");
    }
    Ok(())
}

fn some(names: &[String]) -> String {
    let shown: Vec<&str> = names.iter().take(NAMED).map(String::as_str).collect();
    match names.len().saturating_sub(NAMED) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

fn table(sheet: &Sheet, settings: &Settings) -> String {
    let mut table = Table::new(&[
        ("NODE", Align::Flexible),
        ("SLURM", Align::Flexible),
        ("GPUS", Align::Right),
        ("KUBERNETES", Align::Flexible),
        ("GPUS", Align::Right),
        ("AGREE", Align::Left),
        ("WHAT", Align::Flexible),
    ]);
    for row in &sheet.nodes {
        table.row([
            row.node.clone(),
            row.slurm.state.clone(),
            format!("{}/{}", row.slurm.gpus_allocated, row.slurm.gpus),
            row.kubernetes.state.clone(),
            format!("{}/{}", row.kubernetes.gpus_allocated, row.kubernetes.gpus),
            if row.agree { "yes" } else { "no" }.to_owned(),
            what(row, sheet.apply),
        ]);
    }
    let width = if settings.output == OutputFormat::Wide { usize::MAX } else { settings.ui.width() };
    let lines = table.fit(width, settings.ui.unicode(), &["AGREE", "GPUS"]);
    let colour = |index: usize| match index.checked_sub(1).and_then(|index| sheet.nodes.get(index)) {
        None => style::HEADER,
        Some(row) if matches!(row.state, Some("failed" | "refused")) => style::BAD,
        Some(row) if row.state == Some("done") => style::GOOD,
        Some(row) if !row.agree => style::WARN,
        Some(_) => anstyle::Style::new(),
    };
    lines.iter().enumerate().map(|(index, line)| paint(colour(index), line)).collect::<Vec<_>>().join("\n")
}

/// What is to be said of a node: what is done first, since a narrow terminal shows the beginning.
fn what(row: &Row, apply: bool) -> String {
    let mut parts = Vec::new();
    if let Some(order) = row.order {
        let words = order.words();
        parts.push(match row.state {
            Some("done") => format!("done: {words}"),
            Some("planned") if !apply => format!("would {words}"),
            Some("planned") | None => format!("to {words}"),
            Some(state) => format!("{state}: {words}"),
        });
    }
    parts.extend([&row.said, &row.why].into_iter().filter(|text| !text.is_empty()).cloned());
    if parts.is_empty() { "-".to_owned() } else { parts.join("; ") }
}

/// Prints a decision.
pub fn decision(decision: &Decision, settings: &Settings) -> Result<(), Error> {
    let ui = &settings.ui;
    match settings.output {
        OutputFormat::Json => return ui.json(decision).map_err(Error::output),
        OutputFormat::Yaml => return ui.yaml(decision).map_err(Error::output),
        OutputFormat::Name => {
            let all = decision.resume.iter().chain(&decision.suspend);
            let names: Vec<&str> = all.map(|chosen| chosen.node.as_str()).collect();
            return if names.is_empty() { Ok(()) } else { ui.print(&names.join("\n")).map_err(Error::output) };
        }
        OutputFormat::Table | OutputFormat::Wide => {}
    }
    let mut lines = vec![
        paint(style::STRONG, &text::plain(&decision.why)),
        format!(
            "CLOUD nodes: {} on, {} of them idle, {} off; jobs: {} wait for room, {} for something else",
            decision.on,
            decision.idle,
            decision.cloud_nodes.saturating_sub(decision.on),
            decision.waiting_jobs,
            decision.blocked_jobs
        ),
    ];
    let mut table = Table::new(&[("NODE", Align::Flexible), ("DO", Align::Left), ("WHY", Align::Flexible)]);
    let mut styles = Vec::new();
    for (chosen, does) in [(&decision.resume, "start"), (&decision.suspend, "stop")] {
        for Chosen { node, why, state } in chosen {
            let (does, colour) = match *state {
                "done" => (format!("{does}: done"), style::GOOD),
                "planned" => (format!("would {does}"), anstyle::Style::new()),
                state => (format!("{does}: {state}"), style::BAD),
            };
            table.row([node.clone(), does, why.clone()]);
            styles.push(colour);
        }
    }
    for unmet in &decision.unmet {
        table.row(["-".to_owned(), "nothing".to_owned(), format!("{} {}", unmet.job, unmet.why)]);
        styles.push(style::FAINT);
    }
    if !table.is_empty() {
        lines.push(String::new());
        let width = if settings.output == OutputFormat::Wide { usize::MAX } else { ui.width() };
        let rows = table.render(width, ui.unicode());
        let colour = |index: usize| match index.checked_sub(1) {
            None => style::HEADER,
            Some(index) => styles.get(index).copied().unwrap_or_default(),
        };
        lines.extend(rows.iter().enumerate().map(|(index, line)| paint(colour(index), line)));
    }
    ui.print(&lines.join("\n")).map_err(Error::output)?;
    let planned = decision.resume.len() + decision.suspend.len();
    if planned > 0 && !decision.apply {
        ui.hint("--apply does what would be done");
    }
    Ok(())
}
