//! From a position in a code object's instructions to a line, in CPython's three formats.

use super::offsets::LineFormat;

/// Longest table read, bytes; code with a longer one gets its first line only.
pub(crate) const TABLE_LIMIT: usize = 1 << 20;

/// The lines of a code object: (first position in bytes, line), in order; line 0 is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Lines(Vec<(u32, u32)>);

impl Lines {
    /// Decodes a table; one that is damaged gives the lines up to there.
    pub fn decode(format: LineFormat, table: &[u8], first_line: u32) -> Lines {
        let mut lines = Lines(Vec::new());
        let line = i64::from(first_line);
        match format {
            LineFormat::Lnotab => lines.lnotab(table, line),
            LineFormat::Ranges => lines.ranges(table, line),
            LineFormat::Locations => lines.locations(table, line),
        }
        lines.0.shrink_to_fit();
        lines
    }

    /// The line at a position; `None` where there is none (code made by the compiler).
    pub fn at(&self, position: u32) -> Option<u32> {
        let after = self.0.partition_point(|(start, _)| *start <= position);
        let (_, line) = *self.0.get(after.checked_sub(1)?)?;
        (line != 0).then_some(line)
    }

    fn push(&mut self, start: u32, line: i64) {
        let line = u32::try_from(line).unwrap_or(0);
        match self.0.last_mut() {
            Some(last) if last.1 == line => {}
            Some(last) if last.0 == start => last.1 = line,
            _ => self.0.push((start, line)),
        }
    }

    /// Pairs of an unsigned step in bytes and a signed step in lines: the lines change *at* the address.
    fn lnotab(&mut self, table: &[u8], mut line: i64) {
        let mut address = 0;
        self.push(0, line);
        for [step, lines] in table.as_chunks::<2>().0 {
            address += u32::from(*step);
            line += i64::from(lines.cast_signed());
            self.push(address, line);
        }
    }

    /// Pairs of a length in bytes and a signed step in lines; -128: the range has no line.
    fn ranges(&mut self, table: &[u8], mut line: i64) {
        let mut start = 0;
        for [length, lines] in table.as_chunks::<2>().0 {
            let none = *lines == 0x80;
            if !none {
                line += i64::from(lines.cast_signed());
            }
            if *length > 0 {
                self.push(start, if none { 0 } else { line });
            }
            start += u32::from(*length);
        }
    }

    /// Entries that begin with a byte of 1, kind:4, length - 1:3 (in units of two bytes).
    fn locations(&mut self, table: &[u8], mut line: i64) {
        let (mut start, mut at) = (0, 0);
        while let Some(&head) = table.get(at) {
            at += 1;
            if head & 0x80 == 0 {
                // Columns, or what is left of a damaged entry.
                continue;
            }
            let kind = head >> 3 & 15;
            let step = match kind {
                15 => None,
                // Long form, or no columns: the step is a signed number of its own.
                13 | 14 => Some(signed(&table[at..])),
                10..=12 => Some(i64::from(kind) - 10),
                _ => Some(0),
            };
            line += step.unwrap_or(0);
            self.push(start, if step.is_some() { line } else { 0 });
            start += 2 * (u32::from(head & 7) + 1);
        }
    }
}

/// A number in groups of six bits, the least first, bit 6 saying that more follow; bit 0 of it is the sign.
fn signed(bytes: &[u8]) -> i64 {
    let mut value: u64 = 0;
    // Six groups hold more than any step of a line.
    for (index, byte) in bytes.iter().take(6).enumerate() {
        value |= u64::from(byte & 63) << (6 * index);
        if byte & 64 == 0 {
            break;
        }
    }
    let magnitude = (value >> 1) as i64;
    if value & 1 == 1 { -magnitude } else { magnitude }
}
