//! Draws the state; only reads it.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Clear, Paragraph};
use unicode_width::UnicodeWidthStr;

use super::rows::{self, Cell, Column, Tone};
use super::state::{Level, Mode, TopState};
use super::{help, keys};
use crate::metrics::{GpuSample, Metric, reasons};
use crate::tui::palette::{Look, Marks};
use crate::view::{bar, human, text};

/// Between columns.
const GUTTER: u16 = 2;
/// Lines of a GPU's details.
const DETAILS: u16 = 8;

/// Rows of the table that there is room for.
pub(super) fn room(state: &TopState) -> usize {
    usize::from(state.size.rows).saturating_sub(first_row(state) + 1)
}

/// The screen's line of the first row.
pub(super) fn first_row(state: &TopState) -> usize {
    // Title, sums, details, an empty line, header.
    usize::from(2 + details_height(state) + 1 + 1)
}

fn details_height(state: &TopState) -> u16 {
    match state.level {
        Level::Gpu(..) if state.size.rows >= 20 => DETAILS + 1,
        _ => 0,
    }
}

/// Draws a frame.
pub(super) fn draw(state: &TopState, look: Look, frame: &mut Frame<'_>) {
    let area = frame.area();
    if area.width < 20 || area.height < 6 {
        frame.render_widget(Paragraph::new("too small"), area);
        return;
    }
    let line = |row: u16| Rect::new(area.x, area.y + row, area.width, 1);
    frame.render_widget(Paragraph::new(title(state, look, area.width)).style(look.bar()), line(0));
    frame.render_widget(Paragraph::new(sums(state, look, area.width)), line(1));
    let details = details_height(state);
    if details > 0
        && let Some((node, gpu)) = state.chosen_gpu()
    {
        let at = Rect::new(area.x, area.y + 2, area.width, details.min(area.height - 3));
        frame.render_widget(Paragraph::new(gpu_details(state, &node.node, gpu, look, area.width)), at);
    }
    table(state, look, frame);
    frame.render_widget(Paragraph::new(bottom(state, look, area.width)), line(area.height - 1));
    if let Mode::Help(top) = state.mode {
        page_of_keys(top, look, frame);
    }
}

fn title(state: &TopState, look: Look, width: u16) -> Line<'static> {
    let arrow = look.sign('›', '>');
    let mut path = format!(" aictl top  {}", text::plain(&state.source));
    match &state.level {
        Level::Fleet => {}
        Level::Gpus => path.push_str(&format!(" {arrow} all GPUs")),
        Level::Node(node) if state.local || *node == state.source => {}
        Level::Node(node) => path.push_str(&format!(" {arrow} {}", text::plain(node))),
        Level::Gpu(node, index) if state.local || *node == state.source => {
            path.push_str(&format!(" {arrow} GPU {index}"));
        }
        Level::Gpu(node, index) => path.push_str(&format!(" {arrow} {} {arrow} GPU {index}", text::plain(node))),
    }
    let mut right = String::new();
    if state.paused {
        right.push_str("paused  ");
    }
    right.push_str(&format!("{}  every {} s ", state.at, state.interval_s));
    between(path, right, width)
}

/// One text at each side, the left one giving way.
fn between(left: String, right: String, width: u16) -> Line<'static> {
    let width = usize::from(width);
    let room = width.saturating_sub(right.width() + 1);
    let left = text::shorten(&left, room, true);
    let pad = width.saturating_sub(left.width() + right.width());
    Line::from(format!("{left}{}{right}", " ".repeat(pad)))
}

