//! Nodes that take a model from each other, so that its source is read about once.
//!
//! Each range of each file has an owner among the nodes, by rendezvous hashing over their addresses:
//! all nodes come to the same order without speaking of it. The owner reads the range from the source;
//! the others ask it, then the next in the order, and the source last. A node waits only for nodes
//! before it in the order, so no two wait for each other, and one that is gone costs a refused
//! connection. What a file's bytes are is checked as if they came from the source: a peer that gave
//! others is found out by comparing, and is asked no more.

mod ask;
mod find;
mod serve;
mod shelf;

pub use ask::{Asked, Peers};
pub use find::Whereabouts;
pub use serve::serve;
pub use shelf::Shelf;

/// Port that peers listen on unless told otherwise.
pub const PORT: u16 = 7473;
/// A header of answers: bytes that a peer has received in this run. While they grow it is worth waiting.
const MOVED: &str = "x-aictl-moved";
/// A header of answers with bytes: SHA-256 of them, in hex.
const SUM: &str = "x-aictl-sha256";
/// Longest part that is asked for or given: it is in memory as a whole.
const LONGEST_PART: u64 = 64 << 20;
