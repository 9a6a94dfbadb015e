//! What lies at an address of a process: the mapped file's symbol, found when first asked for.

use std::rc::Rc;

use rustc_hash::FxHashMap;

use super::elf::Elf;
use crate::host::maps::{self, Mapping};
use crate::host::memory;

/// The longest text read from a process.
const MOST_TEXT: usize = 1024;

/// The address spaces of the processes followed.
#[derive(Default)]
pub(crate) struct Spaces {
    processes: FxHashMap<u32, Vec<Mapping>>,
    /// Files asked for, by device and inode; `None` for one that can't be read.
    files: FxHashMap<(u64, u64), Option<Rc<Elf>>>,
}

impl Spaces {
    /// Takes note of what a process has mapped.
    pub fn learn(&mut self, pid: u32, maps: &[Mapping]) {
        self.processes.insert(pid, maps.to_vec());
    }

    /// Forgets a process that ended.
    pub fn forget(&mut self, pid: u32) {
        self.processes.remove(&pid);
    }

    /// The mapping an address of a process lies in.
    pub fn mapping(&self, pid: u32, address: u64) -> Option<&Mapping> {
        let maps = self.processes.get(&pid)?;
        let after = maps.partition_point(|m| m.start <= address);
        maps.get(after.checked_sub(1)?).filter(|m| address < m.end)
    }

    /// The mangled name of the symbol at an address, and how far behind its start that is.
    pub fn symbol(&mut self, pid: u32, address: u64) -> Option<(String, u64)> {
        if self.mapping(pid, address).is_none()
            && let Ok(maps) = maps::of(pid)
        {
            self.learn(pid, &maps);
        }
        let mapping = self.mapping(pid, address)?.clone();
        let open = || maps::open(pid, &mapping).and_then(Elf::open).ok().map(Rc::new);
        let elf = self.files.entry(mapping.file).or_insert_with(open).clone()?;
        elf.symbol_at(elf.address_of(address - mapping.start + mapping.offset)?)
    }

    /// "libfoo.so+0x1234": where an address lies when no symbol names it.
    pub fn place(&self, pid: u32, address: u64) -> Option<String> {
        let mapping = self.mapping(pid, address)?;
        let file = mapping.path.file_name()?.to_string_lossy();
        Some(format!("{file}+{:#x}", address - mapping.start + mapping.offset))
    }
}

/// Reads a NUL-ended text that begins with `begin` from a process; `begin` itself if it is gone.
pub(crate) fn read_text(pid: u32, address: u64, begin: &str) -> String {
    let mut bytes = [0; MOST_TEXT];
    // Up to the page's end first: what follows may not be mapped.
    let length = MOST_TEXT.min(4096 - (address % 4096) as usize);
    let mut read = memory::read(pid, address, &mut bytes[..length]);
    if read == length && read < MOST_TEXT && !bytes[..read].contains(&0) {
        read += memory::read(pid, address + length as u64, &mut bytes[length..]);
    }
    let text = String::from_utf8_lossy(bytes[..read].split(|b| *b == 0).next().unwrap_or_default()).into_owned();
    if text.starts_with(begin) { text } else { begin.to_owned() }
}