fn sums(state: &TopState, look: Look, width: u16) -> Line<'static> {
    if state.looks == 0 {
        return Line::styled(" looking", look.faint());
    }
    let gpus = || state.nodes.iter().flat_map(|node| &node.gpus);
    let sum = |metric| gpus().filter_map(|gpu| gpu.metrics.get(metric)).reduce(|a, b| a + b);
    let all = gpus().count();
    let busy = gpus().filter(|gpu| gpu.metrics.get(Metric::Utilisation).is_some_and(|load| load > 0.0)).count();
    let blind = state.nodes.iter().filter(|node| node.blind.is_some()).count();
    let mut spans = vec![Span::raw(" ")];
    let mut add = |number: String, words: &str, style: Style| {
        spans.push(Span::styled(number, style));
        spans.push(Span::styled(format!(" {words}   "), look.faint()));
    };
    if state.nodes.len() > 1 {
        add(human::count(state.nodes.len() as u64), "nodes", look.strong());
    }
    if blind > 0 && state.nodes.len() > 1 {
        add(human::count(blind as u64), "blind", look.warn());
    }
    add(human::count(all as u64), if all == 1 { "GPU" } else { "GPUs" }, look.strong());
    add(human::count(busy as u64), "busy", if busy > 0 { look.good() } else { look.strong() });
    if let (Some(used), Some(total)) = (sum(Metric::MemoryUsed), sum(Metric::MemoryTotal)) {
        add(format!("{}/{}", human::bytes(used as u64), human::bytes(total as u64)), "memory", look.strong());
    }
    if let Some(power) = sum(Metric::Power) {
        add(
            if power >= 9950.0 { format!("{:.1} kW", power / 1000.0) } else { format!("{power:.0} W") },
            "power",
            look.strong(),
        );
    }
    if let [node] = state.nodes.as_slice()
        && let Some(cpu) = node.machine.get(Metric::CpuUsed)
    {
        add(format!("{cpu:.0} %"), "cpu", look.strong());
    }
    let used: usize = spans.iter().map(|span| span.content.width()).sum();
    let room = usize::from(width).saturating_sub(used + 1).min(40);
    if room >= 8 {
        spans.push(Span::styled(spark(state.mean.iter().copied(), room, look), look.accent()));
    }
    Line::from(spans)
}

/// Shares over time, the newest at the right; a dot where nothing was measured.
fn spark(past: impl DoubleEndedIterator<Item = Option<f32>>, width: usize, look: Look) -> String {
    const UNICODE: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    const ASCII: [char; 8] = ['_', '.', ':', '-', '=', '+', '*', '#'];
    let signs = if look.marks == Marks::Unicode { UNICODE } else { ASCII };
    let sign = |share: Option<f32>| match share {
        Some(share) if share.is_finite() => signs[((share.clamp(0.0, 1.0) * 7.0).round() as usize).min(7)],
        _ => ' ',
    };
    let mut newest: Vec<char> = past.rev().take(width).map(sign).collect();
    newest.reverse();
    newest.into_iter().collect()
}

