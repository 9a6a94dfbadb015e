//! The timeline in a terminal: a recording, or a capture still running, to move and zoom in.
//!
//! Uses `trace`, `analyze`, `metrics` and `view`. `scene` is the recording made ready, `state` what
//! the user sees of it, `update` turns messages into changes and effects, `view` draws, `term` is
//! the guard of the terminal. `top` is the live screen of GPUs. Opens no file: effects are values
//! that `cmd` performs.

mod ansi;
mod input;
mod palette;
pub mod panel;
mod run;
pub mod scene;
mod snapshot;
pub mod state;
mod svg;
mod term;
#[cfg(test)]
mod testing;
pub mod top;
mod update;
mod view;

pub use palette::{Background, Colors, Look, Marks};
pub use run::{Asked, Feed, Left, Pace, run};
pub use snapshot::{Snapshot, snapshot};
pub use term::{TerminalGuard, restore, restore_on_panic};
pub use update::{Effect, Msg, Outcome, update};
