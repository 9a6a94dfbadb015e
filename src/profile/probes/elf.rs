//! As much of an ELF64 file as the probes need, read with pread: a library half a gigabyte
//! long costs its symbol table, and one that is truncated meanwhile gives an error, no SIGBUS.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use bytemuck::{Pod, Zeroable};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Header {
    ident: [u8; 16],
    kind: u16,
    machine: u16,
    version: u32,
    entry: u64,
    program_offset: u64,
    section_offset: u64,
    flags: u32,
    header_size: u16,
    program_size: u16,
    program_count: u16,
    section_size: u16,
    section_count: u16,
    names: u16,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Program {
    kind: u32,
    flags: u32,
    offset: u64,
    address: u64,
    physical: u64,
    file_size: u64,
    memory_size: u64,
    align: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Section {
    name: u32,
    kind: u32,
    flags: u64,
    address: u64,
    offset: u64,
    size: u64,
    link: u32,
    info: u32,
    align: u64,
    entry_size: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct RawSymbol {
    name: u32,
    info: u8,
    other: u8,
    section: u16,
    value: u64,
    size: u64,
}

const EM_X86_64: u16 = 62;
const PT_LOAD: u32 = 1;
const SHT_SYMTAB: u32 = 2;
const SHT_NOTE: u32 = 7;
const SHT_DYNSYM: u32 = 11;
/// More than any real library has; a corrupt header must not make us reserve the machine's memory.
const MOST_BYTES: u64 = 1 << 30;

/// Which of a file's symbol tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Table {
    /// What the dynamic linker sees.
    Dynamic,
    /// Everything, when the file is not stripped.
    Full,
}

/// A symbol that is defined in the file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Symbol<'a> {
    /// Its name, mangled.
    pub name: &'a str,
    /// Its address in the file's own numbering.
    pub address: u64,
    /// Its size, bytes; 0 where the file does not say.
    pub size: u64,
    /// Whether it is a function.
    pub code: bool,
}

/// One symbol table with its names.
pub(crate) struct Symbols {
    table: Vec<u8>,
    names: Vec<u8>,
}

impl Symbols {
    /// Iterates over the defined symbols.
    pub fn iter(&self) -> impl Iterator<Item = Symbol<'_>> {
        self.table.chunks_exact(size_of::<RawSymbol>()).filter_map(|raw| {
            let raw: RawSymbol = bytemuck::pod_read_unaligned(raw);
            if raw.section == 0 {
                return None;
            }
            let rest = self.names.get(raw.name as usize..)?;
            let name = rest.get(..memchr::memchr(0, rest)?)?;
            let name = std::str::from_utf8(name).ok()?;
            let kind = raw.info & 15;
            // STT_FUNC and STT_GNU_IFUNC; an ifunc's address is its resolver's, of no use here.
            Some(Symbol { name, address: raw.value, size: raw.size, code: kind == 2 })
        })
    }

    /// A symbol's place in the table, defined here or not.
    pub fn index_of(&self, wanted: &str) -> Option<usize> {
        let is = |raw: &[u8]| {
            let raw: RawSymbol = bytemuck::pod_read_unaligned(raw);
            let rest = self.names.get(raw.name as usize..)?;
            let name = rest.get(..wanted.len() + 1)?;
            (name.starts_with(wanted.as_bytes()) && name.ends_with(b"\0")).then_some(())
        };
        self.table.chunks_exact(size_of::<RawSymbol>()).position(|raw| is(raw).is_some())
    }

    /// Whether `text` occurs among the names: a quick look before a slow search.
    pub fn mention(&self, text: &str) -> bool {
        contains(&self.names, text.as_bytes())
    }
}

/// Whether `needle` occurs in `hay`.
pub(crate) fn contains(hay: &[u8], needle: &[u8]) -> bool {
    memchr::memmem::find(hay, needle).is_some()
}

/// An open ELF file.
pub(crate) struct Elf {
    file: File,
    segments: Vec<Program>,
    sections: Vec<Section>,
    names: Vec<u8>,
}

