//! The verdict's evidence, to jump to, and what the recording lacks.

use super::lines::{PanelLine, Tone};
use super::words::time;
use crate::analyze::{Evidence, Report, Straggler};
use crate::trace::{CaptureMeta, LayerState};
use crate::tui::scene::SliceRef;
use crate::tui::state::State;
use crate::view::human;
use crate::view::text::plain;

impl State {
    /// The verdict from its words to the notes on the capture.
    pub fn verdict_lines(&self) -> Vec<PanelLine> {
        match &self.work.verdict {
            Some((rests, lines)) if *rests == self.rests() => lines.clone(),
            _ => self.made_up_verdict(),
        }
    }

    pub(super) fn made_up_verdict(&self) -> Vec<PanelLine> {
        let mut lines: Vec<PanelLine> =
            self.compared.iter().map(|text| PanelLine::of(Tone::Plain, plain(text))).collect();
        lines.extend(match &self.scene.report {
            Some(report) => self.verdict(report),
            None => vec![PanelLine::of(Tone::Faint, "judging…")],
        });
        lines.extend(self.unusual());
        let warnings = self.scene.report.as_ref().map_or(&self.scene.trace.warnings, |r| &r.warnings);
        lines.extend(warnings.iter().map(|text| noted("warning", Tone::Warn, text)));
        if let Some(meta) = &self.scene.trace.meta {
            lines.extend(capture(meta));
        }
        lines
    }

    fn verdict(&self, report: &Report) -> Vec<PanelLine> {
        let verdict = &report.verdict;
        let words = verdict.kind.name().replace('_', " ");
        let sure =
            format!("  {} of the time, {} sure", human::percent(verdict.share), human::percent(verdict.confidence));
        let mut lines = vec![PanelLine::of(Tone::Strong, words).with(Tone::Faint, sure)];
        lines.extend(verdict.because.iter().map(|evidence| self.evidence(evidence)));
        if !verdict.advice.is_empty() {
            lines.push(noted("advice", Tone::Strong, &verdict.advice));
        }
        lines.extend(report.stragglers.iter().map(|late| self.straggler(late)));
        lines
    }

    fn evidence(&self, evidence: &Evidence) -> PanelLine {
        let at = self.placed(evidence.track.as_deref(), evidence.ts_ns, evidence.dur_ns);
        let length = evidence.dur_ns.filter(|_| at.is_some()).map(|ns| format!("  → {}", time(ns)));
        let line = noted("because", Tone::Plain, &evidence.text);
        line.with(Tone::Accent, length.unwrap_or_default()).to(at)
    }

    fn straggler(&self, late: &Straggler) -> PanelLine {
        let who =
            late.rank.map_or_else(|| format!("process {}", late.pid), |r| format!("rank {r} (process {})", late.pid));
        let at = late.place.as_ref().map_or(String::new(), |place| format!(" on {}", place.words()));
        let text = format!(
            "{who}{at} is {} late, last in {} of the steps: {}",
            human::seconds(late.late_ms / 1e3),
            human::percent(late.last_share),
            late.because
        );
        noted("late", Tone::Warn, &text).to(self.placed(late.track.as_deref(), late.ts_ns, late.dur_ns))
    }

    fn placed(&self, track: Option<&str>, ts_ns: Option<u64>, dur_ns: Option<u64>) -> Option<SliceRef> {
        self.scene.place(track?, ts_ns?, dur_ns)
    }

    /// What takes much longer than usual, the worst first.
    fn unusual(&self) -> Vec<PanelLine> {
        /// The keys lead to the others.
        const MOST: usize = 5;
        let worst = self.scene.worst_outliers().take(MOST);
        worst
            .map(|outlier| {
                let at = self.scene.outlier_slice(outlier);
                noted("unusual", Tone::Plain, &self.scene.outlier_words(outlier)).to(at)
            })
            .collect()
    }
}

/// A paragraph with a word in front that says what it is.
fn noted(what: &str, tone: Tone, text: &str) -> PanelLine {
    PanelLine::of(Tone::Faint, format!("{what:<8} ")).with(tone, plain(text)).wrapped()
}

/// What the capture lost, thinned or could not see.
fn capture(meta: &CaptureMeta) -> Vec<PanelLine> {
    let mut lines = Vec::new();
    let lost = &meta.lost;
    if lost.total() > 0 {
        let parts = [
            (lost.slices, "slices"),
            (lost.samples, "Python samples"),
            (lost.rare, "rare events"),
            (lost.unpaired, "without a start"),
            (lost.unwind_failed, "stacks that could not be read"),
            (lost.unsent, "events that could not be sent"),
        ];
        let parts: Vec<String> =
            parts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{} {what}", human::count(*n))).collect();
        lines.push(noted("lost", Tone::Bad, &parts.join(", ")));
    }
    for thinned in &meta.thinned {
        let after = time(thinned.ts_ns.saturating_sub(meta.start_ns));
        lines.push(noted("thinned", Tone::Warn, &format!("{}: {} after {after}", thinned.probe, thinned.action)));
    }
    for status in meta.layers.iter().filter(|l| l.state != LayerState::On) {
        let (state, tone) = match status.state {
            LayerState::Absent => ("not there", Tone::Faint),
            LayerState::Dropped => ("given up to hold the budget", Tone::Warn),
            LayerState::Failed | LayerState::On => ("could not be captured", Tone::Warn),
        };
        lines.push(noted("layer", tone, &format!("{} {state}: {}", status.layer, status.detail)));
    }
    if meta.overhead_budget > 0.0 {
        let text = format!(
            "{} slow-down of at most {}, {} of a CPU for the capture",
            human::percent(meta.overhead_share),
            human::percent(meta.overhead_budget),
            human::percent(meta.aictl_cpu_s / ((meta.end_ns.saturating_sub(meta.start_ns)).max(1) as f64 / 1e9))
        );
        lines.push(noted("cost", Tone::Faint, &text));
    }
    lines
}
