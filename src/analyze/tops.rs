//! The heaviest of each layer.

use rustc_hash::FxHashMap;

use super::frames::{FrameId, frame_args};
use super::index::Index;
use super::report::{TopRow, Tops};
use super::roles::Roles;
use crate::trace::{Flags, Layer, StrId, Track};

/// Lines a list has at most.
const ROWS: usize = 20;

/// Adds up all tracks.
pub(super) fn tops(index: &Index<'_>, roles: &Roles) -> Tops {
    let length_s = (index.length_ns() as f64 / 1e9).max(1e-9);
    let mut named = [Sums::default(), Sums::default(), Sums::default()];
    let mut python = PythonSums::default();
    for (track, layer) in index.trace.tracks.iter().map(|t| (t, t.layer)) {
        match layer {
            Layer::Torch => named[0].add_self_times(track),
            Layer::Cuda | Layer::Gpu => named[1].add(index, track),
            Layer::Nccl => named[2].add(index, track),
            Layer::Python => {
                let driver =
                    roles.drivers.iter().any(|d| index.threads[*d].python.is_some_and(|t| std::ptr::eq(t, track)));
                python.add(index, track, driver);
            }
            _ => {}
        }
    }
    let [torch, cuda, nccl] = named.map(|sums| sums.rows(index, length_s));
    let (syscall, file) = counted(index, length_s);
    Tops { python: python.rows(index, length_s), torch, cuda, nccl, syscall, file }
}

/// Totals by name.
#[derive(Default)]
struct Sums {
    by_name: FxHashMap<StrId, Sum>,
}

#[derive(Default, Clone, Copy)]
struct Sum {
    count: u64,
    ns: u64,
    bytes: u64,
    estimate: bool,
    bus: f64,
    bus_count: u64,
}

impl Sums {
    fn add(&mut self, index: &Index<'_>, track: &Track) {
        for s in &track.slices {
            let sum = self.by_name.entry(s.name).or_default();
            sum.count += 1;
            sum.ns += s.dur_ns;
            sum.estimate |= s.flags.has(Flags::ESTIMATE);
            for (key, value) in index.args(s.args) {
                if key == index.keys.bytes {
                    sum.bytes += super::index::as_u64(value).unwrap_or(0);
                } else if key == index.keys.bus
                    && let crate::trace::Arg::F64(gb_s) = value
                {
                    sum.bus += gb_s;
                    sum.bus_count += 1;
                }
            }
        }
    }

    /// Time in a slice without its children; scopes that only hold others are left out.
    fn add_self_times(&mut self, track: &Track) {
        let mut open: Vec<(u64, StrId)> = Vec::new();
        for s in &track.slices {
            while open.last().is_some_and(|(end, _)| *end <= s.start_ns) {
                open.pop();
            }
            let end = open.last().map_or(u64::MAX, |o| o.0).min(s.end_ns());
            let dur = end.saturating_sub(s.start_ns);
            if let Some((_, parent)) = open.last()
                && let Some(sum) = self.by_name.get_mut(parent)
            {
                sum.ns = sum.ns.saturating_sub(dur);
            }
            let sum = self.by_name.entry(s.name).or_default();
            sum.count += 1;
            sum.ns += dur;
            open.push((end, s.name));
        }
    }

    fn rows(self, index: &Index<'_>, length_s: f64) -> Vec<TopRow> {
        let mut rows: Vec<TopRow> = self
            .by_name
            .into_iter()
            .map(|(name, sum)| TopRow {
                name: index.trace.text(name).to_owned(),
                count: sum.count,
                seconds: sum.ns as f64 / 1e9,
                share: sum.ns as f64 / 1e9 / length_s,
                bytes: (sum.bytes > 0).then_some(sum.bytes),
                estimate: sum.estimate,
                bus_gb_s: (sum.bus_count > 0).then(|| sum.bus / sum.bus_count as f64),
                ..TopRow::default()
            })
            .collect();
        heaviest(&mut rows);
        rows
    }
}

fn heaviest(rows: &mut Vec<TopRow>) {
    rows.sort_by(|a, b| b.seconds.total_cmp(&a.seconds).then_with(|| a.name.cmp(&b.name)));
    rows.truncate(ROWS);
}

/// Self times of Python functions and the lines they were seen at.
#[derive(Default)]
struct PythonSums {
    by_frame: FxHashMap<FrameId, (u64, u64)>,
    lines: FxHashMap<(FrameId, u32), u64>,
}

