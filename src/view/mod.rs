//! Shows values to people and programs: tables, JSON, YAML, colour, progress, units.
//!
//! Uses no other room. Everything aictl prints passes through one [`Ui`]: data to stdout,
//! status, hints and errors to stderr. Gathers no data, decides nothing.

pub mod bar;
mod bars;
pub mod human;
mod progress;
pub mod style;
mod table;
pub mod text;
mod ui;
pub mod yaml;

pub use bars::Bars;
pub use progress::Progress;
pub use table::{Align, Table};
pub use ui::{Color, Ui, UiOptions};
