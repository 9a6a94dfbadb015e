//! The program: TLS provider, completion hook, parse, run, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    // All of TLS takes ring from here; it fails only if it is there already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    aictl::cmd::complete();
    aictl::cmd::run(std::env::args_os())
}
