//! Brings models near: from a hub, an object store, a registry or a mount to this node's disk, and
//! from there into the page cache and GPU memory; says truthfully what is where.
//!
//! May use `host` (processes and what they have open), `cluster` and `act` (many nodes). Prints
//! nothing: it tells a [`Sink`] what happens, and returns plain data. It writes only below the
//! store it was given, never to a source, and no file under its final name before it is whole.

pub mod access;
pub mod bring;
mod choice;
mod cold;
mod digest;
mod error;
pub mod event;
pub mod evict;
mod fetch;
pub mod gc;
pub mod gpu;
pub mod loader;
pub mod local;
pub mod memory_error;
pub mod model;
pub mod name;
pub mod nodes;
mod origin;
pub mod part;
pub mod peer;
pub mod pin;
pub mod platform;
pub mod portion;
pub mod residency;
pub mod room;
pub mod snapshot;
pub mod source;
pub mod store;
pub mod tensors;
pub mod unpack;
pub mod warm;

pub use access::Access;
pub use bring::{Brought, Order, Plan};
pub use choice::Choice;
pub use error::PreloadError;
pub use event::{Event, Sink};
pub use fetch::Manner;
pub use memory_error::MemoryError;
pub use model::Model;
pub use snapshot::{File, Snapshot};
pub use source::Source;
pub use store::Store;
