//! Profiles the processes of pods on their nodes and brings what is seen to one place, as one
//! recording: the two ends of a stream, and the short-lived pod at its far end.
//!
//! Far end: `serve`, `work`, `flow`, `outbox`, `connect` (host, profile, trace). Near end: `target`, `access`,
//! `pod`, `node`, `dial`, `link`, `land`, `capture` (cluster, trace). `protocol` and `frame` are what both speak.
//!
//! Makes and removes pods of its own, in `pod` alone, and changes nothing else in a cluster: such a
//! pod is no repair, so it passes by the gate of `act` (docs/architecture.md). Prints nothing.

mod access;
mod capture;
mod clock;
mod connect;
mod dial;
mod error;
mod flow;
mod frame;
mod land;
mod link;
mod node;
mod outbox;
mod pod;
mod protocol;
mod serve;
mod target;
mod work;

pub use capture::{Plan, capture};
pub use connect::connect;
pub use error::AgentError;
pub use frame::Unpacker;
pub use pod::{AgentChoice, AgentKind, PullPolicy};
pub use protocol::{Order, PATIENCE_S};
pub use serve::serve;
pub use target::{PodTarget, Selection, Target, resolve};
