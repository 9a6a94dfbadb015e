//! The fleet for people: a row for each node that is not well, the worst first; the others in a
//! line; what is of no one node below.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::super::render::{age, checks, colour, device, explained, table};
use crate::cmd::settings::{OutputFormat, Settings};
use crate::fault::cluster::{Fleet, NodeState, NodeView};
use crate::fault::{Catalogue, Finding, Severity};
use crate::view::style::{self, paint};
use crate::view::{Align, Table, human, text};

/// Nodes that are blind for one reason have rows of their own up to so many.
const BLIND_ROWS: usize = 10;
/// Faults explained below.
const EXPLAINED: usize = 5;

/// The page.
pub fn render(fleet: &Fleet, catalogue: &Catalogue, settings: &Settings) -> String {
    let ui = &settings.ui;
    let (width, unicode) = (ui.width(), ui.unicode());
    let wide = settings.output == OutputFormat::Wide;
    let (rows, summed) = rows(&fleet.nodes, wide);
    let mut parts = Vec::new();
    let mut head = Vec::new();
    if !rows.is_empty() {
        head.push(nodes(&rows, wide, width, unicode));
    }
    head.extend(summed.iter().map(|line| text::wrap("", line, width)));
    parts.push(head.join("\n"));
    if !fleet.findings.is_empty() {
        parts.push(table(&fleet.findings, width, unicode));
        let shown = if wide { usize::MAX } else { EXPLAINED };
        let serious = fleet.findings.iter().filter(|finding| finding.severity > Severity::Info);
        parts.extend(serious.take(shown).map(|finding| explained(finding, catalogue, width, wide)));
    }
    parts.extend(meanings(&rows, catalogue, width));
    parts.extend(unseen(&rows, wide, width));
    parts.push(checks(&fleet.checks, width));
    if let Some(worst) = fleet.nodes.first().filter(|node| node.state == NodeState::Fault) {
        parts.push(paint(style::FAINT, &format!("all of one node: aictl diagnose {}", text::plain(worst.name()))));
    }
    parts.retain(|part| !part.is_empty());
    let page = parts.join("\n\n");
    if unicode { page } else { text::to_ascii(&page) }
}

/// Nodes with rows of their own, and lines for the others.
fn rows(nodes: &[NodeView], wide: bool) -> (Vec<&NodeView>, Vec<String>) {
    if wide {
        return (nodes.iter().collect(), Vec::new());
    }
    let mut rows: Vec<&NodeView> = nodes.iter().filter(|node| node.state == NodeState::Fault).collect();
    let mut unseen: BTreeMap<&str, Vec<&NodeView>> = BTreeMap::new();
    for node in nodes.iter().filter(|node| node.state == NodeState::Blind) {
        let why = node.blind().map_or("", |check| check.detail.as_str());
        // "silent for 14 min" and "for 15 min" are one reason.
        let why = why.split(" for ").next().unwrap_or(why);
        unseen.entry(why).or_default().push(node);
    }
    let mut summed = Vec::new();
    for (why, group) in unseen {
        if group.len() <= BLIND_ROWS {
            rows.extend(group);
        } else {
            let count = human::count(group.len() as u64);
            summed.push(format!("{} {count} nodes: {}", paint(style::WARN, "blind"), text::plain(why)));
        }
    }
    let well = nodes.iter().filter(|node| node.state == NodeState::Ok).count();
    if well > 0 {
        summed.push(format!("{} {}", paint(style::GOOD, "ok"), human::plural(well as u64, "node", "nodes")));
    }
    (rows, summed)
}

