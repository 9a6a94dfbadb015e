//! The parts of a report in words and bars.

use anstyle::{AnsiColor, Style};

use super::Page;
use crate::analyze::{Category, ProcessRow, Report, VerdictKind};
use crate::trace::{LayerState, NodeNote, Place};
use crate::view::style::{self, paint};
use crate::view::{Align, Table, bar, human, text};

/// The verdict in one line, its evidence, and what to do.
pub fn verdict(report: &Report, page: Page) -> String {
    let verdict = &report.verdict;
    let (style, line) = headline(report);
    let mut lines: Vec<String> = text::wrap("", &line, page.width).lines().map(|line| paint(style, line)).collect();
    // At the right edge where there is room, else below.
    let sure = format!("confidence {}", human::percent(verdict.confidence));
    let room = page.width.saturating_sub(line.chars().count() + sure.chars().count());
    if room >= 2 {
        lines[0].push_str(&" ".repeat(room));
        lines[0].push_str(&paint(style::FAINT, &sure));
    } else {
        lines.push(paint(style::FAINT, &sure));
    }
    lines.push(String::new());
    for (i, evidence) in verdict.because.iter().enumerate() {
        let label = if i == 0 { "because  - " } else { "         - " };
        lines.push(labelled(label, &text::plain(&evidence.text), page.width));
    }
    if !verdict.advice.is_empty() {
        lines.push(labelled("do       ", &text::plain(&verdict.advice), page.width));
    }
    lines.join("\n").trim_end().to_owned()
}

/// A paragraph with its label in the style for labels.
fn labelled(label: &str, words: &str, width: usize) -> String {
    let wrapped = text::wrap(label, words, width);
    format!("{}{}", paint(style::FAINT, label), wrapped.get(label.len()..).unwrap_or_default())
}

fn headline(report: &Report) -> (Style, String) {
    let share = human::percent(report.verdict.share);
    let of = if report.steps.count > 0 { "of each step" } else { "of the time" };
    match report.verdict.kind {
        VerdictKind::InputBound => (style::BAD, format!("input bound: {share} {of} waits for data")),
        VerdictKind::CpuBound => (style::WARN, format!("cpu bound: {share} {of} computes on the CPU")),
        VerdictKind::GpuBound => (style::WARN, format!("gpu bound: {share} {of} waits for the GPU")),
        VerdictKind::CommunicationBound => {
            (style::BAD, format!("communication bound: {share} {of} waits for other ranks"))
        }
        VerdictKind::IoBound => (style::BAD, format!("io bound: {share} {of} waits for files")),
        VerdictKind::HostBound => (style::BAD, format!("host bound: {share} {of} is Python and launch overhead")),
        VerdictKind::Idle => (style::WARN, format!("idle: nothing runs in {share} {of}")),
        VerdictKind::Balanced => {
            (style::GOOD, format!("balanced: no cause stands out, the largest takes {share} {of}"))
        }
        VerdictKind::Inconclusive => (style::WARN, "inconclusive: the recording does not say".to_owned()),
    }
}

/// How many steps, how long, and how they were found.
pub fn steps(report: &Report, page: Page) -> String {
    let steps = &report.steps;
    let recorded = format!("in {}", human::seconds(report.duration_s));
    let (Some(p50), Some(p99)) = (steps.p50_ms, steps.p99_ms) else {
        return labelled("steps    ", &format!("none found {recorded}"), page.width);
    };
    let anchor = match &steps.anchor {
        Some(anchor) if *anchor != steps.source => format!(": {}", text::plain(anchor)),
        _ => String::new(),
    };
    let words = format!(
        "{} {recorded}, p50 {}, p99 {}, found by {}{anchor}",
        human::count(steps.count as u64),
        human::seconds(p50 / 1e3),
        human::seconds(p99 / 1e3),
        steps.source.replace('_', " "),
    );
    labelled("steps    ", &words, page.width)
}