fn gpu_details(state: &TopState, node: &str, gpu: &GpuSample, look: Look, width: u16) -> Vec<Line<'static>> {
    let of = |metric| gpu.metrics.get(metric);
    let number = |metric, unit: &str| of(metric).map(|value| format!("{value:.0}{unit}"));
    let bytes = |metric| of(metric).map(|value| human::bytes(value as u64));
    let per_s = |metric| of(metric).map(|value| format!("{}/s", human::bytes(value as u64)));
    let pair = |a: Option<String>, b: Option<String>| match (a, b) {
        (None, None) => None,
        (a, b) => Some(format!("{} / {}", a.unwrap_or_else(|| "-".to_owned()), b.unwrap_or_else(|| "-".to_owned()))),
    };
    let slow = of(Metric::ThrottleReasons).map(|bits| {
        let words = reasons(bits);
        if words.is_empty() { "none".to_owned() } else { words.join(", ") }
    });
    let link = of(Metric::PcieGeneration).zip(of(Metric::PcieWidth)).map(|(g, w)| format!("gen {g} x{w}"));
    let facts: Vec<(&str, Option<String>)> = vec![
        ("model", Some(text::plain(&gpu.name))),
        ("uuid", Some(text::plain(&gpu.uuid))),
        ("sm clock", pair(number(Metric::SmClock, " MHz"), number(Metric::MaxSmClock, " MHz"))),
        ("mem clock", pair(number(Metric::MemoryClock, " MHz"), number(Metric::MaxMemoryClock, " MHz"))),
        ("power", pair(number(Metric::Power, " W"), number(Metric::PowerLimit, " W"))),
        ("energy", of(Metric::Energy).map(|joules| format!("{:.1} kWh", joules / 3.6e6))),
        ("temperature", pair(number(Metric::Temperature, " C"), number(Metric::MemoryTemperature, " C"))),
        ("slowed by", slow),
        ("pcie", link),
        ("pcie tx / rx", pair(per_s(Metric::PcieTx), per_s(Metric::PcieRx))),
        ("nvlink tx / rx", pair(per_s(Metric::NvlinkTxRate), per_s(Metric::NvlinkRxRate))),
        ("nvlinks up", number(Metric::NvlinksActive, "")),
        ("enc / dec", pair(number(Metric::EncoderUtilisation, " %"), number(Metric::DecoderUtilisation, " %"))),
        ("bar1", pair(bytes(Metric::Bar1Used), bytes(Metric::Bar1Total))),
        ("ecc sbe / dbe", pair(number(Metric::EccCorrected, ""), number(Metric::EccUncorrected, ""))),
        ("rows remapped", pair(number(Metric::RowsCorrectable, ""), number(Metric::RowsUncorrectable, ""))),
        ("last xid", of(Metric::XidLast).map(|xid| if xid > 0.0 { format!("{xid}") } else { "none".to_owned() })),
        ("mig devices", (!gpu.instances.is_empty()).then(|| gpu.instances.len().to_string())),
    ];
    let mut facts: Vec<(&str, String)> = facts.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    if let Some(why) = &gpu.blind {
        facts.insert(0, ("blind", text::plain(why)));
    }
    let mut lines = Vec::new();
    if let Some(past) = state.past.get(&(node.to_owned(), gpu.index)) {
        let columns = usize::from(width) / 3;
        let graph = |name: &str, ring: &std::collections::VecDeque<Option<f32>>| {
            let room = columns.saturating_sub(name.len() + 8).min(40);
            let now = ring.back().copied().flatten().map_or("-".to_owned(), |share| format!("{:.0}%", share * 100.0));
            let graph = spark(ring.iter().copied(), room, look);
            vec![
                Span::styled(format!(" {name} "), look.faint()),
                Span::styled(format!("{now:>4} "), look.strong()),
                Span::styled(format!("{graph:<room$}"), look.accent()),
            ]
        };
        let spans = [("load", &past.load), ("memory", &past.memory), ("power", &past.power)];
        lines.push(Line::from(spans.iter().flat_map(|(name, ring)| graph(name, ring)).collect::<Vec<_>>()));
    }
    let columns = if width >= 120 {
        3
    } else if width >= 70 {
        2
    } else {
        1
    };
    let cell = usize::from(width) / columns;
    let height = usize::from(DETAILS) - lines.len();
    for row in 0..height {
        let mut spans = Vec::new();
        for column in 0..columns {
            let Some((name, value)) = facts.get(column * height + row) else { continue };
            let room = cell.saturating_sub(16);
            let value = text::shorten(value, room, look.marks == Marks::Unicode);
            spans.push(Span::styled(format!(" {name:<14} "), look.faint()));
            spans.push(Span::raw(format!("{value:<room$}")));
        }
        lines.push(Line::from(spans));
    }
    lines
}

