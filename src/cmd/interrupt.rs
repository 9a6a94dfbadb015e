//! Ctrl-C and its relatives: the first ends the work cleanly, the second ends aictl.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use super::error;

/// What has been asked for by signals so far.
#[derive(Debug, Clone)]
pub struct Interrupt {
    stop: Arc<AtomicBool>,
    terminate: Arc<AtomicBool>,
}

impl Interrupt {
    /// Takes SIGINT, SIGTERM and SIGHUP over for the rest of the process's life.
    pub fn catch() -> io::Result<Interrupt> {
        let interrupt = Interrupt { stop: Arc::default(), terminate: Arc::default() };
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            // Handlers run in order: this one ends the process only if an earlier signal set the flag.
            flag::register_conditional_shutdown(signal, error::INTERRUPTED.into(), Arc::clone(&interrupt.stop))?;
            flag::register(signal, Arc::clone(&interrupt.stop))?;
        }
        flag::register(SIGTERM, Arc::clone(&interrupt.terminate))?;
        Ok(interrupt)
    }

    /// Set by the first signal.
    pub fn flag(&self) -> &AtomicBool {
        &self.stop
    }

    /// Whether it was SIGTERM, which a terminal does not send to our child.
    pub fn terminated(&self) -> bool {
        self.terminate.load(Ordering::Relaxed)
    }
}