impl Elf {
    /// Reads the headers of a 64-bit x86-64 file.
    pub fn open(file: File) -> io::Result<Elf> {
        let header: Header = read_one(&file, 0)?;
        let right = header.ident.starts_with(b"\x7fELF\x02\x01") && header.machine == EM_X86_64;
        if !right {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not an x86-64 ELF file"));
        }
        let mut elf = Elf { segments: Vec::new(), sections: Vec::new(), names: Vec::new(), file };
        for i in 0..u64::from(header.program_count) {
            let program: Program = read_one(&elf.file, header.program_offset + i * u64::from(header.program_size))?;
            if program.kind == PT_LOAD {
                elf.segments.push(program);
            }
        }
        if header.section_offset != 0 {
            // At once: a process has hundreds of libraries, and each has dozens of sections.
            let (size, count) = (usize::from(header.section_size), usize::from(header.section_count));
            if count > 0 && size != size_of::<Section>() {
                // Of another size it would be no ELF64; the file may be anybody's, and want gigabytes.
                return Err(io::Error::new(io::ErrorKind::InvalidData, "section headers of a wrong size"));
            }
            let mut table = vec![0; size * count];
            elf.file.read_exact_at(&mut table, header.section_offset)?;
            elf.sections = table.chunks_exact(size_of::<Section>()).map(bytemuck::pod_read_unaligned).collect();
        }
        if let Some(names) = elf.sections.get(usize::from(header.names)) {
            elf.names = elf.section_bytes(names)?;
        }
        Ok(elf)
    }

    /// The file itself.
    pub fn file(&self) -> &File {
        &self.file
    }

