//! Kernel logs: from a line in any form that log writers give it to an event.

mod boots;
#[cfg(test)]
mod corpus_tests;
mod entry;
mod envelope;
mod reader;
mod saved;
#[cfg(test)]
mod saved_tests;
mod signs;
mod xid;

pub use envelope::{Clock, Message, Origin, Stamp, open};
pub use reader::{Counts, Event, EventKind, LogReader};
pub use saved::{SavedLog, Told};
pub use signs::Sign;
#[cfg(test)]
pub use signs::sign_names;
pub use xid::{PciAddress, Sxid, Xid};
