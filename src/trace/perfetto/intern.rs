//! The writer's interning table: names are written once and then named by a number.

use std::hash::{Hash, Hasher};

use rustc_hash::{FxHashMap, FxHasher};

use super::wire::{self, field};

/// When the table holds more than this, it starts afresh.
const MAX_ENTRIES: usize = 32 << 10;
/// When its texts take more than this, it starts afresh.
const MAX_BYTES: usize = 4 << 20;
/// Longer texts are written in place each time.
const MAX_TEXT: usize = 4 << 10;
/// Slots that remember string values seen once; a value seen again is worth a number.
const SEEN: usize = 4096;

/// The kinds of names, each with numbers of its own.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// Event names.
    Name = 0,
    /// Names of debug annotations.
    Key = 1,
    /// String values of debug annotations.
    Text = 2,
    /// Categories.
    Category = 3,
}

impl Kind {
    fn field(self) -> u32 {
        match self {
            Kind::Name => field::INTERNED_EVENT_NAME,
            Kind::Key => field::INTERNED_ANNOTATION_NAME,
            Kind::Text => field::INTERNED_ANNOTATION_STRING,
            Kind::Category => field::INTERNED_CATEGORY,
        }
    }
}

/// Numbers of the names written so far.
pub(super) struct Interner {
    tables: [FxHashMap<Box<str>, u64>; 4],
    seen: Box<[u64]>,
    entries: usize,
    bytes: usize,
    /// New entries, encoded as `InternedData`, to go with the next packet.
    pub fresh: Vec<u8>,
}

impl Interner {
    pub fn new() -> Self {
        Interner {
            tables: Default::default(),
            seen: vec![0; SEEN].into_boxed_slice(),
            entries: 0,
            bytes: 0,
            fresh: Vec::new(),
        }
    }

    /// Whether it is time for [`Interner::clear`].
    pub fn is_full(&self) -> bool {
        self.entries > MAX_ENTRIES || self.bytes > MAX_BYTES
    }

    /// Forgets everything; the reader must be told.
    pub fn clear(&mut self) {
        for table in &mut self.tables {
            table.clear();
        }
        self.entries = 0;
        self.bytes = 0;
        self.fresh.clear();
    }

    /// Returns a text's number; `None` for one too long to keep.
    pub fn id(&mut self, kind: Kind, text: &str) -> Option<u64> {
        if let Some(&id) = self.tables[kind as usize].get(text) {
            return Some(id);
        }
        if text.len() > MAX_TEXT {
            return None;
        }
        let id = self.tables[kind as usize].len() as u64 + 1;
        self.tables[kind as usize].insert(text.into(), id);
        self.entries += 1;
        self.bytes += text.len();
        wire::message(&mut self.fresh, kind.field(), |b| {
            wire::uint(b, field::INTERNED_IID, id);
            wire::bytes(b, field::INTERNED_TEXT, text.as_bytes());
        });
        Some(id)
    }

    /// Returns a string value's number if it repeats; `None` when it is met for the first time.
    pub fn repeated(&mut self, text: &str) -> Option<u64> {
        if let Some(&id) = self.tables[Kind::Text as usize].get(text) {
            return Some(id);
        }
        let mut hasher = FxHasher::default();
        text.hash(&mut hasher);
        let hash = hasher.finish() | 1;
        let slot = &mut self.seen[(hash >> 32) as usize % SEEN];
        if *slot != hash {
            *slot = hash;
            return None;
        }
        self.id(Kind::Text, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_repeated_values_are_kept() {
        let mut interner = Interner::new();
        assert_eq!(interner.repeated("/data/a"), None);
        assert_eq!(interner.repeated("/data/a"), Some(1));
        assert_eq!(interner.repeated("/data/a"), Some(1));
        assert_eq!(interner.repeated("/data/b"), None);
    }

    #[test]
    fn the_table_asks_to_be_cleared() {
        let mut interner = Interner::new();
        for n in 0..=MAX_ENTRIES {
            assert!(!interner.is_full());
            interner.id(Kind::Name, &format!("name {n}"));
        }
        assert!(interner.is_full());
        interner.clear();
        assert_eq!(interner.id(Kind::Name, "again"), Some(1));
    }
}
