//! What is known of a stretch of time: what the steps' threads did, what each layer did, and the
//! heaviest names.

use super::lines::{Block, PanelLine, Tone, bar};
use super::words::{layer, moment, time};
use crate::analyze::{Category, window};
use crate::trace::{Class, Layer};
use crate::tui::scene::Window;
use crate::tui::state::State;
use crate::view::human;
use crate::view::text::{plain, shorten};

/// Cells of a bar.
const BAR: usize = 12;
/// Cells of a name.
const NAME: usize = 24;
/// Names that are listed; the table has more.
const NAMES: usize = 12;

impl State {
    /// What there is to say of the range, or of the view.
    pub(super) fn range_details(&self) -> Vec<Block> {
        let focus = self.focus();
        let blocks = [self.categories(focus), self.busy_layers(), self.heaviest()];
        blocks.into_iter().filter(|block| !block.lines.is_empty()).collect()
    }

    /// Where the stretch is: "from +1.2 s, steps 12 to 15".
    fn stretch(&self, focus: Window) -> String {
        let first = self.scene.bounds.map_or(0, |b| b.from_ns);
        let at = moment(focus.from_ns.saturating_sub(first), focus.len_ns() < 10_000);
        let mut text = format!("from {at}");
        let times = self.scene.steps.iter().find(|s| s.boundaries_ns.len() > 1);
        if let Some(bounds) = times.map(|s| &s.boundaries_ns) {
            let begun = |ts: u64| bounds.partition_point(|b| *b <= ts).min(bounds.len() - 1);
            let (from, to) = (begun(focus.from_ns).max(1), begun(focus.to_ns - 1));
            if focus.to_ns > bounds[0] && focus.from_ns < bounds[bounds.len() - 1] {
                text += &if from >= to { format!(", step {from}") } else { format!(", steps {from} to {to}") };
            }
        }
        text
    }

    fn categories(&self, focus: Window) -> Block {
        let what = if self.range.is_some() { "range" } else { "view" };
        let title = format!("{what}  {}", time(focus.len_ns()));
        let mut lines = vec![PanelLine::of(Tone::Faint, self.stretch(focus))];
        if self.scene.report.is_none() {
            lines.push(PanelLine::of(Tone::Faint, "judging where the time goes…"));
            return Block { title, lines };
        }
        let mut rows = window(&self.scene.steps, focus.from_ns, focus.to_ns);
        rows.retain(|row| row.share > 0.0);
        rows.sort_by(|a, b| b.share.total_cmp(&a.share));
        lines.extend(rows.iter().map(|row| {
            PanelLine::of(Tone::Plain, format!("{:<14}", category(row.category)))
                .with(Tone::Class(colour(row.category)), bar(row.share, BAR))
                .with(Tone::Plain, format!(" {:>6}", human::percent(row.share)))
                .with(Tone::Faint, format!("  {}", human::seconds(row.seconds)))
        }));
        if rows.is_empty() {
            lines.push(PanelLine::of(Tone::Faint, "no thread that drives steps was recorded here"));
        }
        Block { title, lines }
    }

    fn busy_layers(&self) -> Block {
        let Some((run, whole)) = self.work.range.best() else { return Block::default() };
        let length = run.window.len_ns().max(1) as f64;
        let lines = Layer::ALL.into_iter().zip(run.layers).filter(|(_, row)| row.tracks > 0).map(|(of, row)| {
            let share = row.busy_ns as f64 / length / row.tracks as f64;
            PanelLine::of(Tone::Plain, format!("{:<8}", layer(of)))
                .with(Tone::Faint, bar(share, BAR))
                .with(Tone::Plain, format!(" {:>6}", human::percent(share)))
                .with(Tone::Faint, format!("  of {}", human::plural(row.tracks, "track", "tracks")))
        });
        let title = if whole { "busy" } else { "busy …" };
        Block { title: title.to_owned(), lines: lines.collect() }
    }

    fn heaviest(&self) -> Block {
        let Some((run, whole)) = self.work.range.best() else { return Block::default() };
        // States of idle threads and requests in a disk's queue would be all there is to see.
        let mut rows: Vec<_> =
            run.names.iter().filter(|row| !matches!(row.layer, Layer::Sched | Layer::Io) && row.self_ns > 0).collect();
        rows.sort_by_key(|row| (std::cmp::Reverse(row.self_ns), row.layer, row.name));
        rows.truncate(NAMES);
        let lines = rows.into_iter().map(|row| {
            let class = self.scene.classes.get(row.name.0 as usize).copied().unwrap_or_default();
            let name = shorten(&plain(self.scene.trace.text(row.name)), NAME, true);
            let (middle, high) = match row.durations.quantiles() {
                Some((middle, high)) => (time(middle), time(high)),
                None => ("…".to_owned(), "…".to_owned()),
            };
            PanelLine::of(Tone::Class(class), "■ ")
                .with(Tone::Plain, padded(&name, NAME))
                .with(Tone::Plain, format!(" {:>8}", time(row.self_ns)))
                .with(Tone::Faint, format!(" {:>9} {middle:>8} {high:>8}", human::count(row.count)))
                .to(Some(row.longest))
        });
        let title = if whole { "heaviest names" } else { "heaviest names …" };
        let title = format!("{title:<width$} {:>8} {:>9} {:>8} {:>8}", "SELF", "COUNT", "P50", "P99", width = NAME + 2);
        Block { title, lines: lines.collect() }
    }
}

/// A text and as many spaces as make it so wide.
fn padded(text: &str, width: usize) -> String {
    let used = unicode_width::UnicodeWidthStr::width(text);
    format!("{text}{}", " ".repeat(width.saturating_sub(used)))
}

/// A category, for people.
fn category(category: Category) -> &'static str {
    match category {
        Category::Input => "input",
        Category::ComputeCpu => "compute (CPU)",
        Category::GpuWait => "GPU wait",
        Category::Communication => "communication",
        Category::Io => "files",
        Category::Python => "Python",
        Category::Idle => "idle",
        Category::Other => "other",
    }
}

/// The class whose colour a category has.
fn colour(category: Category) -> Class {
    use crate::tui::scene as classes;
    match category {
        Category::Input => classes::DATA,
        Category::ComputeCpu => classes::COMPUTE,
        Category::GpuWait => classes::SYNCHRONIZE,
        Category::Communication => classes::COLLECTIVE,
        Category::Io => classes::DISK,
        Category::Python => classes::PYTHON,
        Category::Idle => classes::IDLE,
        Category::Other => classes::OTHER,
    }
}