/// Where a step's time goes, as bars.
pub fn breakdown(report: &Report, page: Page) -> String {
    let mut rows: Vec<_> = report.breakdown.iter().filter(|row| page.wide || row.share >= 0.0005).collect();
    if rows.is_empty() {
        return String::new();
    }
    rows.sort_by(|a, b| b.share.total_cmp(&a.share));
    // Ranks add up in the seconds; steps are counted on one.
    let ranks = report.processes.iter().filter(|process| process.role == "main").count().max(1);
    let steps = report.steps.count * ranks;
    let header = if steps > 0 { "PER STEP" } else { "TOTAL" };
    // Name, bar, share, time; two spaces or more between them.
    const NAME: usize = 14;
    const NUMBERS: usize = 2 + 6 + 3 + 8;
    let room = page.width.min(100).saturating_sub(NAME + NUMBERS);
    let title = format!("{:<NAME$}{:<room$}  {:>6}   {header:>8}", "TIME", "", "SHARE");
    let mut lines = vec![paint(style::HEADER, &title)];
    for row in rows {
        let seconds = if steps > 0 { row.seconds / steps as f64 } else { row.seconds };
        lines.push(format!(
            "{:<NAME$}{}  {:>6}   {:>8}",
            row.category.name(),
            paint(colour(row.category), &bar::bar(row.share, room, page.unicode)),
            human::cell(&human::percent(row.share)),
            human::cell(&human::seconds(seconds)),
        ));
    }
    lines.join("\n")
}

/// One colour a category, the same everywhere.
fn colour(category: Category) -> Style {
    match category {
        Category::Input => AnsiColor::Red.on_default(),
        Category::ComputeCpu => AnsiColor::Green.on_default(),
        Category::GpuWait => AnsiColor::Blue.on_default(),
        Category::Communication => AnsiColor::Magenta.on_default(),
        Category::Io => AnsiColor::Yellow.on_default(),
        Category::Python => AnsiColor::Cyan.on_default(),
        Category::Idle | Category::Other => style::FAINT,
    }
}

/// Who is late.
pub fn stragglers(report: &Report, page: Page) -> String {
    if report.stragglers.is_empty() {
        return String::new();
    }
    // Where they run, in recordings of pods.
    let placed = report.stragglers.iter().any(|late| late.place.is_some());
    let mut columns = vec![("LATE", Align::Right)];
    columns.extend((!placed).then_some(("PID", Align::Right)));
    columns.extend([("RANK", Align::Right), ("LAST", Align::Right)]);
    if placed {
        columns.extend([("NODE", Align::Left), ("GPU", Align::Right), ("POD", Align::Left)]);
    }
    columns.push(("BECAUSE", Align::Flexible));
    let mut table = Table::new(&columns);
    for late in &report.stragglers {
        let mut cells = vec![human::cell(&human::seconds(late.late_ms / 1e3))];
        cells.extend((!placed).then(|| late.pid.to_string()));
        cells.push(late.rank.map_or(String::new(), |rank| rank.to_string()));
        cells.push(human::cell(&human::percent(late.last_share)));
        if placed {
            cells.extend(where_it_runs(late.place.as_ref()));
        }
        cells.push(late.because.clone());
        table.row(cells);
    }
    titled(&table, page)
}

/// Node, GPU and pod, each a cell.
fn where_it_runs(place: Option<&Place>) -> [String; 3] {
    let Some(place) = place else { return Default::default() };
    let gpus = place.gpus.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    [text::plain(&place.node), gpus, text::plain(&place.pod)]
}

/// Processes seen. Without `-o wide` only those that matter, and none if that is one.
pub fn processes(report: &Report, page: Page) -> String {
    /// Rows without `-o wide`.
    const FEW: usize = 8;
    /// Share of a core from which a helper matters.
    const BUSY: f64 = 0.05;
    let busy = |cpu_s: Option<f64>| cpu_s.is_some_and(|cpu_s| cpu_s > BUSY * report.duration_s);
    let matters = |process: &&ProcessRow| page.wide || process.role != "helper" || busy(process.cpu_s);
    let mut shown: Vec<_> = report.processes.iter().filter(matters).collect();
    if !page.wide {
        shown.truncate(FEW);
    }
    let others = report.processes.len() - shown.len();
    if shown.is_empty() || (shown.len() == 1 && !page.wide) {
        return String::new();
    }
    let placed = shown.iter().any(|process| process.place.is_some());
    let mut columns = vec![("PID", Align::Right), ("RANK", Align::Right), ("PROCESS", Align::Flexible)];
    columns.extend([("ROLE", Align::Left), ("CPU", Align::Right)]);
    if placed {
        columns.extend([("NODE", Align::Left), ("GPU", Align::Right), ("POD", Align::Left)]);
    }
    let mut table = Table::new(&columns);
    for process in shown {
        // The number that it has on its node, where people look for it.
        let pid = process.place.as_ref().and_then(|place| place.pid_on_node).unwrap_or(process.pid);
        let mut cells = vec![
            pid.to_string(),
            process.rank.map_or(String::new(), |rank| rank.to_string()),
            process.name.clone(),
            process.role.clone(),
            process.cpu_s.map_or(String::new(), |cpu| human::cell(&human::seconds(cpu))),
        ];
        if placed {
            cells.extend(where_it_runs(process.place.as_ref()));
        }
        table.row(cells);
    }
    let mut lines = titled(&table, page);
    if others > 0 {
        lines.push('\n');
        lines.push_str(&paint(style::FAINT, &format!("and {others} more: -o wide")));
    }
    lines
}

