//! A stretch of time added up: who had it, by name and by layer.

use super::durations::{Durations, KEPT};
use super::walk::{Visible, Walk};
use super::work::Run;
use crate::trace::{Layer, StrId};
use crate::tui::scene::{Scene, SliceRef, Window};
use crate::tui::state::{Filter, State};

/// Once so many durations are kept over all names, names with more than [`FEW`] are counted in buckets.
const KEPT_IN_ALL: usize = KEPT;
/// So many durations of a name take less room than its buckets do.
const FEW: usize = 4096;

/// What is added up: a marked range (else whatever is in view), and what is left out.
#[derive(Debug, Clone, PartialEq)]
pub struct About {
    range: Option<Window>,
    filter: Filter,
}

/// One name on one layer.
#[derive(Debug, Clone, PartialEq)]
pub struct NameRow {
    /// Its layer.
    pub layer: Layer,
    /// Its name.
    pub name: StrId,
    /// Slices that overlap the stretch.
    pub count: u64,
    /// Time inside of the stretch in slices of this name, in ns; one in another counts once.
    pub total_ns: u64,
    /// Time inside of the stretch in such slices and in none inside of them, in ns.
    pub self_ns: u64,
    /// Whole lengths of the slices.
    pub durations: Durations,
    /// The longest of them.
    pub longest: SliceRef,
}

/// What one layer did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LayerRow {
    /// Time inside of the stretch in slices, over all tracks, in ns.
    pub busy_ns: u64,
    /// Tracks that have slices there.
    pub tracks: u64,
}

/// A stretch of time, added up as far as it is.
#[derive(Debug, Clone)]
pub struct RangeRun {
    /// The stretch.
    pub window: Window,
    /// By name, in the order met.
    pub names: Vec<NameRow>,
    /// By layer, in the order of [`Layer::ALL`].
    pub layers: [LayerRow; Layer::ALL.len()],
    walk: Walk<Open>,
    /// Number of a name's row by layer and name, from 1.
    rows: Vec<Vec<u32>>,
    /// Durations seen, and how many a name may keep as they are.
    kept: usize,
    keep: usize,
    finished: usize,
}

/// A slice that is open.
#[derive(Debug, Clone, Copy)]
struct Open {
    row: usize,
    /// Time inside of the stretch that no child has had.
    own_ns: u64,
}

impl State {
    pub(super) fn range_key(&self, stamp: u64) -> (About, (Window, u64)) {
        (About { range: self.range, filter: self.filter.clone() }, (self.focus(), stamp))
    }
}

fn place(layer: Layer) -> usize {
    Layer::ALL.iter().position(|l| *l == layer).unwrap_or(0)
}

impl RangeRun {
    fn row(&mut self, layer: Layer, name: StrId, at: SliceRef) -> usize {
        let rows = &mut self.rows[place(layer)];
        let number = name.0 as usize;
        if rows.len() <= number {
            rows.resize(number + 1, 0);
        }
        if rows[number] == 0 {
            self.names.push(NameRow {
                layer,
                name,
                count: 0,
                total_ns: 0,
                self_ns: 0,
                durations: Durations::default(),
                longest: at,
            });
            rows[number] = self.names.len() as u32;
        }
        rows[number] as usize - 1
    }

    /// Keeps memory in bounds: names with many durations go over to buckets.
    fn spill(&mut self) {
        self.keep = FEW;
        for row in &mut self.names {
            if row.durations.kept() > FEW {
                row.durations.spill();
            }
        }
    }
}

impl Run for RangeRun {
    type About = About;
    type Stamp = (Window, u64);

    fn start(_: &Scene, about: &About, (window, _): &(Window, u64)) -> RangeRun {
        RangeRun {
            window: *window,
            names: Vec::new(),
            layers: Default::default(),
            walk: Walk::new(*window, Visible::Filter(about.filter.clone())),
            rows: vec![Vec::new(); Layer::ALL.len()],
            kept: 0,
            keep: KEPT_IN_ALL,
            finished: 0,
        }
    }

    fn advance(&mut self, scene: &Scene, left: &mut usize) -> bool {
        let mut walk = std::mem::replace(&mut self.walk, Walk::new(self.window, Visible::Tracks(Vec::new())));
        let whole = walk.advance(scene, left, |track, met, open, closed| {
            if let Some(open) = closed {
                self.names[open.row].self_ns += open.own_ns;
            }
            let met = met?;
            let row = self.row(track.layer, met.slice.name, met.at);
            if met.first {
                self.layers[place(track.layer)].tracks += 1;
            }
            match open.last_mut() {
                Some((_, parent)) => parent.own_ns = parent.own_ns.saturating_sub(met.inside_ns),
                None => self.layers[place(track.layer)].busy_ns += met.inside_ns,
            }
            let again = open.iter().any(|(_, outer)| outer.row == row);
            let entry = &mut self.names[row];
            if entry.count == 0 || met.slice.dur_ns > entry.durations.max_ns {
                entry.longest = met.at;
            }
            entry.count += 1;
            entry.total_ns += if again { 0 } else { met.inside_ns };
            entry.durations.push(met.slice.dur_ns, self.keep);
            self.kept += 1;
            if self.kept > KEPT_IN_ALL && self.keep > FEW {
                self.spill();
            }
            Some(Open { row, own_ns: met.inside_ns })
        });
        self.walk = walk;
        if !whole {
            return false;
        }
        while let Some(row) = self.names.get_mut(self.finished) {
            if *left == 0 {
                return false;
            }
            *left = left.saturating_sub(1 + row.durations.kept() / 8);
            row.durations.finish();
            self.finished += 1;
        }
        self.rows = Vec::new();
        true
    }
}
