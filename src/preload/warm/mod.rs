//! Reads files into the page cache as fast as the device can, and proves that they are there.
//!
//! First it is looked what is there already and whether the rest fits; then several threads read
//! spans in the order of the loader, each in the way that the device's read-ahead suits; last the
//! kernel is asked again. Nothing is called warm on the word of a read.

mod plan;
mod read;
mod work;

pub use plan::{Plan, Span, plan};
pub use read::Way;
pub use work::{Outcome, run};

use super::room::Terms;

/// How to warm.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// What to leave to others.
    pub terms: Terms,
    /// Where not all of it fits, take what does, in the loader's order.
    pub fit: bool,
    /// A way to read, instead of the one that suits the device.
    pub way: Option<Way>,
    /// Threads, instead of the number that suits the way.
    pub threads: Option<usize>,
}