    fn section_bytes(&self, section: &Section) -> io::Result<Vec<u8>> {
        if section.size > MOST_BYTES || section.size > self.file.metadata()?.len() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a section longer than its file"));
        }
        let mut bytes = vec![0; section.size as usize];
        self.file.read_exact_at(&mut bytes, section.offset)?;
        Ok(bytes)
    }

    fn section_named(&self, wanted: &str) -> Option<&Section> {
        self.sections.iter().find(|s| {
            let name = self.names.get(s.name as usize..).unwrap_or_default();
            name.split(|b| *b == 0).next() == Some(wanted.as_bytes())
        })
    }

    /// A symbol table; `None` if the file has none.
    pub fn symbols(&self, table: Table) -> io::Result<Option<Symbols>> {
        let kind = if table == Table::Dynamic { SHT_DYNSYM } else { SHT_SYMTAB };
        let Some(section) = self.sections.iter().find(|s| s.kind == kind) else { return Ok(None) };
        let Some(names) = self.sections.get(section.link as usize) else { return Ok(None) };
        Ok(Some(Symbols { table: self.section_bytes(section)?, names: self.section_bytes(names)? }))
    }

    /// The name of the symbol that covers an address, and how far behind its start that is.
    /// Reads the table in pieces and of the names just the one: those of a big library alone
    /// take a hundred megabytes.
    pub fn symbol_at(&self, address: u64) -> Option<(String, u64)> {
        [SHT_SYMTAB, SHT_DYNSYM].into_iter().find_map(|kind| self.symbol_of(kind, address).ok().flatten())
    }

    fn symbol_of(&self, kind: u32, address: u64) -> io::Result<Option<(String, u64)>> {
        let Some(section) = self.sections.iter().find(|s| s.kind == kind) else { return Ok(None) };
        let Some(strings) = self.sections.get(section.link as usize) else { return Ok(None) };
        let mut raw = vec![0; (1 << 15) * size_of::<RawSymbol>()];
        let mut done = 0;
        while done < section.size {
            let length = raw.len().min((section.size - done) as usize);
            self.file.read_exact_at(&mut raw[..length], section.offset + done)?;
            done += length as u64;
            for symbol in raw[..length].chunks_exact(size_of::<RawSymbol>()) {
                let symbol: RawSymbol = bytemuck::pod_read_unaligned(symbol);
                let object = matches!(symbol.info & 15, 1 | 2) && symbol.section != 0;
                if object && address >= symbol.value && address - symbol.value < symbol.size.max(1) {
                    return self.text(strings, symbol.name).map(|name| Some((name, address - symbol.value)));
                }
            }
        }
        Ok(None)
    }

    /// A NUL-ended text of a section.
    fn text(&self, strings: &Section, at: u32) -> io::Result<String> {
        let mut bytes = vec![0; 4096.min(strings.size.saturating_sub(at.into())) as usize];
        self.file.read_exact_at(&mut bytes, strings.offset + u64::from(at))?;
        let text = bytes.split(|b| *b == 0).next().unwrap_or_default();
        Ok(String::from_utf8_lossy(text).into_owned())
    }

    /// Whether the names the dynamic linker sees hold `text`.
    pub fn mentions(&self, text: &[&str]) -> bool {
        let names = self.sections.iter().find(|s| s.kind == SHT_DYNSYM);
        let names = names.and_then(|s| self.sections.get(s.link as usize)).and_then(|s| self.section_bytes(s).ok());
        names.is_some_and(|names| text.iter().any(|t| contains(&names, t.as_bytes())))
    }

    /// Where a section lies in memory.
    pub fn section_address(&self, name: &str) -> Option<u64> {
        self.section_named(name).map(|s| s.address)
    }

    /// Whether there is a section of that name.
    pub fn has_section(&self, name: &str) -> bool {
        self.section_named(name).is_some()
    }

    /// The bytes of a section, empty if there is none of that name.
    pub fn section(&self, name: &str) -> io::Result<Vec<u8>> {
        self.section_named(name).map_or(Ok(Vec::new()), |s| self.section_bytes(s))
    }

    /// Where an address lies in the file.
    pub fn offset_of(&self, address: u64) -> Option<u64> {
        let segment = self.segments.iter().find(|s| address >= s.address && address - s.address < s.file_size)?;
        Some(address - segment.address + segment.offset)
    }

    /// The address of what lies at an offset of the file.
    pub fn address_of(&self, offset: u64) -> Option<u64> {
        let segment = self.segments.iter().find(|s| offset >= s.offset && offset - s.offset < s.file_size)?;
        Some(offset - segment.offset + segment.address)
    }

    /// Reads up to `length` bytes at an address.
    pub fn read(&self, address: u64, length: usize) -> io::Result<Vec<u8>> {
        let offset = self.offset_of(address).ok_or(io::ErrorKind::InvalidInput)?;
        let mut bytes = vec![0; length];
        let mut done = 0;
        while done < length {
            match self.file.read_at(&mut bytes[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        bytes.truncate(done);
        Ok(bytes)
    }

    /// The linker's build id in hexadecimal, if there is one.
    pub fn build_id(&self) -> Option<String> {
        let note = self.sections.iter().find(|s| {
            s.kind == SHT_NOTE
                && self.names.get(s.name as usize..).is_some_and(|n| n.starts_with(b".note.gnu.build-id\0"))
        })?;
        let bytes = self.section_bytes(note).ok()?;
        // Name's length, descriptor's length, type, "GNU\0", descriptor.
        let length = u32::from_le_bytes(bytes.get(4..8)?.try_into().ok()?) as usize;
        let id = bytes.get(16..16 + length)?;
        Some(id.iter().map(|b| format!("{b:02x}")).collect())
    }
}

fn read_one<T: Pod>(file: &File, offset: u64) -> io::Result<T> {
    let mut value = T::zeroed();
    file.read_exact_at(bytemuck::bytes_of_mut(&mut value), offset)?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_executable_shows_its_symbols() {
        let elf = Elf::open(File::open("/proc/self/exe").unwrap()).unwrap();
        let symbols = elf.symbols(Table::Full).unwrap().expect("tests are not stripped");
        let main = symbols.iter().find(|s| s.name == "main").unwrap();
        assert!(main.code);
        let offset = elf.offset_of(main.address).unwrap();
        assert_eq!(elf.address_of(offset), Some(main.address));
        assert_eq!(elf.read(main.address, 4).unwrap().len(), 4);
        assert!(symbols.mention("main") && !symbols.mention("no_symbol_is_called_like_this_one?"));
    }

    #[test]
    fn garbage_is_refused() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&[0x7f; 200], 0).unwrap();
        assert!(Elf::open(file).is_err());
        let short = tempfile::tempfile().unwrap();
        short.write_all_at(b"\x7fELF\x02\x01", 0).unwrap();
        assert!(Elf::open(short).is_err());
    }

    #[test]
    fn contains_finds_what_is_there() {
        assert!(contains(b"abcabd", b"abd") && contains(b"abd", b"abd") && contains(b"x", b""));
        assert!(!contains(b"ab", b"abd") && !contains(b"", b"a"));
    }
}
