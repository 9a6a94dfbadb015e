//! Cuts a JSON stream into values, without holding more than one event.
//!
//! Finds where values start and end; what is in them is serde_json's business.

use std::io::{self, Read};

/// What is read at once.
const CHUNK: usize = 512 << 10;
/// A longer event is not one.
const MAX_VALUE: usize = 64 << 20;

/// Why the scan ended early.
#[derive(Debug)]
pub(super) enum Stop {
    Io(io::Error),
    /// The text ends within a value, or without its closing bracket.
    Cut,
    /// A value larger than any event.
    TooLarge,
    /// Not JSON.
    Damaged,
}

/// A JSON stream, read from front to back.
pub(super) struct Scanner<'r> {
    input: &'r mut dyn Read,
    buf: Vec<u8>,
    at: usize,
    end: usize,
    /// Stream position of `buf[0]`.
    base: u64,
    eof: bool,
    failure: Option<io::Error>,
}

impl<'r> Scanner<'r> {
    pub fn new(input: &'r mut dyn Read) -> Self {
        Scanner { input, buf: vec![0; CHUNK], at: 0, end: 0, base: 0, eof: false, failure: None }
    }

    /// How far the stream has been read.
    pub fn offset(&self) -> u64 {
        self.base + self.at as u64
    }

    /// Reads more, keeping what lies from `keep` on; returns by how much positions moved down.
    fn more(&mut self, keep: usize) -> Option<usize> {
        if self.eof {
            return None;
        }
        self.buf.copy_within(keep..self.end, 0);
        self.base += keep as u64;
        self.end -= keep;
        self.at -= keep;
        if self.end == self.buf.len() {
            self.buf.resize(self.buf.len() * 2, 0);
        }
        loop {
            match self.input.read(&mut self.buf[self.end..]) {
                Ok(0) => self.eof = true,
                Ok(n) => {
                    self.end += n;
                    return Some(keep);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    self.failure = Some(error);
                    self.eof = true;
                }
            }
            return None;
        }
    }

    fn ended(&mut self) -> Stop {
        self.failure.take().map_or(Stop::Cut, Stop::Io)
    }

    /// Passes over white space and the bytes in `also`; returns the byte that follows.
    pub fn peek(&mut self, also: &[u8]) -> Result<u8, Stop> {
        loop {
            while self.at < self.end {
                let byte = self.buf[self.at];
                if !byte.is_ascii_whitespace() && !also.contains(&byte) {
                    return Ok(byte);
                }
                self.at += 1;
            }
            if self.more(self.at).is_none() {
                return Err(self.ended());
            }
        }
    }

    /// Passes over the byte last peeked at.
    pub fn step(&mut self) {
        self.at += 1;
    }

    /// Returns the next whole value's text.
    pub fn value(&mut self) -> Result<&mut [u8], Stop> {
        let first = self.peek(b"")?;
        let mut from = self.at;
        match first {
            b'{' | b'[' => {
                let mut depth = 0u64;
                loop {
                    let Some(byte) = self.take(&mut from)? else { return Err(self.ended()) };
                    match byte {
                        b'{' | b'[' => depth += 1,
                        b'}' | b']' => {
                            depth -= 1;
                            if depth == 0 {
                                break;
                            }
                        }
                        b'"' => self.string_end(&mut from)?,
                        _ => {}
                    }
                }
            }
            b'"' => {
                self.at += 1;
                self.string_end(&mut from)?;
            }
            b']' | b'}' | b',' | b':' => return Err(Stop::Damaged),
            _ => loop {
                if self.at == self.end {
                    match self.more(from) {
                        Some(moved) => from -= moved,
                        None => return Err(self.ended()),
                    }
                }
                let byte = self.buf[self.at];
                if byte.is_ascii_whitespace() || matches!(byte, b',' | b']' | b'}' | b':') {
                    break;
                }
                self.at += 1;
                if self.at - from > MAX_VALUE {
                    return Err(Stop::TooLarge);
                }
            },
        }
        Ok(&mut self.buf[from..self.at])
    }

    /// The next byte that means something outside a string.
    #[inline]
    fn take(&mut self, from: &mut usize) -> Result<Option<u8>, Stop> {
        loop {
            let rest = &self.buf[self.at..self.end];
            if let Some(n) = rest.iter().position(|b| matches!(b, b'"' | b'{' | b'}' | b'[' | b']')) {
                self.at += n + 1;
                return Ok(Some(rest[n]));
            }
            self.at = self.end;
            if !self.refill(from)? {
                return Ok(None);
            }
        }
    }

    /// Moves past the closing quote.
    #[inline]
    fn string_end(&mut self, from: &mut usize) -> Result<(), Stop> {
        loop {
            let rest = &self.buf[self.at..self.end];
            match rest.iter().position(|b| matches!(b, b'"' | b'\\')) {
                Some(n) if rest[n] == b'"' => {
                    self.at += n + 1;
                    return Ok(());
                }
                Some(n) if n + 1 < rest.len() => self.at += n + 2,
                Some(n) => {
                    // The escaped byte is not there yet.
                    self.at += n;
                    if !self.refill(from)? {
                        return Err(self.ended());
                    }
                }
                None => {
                    self.at = self.end;
                    if !self.refill(from)? {
                        return Err(self.ended());
                    }
                }
            }
        }
    }

    fn refill(&mut self, from: &mut usize) -> Result<bool, Stop> {
        if self.end - *from > MAX_VALUE {
            return Err(Stop::TooLarge);
        }
        match self.more(*from) {
            Some(moved) => {
                *from -= moved;
                Ok(true)
            }
            None => Ok(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives one byte at a time.
    struct Drip<'a>(&'a [u8]);

    impl Read for Drip<'_> {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            let Some((first, rest)) = self.0.split_first() else { return Ok(0) };
            buf[0] = *first;
            self.0 = rest;
            Ok(1)
        }
    }

    #[test]
    fn values_are_found_across_chunks() {
        let text = br#"  [{"a":"}\"]\\","b":[1,{"c":2}]} , "x\"y", 12.5 , null]"#;
        let mut drip = Drip(text);
        let mut scan = Scanner::new(&mut drip);
        assert_eq!(scan.peek(b"").unwrap(), b'[');
        scan.step();
        let mut found = Vec::new();
        while scan.peek(b",").unwrap() != b']' {
            found.push(String::from_utf8(scan.value().unwrap().to_vec()).unwrap());
        }
        assert_eq!(found, [r#"{"a":"}\"]\\","b":[1,{"c":2}]}"#, r#""x\"y""#, "12.5", "null"]);
        assert_eq!(scan.offset(), text.len() as u64 - 1);
    }

    #[test]
    fn depth_costs_nothing() {
        let text = "[".repeat(1 << 20);
        let mut input = text.as_bytes();
        assert!(matches!(Scanner::new(&mut input).value(), Err(Stop::Cut)));
    }
}