fn nodes(rows: &[&NodeView], wide: bool, width: usize, unicode: bool) -> String {
    let mut columns = vec![
        ("NODE", Align::Flexible),
        ("STATE", Align::Left),
        ("GPUS", Align::Right),
        ("WORST", Align::Left),
        ("COUNT", Align::Right),
        ("ACTION", Align::Left),
        ("AGE", Align::Right),
    ];
    if wide {
        columns.extend([
            ("DEVICE", Align::Flexible),
            ("KUBELET", Align::Left),
            ("AGENT", Align::Left),
            ("LOOKED", Align::Right),
            ("WHY", Align::Flexible),
        ]);
    }
    let mut table = Table::new(&columns);
    let now = Timestamp::now();
    for node in rows {
        let worst = node.worst();
        let of = |say: fn(&Finding) -> String| worst.map_or(String::new(), say);
        // Since when it has been so, where that is known.
        let since = worst.and_then(|finding| finding.first_seen.or(finding.last_seen));
        let mut row = vec![
            node.name().to_owned(),
            state(node),
            gpus(node),
            of(|finding| finding.fault.clone()),
            if node.faults() == 0 { String::new() } else { human::count(node.faults() as u64) },
            of(|finding| finding.action.clone()),
            since.map_or(String::new(), |seen| age(now, seen)),
        ];
        if wide {
            row.extend([
                of(device),
                if node.ready { "Ready" } else { "NotReady" }.to_owned(),
                node.agent.clone().unwrap_or_default(),
                node.looked_at.map_or(String::new(), |at| age(now, at)),
                worst.map_or_else(|| node.blind().map_or(String::new(), |check| check.detail.clone()), why),
            ]);
        }
        table.row(row);
    }
    // A terminal is as wide as it is; who asks for all of it takes longer lines.
    let lines = table.render(if wide { width.max(200) } else { width }, unicode);
    let colours = std::iter::once(style::HEADER).chain(rows.iter().map(|node| match node.worst() {
        Some(worst) => colour(worst.severity),
        None => anstyle::Style::new(),
    }));
    lines.iter().zip(colours).map(|(line, colour)| paint(colour, line)).collect::<Vec<_>>().join("\n")
}

fn state(node: &NodeView) -> String {
    let word = match node.state {
        NodeState::Ok => "ok",
        NodeState::Blind => "blind",
        NodeState::Fault => "fault",
    };
    if node.unschedulable { format!("{word},cordoned") } else { word.to_owned() }
}

/// "7/8" where not all are offered, else "8".
fn gpus(node: &NodeView) -> String {
    match (node.gpus_allocatable, node.gpus) {
        (0, 0) => String::new(),
        (offered, all) if offered == all => all.to_string(),
        (offered, all) => format!("{offered}/{all}"),
    }
}

fn why(finding: &Finding) -> String {
    finding.because.clone().unwrap_or_else(|| finding.title.clone())
}

/// Why nodes with rows can't be told to be well; the wide table says it itself.
fn unseen(rows: &[&NodeView], wide: bool, width: usize) -> Option<String> {
    let blind = rows.iter().filter(|node| node.state == NodeState::Blind && !wide);
    let lines = blind.filter_map(|node| {
        let check = node.blind()?;
        let name = text::plain(node.name());
        let words = text::plain(&format!("{}: {}", check.name, check.detail));
        Some(text::wrap(&format!("{name}: "), &words, width).replacen(&name, &paint(style::STRONG, &name), 1))
    });
    let lines: Vec<String> = lines.collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

/// What the faults of the rows mean, each once.
fn meanings(rows: &[&NodeView], catalogue: &Catalogue, width: usize) -> Option<String> {
    let mut told: Vec<(&str, Severity, usize)> = Vec::new();
    for worst in rows.iter().filter_map(|node| node.worst()) {
        match told.iter_mut().find(|(fault, ..)| *fault == worst.fault) {
            Some((.., count)) => *count += 1,
            None => told.push((&worst.fault, worst.severity, 1)),
        }
    }
    told.sort_by(|a, b| b.1.cmp(&a.1).then(b.2.cmp(&a.2)));
    let lines = told.iter().take(EXPLAINED).map(|(fault, ..)| {
        let entry = catalogue.get(fault);
        let words = entry.map_or("not in the catalogue; never acted on", |entry| catalogue.explain(entry));
        let fault = text::plain(fault);
        text::wrap(&format!("{fault}: "), words, width).replacen(&fault, &paint(style::STRONG, &fault), 1)
    });
    let lines: Vec<String> = lines.collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}
