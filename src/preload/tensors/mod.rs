//! Tensors of safetensors files: where in the file each lies, and which of them a rank needs.

mod choice;
mod header;
mod index;
mod rank;

pub use choice::{Choice, Need, select};
pub use header::{Header, HeaderError, LONGEST_HEADER, Tensor};
pub use index::Index;
pub use rank::Rank;
