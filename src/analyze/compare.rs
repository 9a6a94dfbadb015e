//! What changed from one report to another: `aictl.report-diff/v1`.

use rustc_hash::FxHashMap;
use serde::Serialize;

use super::report::{Category, Report, TopRow, VerdictKind};

/// Name of the JSON contract.
pub const COMPARISON_SCHEMA: &str = "aictl.report-diff/v1";

/// Rows of each list that are worth showing.
const ROWS: usize = 10;

/// Two reports side by side.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// [`COMPARISON_SCHEMA`].
    pub schema: &'static str,
    /// Steps found before.
    pub steps_before: usize,
    /// Steps found after.
    pub steps_after: usize,
    /// Median step.
    pub p50_ms: Change,
    /// 99th percentile of the steps.
    pub p99_ms: Change,
    /// Seconds a step, by category.
    pub breakdown: Vec<CategoryChange>,
    /// What changed the most in each layer, as seconds a step.
    pub top: Vec<TopChange>,
    /// The verdicts.
    pub verdict: VerdictChange,
    /// One sentence.
    pub summary: String,
}

/// A number before and after.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Change {
    /// Before.
    pub before: Option<f64>,
    /// After.
    pub after: Option<f64>,
    /// After over before; `null` where one is missing or before is 0.
    pub ratio: Option<f64>,
}

/// One category.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct CategoryChange {
    /// Which.
    pub category: Category,
    /// Seconds a step before (of the whole recording where no steps were found).
    pub before_s: f64,
    /// After.
    pub after_s: f64,
    /// After less before.
    pub delta_s: f64,
}

/// One line of a top list.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TopChange {
    /// `python`, `torch`, `cuda`, `nccl`, `syscall`, `file`.
    pub layer: &'static str,
    /// What.
    pub name: String,
    /// Seconds a step before.
    pub before_s: f64,
    /// After.
    pub after_s: f64,
    /// After less before.
    pub delta_s: f64,
}

/// The verdicts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct VerdictChange {
    /// Before.
    pub before: VerdictKind,
    /// After.
    pub after: VerdictKind,
    /// Whether they differ.
    pub changed: bool,
}

/// Compares two reports.
pub fn compare(before: &Report, after: &Report) -> Comparison {
    let change = |before: Option<f64>, after: Option<f64>| Change {
        before,
        after,
        ratio: before.zip(after).filter(|(b, _)| *b > 0.0).map(|(b, a)| a / b),
    };
    let p50_ms = change(before.steps.p50_ms, after.steps.p50_ms);
    let p99_ms = change(before.steps.p99_ms, after.steps.p99_ms);
    let breakdown: Vec<CategoryChange> = Category::ALL
        .into_iter()
        .map(|category| {
            let (b, a) = (a_step(before, category), a_step(after, category));
            CategoryChange { category, before_s: b, after_s: a, delta_s: a - b }
        })
        .collect();
    let verdict = VerdictChange {
        before: before.verdict.kind,
        after: after.verdict.kind,
        changed: before.verdict.kind != after.verdict.kind,
    };
    let summary = summary(&p50_ms, &breakdown, verdict);
    Comparison {
        schema: COMPARISON_SCHEMA,
        steps_before: before.steps.count,
        steps_after: after.steps.count,
        p50_ms,
        p99_ms,
        breakdown,
        top: tops(before, after),
        verdict,
        summary,
    }
}

/// Divides what a report totals into what one step takes.
fn per_step(report: &Report) -> f64 {
    // Reports of several ranks add all ranks' time; steps are counted on one.
    let ranks = report.processes.iter().filter(|p| p.role == "main").count().max(1);
    (report.steps.count * ranks).max(1) as f64
}

fn a_step(report: &Report, category: Category) -> f64 {
    report.breakdown.iter().find(|r| r.category == category).map_or(0.0, |r| r.seconds / per_step(report))
}

fn tops(before: &Report, after: &Report) -> Vec<TopChange> {
    let lists = |r: &Report| {
        let t = &r.top;
        [
            ("python", t.python.clone()),
            ("torch", t.torch.clone()),
            ("cuda", t.cuda.clone()),
            ("nccl", t.nccl.clone()),
            ("syscall", t.syscall.clone()),
            ("file", t.file.clone()),
        ]
    };
    // Top lists cover the whole recording, steps or not: a second of it is the unit then.
    let scale = |r: &Report| match r.steps.p50_ms {
        Some(p50) if r.duration_s > 0.0 => p50 / 1e3 / r.duration_s,
        _ if r.duration_s > 0.0 => 1.0 / r.duration_s,
        _ => 0.0,
    };
    let mut sums: FxHashMap<(&'static str, String), (f64, f64)> = FxHashMap::default();
    let mut add = |report: &Report, pick: fn(&mut (f64, f64)) -> &mut f64| {
        let scale = scale(report);
        for (layer, rows) in lists(report) {
            for row in rows {
                *pick(sums.entry((layer, label(&row))).or_default()) += row.seconds * scale;
            }
        }
    };
    add(before, |p| &mut p.0);
    add(after, |p| &mut p.1);
    let mut changes: Vec<TopChange> = sums
        .into_iter()
        .map(|((layer, name), (b, a))| TopChange { layer, name, before_s: b, after_s: a, delta_s: a - b })
        .filter(|c| c.delta_s != 0.0)
        .collect();
    changes.sort_by(|x, y| {
        y.delta_s.abs().total_cmp(&x.delta_s.abs()).then_with(|| (x.layer, &x.name).cmp(&(y.layer, &y.name)))
    });
    let mut kept: FxHashMap<&'static str, usize> = FxHashMap::default();
    changes.retain(|c| {
        let n = kept.entry(c.layer).or_default();
        *n += 1;
        *n <= ROWS
    });
    changes
}

/// Lines move between versions of a program, so a function is known by its name and file.
fn label(row: &TopRow) -> String {
    match &row.file {
        Some(file) if row.line.is_some() => format!("{} ({})", row.name, super::frames::base_name(file)),
        _ => row.name.clone(),
    }
}

fn summary(p50: &Change, breakdown: &[CategoryChange], verdict: VerdictChange) -> String {
    let verdicts = if verdict.changed {
        format!("the verdict went from {} to {}", verdict.before.name(), verdict.after.name())
    } else {
        format!("the verdict is still {}", verdict.after.name())
    };
    let (Some(b), Some(a), Some(ratio)) = (p50.before, p50.after, p50.ratio) else {
        return format!("steps can't be compared, they were not found in both recordings; {verdicts}");
    };
    if (0.97..=1.03).contains(&ratio) {
        return format!("steps take as long as before ({b:.1} ms, now {a:.1} ms); {verdicts}");
    }
    let slower = ratio > 1.0;
    let most = breakdown
        .iter()
        .max_by(|x, y| if slower { x.delta_s.total_cmp(&y.delta_s) } else { y.delta_s.total_cmp(&x.delta_s) });
    let cause = most
        .filter(|c| (c.delta_s > 0.0) == slower && c.delta_s != 0.0)
        .map(|c| format!(", mostly {} ({:+.1} ms a step)", c.category.name(), c.delta_s * 1e3))
        .unwrap_or_default();
    let word = if slower { "slower" } else { "faster" };
    let by = if slower { ratio - 1.0 } else { 1.0 - ratio } * 100.0;
    format!("steps are {by:.0} % {word} ({b:.1} → {a:.1} ms){cause}; {verdicts}")
}
