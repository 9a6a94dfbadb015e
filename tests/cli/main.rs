//! The program as its users meet it: output, errors and exit codes together.

mod bad_input;
mod environment;
mod generated;
mod help;
mod output;
mod profile;
#[path = "../support/mod.rs"]
mod support;
