//! `aictl report`: say what a recording shows, or what changed between two.

mod diff;
mod tops;
mod words;

use std::path::{Path, PathBuf};

use clap::ValueHint;

use super::error::{BLIND, DONE, Error};
use super::settings::{OutputFormat, Settings};
use super::{Done, recording};
use crate::analyze::{self, Comparison, Report, VerdictKind};
use crate::trace::Trace;
use crate::view::text;

/// Say what a recording shows: verdict, steps, where their time went, tops, stragglers
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "aictl report [OPTIONS] <FILE>\n       aictl report [OPTIONS] --diff <BEFORE> <AFTER>",
    after_help = EXAMPLES,
    after_long_help = AFTER_LONG_HELP
)]
pub struct Args {
    /// Recording: of aictl, another Perfetto TrackEvent trace, or Chrome JSON as PyTorch's profiler
    /// writes it, gzip or plain; - for stdin
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath, required_unless_present = "diff")]
    file: Option<PathBuf>,
    /// Say what changed between two recordings
    #[arg(long, num_args = 2, value_names = ["BEFORE", "AFTER"], value_hint = ValueHint::FilePath, conflicts_with = "file")]
    diff: Option<Vec<PathBuf>>,
}

/// In short help and in long help alike.
macro_rules! examples {
    () => {
        "\
Examples:
  aictl report run.pftrace
  aictl report trace.json.gz -o wide                 what PyTorch's profiler wrote
  aictl report run.pftrace -o json | jq .breakdown
  aictl report --diff before.pftrace after.pftrace"
    };
}

const EXAMPLES: &str = examples!();

const AFTER_LONG_HELP: &str = concat!(
    examples!(),
    "

With -o name only the verdict's kind is printed: input_bound, cpu_bound, gpu_bound,
communication_bound, io_bound, host_bound, idle, balanced or inconclusive.

Exit codes: 0 there is a verdict · 1 the file can't be read · 2 usage · 4 inconclusive: the
recording does not say, or a node was lost while it was made."
);

/// Reads, judges, prints.
pub fn run(args: Args, settings: &Settings) -> Done {
    let read = |path: &Path| recording::read(path, &settings.ui);
    if let Some([before, after]) = args.diff.as_deref() {
        return diff::print(&read(before)?, &read(after)?, settings);
    }
    let Some(file) = args.file else { return Err(Error::usage("no recording given")) };
    print(&read(&file)?, settings)
}

/// Judges a recording and prints the report.
pub fn print(trace: &Trace, settings: &Settings) -> Done {
    show(&analyze::judge(trace), settings)
}

fn show(report: &Report, settings: &Settings) -> Done {
    let ui = &settings.ui;
    match settings.output {
        OutputFormat::Json => ui.json(report),
        OutputFormat::Yaml => ui.yaml(report),
        OutputFormat::Name => ui.print(report.verdict.kind.name()),
        OutputFormat::Table | OutputFormat::Wide => {
            for warning in &report.warnings {
                ui.warn(warning);
            }
            ui.print(&render(report, Page::of(settings)))
        }
    }
    .map_err(Error::output)?;
    // Of a node that was lost, data are missing.
    let cut = report.capture.nodes.iter().any(|node| node.broke_off.is_some());
    Ok(if cut || report.verdict.kind == VerdictKind::Inconclusive { BLIND } else { DONE })
}

/// A comparison in lines without colours, for a screen of `width` columns.
pub fn compared(comparison: &Comparison, width: usize, unicode: bool) -> Vec<String> {
    let text = diff::render(comparison, Page { width, unicode, wide: false });
    anstream::adapter::strip_str(&text).to_string().lines().map(str::to_owned).collect()
}

/// How much room there is, and what may stand in it.
#[derive(Debug, Clone, Copy)]
struct Page {
    width: usize,
    unicode: bool,
    wide: bool,
}

impl Page {
    fn of(settings: &Settings) -> Page {
        let ui = &settings.ui;
        Page { width: ui.width(), unicode: ui.unicode(), wide: settings.output == OutputFormat::Wide }
    }
}

