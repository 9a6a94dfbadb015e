//! What is left out of the picture.

use std::collections::BTreeSet;

use crate::trace::Layer;

/// What is left out; the default leaves out nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// Layers not shown.
    pub hidden: BTreeSet<Layer>,
    /// Only these ranks; empty for all.
    pub ranks: BTreeSet<u32>,
    /// Only slices at least this long, in ns.
    pub min_ns: u64,
}

impl Filter {
    /// Whether it leaves anything out.
    pub fn is_on(&self) -> bool {
        *self != Filter::default()
    }
}
