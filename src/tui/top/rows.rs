//! The rows of the screen: which, in which order, and what their cells say.

use super::state::{Key, Level, Sort, TopState};
use crate::metrics::{GpuSample, Metric, NodeSample, ProcessSample, Values, reasons};
use crate::view::{human, text};

/// How a cell is to be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Faint,
    Good,
    Warn,
    Bad,
}

/// A cell.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell {
    Text(String, Tone),
    /// A share of 1, as a bar.
    Bar(Option<f64>),
    /// Load over time.
    Past(String, u32),
}

/// A column: title, whether numbers stand in it, what it is worth (9 is kept longest), least width.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    pub title: &'static str,
    pub right: bool,
    pub worth: u8,
    pub width: u16,
}

const fn column(title: &'static str, right: bool, worth: u8, width: u16) -> Column {
    Column { title, right, worth, width }
}

const NODES: &[Column] = &[
    column("NODE", false, 9, 8),
    column("GPUS", true, 6, 4),
    column("BUSY", true, 7, 4),
    column("UTIL", true, 9, 5),
    column("LOAD", false, 8, 10),
    column("MEM", true, 7, 5),
    column("POWER", true, 5, 8),
    column("TEMP", true, 4, 5),
    column("CPU", true, 3, 5),
    column("RAM", true, 2, 5),
    column("STATE", false, 8, 10),
];

const GPUS: &[Column] = &[
    column("NODE", false, 8, 8),
    column("GPU", true, 9, 3),
    column("UTIL", true, 9, 5),
    column("LOAD", false, 7, 10),
    column("PAST", false, 3, 16),
    column("MEMORY", true, 8, 12),
    column("POWER", true, 6, 9),
    column("TEMP", true, 5, 5),
    column("CLOCK", true, 2, 8),
    column("IDLE", true, 4, 5),
    column("FLAGS", false, 5, 6),
    column("OWNER", false, 8, 12),
];

const PROCESSES: &[Column] = &[
    column("PID", true, 9, 7),
    column("SM", true, 8, 5),
    column("LOAD", false, 5, 10),
    column("GPU-MEM", true, 9, 9),
    column("RAM", true, 4, 9),
    column("USER", false, 6, 8),
    column("PROGRAM", false, 8, 10),
    column("POD", false, 7, 12),
];

/// The columns of where the user is.
pub(super) fn columns(state: &TopState) -> &'static [Column] {
    match state.level {
        Level::Fleet => NODES,
        Level::Gpus => GPUS,
        Level::Node(_) => &GPUS[1..],
        Level::Gpu(..) => PROCESSES,
    }
}

/// Keys of all rows, in order.
pub(super) fn keys(state: &TopState) -> Vec<Key> {
    match &state.level {
        Level::Fleet => {
            let mut nodes: Vec<&NodeSample> = state.nodes.iter().filter(|node| node_passes(state, node)).collect();
            match state.sort.metric() {
                Some(metric) => {
                    nodes.sort_by(|a, b| {
                        sum_for(metric, b).total_cmp(&sum_for(metric, a)).then_with(|| a.node.cmp(&b.node))
                    });
                }
                None => nodes.sort_by(|a, b| a.node.cmp(&b.node)),
            }
            nodes.into_iter().map(|node| Key::Node(node.node.clone())).collect()
        }
        Level::Gpus => gpu_keys(state, state.nodes.iter()),
        Level::Node(name) => gpu_keys(state, state.nodes.iter().filter(|node| node.node == *name)),
        Level::Gpu(node, index) => {
            let Some(gpu) = state.gpu(node, *index) else { return Vec::new() };
            let mut processes: Vec<&ProcessSample> = gpu.processes.iter().collect();
            let metric = match state.sort {
                Sort::Utilisation => Metric::ProcessSm,
                _ => Metric::ProcessMemory,
            };
            let of = |process: &ProcessSample| process.metrics.get(metric).unwrap_or(-1.0);
            match state.sort {
                Sort::Owner => processes.sort_by(|a, b| a.user.cmp(&b.user)),
                Sort::Name => {}
                _ => processes.sort_by(|a, b| of(b).total_cmp(&of(a))),
            }
            processes.into_iter().map(|process| Key::Process(process.pid)).collect()
        }
    }
}