impl PythonSums {
    /// Frames without their callees. Waiting counts only in threads that drive steps: in
    /// others it is most of the time and says nothing.
    fn add(&mut self, index: &Index<'_>, track: &Track, driver: bool) {
        let mut open: Vec<(u64, FrameId)> = Vec::new();
        for s in &track.slices {
            while open.last().is_some_and(|(end, _)| *end <= s.start_ns) {
                open.pop();
            }
            let end = open.last().map_or(u64::MAX, |o| o.0).min(s.end_ns());
            let dur = end.saturating_sub(s.start_ns);
            let found = frame_args(index.trace, &index.keys, s);
            let parent = open.last().map(|(_, frame)| *frame);
            if index.name(s.name).is_line {
                if let Some(parent) = parent {
                    *self.lines.entry((parent, found.line)).or_default() += dur;
                    if found.waiting && !driver {
                        let sum = self.by_frame.entry(parent).or_default();
                        sum.1 = sum.1.saturating_sub(dur);
                    }
                }
                continue;
            }
            let id = index.frames.id(s.name, found.file);
            if let Some(parent) = parent {
                let sum = self.by_frame.entry(parent).or_default();
                sum.1 = sum.1.saturating_sub(dur);
            }
            let sum = self.by_frame.entry(id).or_default();
            sum.0 += 1;
            sum.1 += dur;
            open.push((end, id));
        }
    }

    fn rows(self, index: &Index<'_>, length_s: f64) -> Vec<TopRow> {
        let mut hottest: FxHashMap<FrameId, (u64, u32)> = FxHashMap::default();
        for ((frame, line), ns) in self.lines {
            let best = hottest.entry(frame).or_default();
            if (ns, std::cmp::Reverse(line)) > (best.0, std::cmp::Reverse(best.1)) {
                *best = (ns, line);
            }
        }
        let mut rows: Vec<TopRow> = self
            .by_frame
            .into_iter()
            .filter(|(_, (_, ns))| *ns > 0)
            .map(|(id, (count, ns))| {
                let frame = index.frames.get(id);
                let line = hottest.get(&id).map_or(frame.line, |(_, line)| *line);
                TopRow {
                    name: frame.name.clone(),
                    count,
                    seconds: ns as f64 / 1e9,
                    share: ns as f64 / 1e9 / length_s,
                    file: (!frame.file.is_empty()).then(|| frame.file.clone()),
                    line: (line > 0).then_some(line),
                    ..TopRow::default()
                }
            })
            .collect();
        heaviest(&mut rows);
        rows
    }
}

/// System calls and files: counted in the kernel where the recording is ours, else from slices.
fn counted(index: &Index<'_>, length_s: f64) -> (Vec<TopRow>, Vec<TopRow>) {
    let mut calls: FxHashMap<&str, (u64, u64)> = FxHashMap::default();
    let mut files: FxHashMap<(&str, &str), (u64, u64, u64)> = FxHashMap::default();
    match &index.trace.meta {
        Some(meta) if !meta.syscalls.is_empty() => {
            for c in &meta.syscalls {
                let sum = calls.entry(&c.name).or_default();
                sum.0 += c.count;
                sum.1 += c.total_ns;
            }
        }
        _ => {
            for s in index.threads.iter().filter_map(|t| t.syscall).flat_map(|t| &t.slices) {
                let sum = calls.entry(index.trace.text(s.name)).or_default();
                sum.0 += 1;
                sum.1 += s.dur_ns;
            }
        }
    }
    for f in index.trace.meta.iter().flat_map(|m| &m.files) {
        // One line for all sockets: their numbers say nothing, and a job may open thousands.
        let path =
            ["socket", "pipe"].into_iter().find(|kind| f.path.starts_with(&format!("{kind}:["))).unwrap_or(&f.path);
        let sum = files.entry((path, &f.op)).or_default();
        sum.0 += f.count;
        sum.1 += f.bytes;
        sum.2 += f.total_ns;
    }
    let row = |name: String, count, ns: u64, bytes| TopRow {
        name,
        count,
        seconds: ns as f64 / 1e9,
        share: ns as f64 / 1e9 / length_s,
        bytes,
        ..TopRow::default()
    };
    let mut calls: Vec<TopRow> =
        calls.into_iter().map(|(name, (count, ns))| row(name.to_owned(), count, ns, None)).collect();
    let mut files: Vec<TopRow> = files
        .into_iter()
        .map(|((path, op), (count, bytes, ns))| TopRow {
            file: Some(path.to_owned()),
            ..row(format!("{op} {path}"), count, ns, Some(bytes))
        })
        .collect();
    heaviest(&mut calls);
    heaviest(&mut files);
    (calls, files)
}
