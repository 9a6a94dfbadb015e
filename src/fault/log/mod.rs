//! Kernel logs: from a line in any form that log writers give it to an event.

#[cfg(test)]
mod corpus_tests;
mod envelope;
mod reader;
mod signs;
mod xid;

pub use envelope::{Clock, Message, Origin, Stamp, open};
pub use reader::{Counts, Event, EventKind, LogReader};
pub use signs::Sign;
#[cfg(test)]
pub use signs::sign_names;
pub use xid::{PciAddress, Sxid, Xid};