/// What the capture saw, lost and cost.
pub fn capture(report: &Report, page: Page) -> String {
    let capture = &report.capture;
    let names = |state: LayerState| {
        let of = capture.layers.iter().filter(move |layer| layer.state == state);
        of.map(|layer| layer.layer.clone()).collect::<Vec<_>>()
    };
    let mut words = Vec::new();
    let on = names(LayerState::On);
    if !on.is_empty() {
        words.push(on.join(", "));
    }
    if capture.lost_events > 0 {
        words.push(format!("{} lost", human::plural(capture.lost_events, "event", "events")));
    } else if !capture.layers.is_empty() {
        words.push("nothing lost".to_owned());
    }
    if let Some(share) = capture.overhead_share {
        words.push(format!("overhead about {}", human::percent(share)));
    }
    if let Some(share) = capture.cpu_share {
        words.push(format!("aictl used {} of a core", human::percent(share)));
    }
    if words.is_empty() {
        return String::new();
    }
    let mut lines = vec![labelled("capture  ", &words.join("; "), page.width)];
    for layer in capture.layers.iter().filter(|layer| layer.state != LayerState::On) {
        let (word, style) = match layer.state {
            LayerState::Absent => ("absent", style::FAINT),
            LayerState::Failed => ("failed", style::WARN),
            LayerState::Dropped | LayerState::On => ("dropped", style::WARN),
        };
        let line = format!("{} {word}: {}", layer.layer, text::plain(&layer.detail));
        lines.push(paint(style, &text::wrap("         ", &line, page.width)));
    }
    for thinned in &capture.thinned_probes {
        let cost = human::percent(thinned.cost_share);
        let line = format!("thinned {}: {} (cost {cost})", text::plain(&thinned.probe), text::plain(&thinned.action));
        lines.push(paint(style::WARN, &text::wrap("         ", &line, page.width)));
    }
    for node in &capture.nodes {
        let style = if node.broke_off.is_some() { style::WARN } else { style::FAINT };
        lines.push(paint(style, &text::wrap("         ", &node_words(node), page.width)));
    }
    lines.join("\n")
}

/// "gpu-1: its clock was 12.3 ms ahead, give or take 0.2 ms".
fn node_words(node: &NodeNote) -> String {
    // Its clock was never read: it is not known.
    if let (0, Some(why)) = (node.round_trips, &node.broke_off) {
        return format!("{}: not recorded: {}", text::plain(&node.node), text::plain(why));
    }
    let time = |ns: u64| human::seconds(ns as f64 / 1e9);
    let ahead = if node.clock_offset_ns < 0 { "behind" } else { "ahead of" };
    let mut words = format!(
        "{}: clock {} {ahead} this machine's, give or take {}",
        text::plain(&node.node),
        time(node.clock_offset_ns.unsigned_abs()),
        time(node.clock_error_ns),
    );
    if node.clock_drift_ns.unsigned_abs() > node.clock_error_ns {
        words.push_str(&format!(", {} more by the end", time(node.clock_drift_ns.unsigned_abs())));
    }
    if node.resumed > 0 {
        words.push_str(&format!("; connection taken up again {}", human::plural(node.resumed.into(), "time", "times")));
    }
    if let Some(why) = &node.broke_off {
        words.push_str(&format!("; ends early: {}", text::plain(why)));
    }
    words
}

/// A table with its header styled.
pub fn titled(table: &Table, page: Page) -> String {
    let mut lines = table.render(page.width, page.unicode);
    if let Some(header) = lines.first_mut() {
        *header = paint(style::HEADER, header);
    }
    lines.join("\n")
}
