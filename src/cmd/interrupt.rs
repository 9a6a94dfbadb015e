//! Ctrl-C and its relatives: the first ends the work cleanly, the second ends aictl.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGTERM, SIGTSTP};
use signal_hook::{flag, low_level};

use super::error;
use crate::tui::{self, Asked};

/// What a viewer is asked by signals: to leave, to stop for the shell, to go on after that.
pub fn asked(interrupt: &Interrupt, stops: &Stops) -> Asked {
    if interrupt.is_set() {
        Asked::Leave
    } else if stops.stop_asked() {
        Asked::Suspend
    } else if stops.gone_on() {
        Asked::Resume
    } else {
        Asked::Nothing
    }
}

/// What has been asked for by signals so far.
#[derive(Debug, Clone)]
pub struct Interrupt {
    stop: Arc<AtomicBool>,
    terminate: Arc<AtomicBool>,
    /// Nothing is at work that must be ended cleanly.
    idle: Arc<AtomicBool>,
}

impl Interrupt {
    /// Takes SIGINT, SIGTERM and SIGHUP over for the rest of the process's life.
    pub fn catch() -> io::Result<Interrupt> {
        let interrupt = Interrupt { stop: Arc::default(), terminate: Arc::default(), idle: Arc::default() };
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            let (stop, idle) = (Arc::clone(&interrupt.stop), Arc::clone(&interrupt.idle));
            let end_at_the_second = move || {
                if stop.load(Ordering::SeqCst) || idle.load(Ordering::SeqCst) {
                    tui::restore();
                    low_level::exit(error::INTERRUPTED.into());
                }
            };
            // SAFETY: reads flags, makes system calls, ends: nothing there takes memory or a lock.
            // Handlers run in order: this one ends the process only if an earlier signal set the flag.
            unsafe { low_level::register(signal, end_at_the_second) }?;
            flag::register(signal, Arc::clone(&interrupt.stop))?;
        }
        flag::register(SIGTERM, Arc::clone(&interrupt.terminate))?;
        Ok(interrupt)
    }

    /// While nothing is at work, as when input is waited for, the first signal ends aictl at once.
    pub fn set_idle(&self, idle: bool) {
        self.idle.store(idle, Ordering::SeqCst);
        if idle && self.is_set() {
            // It came a moment before.
            tui::restore();
            low_level::exit(error::INTERRUPTED.into());
        }
    }

    /// Set by the first signal.
    pub fn flag(&self) -> &AtomicBool {
        &self.stop
    }

    /// The same, to be kept.
    pub fn shared(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stop)
    }

    /// Whether there was a signal.
    pub fn is_set(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Takes what was asked for back: it was meant for a child that had the terminal.
    pub fn forget(&self) {
        self.stop.store(false, Ordering::SeqCst);
    }

    /// Whether it was SIGTERM, which a terminal does not send to our child.
    pub fn terminated(&self) -> bool {
        self.terminate.load(Ordering::Relaxed)
    }
}

/// Ctrl-Z and its end, as far as they come as signals.
#[derive(Debug)]
pub struct Stops {
    stop: Arc<AtomicBool>,
    gone_on: Arc<AtomicBool>,
}

impl Stops {
    /// Takes SIGTSTP and SIGCONT over.
    pub fn catch() -> io::Result<Stops> {
        let stops = Stops { stop: Arc::default(), gone_on: Arc::default() };
        flag::register(SIGTSTP, Arc::clone(&stops.stop))?;
        flag::register(SIGCONT, Arc::clone(&stops.gone_on))?;
        Ok(stops)
    }

    /// Whether a stop was asked for since the last call.
    pub fn stop_asked(&self) -> bool {
        self.stop.swap(false, Ordering::Relaxed)
    }

    /// Whether the program went on after a stop since the last call.
    pub fn gone_on(&self) -> bool {
        self.gone_on.swap(false, Ordering::Relaxed)
    }

    /// Stops the program as Ctrl-Z does, and returns when it goes on.
    ///
    /// # Errors
    /// If there is no shell to wake it again.
    pub fn stop_here(&self) -> Result<(), String> {
        self.gone_on.store(false, Ordering::SeqCst);
        // With the usual action in place: the kernel ignores the signal where nobody could undo it.
        // SAFETY: an action without a handler of ours, put back as it was.
        unsafe {
            let mut usual: libc::sigaction = std::mem::zeroed();
            usual.sa_sigaction = libc::SIG_DFL;
            let mut ours: libc::sigaction = std::mem::zeroed();
            libc::sigaction(SIGTSTP, &usual, &mut ours);
            libc::raise(SIGTSTP);
            libc::sigaction(SIGTSTP, &ours, std::ptr::null_mut());
        }
        // The handler of SIGCONT may run on another thread, a moment later.
        let since = Instant::now();
        while !self.gone_on() {
            if since.elapsed() > Duration::from_millis(100) {
                return Err("cannot stop here: no shell waits to go on with it".to_owned());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        self.stop.store(false, Ordering::Relaxed);
        Ok(())
    }
}
