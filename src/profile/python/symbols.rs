//! The few symbols of an interpreter's file, and the address a file was mapped at.

use std::io;

use object::{Object, ObjectSection, ObjectSegment, ObjectSymbol};

use crate::host::maps::{self, Mapping};

/// What an executable or library says about the CPython in it; addresses are the file's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Symbols {
    /// `_PyRuntime`.
    pub runtime: u64,
    /// `PyCode_Type`.
    pub code_type: Option<u64>,
    /// `Py_Version`, since 3.11.
    pub version: Option<u64>,
    /// "3.9.18", where the file holds it as a text.
    pub version_text: Option<String>,
    /// (address, offset in file, size in file) of what is mapped.
    segments: Vec<(u64, u64, u64)>,
}

impl Symbols {
    /// Reads them from a mapped file; `None` if there is no CPython in it, an error if it can't
    /// be read (the process may have ended).
    pub fn read(pid: u32, mapping: &Mapping) -> io::Result<Option<Symbols>> {
        let file = maps::open(pid, mapping)?;
        // SAFETY: mapped read-only and private. Should the file be cut while it is mapped, the
        // process would get SIGBUS, as for every loader and profiler that maps files; files that
        // run are replaced, not cut.
        let bytes = unsafe { memmap2::Mmap::map(&file) }?;
        Ok(Self::parse(&bytes))
    }

    /// Parses an ELF image.
    pub fn parse(image: &[u8]) -> Option<Symbols> {
        let elf = object::File::parse(image).ok()?;
        if !elf.is_little_endian() || !elf.is_64() {
            return None;
        }
        let mut found = [None; 3];
        let mut take = |symbol: object::Symbol<'_, '_>| {
            if !symbol.is_definition() {
                return;
            }
            let slot = match symbol.name() {
                Ok("_PyRuntime") => 0,
                Ok("PyCode_Type") => 1,
                Ok("Py_Version") => 2,
                _ => return,
            };
            found[slot] = Some(symbol.address());
        };
        elf.dynamic_symbols().for_each(&mut take);
        elf.symbols().for_each(&mut take);
        let [runtime, code_type, version] = found;
        // Since 3.13 the runtime has a section of its own, found in stripped files too.
        let runtime = runtime.or_else(|| elf.section_by_name(".PyRuntime").map(|section| section.address()))?;
        let data = || elf.section_by_name(".rodata").and_then(|section| section.data().ok());
        let version_text = if version.is_none() { data().and_then(version_text) } else { None };
        let segments = elf.segments().map(|s| (s.address(), s.file_range().0, s.file_range().1)).collect();
        Some(Symbols { runtime, code_type, version, version_text, segments })
    }

    /// What to add to the file's addresses, given one of its mappings.
    pub fn bias(&self, mapping: &Mapping) -> Option<u64> {
        const PAGE: u64 = 4096;
        self.segments.iter().find_map(|&(address, offset, size)| {
            let first = offset & !(PAGE - 1);
            (mapping.offset >= first && mapping.offset < offset + size.max(1))
                .then(|| mapping.start.wrapping_sub(mapping.offset).wrapping_sub(address.wrapping_sub(offset)))
        })
    }
}

/// PY_VERSION of 3.7 to 3.10, whose version no symbol tells: in the read-only data it is a text of
/// its own, or the end of one such as the installation's path. Later minors are not looked for,
/// since SQLite and others that may be linked in have such versions too.
fn version_text(data: &[u8]) -> Option<String> {
    let mut from = 0;
    while let Some(at) = data.get(from..)?.windows(2).position(|w| w == b"3.") {
        let start = from + at;
        from = start + 2;
        let begins = start == 0 || matches!(data[start - 1], 0 | b'/' | b'-' | b' ');
        let text = data[start..].iter().take(16).position(|b| *b == 0).map(|end| &data[start..start + end]);
        let Some(text) = text.filter(|_| begins).and_then(|text| std::str::from_utf8(text).ok()) else { continue };
        // "3.9.18", "3.10.0rc2", "3.9.2+".
        let mut parts = text.split('.').skip(1);
        let (minor, micro) = (parts.next(), parts.next());
        let python = matches!(minor, Some("7" | "8" | "9" | "10"));
        if python && micro.is_some_and(is_micro) && parts.next().is_none() {
            return Some(text.to_owned());
        }
    }
    None
}

/// "18", "0rc2", "2+".
fn is_micro(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit()) && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '+')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_found_among_other_texts() {
        assert_eq!(version_text(b"abc\x003.14\x003.40.1\x003.9.18\0defg").as_deref(), Some("3.9.18"));
        assert_eq!(version_text(b"/opt/3.10.2+\0").as_deref(), Some("3.10.2+"));
        assert_eq!(version_text(b"expat_2.3.9.1\x003.9.18 and more\x003.10."), None);
    }

    #[test]
    fn rubbish_is_no_interpreter() {
        assert_eq!(Symbols::parse(b"\x7fELF\x02\x01\x01 and no more"), None);
        assert_eq!(Symbols::parse(&[]), None);
    }

    #[test]
    fn an_executable_without_python_has_none() {
        let image = std::fs::read("/proc/self/exe").unwrap();
        assert_eq!(Symbols::parse(&image), None);
    }
}
