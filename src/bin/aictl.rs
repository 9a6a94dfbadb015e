//! The program: completion hook, parse, run, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    aictl::cmd::complete();
    aictl::cmd::run(std::env::args_os())
}
