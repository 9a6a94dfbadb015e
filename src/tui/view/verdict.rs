//! The verdict, which always stands: what limits the job, how much, how sure, what to do.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::pen;
use crate::analyze::VerdictKind;
use crate::tui::palette::Look;
use crate::tui::state::State;
use crate::view::human;
use crate::view::text::plain;

/// What a verdict says, in words.
fn words(kind: VerdictKind) -> &'static str {
    match kind {
        VerdictKind::InputBound => "waits for data",
        VerdictKind::CpuBound => "the CPU is the limit",
        VerdictKind::GpuBound => "the GPU is the limit",
        VerdictKind::CommunicationBound => "waits for other ranks",
        VerdictKind::IoBound => "waits for files or disks",
        VerdictKind::HostBound => "Python and launches are the limit",
        VerdictKind::Idle => "does nothing",
        VerdictKind::Balanced => "no single cause",
        VerdictKind::Inconclusive => "can't tell",
    }
}

/// Draws the verdict.
pub fn draw(state: &State, look: Look, area: Rect, buffer: &mut Buffer) {
    if area.is_empty() {
        return;
    }
    let faint = look.faint();
    let Some(report) = &state.scene.report else {
        let text = if state.scene.bounds.is_some() { " judging…" } else { " nothing recorded yet" };
        pen::line(buffer, area, &[(text.to_owned(), faint)], look);
        return;
    };
    let verdict = &report.verdict;
    let (sign, style) = match verdict.kind {
        VerdictKind::Balanced => (look.sign('✓', '='), look.good()),
        VerdictKind::Inconclusive | VerdictKind::Idle => ('?', look.warn()),
        _ => (look.sign('▲', '!'), look.bad()),
    };
    let mut pieces: Vec<(String, Style)> = vec![(format!(" {sign} {}", words(verdict.kind)), style)];
    if verdict.share > 0.0 {
        pieces.push((format!(" {} of step time", human::percent(verdict.share)), look.strong()));
    }
    if verdict.confidence > 0.0 {
        pieces.push((format!(" (sure {})", human::percent(verdict.confidence)), faint));
    }
    let advice = plain(verdict.advice.trim());
    if !advice.is_empty() {
        pieces.push((format!("  {} ", look.sign('→', '>')), faint));
        pieces.push((advice, Style::new()));
    }
    pen::line(buffer, area, &pieces, look);
}