fn gpu_keys<'n>(state: &TopState, nodes: impl Iterator<Item = &'n NodeSample>) -> Vec<Key> {
    let mut all: Vec<(&NodeSample, &GpuSample)> =
        nodes.flat_map(|node| node.gpus.iter().map(move |gpu| (node, gpu))).collect();
    all.retain(|(node, gpu)| gpu_passes(state, node, gpu));
    let place = |(node, gpu): &(&NodeSample, &GpuSample)| (node.node.clone(), gpu.index);
    match (state.sort, state.sort.metric()) {
        (_, Some(metric)) => {
            let of = |gpu: &GpuSample| gpu.metrics.get(metric).unwrap_or(f64::NEG_INFINITY);
            all.sort_by(|a, b| of(b.1).total_cmp(&of(a.1)));
        }
        (Sort::Owner, _) => all.sort_by_cached_key(|(_, gpu)| gpu.owner()),
        _ => all.sort_by_cached_key(place),
    }
    all.into_iter().map(|(node, gpu)| Key::Gpu(node.node.clone(), gpu.index)).collect()
}

fn node_passes(state: &TopState, node: &NodeSample) -> bool {
    if state.filter.is_empty() && state.idle_s.is_none() {
        return true;
    }
    let named = state.idle_s.is_none() && state.filter.iter().all(|word| node.node.to_lowercase().contains(word));
    named || node.gpus.iter().any(|gpu| gpu_passes(state, node, gpu))
}

fn gpu_passes(state: &TopState, node: &NodeSample, gpu: &GpuSample) -> bool {
    if let Some(least) = state.idle_s
        && gpu.metrics.get(Metric::Idle).is_none_or(|idle| idle < least || idle <= 0.0)
    {
        return false;
    }
    state.filter.iter().all(|word| {
        let has = |text: &str| text.to_lowercase().contains(word);
        has(&node.node)
            || has(&gpu.uuid)
            || has(&gpu.name)
            || has(&gpu.owner())
            || has(&flags(gpu))
            || gpu.processes.iter().any(|p| [&p.name, &p.user].into_iter().flatten().any(|text| has(text)))
    })
}

fn values(node: &NodeSample, metric: Metric) -> impl Iterator<Item = f64> {
    node.gpus.iter().filter_map(move |gpu| gpu.metrics.get(metric))
}

/// What a node is ordered by: the mean load, the hottest, the longest idle, else the sum.
fn sum_for(metric: Metric, node: &NodeSample) -> f64 {
    match metric {
        Metric::Utilisation => mean(node).unwrap_or(-1.0),
        Metric::Temperature | Metric::Idle => values(node, metric).fold(-1.0, f64::max),
        _ => values(node, metric).sum(),
    }
}

/// Mean load of a node, percent.
pub(super) fn mean(node: &NodeSample) -> Option<f64> {
    let loads: Vec<f64> = values(node, Metric::Utilisation).collect();
    (!loads.is_empty()).then(|| loads.iter().sum::<f64>() / loads.len() as f64)
}

fn plain(text: impl Into<String>) -> Cell {
    Cell::Text(text.into(), Tone::Plain)
}

fn absent() -> Cell {
    Cell::Text("-".to_owned(), Tone::Faint)
}

fn number(value: Option<f64>, unit: &str) -> Cell {
    value.map_or_else(absent, |value| plain(format!("{value:.0}{unit}")))
}

/// The cells of a row; `None` if it is gone.
pub(super) fn cells(state: &TopState, key: &Key) -> Option<Vec<Cell>> {
    Some(match (key, &state.level) {
        (Key::Node(name), _) => node_cells(state.node(name)?),
        (Key::Gpu(node, index), level) => {
            let mut cells = gpu_cells(node, state.gpu(node, *index)?);
            if !matches!(level, Level::Gpus) {
                cells.remove(0);
            }
            cells
        }
        (Key::Process(pid), Level::Gpu(node, index)) => {
            let gpu = state.gpu(node, *index)?;
            process_cells(gpu.processes.iter().find(|process| process.pid == *pid)?)
        }
        _ => return None,
    })
}

fn node_cells(node: &NodeSample) -> Vec<Cell> {
    let mean = mean(node);
    let used: f64 = values(node, Metric::MemoryUsed).sum();
    let total: f64 = values(node, Metric::MemoryTotal).sum();
    let power = values(node, Metric::Power).reduce(|a, b| a + b);
    let hottest = values(node, Metric::Temperature).reduce(f64::max);
    let ram = node.machine.get(Metric::RamTotal).zip(node.machine.get(Metric::RamAvailable));
    let wrong = node.gpus.iter().filter(|gpu| tone(gpu) == Tone::Bad).count();
    let state = match (&node.blind, wrong) {
        (Some(why), _) => Cell::Text(format!("blind: {}", text::plain(why)), Tone::Warn),
        (None, 0) => Cell::Text("ok".to_owned(), Tone::Good),
        (None, wrong) => Cell::Text(human::plural(wrong as u64, "GPU with faults", "GPUs with faults"), Tone::Bad),
    };
    let busy = values(node, Metric::Utilisation).filter(|load| *load > 0.0).count();
    vec![
        plain(text::plain(&node.node)),
        plain(node.gpus.len().to_string()),
        plain(busy.to_string()),
        number(mean, "%"),
        Cell::Bar(mean.map(|mean| mean / 100.0)),
        number((total > 0.0).then(|| 100.0 * used / total), "%"),
        number(power, "W"),
        number(hottest, "C"),
        number(node.machine.get(Metric::CpuUsed), "%"),
        number(ram.filter(|(total, _)| *total > 0.0).map(|(total, free)| 100.0 * (total - free) / total), "%"),
        state,
    ]
}

