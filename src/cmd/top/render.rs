//! The report as tables.

use super::super::settings::{OutputFormat, Settings};
use super::report::Report;
use super::{Args, By};
use crate::metrics::{GpuSample, Metric, NodeSample, Values, reasons};
use crate::view::style::{self, paint};
use crate::view::{Align, Table, bar, human, text};

/// Nodes whose machine is told of above the table.
const TOLD: usize = 4;
/// Cells of the bar of load.
const BAR: usize = 8;

/// Renders header lines and the rows that were asked for.
pub fn render(report: &Report, args: &Args, settings: &Settings) -> String {
    let ui = &settings.ui;
    let wide = settings.output == OutputFormat::Wide;
    let width = if wide { ui.width().max(200) } else { ui.width() };
    let mut parts: Vec<String> = Vec::new();
    if report.nodes.len() <= TOLD {
        let lines: Vec<String> = report.nodes.iter().map(|node| machine(node, ui.width())).collect();
        parts.push(lines.into_iter().filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n"));
    }
    let (table, colours) = match args.by {
        _ if report.idle.is_some() => idle(report),
        By::Gpu => gpus(report, wide, ui.unicode()),
        By::Process => processes(report),
        By::Job => jobs(report),
        By::Node => nodes(report, ui.unicode()),
    };
    if table.is_empty() {
        parts.push(if report.idle.is_some() {
            "no GPU has been idle for so long".to_owned()
        } else {
            paint(style::FAINT, "nothing to show: no GPU that was asked for could be read")
        });
    } else {
        let lines = table.render(width, ui.unicode());
        let colours = std::iter::once(style::HEADER).chain(colours);
        parts.push(lines.iter().zip(colours).map(|(line, colour)| paint(colour, line)).collect::<Vec<_>>().join("\n"));
    }
    parts.retain(|part| !part.is_empty());
    parts.join("\n\n")
}

type Rows = (Table, Vec<anstyle::Style>);

fn percent(value: Option<f64>) -> String {
    value.map_or(String::new(), |value| format!("{value:.0}%"))
}

fn amount(value: Option<f64>) -> String {
    value.map_or(String::new(), |value| human::cell(&human::bytes(value as u64)))
}

fn rate(value: Option<f64>) -> String {
    value.map_or(String::new(), |value| format!("{}/s", human::cell(&human::bytes(value as u64))))
}

fn unit(value: Option<f64>, unit: &str) -> String {
    value.map_or(String::new(), |value| format!("{value:.0}{unit}"))
}

/// "12.4/85.5GB".
pub fn memory(values: &Values) -> String {
    match (values.get(Metric::MemoryUsed), values.get(Metric::MemoryTotal)) {
        (Some(used), Some(total)) => format!("{:.1}/{:.1}GB", used / 1e9, total / 1e9),
        (used, _) => amount(used),
    }
}

/// Power of what is allowed: "612/700W".
fn watts(values: &Values) -> String {
    match (values.get(Metric::Power), values.get(Metric::PowerLimit)) {
        (Some(power), Some(limit)) => format!("{power:.0}/{limit:.0}W"),
        (power, _) => unit(power, "W"),
    }
}

/// What deserves a look, in a word or two.
fn flags(gpu: &GpuSample) -> String {
    let of = |metric| gpu.metrics.get(metric).filter(|value| *value > 0.0);
    let mut flags = Vec::new();
    if gpu.blind.is_some() {
        flags.push("blind".to_owned());
    }
    if let Some(xid) = of(Metric::XidLast) {
        flags.push(format!("xid-{xid}"));
    }
    for (metric, word) in [
        (Metric::EccUncorrected, "ecc"),
        (Metric::RowRemapFailure, "remap-failed"),
        (Metric::RowRemapPending, "remap-pending"),
    ] {
        flags.extend(of(metric).map(|_| word.to_owned()));
    }
    let slow = gpu.metrics.get(Metric::ThrottleReasons).map(reasons).unwrap_or_default();
    flags.extend(slow.into_iter().filter(|reason| !matches!(reason.as_str(), "idle" | "application-clocks")));
    if flags.is_empty() { "-".to_owned() } else { flags.join(",") }
}

fn colour(gpu: &GpuSample) -> anstyle::Style {
    let flags = flags(gpu);
    if flags.contains("xid-") || flags.contains("ecc") || flags.contains("failed") || flags.contains("blind") {
        style::BAD
    } else if flags.contains("thermal") || flags.contains("slowdown") || flags.contains("brake") {
        style::WARN
    } else {
        anstyle::Style::new()
    }
}

fn gpus(report: &Report, wide: bool, unicode: bool) -> Rows {
    let many = report.nodes.len() > 1;
    let mut columns = Vec::new();
    if many {
        columns.push(("NODE", Align::Flexible));
    }
    columns.extend([
        ("GPU", Align::Right),
        ("UTIL", Align::Right),
        ("LOAD", Align::Left),
        ("MEMORY", Align::Right),
        ("POWER", Align::Right),
        ("TEMP", Align::Right),
        ("FLAGS", Align::Flexible),
        ("OWNER", Align::Flexible),
    ]);
    if wide {
        columns.extend([
            ("SM-CLOCK", Align::Right),
            ("ENC/DEC", Align::Right),
            ("PCIE-TX", Align::Right),
            ("PCIE-RX", Align::Right),
            ("NVLINK-TX", Align::Right),
            ("NVLINK-RX", Align::Right),
            ("PROCESSES", Align::Right),
            ("USER", Align::Flexible),
            ("MODEL", Align::Flexible),
            ("UUID", Align::Left),
        ]);
    }
    let mut table = Table::new(&columns);
    let mut colours = Vec::new();
    for (node, gpu) in report.gpus() {
        let of = |metric| gpu.metrics.get(metric);
        let load = of(Metric::Utilisation);
        let mut row = Vec::new();
        if many {
            row.push(node.node.clone());
        }
        row.extend([
            gpu.index.to_string(),
            percent(load),
            load.map_or("-".to_owned(), |load| bar::bar(load / 100.0, BAR, unicode).trim_end().to_owned()),
            memory(&gpu.metrics),
            watts(&gpu.metrics),
            unit(of(Metric::Temperature), "C"),
            flags(gpu),
            gpu.owner(),
        ]);
        if row.iter().any(String::is_empty) {
            // A bar of nothing is no missing value.
            let at = usize::from(many) + 2;
            if row[at].is_empty() {
                row[at] = if unicode { "·" } else { "." }.to_owned();
            }
        }
        if wide {
            row.extend([
                unit(of(Metric::SmClock), "MHz"),
                match (of(Metric::EncoderUtilisation), of(Metric::DecoderUtilisation)) {
                    (None, None) => String::new(),
                    (encoder, decoder) => format!("{}/{}", percent(encoder), percent(decoder)),
                },
                rate(of(Metric::PcieTx)),
                rate(of(Metric::PcieRx)),
                rate(of(Metric::NvlinkTxRate)),
                rate(of(Metric::NvlinkRxRate)),
                gpu.processes.len().to_string(),
                gpu.users(),
                gpu.name.replace(' ', "-"),
                gpu.uuid.clone(),
            ]);
        }
        table.row(row);
        colours.push(colour(gpu));
    }
    (table, colours)
}

fn processes(report: &Report) -> Rows {
    let many = report.nodes.len() > 1;
    let mut columns = Vec::new();
    if many {
        columns.push(("NODE", Align::Flexible));
    }
    columns.extend([
        ("PID", Align::Right),
        ("GPU", Align::Right),
        ("SM", Align::Right),
        ("GPU-MEMORY", Align::Right),
        ("MEMORY", Align::Right),
        ("USER", Align::Left),
        ("PROGRAM", Align::Flexible),
        ("OWNER", Align::Flexible),
    ]);
    let mut table = Table::new(&columns);
    let mut rows = 0;
    for (node, gpu) in report.gpus() {
        for process in &gpu.processes {
            let of = |metric| process.metrics.get(metric);
            let mut row = Vec::new();
            if many {
                row.push(node.node.clone());
            }
            let owner = process.pod.as_ref().map(|pod| pod.shown());
            row.extend([
                process.pid.to_string(),
                gpu.index.to_string(),
                percent(of(Metric::ProcessSm)),
                amount(of(Metric::ProcessMemory)),
                amount(of(Metric::ProcessResident)),
                process.user.clone().unwrap_or_default(),
                process.name.clone().unwrap_or_default(),
                owner.or(process.slurm_job.map(|job| format!("slurm/{job}"))).unwrap_or_default(),
            ]);
            table.row(row);
            rows += 1;
        }
    }
    (table, vec![anstyle::Style::new(); rows])
}

fn jobs(report: &Report) -> Rows {
    let mut table = Table::new(&[
        ("JOB", Align::Flexible),
        ("REQUESTED", Align::Right),
        ("GPUS", Align::Right),
        ("BUSY", Align::Right),
        ("IDLE", Align::Right),
        ("UTIL", Align::Right),
        ("MEMORY", Align::Right),
        ("POWER", Align::Right),
        ("EFFICIENCY", Align::Right),
    ]);
    let mut colours = Vec::new();
    for job in &report.jobs {
        table.row([
            job.job.clone(),
            job.gpus_requested.map_or(String::new(), |gpus| gpus.to_string()),
            job.gpus.to_string(),
            job.gpus_busy.to_string(),
            job.gpus_idle.to_string(),
            percent(job.utilisation_percent),
            percent(job.memory_percent),
            unit(job.power_w, "W"),
            percent(job.efficiency_percent),
        ]);
        colours.push(if job.gpus_idle > 0 { style::WARN } else { anstyle::Style::new() });
    }
    (table, colours)
}

fn idle(report: &Report) -> Rows {
    let mut table = Table::new(&[
        ("NODE", Align::Flexible),
        ("GPU", Align::Right),
        ("OWNER", Align::Flexible),
        ("UUID", Align::Flexible),
        ("IDLE", Align::Right),
    ]);
    let found = report.idle.as_deref().unwrap_or_default();
    for gpu in found {
        table.row([gpu.node.clone(), gpu.gpu.to_string(), gpu.owner.clone(), gpu.uuid.clone(), human::age(gpu.idle_s)]);
    }
    (table, vec![anstyle::Style::new(); found.len()])
}

fn nodes(report: &Report, unicode: bool) -> Rows {
    let mut table = Table::new(&[
        ("NODE", Align::Flexible),
        ("GPUS", Align::Right),
        ("BUSY", Align::Right),
        ("UTIL", Align::Right),
        ("LOAD", Align::Left),
        ("GPU-MEMORY", Align::Right),
        ("POWER", Align::Right),
        ("CPU", Align::Right),
        ("MEMORY", Align::Right),
    ]);
    let mut colours = Vec::new();
    for node in &report.nodes {
        let sum = |metric| node.gpus.iter().filter_map(|gpu| gpu.metrics.get(metric)).reduce(|a, b| a + b);
        let loads: Vec<f64> = node.gpus.iter().filter_map(|gpu| gpu.metrics.get(Metric::Utilisation)).collect();
        let mean = (!loads.is_empty()).then(|| loads.iter().sum::<f64>() / loads.len() as f64);
        let used = match (node.machine.get(Metric::RamTotal), node.machine.get(Metric::RamAvailable)) {
            (Some(total), Some(available)) if total > 0.0 => Some(100.0 * (total - available) / total),
            _ => None,
        };
        let share = match (sum(Metric::MemoryUsed), sum(Metric::MemoryTotal)) {
            (Some(used), Some(total)) if total > 0.0 => Some(100.0 * used / total),
            _ => None,
        };
        table.row([
            node.node.clone(),
            node.gpus.len().to_string(),
            loads.iter().filter(|load| **load > 0.0).count().to_string(),
            percent(mean),
            mean.map_or("-".to_owned(), |mean| bar::bar(mean / 100.0, BAR, unicode).trim_end().to_owned()),
            percent(share),
            unit(sum(Metric::Power), "W"),
            percent(node.machine.get(Metric::CpuUsed)),
            percent(used),
        ]);
        colours.push(if node.blind.is_some() { style::WARN } else { anstyle::Style::new() });
    }
    (table, colours)
}

/// The machine in a line: "gpu-17  cpu 25 % of 64  memory …".
pub fn machine(node: &NodeSample, width: usize) -> String {
    let of = |metric| node.machine.get(metric);
    let mut parts = Vec::new();
    if let Some(cpus) = of(Metric::Cpus) {
        let used = of(Metric::CpuUsed).map_or(String::new(), |used| format!("{used:.0} % of "));
        parts.push(format!("cpu {used}{cpus}"));
    }
    if let (Some(total), Some(available)) = (of(Metric::RamTotal), of(Metric::RamAvailable)) {
        let used = human::bytes((total - available).max(0.0) as u64);
        parts.push(format!("memory {used} of {}", human::bytes(total as u64)));
    }
    if let Some(load) = of(Metric::Load1) {
        parts.push(format!("load {load:.1}"));
    }
    let pair = |read, written| Some((of(read)?, of(written)?));
    for (name, found) in [
        ("disk", pair(Metric::DiskReadRate, Metric::DiskWriteRate)),
        ("rdma", pair(Metric::RdmaRxRate, Metric::RdmaTxRate)),
    ] {
        if let Some((read, written)) = found {
            let bytes = |value: f64| human::bytes(value as u64);
            parts.push(format!("{name} {}/s in, {}/s out", bytes(read), bytes(written)));
        }
    }
    if let Some(pressure) = of(Metric::IoPressure).filter(|pressure| *pressure >= 1.0) {
        parts.push(format!("io pressure {pressure:.0} %"));
    }
    if let Some(driver) = &node.driver {
        parts.push(format!("driver {}", text::plain(driver)));
    }
    let name = text::plain(&node.node);
    // Of a Prometheus nothing is known of the machine itself.
    if parts.is_empty() {
        return String::new();
    }
    // A part is not torn between lines.
    let parts: Vec<String> = parts.iter().map(|part| part.replace(' ', "\u{1}")).collect();
    let line = text::wrap(&format!("{name}  "), &parts.join("; "), width);
    line.replace('\u{1}', " ").replacen(&name, &paint(style::STRONG, &name), 1)
}
