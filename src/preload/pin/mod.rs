//! Keeps models in memory: a small process of this program maps their files and locks the pages,
//! until it is ended. Which processes do so stands in a directory of this node, a file each; the
//! files of processes that are gone count for nothing.

mod hold;
mod notify;
mod record;
mod start;

pub use hold::{ARGUMENT, End, Held, hold, serve};
pub use notify::ready;
pub use record::{Pin, PinnedFile, Pins};
pub use start::{affordable, start};
