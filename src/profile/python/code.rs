//! Names of code objects: read once, kept, and checked now and then.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::linetable::{Lines, TABLE_LIMIT};
use super::loops::{CODE_LIMIT, Loops};
use super::memory::Memory;
use super::offsets::{CodeLayout, Layout, Position};
use super::strings;

/// Code objects kept for a process; when more come, all are forgotten.
const KEPT: usize = 10_000;
/// After this long, what is kept is compared with the process again: code objects are freed and
/// their addresses used for others.
const CHECK_NS: u64 = 1_000_000_000;

/// Name of what was gone before it could be read.
pub(crate) const UNKNOWN: &str = "<unknown>";

/// A code object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Code {
    /// `Class.method` since 3.11, `method` before.
    pub name: Arc<str>,
    /// `co_filename`.
    pub file: Arc<str>,
    /// File without its folders.
    pub base: Arc<str>,
    /// Line of its `def`; 0 if unknown.
    pub first_line: u32,
    /// Lines by position.
    pub lines: Lines,
    /// Its loops.
    pub loops: Loops,
}

impl Code {
    /// What stands for a code object that was gone before it could be read.
    pub fn unknown() -> Code {
        let name = Arc::from(UNKNOWN);
        let empty: Arc<str> = Arc::from("");
        Code { name, file: empty.clone(), base: empty, first_line: 0, lines: Lines::default(), loops: Loops::Unknown }
    }

    /// The line at a position, its first line where there is none.
    pub fn line(&self, lasti: Option<u32>) -> u32 {
        lasti.and_then(|lasti| self.lines.at(lasti)).unwrap_or(self.first_line)
    }
}

/// What makes two reads of an address the same code object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    name: u64,
    file: u64,
    table: u64,
    first_line: u32,
}

struct Kept {
    code: Arc<Code>,
    identity: Option<Identity>,
    checked_ns: u64,
}

/// The code objects of one process.
pub(crate) struct Codes {
    kept: FxHashMap<u64, Kept>,
    files: FxHashMap<u64, (Arc<str>, Arc<str>)>,
    code_type: Option<u64>,
    unknown: Arc<Code>,
}

impl Codes {
    /// Starts empty; `code_type` is the address of `PyCode_Type`, learnt if not known.
    pub fn new(code_type: Option<u64>) -> Codes {
        Codes { kept: FxHashMap::default(), files: FxHashMap::default(), code_type, unknown: Arc::new(Code::unknown()) }
    }

    /// The code object at an address.
    pub fn get(&mut self, memory: &impl Memory, layout: &Layout, at: u64, now_ns: u64) -> Arc<Code> {
        if let Some(kept) = self.kept.get_mut(&at) {
            if now_ns.saturating_sub(kept.checked_ns) < CHECK_NS {
                return kept.code.clone();
            }
            if let Some((identity, _)) = header(memory, &layout.code, at, self.code_type)
                && kept.identity == Some(identity)
            {
                kept.checked_ns = now_ns;
                return kept.code.clone();
            }
        }
        if self.kept.len() >= KEPT {
            self.kept.clear();
            self.files.clear();
        }
        let read = self.read(memory, layout, at);
        let (code, identity) = match read {
            Some((code, identity)) => (Arc::new(code), Some(identity)),
            None => (self.unknown.clone(), None),
        };
        self.kept.insert(at, Kept { code: code.clone(), identity, checked_ns: now_ns });
        code
    }

    fn read(&mut self, memory: &impl Memory, layout: &Layout, at: u64) -> Option<(Code, Identity)> {
        let (identity, raw) = header(memory, &layout.code, at, self.code_type)?;
        if self.code_type.is_none() {
            self.code_type = learn_type(memory, &raw);
        }
        let (file, base) = self.file(memory, layout, identity.file)?;
        let name: Arc<str> = strings::text(memory, identity.name, layout.text_headers)?.into();
        let lines = strings::bytes(memory, identity.table, TABLE_LIMIT)
            .map(|table| Lines::decode(layout.lines, &table, identity.first_line))
            .unwrap_or_default();
        let loops = instructions(memory, layout, at, &raw).map_or(Loops::Unknown, |c| Loops::find(layout.minor, &c));
        Some((Code { name, file, base, first_line: identity.first_line, lines, loops }, identity))
    }

    /// File names are shared by all code of a file; read again only when forgotten.
    fn file(&mut self, memory: &impl Memory, layout: &Layout, at: u64) -> Option<(Arc<str>, Arc<str>)> {
        let text = strings::text(memory, at, layout.text_headers)?;
        if let Some(known) = self.files.get(&at)
            && *known.0 == *text
        {
            return Some(known.clone());
        }
        let base = text.rsplit('/').next().unwrap_or(&text).into();
        let known: (Arc<str>, Arc<str>) = (text.into(), base);
        self.files.insert(at, known.clone());
        Some(known)
    }
}

/// `ob_type` in every object.
const TYPE: usize = 8;

fn word(raw: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(raw.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

/// Reads the object itself, if it is a code object.
fn header(memory: &impl Memory, layout: &CodeLayout, at: u64, code_type: Option<u64>) -> Option<(Identity, Vec<u8>)> {
    let raw = memory.bytes(at, layout.size as u64, 4096)?;
    match code_type {
        Some(code_type) if word(&raw, TYPE)? != code_type => return None,
        None if learn_type(memory, &raw).is_none() => return None,
        _ => {}
    }
    let first = raw.get(layout.firstlineno..layout.firstlineno + 4)?;
    let identity = Identity {
        name: word(&raw, layout.qualname.unwrap_or(layout.name))?,
        file: word(&raw, layout.filename)?,
        table: word(&raw, layout.linetable)?,
        first_line: u32::try_from(i32::from_le_bytes(first.try_into().ok()?)).unwrap_or(0),
    };
    Some((identity, raw))
}

/// The type of an object, if it calls itself "code" (`tp_name`, third word of a type).
fn learn_type(memory: &impl Memory, raw: &[u8]) -> Option<u64> {
    let object_type = word(raw, TYPE)?;
    let name = memory.u64(object_type.checked_add(24)?)?;
    let mut text = [0; 5];
    (memory.read(name, &mut text) && text == *b"code\0").then_some(object_type)
}

/// The instructions of a code object.
fn instructions(memory: &impl Memory, layout: &Layout, at: u64, raw: &[u8]) -> Option<Vec<u8>> {
    match layout.position {
        Position::Index { .. } => strings::bytes(memory, word(raw, layout.code.code)?, CODE_LIMIT),
        Position::Address => {
            // ob_size counts units of two bytes (Include/cpython/code.h).
            let units = word(raw, 16)?;
            memory.bytes(at.checked_add(layout.code.code as u64)?, units.checked_mul(2)?, CODE_LIMIT)
        }
    }
}
