//! What is known of the selected slice.

use super::durations::{BUCKET_ERROR, KEPT};
use super::lines::{Block, PanelLine, Tone, picture};
use super::stack;
use super::words::{argument, elsewhere, layer, moment, nth, owner, time, wall_clock};
use crate::trace::{Flags, Layer, Slice};
use crate::tui::scene::{PartnerKind, Scene, SliceRef};
use crate::tui::state::State;
use crate::view::human;
use crate::view::text::plain;

/// Starts are told to the nanosecond for slices shorter than this.
const FINE_NS: u64 = 10_000;
/// Columns of the picture of durations.
const COLUMNS: usize = 32;

impl State {
    /// What there is to say of the selected slice; of the range or the view where none is selected.
    pub fn details(&self) -> Vec<Block> {
        match &self.work.details {
            Some((rests, blocks)) if *rests == self.rests() => blocks.clone(),
            _ => self.made_up_details(),
        }
    }

    pub(super) fn made_up_details(&self) -> Vec<Block> {
        let Some((at, slice)) = self.selected.and_then(|at| Some((at, *self.scene.slice(at)?))) else {
            return self.range_details();
        };
        let blocks = [
            self.facts(at, &slice),
            self.same_named(at),
            self.together(at, &slice),
            stack::block(&self.scene, at, self.launch(at)),
        ];
        blocks.into_iter().filter(|block| !block.lines.is_empty()).collect()
    }

    /// The slice itself, and its arguments.
    fn facts(&self, at: SliceRef, slice: &Slice) -> Block {
        let scene = &self.scene;
        let trace = &*scene.trace;
        let track = trace.tracks.get(at.track.0 as usize);
        let class = scene.classes.get(slice.name.0 as usize).copied().unwrap_or_default();
        let name = plain(scene.name(at));
        let of = track.map_or("", |t| layer(t.layer));
        let mut lines = vec![
            PanelLine::of(Tone::Class(class), "■ ")
                .with(Tone::Strong, name)
                .with(Tone::Faint, format!("  {of}"))
                .wrapped(),
        ];
        let mut duration = PanelLine::fact("duration", time(slice.dur_ns));
        if let Some(own) = own_ns(scene, at, slice).filter(|own| *own < slice.dur_ns) {
            duration = duration.with(Tone::Faint, "  self ").with(Tone::Plain, time(own));
        }
        lines.push(duration);
        let first = scene.bounds.map_or(0, |b| b.from_ns);
        let start = moment(slice.start_ns.saturating_sub(first), slice.dur_ns < FINE_NS);
        lines.push(PanelLine::fact("start", start));
        lines.extend(wall_clock(trace, slice.start_ns).map(|clock| PanelLine::fact("clock", clock)));
        lines.push(PanelLine::fact("on", owner(scene, at.track)).wrapped());
        if slice.depth > 0 {
            lines.push(PanelLine::fact("depth", slice.depth.to_string()));
        }
        lines.extend(self.step_of(at, slice));
        let device = track.is_some_and(|t| t.layer == Layer::Gpu);
        lines.extend(flags(slice.flags, device).into_iter().map(|text| PanelLine::fact("note", text).wrapped()));
        for (key, value) in trace.args_of(slice.args).filter(|(key, _)| *key != "estimate") {
            let text = match (key, argument(trace, key, value)) {
                ("gil", yes) if yes == "1" => "held by this thread".to_owned(),
                ("waiting", yes) if yes == "1" => "a wait: its length is exact, not sampled".to_owned(),
                (_, text) => text,
            };
            lines.push(PanelLine::fact(&plain(key), text).wrapped());
        }
        Block { title: "slice".to_owned(), lines }
    }

    /// Which step of its driver a slice starts in.
    fn step_of(&self, at: SliceRef, slice: &Slice) -> Option<PanelLine> {
        let process = self.scene.process_of(at.track).and_then(|p| self.scene.trace.processes.get(p.0 as usize))?;
        let times = self.scene.steps.iter().find(|s| s.pid == process.pid)?;
        let next = times.boundaries_ns.partition_point(|b| *b <= slice.start_ns);
        let (from, to) = (*times.boundaries_ns.get(next.checked_sub(1)?)?, *times.boundaries_ns.get(next)?);
        let share = slice.dur_ns as f64 / (to - from).max(1) as f64;
        let text = format!("{next} of {}", times.boundaries_ns.len() - 1);
        let line = PanelLine::fact("step", text);
        Some(if slice.end_ns() <= to {
            line.with(Tone::Faint, format!("  {} of it", human::percent(share)))
        } else {
            line
        })
    }

