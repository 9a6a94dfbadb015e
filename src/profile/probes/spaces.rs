//! What lies at an address of a process: the mapped file's symbol, found when first asked for.

use std::fs::File;
use std::io;
use std::rc::Rc;

use rustc_hash::FxHashMap;

use super::elf::{Elf, Table};
use crate::host::maps::{self, Mapping};

type FileId = (u64, u64);

/// The symbols of one file that can name what we see, by address.
#[derive(Default)]
pub(crate) struct Naming {
    /// (address, size, mangled name), sorted.
    symbols: Vec<(u64, u64, Box<str>)>,
    load: Option<Elf>,
}

impl Naming {
    /// The symbol that covers an address.
    fn at(&self, address: u64) -> Option<(&str, u64)> {
        let after = self.symbols.partition_point(|(start, ..)| *start <= address);
        let (start, size, name) = self.symbols.get(after.checked_sub(1)?)?;
        let inside = address - start < (*size).max(1);
        inside.then_some((name.as_ref(), address - start))
    }
}

/// The address spaces of the processes followed.
#[derive(Default)]
pub(crate) struct Spaces {
    processes: FxHashMap<u32, Vec<Mapping>>,
    files: FxHashMap<FileId, Rc<Naming>>,
}

/// Symbols worth keeping: classes' vtables, kernels' host stubs and other functions that launch.
fn worth(name: &str) -> bool {
    name.starts_with("_ZTV") || name.contains("__device_stub_")
}

impl Spaces {
    /// Takes note of what a process has mapped.
    pub fn learn(&mut self, pid: u32, maps: &[Mapping]) {
        self.processes.insert(pid, maps.to_vec());
    }

    /// The mapping an address of a process lies in.
    pub fn mapping(&self, pid: u32, address: u64) -> Option<&Mapping> {
        let maps = self.processes.get(&pid)?;
        let after = maps.partition_point(|m| m.start <= address);
        maps.get(after.checked_sub(1)?).filter(|m| address < m.end)
    }

    /// Looks again if the address is in none of the mappings known.
    fn refresh(&mut self, pid: u32, address: u64) {
        if self.mapping(pid, address).is_none()
            && let Ok(maps) = maps::of(pid)
        {
            self.learn(pid, &maps);
        }
    }

    /// The mangled name of the symbol at an address, and how far behind its start that is.
    pub fn symbol(&mut self, pid: u32, address: u64) -> Option<(String, u64)> {
        self.refresh(pid, address);
        let mapping = self.mapping(pid, address)?.clone();
        let naming = self.naming(pid, &mapping);
        let offset = address - mapping.start + mapping.offset;
        let address = naming.load.as_ref()?.address_of(offset)?;
        naming.at(address).map(|(name, behind)| (name.to_owned(), behind))
    }

    /// "libfoo.so+0x1234": where an address lies when no symbol names it.
    pub fn place(&self, pid: u32, address: u64) -> Option<String> {
        let mapping = self.mapping(pid, address)?;
        let file = mapping.path.file_name()?.to_string_lossy();
        Some(format!("{file}+{:#x}", address - mapping.start + mapping.offset))
    }

    fn naming(&mut self, pid: u32, mapping: &Mapping) -> Rc<Naming> {
        if let Some(known) = self.files.get(&mapping.file) {
            return known.clone();
        }
        // A file that can't be read names nothing, now and later.
        let naming = Rc::new(maps::open(pid, mapping).and_then(read_naming).unwrap_or_default());
        self.files.insert(mapping.file, naming.clone());
        naming
    }
}

fn read_naming(file: File) -> io::Result<Naming> {
    let elf = Elf::open(file)?;
    let mut symbols = elf.named_symbols(Table::Full, &worth)?;
    if symbols.is_empty() {
        symbols = elf.named_symbols(Table::Dynamic, &worth)?;
    }
    symbols.sort_unstable();
    symbols.dedup_by_key(|s| s.0);
    Ok(Naming { symbols, load: Some(elf) })
}
