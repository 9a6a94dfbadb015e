//! Which class of colour a name belongs to.

use crate::trace::{Class, Layer, Trace};

/// What the classes stand for; their numbers are what [`class_of`] returns.
pub const CLASS_NAMES: [&str; 16] = [
    "other",
    "running",
    "runnable",
    "sleeping",
    "waiting",
    "disk",
    "network",
    "python",
    "compute",
    "memory",
    "autograd",
    "data loading",
    "launch",
    "synchronize",
    "collective",
    "step",
];

/// Class of a name on a layer.
pub fn class_of(layer: Layer, name: &str) -> Class {
    let _ = name;
    Class(match layer {
        Layer::Sched => 1,
        Layer::Syscall => 4,
        Layer::Io => 5,
        Layer::Python => 7,
        Layer::Torch => 8,
        Layer::Cuda => 12,
        Layer::Nccl => 14,
        Layer::Gpu => 8,
        Layer::Step => 15,
        Layer::Meta | Layer::Other => 0,
    })
}

/// Classes of the names from number `first` on, by the layer they are met on first.
pub(super) fn classes(trace: &Trace, first: usize) -> Vec<Class> {
    let mut classes: Vec<Option<Class>> = vec![None; trace.strings.len().saturating_sub(first)];
    for track in &trace.tracks {
        for slice in &track.slices {
            let Some(place) = (slice.name.0 as usize).checked_sub(first).and_then(|i| classes.get_mut(i)) else {
                continue;
            };
            if place.is_none() {
                *place = Some(class_of(track.layer, trace.text(slice.name)));
            }
        }
    }
    classes.into_iter().map(Option::unwrap_or_default).collect()
}
