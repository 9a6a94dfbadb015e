//! aictl: see where an AI job's time goes, and put right what is wrong.
//!
//! The rooms of the house; data flows one way, observe → judge → act → show
//! (docs/architecture.md has the plan and who may use whom).

pub mod act;
pub mod agent;
pub mod analyze;
pub mod cluster;
pub mod cmd;
pub mod fault;
pub mod gpu;
pub mod host;
pub mod metrics;
pub mod preload;
pub mod profile;
pub mod queue;
pub mod trace;
pub mod tui;
pub mod view;