    /// Slices of the same name.
    fn same_named(&self, at: SliceRef) -> Block {
        let Some((run, whole)) = self.work.names.best().filter(|_| self.work.names.is_about(&at)) else {
            return Block { title: "same name".to_owned(), lines: vec![PanelLine::of(Tone::Faint, "…")] };
        };
        let all = &run.durations;
        let more = if whole { "" } else { "…" };
        let mut lines = vec![PanelLine::fact("count", human::count(all.count) + more)];
        lines.push(PanelLine::fact("total", time(run.total_ns) + more));
        if let Some((middle, high)) = all.quantiles() {
            let mut line =
                PanelLine::fact("p50", time(middle)).with(Tone::Faint, "  p99 ").with(Tone::Plain, time(high));
            if !all.exact() {
                let error = human::percent(BUCKET_ERROR);
                line = line.with(Tone::Faint, format!("  within {error}: more than {}", human::count(KEPT as u64)));
            }
            lines.push(line);
        }
        let longest = PanelLine::fact("max", time(all.max_ns) + more);
        lines.push(if run.longest == Some(at) { longest } else { longest.to(run.longest) });
        if whole && all.count > 1 {
            let place = match run.longer {
                0 => "the longest".to_owned(),
                n if n + 1 == all.count => "the shortest".to_owned(),
                n => format!("the {} longest", nth(n + 1)),
            };
            lines.push(PanelLine::fact("this one", format!("{place} of {}", human::count(all.count))));
        }
        if all.count > 2 {
            let own = self.scene.slice(at).map_or(0, |s| s.dur_ns);
            let (columns, marked) = run.buckets.columns(COLUMNS, own);
            let mut line = PanelLine::fact("spread", "");
            line.spans.extend(picture(&columns, marked));
            lines.push(line);
        }
        Block { title: "same name".to_owned(), lines }
    }

    /// The launch of a device's work.
    fn launch(&self, at: SliceRef) -> Option<SliceRef> {
        let (_, _, partners) = self.work.partners.as_ref().filter(|(of, _, _)| *of == at)?;
        partners.iter().find(|p| p.kind == PartnerKind::Launch).map(|p| p.at)
    }

    /// What it belongs together with.
    fn together(&self, at: SliceRef, slice: &Slice) -> Block {
        let known = self.work.partners.as_ref().filter(|(of, _, _)| *of == at);
        let lines = known.into_iter().flat_map(|(_, _, partners)| partners).filter_map(|partner| {
            let other = self.scene.slice(partner.at)?;
            let after = other.start_ns as i128 - slice.start_ns as i128;
            let when = match after {
                0 => "at once".to_owned(),
                1.. => format!("{} later", time(after as u64)),
                _ => format!("{} before", time(after.unsigned_abs() as u64)),
            };
            let place = elsewhere(&self.scene, at.track, partner.at);
            let line = PanelLine::of(Tone::Faint, format!("{:<10} ", partner.kind.words()))
                .with(Tone::Accent, plain(self.scene.name(partner.at)))
                .with(Tone::Plain, format!("  {}", time(other.dur_ns)))
                .with(Tone::Faint, format!("  {when}{}{place}", if place.is_empty() { "" } else { ", " }));
            Some(line.to(Some(partner.at)))
        });
        Block { title: "partners".to_owned(), lines: lines.collect() }
    }
}

/// Time in no child.
fn own_ns(scene: &Scene, at: SliceRef, slice: &Slice) -> Option<u64> {
    let place = at.track.0 as usize;
    let (track, index) = (scene.trace.tracks.get(place)?, scene.index.get(place)?);
    if slice.dur_ns == 0 {
        return None;
    }
    let children = index.cell(track, usize::from(slice.depth) + 1, slice.start_ns, slice.end_ns());
    Some(slice.dur_ns.saturating_sub(children.busy_ns))
}

/// What flags say, in words.
fn flags(flags: Flags, device: bool) -> Vec<&'static str> {
    let estimated = if device { "estimated: from launch to the next synchronize" } else { "its length is estimated" };
    [
        (Flags::ESTIMATE, estimated),
        (Flags::UNFINISHED, "had no end in the recording: closed where that, or what it is in, ends"),
        (Flags::CLAMPED, "start or end was moved so that slices nest"),
    ]
    .into_iter()
    .filter(|(flag, _)| flags.has(*flag))
    .map(|(_, words)| words)
    .collect()
}
