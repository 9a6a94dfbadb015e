//! The live screen of `aictl top`: fleet → node → GPU → process.
//!
//! As the timeline's: `state` is what the user sees, `update` turns messages into changes and
//! effects, `view` only reads. Effects are values that `cmd::top` performs.

mod help;
mod keys;
mod rows;
mod run;
mod state;
#[cfg(test)]
mod tests;
mod update;
mod view;

pub use run::{TopFeed, run_top};
pub use state::{Sort, TopState};
pub use update::{TopEffect, TopMsg};
