//! All slices with the name of the selected one, on tracks of its layer.

use super::durations::{Buckets, Durations, KEPT};
use super::work::Run;
use crate::trace::{Layer, StrId, TrackId};
use crate::tui::scene::{Scene, SliceRef};

/// Names are compared this many times as fast as slices are added up.
const COMPARED: usize = 8;

/// Statistics over same-named slices.
#[derive(Debug, Clone)]
pub struct NameRun {
    layer: Layer,
    name: StrId,
    own_ns: u64,
    /// Where it goes on.
    track: usize,
    slice: usize,
    /// Their lengths.
    pub durations: Durations,
    /// Their lengths on a coarser scale, for a picture.
    pub buckets: Buckets,
    /// Their time together, in ns; nested ones count again.
    pub total_ns: u64,
    /// How many are longer than the selected one.
    pub longer: u64,
    /// The longest.
    pub longest: Option<SliceRef>,
}

impl Run for NameRun {
    type About = SliceRef;
    type Stamp = u64;

    fn start(scene: &Scene, at: &SliceRef, _: &u64) -> NameRun {
        let layer = scene.trace.tracks.get(at.track.0 as usize).map_or(Layer::Other, |t| t.layer);
        let slice = scene.slice(*at);
        NameRun {
            layer,
            name: slice.map_or(StrId(0), |s| s.name),
            own_ns: slice.map_or(0, |s| s.dur_ns),
            track: 0,
            slice: 0,
            durations: Durations::default(),
            buckets: Buckets::default(),
            total_ns: 0,
            longer: 0,
            longest: None,
        }
    }

    fn advance(&mut self, scene: &Scene, left: &mut usize) -> bool {
        let mut steps = left.saturating_mul(COMPARED);
        while let Some(track) = scene.trace.tracks.get(self.track) {
            if steps == 0 {
                *left = 0;
                return false;
            }
            let rest = track.slices.get(self.slice..).unwrap_or_default();
            if track.layer != self.layer || rest.is_empty() {
                steps -= 1;
                (self.track, self.slice) = (self.track + 1, 0);
                continue;
            }
            let portion = &rest[..rest.len().min(steps)];
            for (i, slice) in portion.iter().enumerate().filter(|(_, s)| s.name == self.name) {
                if self.longest.is_none() || slice.dur_ns > self.durations.max_ns {
                    let index = (self.slice + i) as u32;
                    self.longest = Some(SliceRef { track: TrackId(self.track as u32), index });
                }
                self.durations.push(slice.dur_ns, KEPT);
                self.buckets.push(slice.dur_ns);
                self.total_ns = self.total_ns.saturating_add(slice.dur_ns);
                self.longer += u64::from(slice.dur_ns > self.own_ns);
            }
            self.slice += portion.len();
            steps -= portion.len();
        }
        *left = steps / COMPARED;
        self.durations.finish();
        true
    }
}
