//! The program as its users meet it: output, errors and exit codes together.

mod bad_input;
mod environment;
mod generated;
mod help;
mod output;
#[path = "../support/mod.rs"]
mod support;