fn table(state: &TopState, look: Look, frame: &mut Frame<'_>) {
    let area = frame.area();
    let keys = rows::keys(state);
    let shown: Vec<_> = keys.iter().skip(state.top).take(room(state)).collect();
    let cells: Vec<Vec<Cell>> = shown.iter().map(|key| rows::cells(state, key).unwrap_or_default()).collect();
    let columns = rows::columns(state);
    let widths = widths(columns, &cells, area.width);
    let header = first_row(state) as u16 - 1;
    if header >= area.height.saturating_sub(1) {
        return;
    }
    let mut spans = vec![Span::raw(" ")];
    for (column, width) in columns.iter().zip(&widths).filter(|(_, width)| **width > 0) {
        spans.push(Span::styled(fit(column.title, *width, column.right, look), look.strong()));
        spans.push(Span::raw(" ".repeat(usize::from(GUTTER))));
    }
    frame.render_widget(Paragraph::new(Line::from(spans)), Rect::new(area.x, header, area.width, 1));
    if shown.is_empty() && state.looks > 0 {
        let words = empty(state);
        let words = text::shorten(&words, usize::from(area.width).saturating_sub(3), look.marks == Marks::Unicode);
        let row = Rect::new(area.x, header + 1, area.width, 1);
        frame.render_widget(Paragraph::new(Line::styled(format!("  {words}"), look.faint())), row);
    }
    for (at, (key, cells)) in shown.iter().zip(&cells).enumerate() {
        let chosen = state.chosen.as_ref() == Some(key);
        let mut spans = vec![Span::raw(if chosen { look.sign('▌', '>').to_string() } else { " ".to_owned() })];
        for ((column, width), cell) in columns.iter().zip(&widths).zip(cells).filter(|((_, width), _)| **width > 0) {
            spans.push(span(state, cell, *width, column.right, look));
            spans.push(Span::raw(" ".repeat(usize::from(GUTTER))));
        }
        let row = Rect::new(area.x, header + 1 + at as u16, area.width, 1);
        let style = if chosen { look.chosen() } else { Style::new() };
        frame.render_widget(Paragraph::new(Line::from(spans)).style(style), row);
    }
}

fn empty(state: &TopState) -> String {
    let node = match &state.level {
        Level::Node(node) | Level::Gpu(node, _) => state.node(node),
        _ => None,
    };
    match (node.and_then(|node| node.blind.as_ref()), &state.level) {
        (Some(why), _) => format!("no GPU can be read: {}", text::plain(why)),
        _ if !state.filter.is_empty() => "nothing passes the filter; Esc takes it away".to_owned(),
        (None, Level::Gpu(..)) => "no process is on this GPU".to_owned(),
        _ if state.idle_s.is_some() => "no GPU has been idle for so long".to_owned(),
        _ => "nothing to show".to_owned(),
    }
}

/// Widths of the columns; those there is no room for have none, the least worth going first. What is
/// left goes to the last.
fn widths(columns: &[Column], rows: &[Vec<Cell>], width: u16) -> Vec<u16> {
    let mut widths: Vec<u16> = columns
        .iter()
        .enumerate()
        .map(|(at, column)| {
            let cells = rows.iter().filter_map(|row| row.get(at));
            let widest = cells.map(|cell| match cell {
                Cell::Text(text, _) => text.width() as u16,
                Cell::Bar(_) | Cell::Past(..) => column.width,
            });
            // Words may be long; what they are cut to grows with the screen below.
            let most = if column.right { 24 } else { column.width.max(20) };
            widest.max().unwrap_or(0).min(most).max(column.title.len() as u16)
        })
        .collect();
    let total = |widths: &[u16]| 1 + widths.iter().filter(|width| **width > 0).map(|width| width + GUTTER).sum::<u16>();
    while total(&widths) > width + GUTTER {
        let least = (0..columns.len()).filter(|at| widths[*at] > 0).min_by_key(|at| columns[*at].worth);
        match least {
            Some(at) if widths.iter().filter(|width| **width > 0).count() > 1 => widths[at] = 0,
            _ => break,
        }
    }
    let rest = width.saturating_sub(total(&widths).saturating_sub(GUTTER));
    if let Some(last) = widths.iter_mut().rev().find(|width| **width > 0) {
        *last += rest;
    }
    widths
}

fn fit(text: &str, width: u16, right: bool, look: Look) -> String {
    let width = usize::from(width);
    let text = look.text(&text::shorten(text, width, look.marks == Marks::Unicode));
    let pad = " ".repeat(width.saturating_sub(text.width()));
    if right { format!("{pad}{text}") } else { format!("{text}{pad}") }
}