fn gpu_cells(node: &str, gpu: &GpuSample) -> Vec<Cell> {
    let of = |metric| gpu.metrics.get(metric);
    let load = of(Metric::Utilisation);
    let owner = text::plain(&gpu.owner());
    let temperature = match (of(Metric::Temperature), of(Metric::SlowdownTemperature)) {
        (Some(now), Some(limit)) if now + 5.0 >= limit => Cell::Text(format!("{now:.0}C"), Tone::Warn),
        (now, _) => number(now, "C"),
    };
    let flags = flags(gpu);
    vec![
        plain(text::plain(node)),
        plain(gpu.index.to_string()),
        number(load, "%"),
        Cell::Bar(load.map(|load| load / 100.0)),
        Cell::Past(node.to_owned(), gpu.index),
        memory(&gpu.metrics),
        match (of(Metric::Power), of(Metric::PowerLimit)) {
            (Some(power), Some(limit)) => plain(format!("{power:.0}/{limit:.0}W")),
            (power, _) => number(power, "W"),
        },
        temperature,
        number(of(Metric::SmClock), "MHz"),
        match of(Metric::Idle).filter(|idle| *idle > 0.0) {
            Some(idle) if !owner.is_empty() && idle >= 600.0 => Cell::Text(human::age(idle), Tone::Warn),
            Some(idle) => Cell::Text(human::age(idle), Tone::Faint),
            None => absent(),
        },
        if flags.is_empty() { absent() } else { Cell::Text(flags, tone(gpu)) },
        if owner.is_empty() { absent() } else { plain(owner) },
    ]
}

fn memory(values: &Values) -> Cell {
    match (values.get(Metric::MemoryUsed), values.get(Metric::MemoryTotal)) {
        (Some(used), Some(total)) => plain(format!("{:.1}/{:.0}GB", used / 1e9, total / 1e9)),
        (Some(used), None) => plain(human::cell(&human::bytes(used as u64))),
        _ => absent(),
    }
}

fn process_cells(process: &ProcessSample) -> Vec<Cell> {
    let of = |metric| process.metrics.get(metric);
    let amount = |metric| of(metric).map_or_else(absent, |value| plain(human::cell(&human::bytes(value as u64))));
    let word = |word: Option<&str>| word.map_or_else(absent, |word| plain(text::plain(word)));
    let slurm = process.slurm_job.map(|job| format!("slurm/{job}"));
    let owner = process.pod.as_ref().map(|pod| pod.shown()).or(slurm);
    vec![
        plain(process.pid.to_string()),
        number(of(Metric::ProcessSm), "%"),
        Cell::Bar(of(Metric::ProcessSm).map(|load| load / 100.0)),
        amount(Metric::ProcessMemory),
        amount(Metric::ProcessResident),
        word(process.user.as_deref()),
        word(process.name.as_deref()),
        word(owner.as_deref()),
    ]
}

/// What deserves a look, in a word or two; empty if nothing does.
pub(super) fn flags(gpu: &GpuSample) -> String {
    let of = |metric| gpu.metrics.get(metric).filter(|value| *value > 0.0);
    let mut flags: Vec<String> = gpu.blind.iter().map(|_| "blind".to_owned()).collect();
    flags.extend(of(Metric::XidLast).map(|xid| format!("xid-{xid}")));
    for (metric, word) in [
        (Metric::EccUncorrected, "ecc"),
        (Metric::RowRemapFailure, "remap-failed"),
        (Metric::RowRemapPending, "remap-pending"),
    ] {
        flags.extend(of(metric).map(|_| word.to_owned()));
    }
    let slow = gpu.metrics.get(Metric::ThrottleReasons).map(reasons).unwrap_or_default();
    flags.extend(slow.into_iter().filter(|reason| !matches!(reason.as_str(), "idle" | "application-clocks")));
    flags.join(",")
}

/// How bad that is.
pub(super) fn tone(gpu: &GpuSample) -> Tone {
    let flags = flags(gpu);
    let has = |words: &[&str]| words.iter().any(|word| flags.contains(word));
    if has(&["blind", "xid-", "ecc", "remap-failed"]) {
        Tone::Bad
    } else if has(&["thermal", "slowdown", "brake", "remap-pending"]) {
        Tone::Warn
    } else {
        Tone::Faint
    }
}
