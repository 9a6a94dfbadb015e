//! The judgement from end to end.

use super::advice::{Facts, words};
use super::breakdown::{self, Breakdown};
use super::index::Index;
use super::report::{
    BreakdownRow, Capture, Category, ProcessRow, REPORT_SCHEMA, Report, Steps, Straggler, Verdict, VerdictKind,
};
use super::roles::{Role, Roles};
use super::steps::rhythm::quantile;
use super::steps::{self, Found};
use super::straggler::{self, Rank};
use super::tops;
use super::verdict::{Decision, Parts, decide};
use crate::trace::{Flags, Layer, Place, Trace};

/// Less judged time than this says nothing.
const LEAST_NS: u64 = 200_000_000;
/// With this share of events lost, the picture is not to be trusted.
const TOO_MUCH_LOST: f64 = 0.3;

/// Judges a recording.
pub fn judge(trace: &Trace) -> Report {
    let index = Index::new(trace);
    let roles = Roles::of(&index);
    let found: Vec<Found> = roles.drivers.iter().map(|d| steps::find(&index, *d)).collect();
    let each: Vec<Breakdown> =
        roles.drivers.iter().zip(&found).map(|(d, f)| breakdown::sweep(&index, &roles, *d, &f.boundaries)).collect();
    report(&index, &roles, &found, &each)
}

/// The report on drivers whose steps are found and whose time is added up.
pub(super) fn report(index: &Index<'_>, roles: &Roles, found: &[Found], each: &[Breakdown]) -> Report {
    let trace = index.trace;
    let mut warnings = trace.warnings.clone();
    let mut all = Breakdown::default();
    each.iter().for_each(|b| all.add(b));
    let ranks: Vec<Rank<'_>> = roles
        .drivers
        .iter()
        .zip(found.iter().zip(each))
        .map(|(thread, (found, breakdown))| Rank { thread: *thread, found, breakdown })
        .collect();
    let stragglers = straggler::find(index, &ranks);

    let total = all.all_ns();
    let parts: Parts = all.total.map(|n| if total == 0 { 0.0 } else { n as f64 / total as f64 });
    let window = window(found);
    let gpu_busy = gpu_busy(index, window);
    let model = found.iter().max_by(|a, b| a.trust.total_cmp(&b.trust).then(b.source.cmp(a.source)));
    let steps = steps_of(index, roles, found);
    let decision = weigh(index, &parts, &ranks, &stragglers, gpu_busy, model, total, &mut warnings);
    let facts = Facts {
        index,
        roles,
        breakdown: &all,
        parts: &parts,
        decision,
        stragglers: &stragglers,
        steps: steps.count,
        gpu_busy,
        window,
    };
    let (because, advice) = words(&facts);
    Report {
        schema: REPORT_SCHEMA,
        duration_s: duration_s(index),
        processes: processes(index, roles),
        steps,
        breakdown: rows(&all, total),
        verdict: Verdict {
            kind: decision.kind,
            confidence: (decision.confidence * 100.0).round() / 100.0,
            share: decision.share,
            because,
            advice,
        },
        top: tops::tops(index, roles),
        stragglers,
        capture: capture(trace, index),
        warnings,
    }
}

fn rows(all: &Breakdown, total: u64) -> Vec<BreakdownRow> {
    Category::ALL
        .into_iter()
        .map(|category| {
            let ns = all.total[category as usize];
            let share = if total == 0 { 0.0 } else { ns as f64 / total as f64 };
            BreakdownRow { category, seconds: ns as f64 / 1e9, share }
        })
        .collect()
}

/// Decides, and says how sure: shares, steps, length and losses all count.
#[allow(clippy::too_many_arguments)]
fn weigh(
    index: &Index<'_>,
    parts: &Parts,
    ranks: &[Rank<'_>],
    stragglers: &[Straggler],
    gpu_busy: Option<f64>,
    model: Option<&Found>,
    total: u64,
    warnings: &mut Vec<String>,
) -> Decision {
    let mut parts = *parts;
    // The late rank does not wait, the others do: judge by those.
    let late = |r: &Rank<'_>| {
        let process = &index.trace.processes[index.process_of(r.thread)];
        stragglers.iter().any(|s| s.pid == process.pid)
    };
    let waiting: Vec<&Rank<'_>> = ranks.iter().filter(|r| !late(r)).collect();
    if !stragglers.is_empty() && !waiting.is_empty() && waiting.len() < ranks.len() {
        let mut sum = Breakdown::default();
        waiting.iter().for_each(|r| sum.add(r.breakdown));
        let all = sum.all_ns().max(1) as f64;
        parts = sum.total.map(|n| n as f64 / all);
    }
    let mut decision = decide(&parts, gpu_busy);
    let steps = model.map_or(0, |m| m.lengths_ns.len());
    let trust = match model {
        Some(m) if steps >= 5 => 0.7 + 0.3 * m.trust,
        Some(_) if steps > 0 => 0.75,
        _ => 0.7,
    };
    let seconds = total as f64 / 1e9;
    let long_enough = (0.5 + seconds / 4.0).min(1.0);
    let lost = index.trace.meta.as_ref().map_or(0, |m| m.lost.slices + m.lost.rare + m.lost.samples) as f64;
    let kept = index.trace.slice_count() as f64;
    let lost_share = lost / (lost + kept).max(1.0);
    decision.confidence *= trust * long_enough * (1.0 - lost_share);
    if lost_share > 0.05 {
        warnings.push(format!("{:.0} % of the events were lost: shares may be off", lost_share * 100.0));
    }
    if total < LEAST_NS || lost_share > TOO_MUCH_LOST {
        decision.kind = VerdictKind::Inconclusive;
        decision.confidence = decision.confidence.min(0.2);
    } else if decision.confidence < 0.3 {
        decision.kind = VerdictKind::Inconclusive;
    }
    decision
}