fn span(state: &TopState, cell: &Cell, width: u16, right: bool, look: Look) -> Span<'static> {
    let unicode = look.marks == Marks::Unicode;
    match cell {
        Cell::Text(text, tone) => Span::styled(fit(text, width, right, look), style(*tone, look)),
        Cell::Bar(None) => Span::raw(" ".repeat(usize::from(width))),
        Cell::Bar(Some(share)) => {
            let style = if *share >= 0.5 { look.good() } else { look.accent() };
            let mut text = bar::bar(*share, usize::from(width.min(10)), unicode);
            text.push_str(&" ".repeat(usize::from(width.saturating_sub(10))));
            Span::styled(text, style)
        }
        Cell::Past(node, index) => {
            let past = state.past.get(&(node.clone(), *index));
            let room = usize::from(width);
            let text = past.map_or(String::new(), |past| spark(past.load.iter().copied(), room, look));
            Span::styled(format!("{text:>room$}"), look.accent())
        }
    }
}

fn style(tone: Tone, look: Look) -> Style {
    match tone {
        Tone::Plain => Style::new(),
        Tone::Faint => look.faint(),
        Tone::Good => look.good(),
        Tone::Warn => look.warn(),
        Tone::Bad => look.bad(),
    }
}

fn bottom(state: &TopState, look: Look, width: u16) -> Line<'static> {
    let unicode = look.marks == Marks::Unicode;
    if let Mode::Filter(typed) = &state.mode {
        let cursor = look.sign('▏', '_');
        let text = format!(" /{}{cursor}", text::plain(typed));
        return Line::styled(text::shorten(&text, usize::from(width), unicode), look.accent());
    }
    if let Some((words, bad)) = &state.message {
        let words = text::shorten(&text::plain(words), usize::from(width).saturating_sub(2), unicode);
        return Line::styled(format!(" {words}"), if *bad { look.warn() } else { look.good() });
    }
    let mut keys: Vec<(&str, String)> = Vec::new();
    if !matches!(state.level, Level::Gpu(..)) {
        keys.push(("Enter", "into".to_owned()));
    }
    if !state.way.is_empty() || !state.filter.is_empty() {
        keys.push(("Esc", "back".to_owned()));
    }
    keys.extend([
        ("s", format!("sort: {}", state.sort.word())),
        (
            "/",
            if state.filter.is_empty() { "filter".to_owned() } else { format!("filter: {}", state.filter.join(" ")) },
        ),
        ("p", "profile".to_owned()),
        ("d", "diagnose".to_owned()),
        ("l", "log".to_owned()),
    ]);
    // These tell of the others and lead out: they stay where there is no room for all.
    let last = [("?", "keys".to_owned()), ("q", "quit".to_owned())];
    let takes = |(key, words): &(&str, String)| key.width() + words.width() + 3;
    // One before them, and nothing after the last.
    let mut room = (usize::from(width) + 1).saturating_sub(last.iter().map(takes).sum());
    let fits = |key: &(&str, String)| {
        let fits = takes(key) <= room;
        room = if fits { room - takes(key) } else { 0 };
        fits
    };
    let mut spans = vec![Span::raw(" ")];
    for (key, words) in keys.into_iter().filter(fits).chain(last) {
        spans.push(Span::styled(key.to_owned(), look.accent()));
        spans.push(Span::styled(format!(" {words}  "), look.faint()));
    }
    Line::from(spans)
}

fn page_of_keys(top: u16, look: Look, frame: &mut Frame<'_>) {
    let area = frame.area();
    let lines = help::lines();
    let wide = keys::KEYS.iter().map(|(keys, ..)| keys.width()).max().unwrap_or(0);
    let shown: Vec<Line<'static>> = lines
        .iter()
        .map(|(keys, words)| {
            let pad = " ".repeat(wide.saturating_sub(keys.width()));
            Line::from(vec![
                Span::styled(format!("  {}{pad}", look.text(keys)), look.accent()),
                Span::raw(format!("   {words}")),
            ])
        })
        .collect();
    let at = Rect::new(area.x, area.y + 1, area.width, area.height - 1);
    frame.render_widget(Clear, at);
    let most = (shown.len() as u16).saturating_sub(at.height.saturating_sub(3));
    let mut page = vec![Line::styled("  Keys", look.strong()), Line::default()];
    page.extend(shown.into_iter().skip(usize::from(top.min(most))));
    page.truncate(usize::from(at.height.saturating_sub(1)));
    page.push(Line::styled("  Esc goes back", look.faint()));
    frame.render_widget(Paragraph::new(page), at);
}
