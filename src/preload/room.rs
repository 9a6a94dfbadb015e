//! How much may be brought into memory before the kernel would have to take pages from others.

use serde::Serialize;

use super::memory_error::MemoryError;
use crate::host::memory_room::{self, GroupMemory, MachineMemory};
use crate::host::tree::Tree;

/// What to leave.
#[derive(Debug, Clone, Copy, Default)]
pub struct Terms {
    /// Bytes that stay available to others; by default a twentieth of the memory, at most 16 GiB.
    pub reserve: Option<u64>,
    /// Take free pages only, and no clean page cache of other files.
    pub only_free: bool,
}

/// Room in memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Room {
    /// So much more fits.
    pub bytes: u64,
    /// What limits it: "the machine", or a control group.
    pub limit: String,
    /// Free pages above the watermarks; beyond them, cached pages of other files are dropped.
    pub free_bytes: u64,
}

/// The share of memory, and the most, that is left to others unless something else is said.
const RESERVED_SHARE: u64 = 20;
const MOST_RESERVED: u64 = 16 << 30;

/// Looks how much more fits. `resident` bytes of what is meant are there already: the kernel counts
/// them as available, and they must stay.
///
/// # Errors
/// If the machine does not say.
pub fn look(tree: &Tree, terms: &Terms, resident: u64) -> Result<Room, MemoryError> {
    let machine = memory_room::machine(tree).map_err(MemoryError::NoRoomKnown)?;
    Ok(room(&machine, &memory_room::groups(tree), terms, resident))
}

fn room(machine: &MachineMemory, groups: &[GroupMemory], terms: &Terms, resident: u64) -> Room {
    let reserve = terms.reserve.unwrap_or((machine.total / RESERVED_SHARE).min(MOST_RESERVED));
    let free_bytes = machine.free.saturating_sub(machine.watermark);
    let all = if terms.only_free { free_bytes } else { machine.available.saturating_sub(resident) };
    let mut least = Room { bytes: all.saturating_sub(reserve), limit: "the machine".to_owned(), free_bytes };
    for group in groups {
        // Cache of this group that nobody used lately is given up for what comes; ours must stay.
        let old = if terms.only_free { 0 } else { group.inactive_file.saturating_sub(resident) };
        let left = group.limit.saturating_sub(group.used.saturating_sub(old));
        let bytes = left.saturating_sub(reserve.min(group.limit / RESERVED_SHARE));
        if bytes < least.bytes {
            least = Room { bytes, limit: format!("control group {}", group.group), free_bytes };
        }
    }
    least
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn machine() -> MachineMemory {
        MachineMemory { total: 100 * GIB, free: 10 * GIB, available: 60 * GIB, watermark: GIB }
    }

    fn group(limit: u64, used: u64, inactive_file: u64) -> GroupMemory {
        GroupMemory { group: "/g".to_owned(), limit: limit * GIB, used: used * GIB, inactive_file: inactive_file * GIB }
    }

    fn bytes(groups: &[GroupMemory], terms: Terms, resident: u64) -> u64 {
        room(&machine(), groups, &terms, resident * GIB).bytes / GIB
    }

    #[test]
    fn others_keep_their_reserve() {
        let usual = Terms::default();
        assert_eq!(bytes(&[], usual, 0), 55);
        assert_eq!(bytes(&[], usual, 20), 35, "what is there already must stay");
        assert_eq!(bytes(&[], Terms { reserve: Some(50 * GIB), ..usual }, 0), 10);
        assert_eq!(bytes(&[], Terms { reserve: Some(90 * GIB), ..usual }, 0), 0);
        assert_eq!(bytes(&[], Terms { only_free: true, ..usual }, 0), 4);
    }

    #[test]
    fn the_narrowest_group_counts() {
        let groups = [group(40, 10, 0), group(20, 10, 5)];
        let found = room(&machine(), &groups, &Terms::default(), 0);
        assert_eq!((found.bytes / GIB, found.limit.as_str()), (14, "control group /g"));
        assert_eq!(bytes(&groups, Terms { only_free: true, ..Terms::default() }, 0), 4);
        assert_eq!(bytes(&[group(2, 9, 1)], Terms::default(), 0), 0);
    }

    #[test]
    fn this_machine_has_room() {
        let found = look(&Tree::new("/"), &Terms::default(), 0).unwrap();
        assert!(!found.limit.is_empty());
    }
}