/// From the first boundary of any driver to the last.
fn window(found: &[Found]) -> (u64, u64) {
    let first = found.iter().filter_map(|f| f.boundaries.first()).min().copied().unwrap_or(0);
    let last = found.iter().filter_map(|f| f.boundaries.last()).max().copied().unwrap_or(0);
    (first, last)
}

/// Share of `window` in which a device worked, where its work was measured (estimates end
/// at the next synchronize, so they say nothing about how busy it was).
fn gpu_busy(index: &Index<'_>, window: (u64, u64)) -> Option<f64> {
    let mut spans: Vec<(u64, u64)> = index
        .trace
        .tracks
        .iter()
        .filter(|t| t.layer == Layer::Gpu)
        .flat_map(|t| &t.slices)
        .filter(|s| s.depth == 0 && !s.flags.has(Flags::ESTIMATE))
        .map(|s| (s.start_ns.max(window.0), s.end_ns().min(window.1)))
        .filter(|(from, to)| to > from)
        .collect();
    if spans.is_empty() || window.1 <= window.0 {
        return None;
    }
    spans.sort_unstable();
    let (mut busy, mut until) = (0u64, 0u64);
    for (from, to) in spans {
        busy += to.saturating_sub(from.max(until));
        until = until.max(to);
    }
    Some(busy as f64 / (window.1 - window.0) as f64)
}

fn steps_of(index: &Index<'_>, roles: &Roles, found: &[Found]) -> Steps {
    let none = Steps {
        count: 0,
        p50_ms: None,
        p99_ms: None,
        source: "none".to_owned(),
        anchor: None,
        pid: roles.drivers.first().and_then(|d| index.trace.processes.get(index.process_of(*d))).map(|p| p.pid),
    };
    let best = found.iter().enumerate().filter(|(_, f)| !f.lengths_ns.is_empty());
    let Some((i, best)) = best.max_by(|(i, a), (j, b)| a.trust.total_cmp(&b.trust).then(j.cmp(i))) else {
        return none;
    };
    let ms = |q| quantile(&best.lengths_ns, q).map(|ns| ns as f64 / 1e6);
    Steps {
        count: best.lengths_ns.len(),
        p50_ms: ms(0.5),
        p99_ms: ms(0.99),
        source: best.source.to_owned(),
        anchor: best.anchor.clone(),
        pid: index.trace.processes.get(index.process_of(roles.drivers[i])).map(|p| p.pid),
    }
}

fn processes(index: &Index<'_>, roles: &Roles) -> Vec<ProcessRow> {
    index
        .trace
        .processes
        .iter()
        .enumerate()
        .map(|(i, p)| {
            let running: u64 = (0..index.threads.len())
                .filter(|t| index.process_of(*t) == i)
                .filter_map(|t| index.threads[t].sched)
                .flat_map(|t| &t.slices)
                .filter(|s| index.name(s.name).reason == super::names::Reason::Running)
                .map(|s| s.dur_ns)
                .sum();
            ProcessRow {
                pid: p.pid,
                name: p.name.clone(),
                rank: p.rank,
                role: roles.role.get(i).copied().unwrap_or(Role::Helper).name().to_owned(),
                cpu_s: index.has_sched.then_some(running as f64 / 1e9),
                place: place_of(index.trace, p.pid),
            }
        })
        .collect()
}

fn duration_s(index: &Index<'_>) -> f64 {
    match &index.trace.meta {
        Some(m) if m.end_ns > m.start_ns => (m.end_ns - m.start_ns) as f64 / 1e9,
        _ => index.length_ns() as f64 / 1e9,
    }
}

fn capture(trace: &Trace, index: &Index<'_>) -> Capture {
    let Some(meta) = &trace.meta else {
        return Capture {
            lost_events: 0,
            thinned_probes: Vec::new(),
            cpu_share: None,
            overhead_share: None,
            layers: Vec::new(),
            nodes: Vec::new(),
        };
    };
    let seconds = duration_s(index);
    Capture {
        lost_events: meta.lost.total(),
        thinned_probes: meta.thinned.clone(),
        cpu_share: (seconds > 0.0).then(|| meta.aictl_cpu_s / seconds),
        overhead_share: Some(meta.overhead_share),
        layers: meta.layers.clone(),
        nodes: meta.nodes.clone(),
    }
}

/// Where a process runs, as the recording's notes have it.
pub(super) fn place_of(trace: &Trace, pid: u32) -> Option<Place> {
    trace.meta.as_ref()?.places.iter().find(|place| place.pid == pid).cloned()
}
