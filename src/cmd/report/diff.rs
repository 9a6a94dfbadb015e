//! What changed between two recordings.

use super::super::Done;
use super::super::error::Error;
use super::super::settings::Settings;
use crate::trace::Trace;

/// Compares and prints.
pub fn print(_before: &Trace, _after: &Trace, _settings: &Settings) -> Done {
    Err(Error::usage("recordings can't be compared yet"))
}