/// The report for people: the verdict first, then what it rests on, then the rest.
fn render(report: &Report, page: Page) -> String {
    let parts = [
        words::verdict(report, page),
        words::steps(report, page),
        words::breakdown(report, page),
        words::stragglers(report, page),
        tops::tops(report, page),
        words::processes(report, page),
        words::capture(report, page),
    ];
    let mut text = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n\n");
    text.push('\n');
    if page.unicode { text } else { text::to_ascii(&text) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyze::{
        BreakdownRow, Capture, Category, Evidence, ProcessRow, REPORT_SCHEMA, Steps, Straggler, TopRow, Tops, Verdict,
    };
    use crate::trace::{LayerState, LayerStatus, Thinned};

    fn layer(layer: &str, state: LayerState, detail: &str) -> LayerStatus {
        LayerStatus { layer: layer.to_owned(), state, detail: detail.to_owned() }
    }

    fn top(name: &str, count: u64, seconds: f64, share: f64) -> TopRow {
        TopRow { name: name.to_owned(), count, seconds, share, ..TopRow::default() }
    }

    fn place(row: TopRow, file: &str, line: u32) -> TopRow {
        TopRow { file: Some(file.to_owned()), line: Some(line), ..row }
    }

    fn evidence(text: &str) -> Evidence {
        Evidence { text: text.to_owned(), track: None, ts_ns: None, dur_ns: None }
    }

    fn sample() -> Report {
        let part = |category, seconds, share| BreakdownRow { category, seconds, share };
        Report {
            schema: REPORT_SCHEMA,
            duration_s: 10.02,
            processes: vec![
                ProcessRow { pid: 41873, name: "python3".to_owned(), rank: Some(0), role: "main".to_owned(), cpu_s: Some(2.9), place: None },
                ProcessRow { pid: 41880, name: "pt_data_worker".to_owned(), rank: None, role: "worker".to_owned(), cpu_s: Some(9.8), place: None },
            ],
            steps: Steps {
                count: 97,
                p50_ms: Some(102.4),
                p99_ms: Some(131.0),
                source: "optimizer".to_owned(),
                anchor: Some("Optimizer.step#SGD.step".to_owned()),
                pid: Some(41873),
            },
            breakdown: vec![
                part(Category::Input, 7.05, 0.712),
                part(Category::ComputeCpu, 1.8, 0.182),
                part(Category::Python, 0.8, 0.081),
                part(Category::Idle, 0.25, 0.025),
                part(Category::GpuWait, 0.0, 0.0),
            ],
            verdict: Verdict {
                kind: VerdictKind::InputBound,
                confidence: 0.93,
                share: 0.712,
                because: vec![
                    evidence("the main thread waits 72.7 ms of each step in DataLoader.__next__ (train.py:58), the longest for 131 ms"),
                    evidence("its 1 worker is busy 98 % of the time, in Photos.__getitem__ (dataset.py:31)"),
                ],
                advice: "raise num_workers from 1 to 4 where the DataLoader is made (train.py:51), or make Photos.__getitem__ (dataset.py:31) cheaper".to_owned(),
            },
            top: Tops {
                python: vec![
                    place(top("Photos.__getitem__", 4031, 9.6, 0.958), "/home/me/project/dataset.py", 31),
                    place(top("train", 97, 1.9, 0.19), "/home/me/project/train.py", 50),
                ],
                torch: vec![top("aten::addmm", 9700, 0.9, 0.09), top("autograd::AddmmBackward0", 9700, 0.7, 0.07)],
                nccl: vec![TopRow { bytes: Some(1 << 30), bus_gb_s: Some(11.7), estimate: true, ..top("ncclAllReduce", 97, 0.5, 0.05) }],
                file: vec![TopRow { bytes: Some(812_000_000), ..top("/data/train/shard-0004.bin", 4031, 3.1, 0.31) }],
                ..Tops::default()
            },
            stragglers: vec![Straggler { pid: 41874, rank: Some(1), late_ms: 31.0, last_share: 0.97, place: None, because: "input: waits in DataLoader.__next__".to_owned(), track: None, ts_ns: None, dur_ns: None }],
            capture: Capture {
                lost_events: 0,
                thinned_probes: vec![Thinned { probe: "torch: 2431 operators under 20 us".to_owned(), action: "detached".to_owned(), ts_ns: 0, hits_per_s: 9e4, cost_share: 0.034 }],
                cpu_share: Some(0.04),
                overhead_share: Some(0.011),
                layers: vec![
                    layer("sched", LayerState::On, ""),
                    layer("python", LayerState::On, "CPython 3.11"),
                    layer("torch", LayerState::On, "3110 operators"),
                    layer("cuda", LayerState::Absent, "no libcudart mapped"),
                ],
                nodes: Vec::new(),
            },
            warnings: Vec::new(),
        }
    }

    fn shown(report: &Report, width: usize, unicode: bool, wide: bool) -> String {
        anstream::adapter::strip_str(&render(report, Page { width, unicode, wide })).to_string()
    }

    #[test]
    fn a_report_at_80_columns() {
        let text = shown(&sample(), 80, true, false);
        insta::assert_snapshot!(text, @r#"
        input bound: 71 % of each step waits for data                    confidence 93 %

        because  - the main thread waits 72.7 ms of each step in DataLoader.__next__
                   (train.py:58), the longest for 131 ms
                 - its 1 worker is busy 98 % of the time, in Photos.__getitem__
                   (dataset.py:31)
        do       raise num_workers from 1 to 4 where the DataLoader is made
                 (train.py:51), or make Photos.__getitem__ (dataset.py:31) cheaper

        steps    97 in 10.0 s, p50 102 ms, p99 131 ms, found by optimizer:
                 Optimizer.step#SGD.step

        TIME                                                            SHARE   PER STEP
        input         █████████████████████████████████▌                  71%     72.7ms
        compute_cpu   ████████▌                                           18%     18.6ms
        python        ███▊                                               8.1%     8.25ms
        idle          █▏                                                 2.5%     2.58ms

          LATE     PID   RANK   LAST   BECAUSE
        31.0ms   41874      1    97%   input: waits in DataLoader.__next__

        PYTHON                TIME   SHARE   COUNT   WHERE
        Photos.__getitem__   9.60s     96%   4,031   dataset.py:31
        train                1.90s     19%      97   train.py:50

        TORCH                       TIME   SHARE   COUNT
        aten::addmm                900ms    9.0%   9,700
        autograd::AddmmBackward0   700ms    7.0%   9,700

        NCCL              TIME   SHARE   COUNT    BYTES         BUS
        ncclAllReduce   ~500ms    5.0%      97   1.07GB   ~11.7GB/s

        FILE                          TIME   SHARE   COUNT   BYTES
        /data/train/shard-0004.bin   3.10s     31%   4,031   812MB

          PID     RANK   PROCESS          ROLE       CPU
        41873        0   python3          main     2.90s
        41880   <none>   pt_data_worker   worker   9.80s

        capture  sched, python, torch; nothing lost; overhead about 1.1 %; aictl used
                 4.0 % of a core
                 cuda absent: no libcudart mapped
                 thinned torch: 2431 operators under 20 us: detached (cost 3.4 %)
        "#);
        let too_long: Vec<_> = text.lines().filter(|line| line.chars().count() > 80).collect();
        assert!(too_long.is_empty(), "{too_long:#?}");
    }

    #[test]
    fn ascii_stays_ascii() {
        let mut report = sample();
        report.verdict.advice.push_str(" (num_workers ≥ 2)");
        let text = shown(&report, 80, false, true);
        assert!(text.is_ascii(), "{text}");
        assert!(text.contains("####"), "{text}");
    }

    #[test]
    fn a_report_of_nothing() {
        let mut report = sample();
        report.steps =
            Steps { count: 0, p50_ms: None, p99_ms: None, source: "none".to_owned(), anchor: None, pid: None };
        report.verdict = Verdict {
            kind: VerdictKind::Inconclusive,
            confidence: 0.0,
            share: 0.0,
            because: vec![evidence("no step was found in 0.2 s")],
            advice: "record longer: -d 30s".to_owned(),
        };
        report.breakdown.clear();
        report.processes.clear();
        report.top = Tops::default();
        report.stragglers.clear();
        report.capture.layers.clear();
        report.capture.thinned_probes.clear();
        report.capture.cpu_share = None;
        report.capture.overhead_share = None;
        insta::assert_snapshot!(shown(&report, 80, true, false), @r#"
        inconclusive: the recording does not say                          confidence 0 %

        because  - no step was found in 0.2 s
        do       record longer: -d 30s

        steps    none found in 10.0 s
        "#);
    }
}
