//! Changes a machine: the only room that does.
//!
//! Uses `fault` for the plan, which is plain data, and `cluster`. Everything that changes anything
//! passes the [`Gate`]: dry-run, kill switch, hours and deadline are asked there again at the
//! moment of acting, and the journal knows of each step before it begins and after it ended.
//! Never decides what is wrong: it carries out what the plan says, and gives up to a human.

mod change;
mod command;
mod errand;
mod event;
mod evict;
mod gate;
mod hands;
mod isolation;
mod jobs;
mod journal;
mod lock;
mod outside;
mod post;
pub mod publish;
mod record;
mod replay;
mod run;
mod steps;
mod verify;

pub use change::words as cluster_words;
pub use errand::{Errand, Way};
pub use gate::{Gate, Held};
pub use hands::{Hands, Lease, LeaseError, NodeView, STOP, Sheet};
pub use journal::{Author, Journal, JournalError};
pub use lock::{Lock, LockError};
pub use record::{Event, Record};
pub use replay::history;
pub use run::Run;

use crate::fault::playbook::{Clock, Reach};
use crate::fault::{Check, Finding};

/// What was seen at some moment.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Look {
    /// The machine that was looked at.
    pub node: Option<String>,
    /// Its boot.
    pub boot_id: Option<String>,
    /// What was looked at.
    pub checks: Vec<Check>,
    /// What was found, the worst first.
    pub findings: Vec<Finding>,
}

/// A process that holds a device open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its number.
    pub pid: u32,
    /// When it began, in the kernel's ticks: numbers are used again.
    pub started: u64,
    /// Its name, at most 15 characters.
    pub name: String,
}

/// What acting needs to see. Seeing is another room's.
pub trait Eyes {
    /// This machine's name.
    fn node(&self) -> &str;
    /// This machine's own identifier (/etc/machine-id), which kubelets tell, too.
    fn machine_id(&self) -> Option<&str> {
        None
    }
    /// How far what is done reaches.
    fn reach(&self) -> Reach {
        Reach::Machine
    }
    /// This boot.
    fn boot_id(&self) -> &str;
    /// The clocks.
    fn clock(&self) -> Clock;
    /// Looks for faults again.
    ///
    /// # Errors
    /// If it can't be looked: no health, and no fault.
    fn look(&self) -> Result<Look, String>;
    /// Processes that hold a GPU (by PCI address), or any GPU.
    ///
    /// # Errors
    /// If that can't be seen.
    fn holders(&self, pci: Option<&str>) -> Result<Vec<Holder>, String>;
}
