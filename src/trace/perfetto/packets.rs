//! Cuts a byte stream into trace packets without holding more than one large packet.

use std::io::{self, Read};

use super::wire::{field, take_varint};

/// What is read at once.
const CHUNK: usize = 512 << 10;
/// A longer packet is taken for damage; Perfetto's own limit for one is far below.
const MAX_PACKET: usize = 64 << 20;

/// Why a stream of packets ended early.
#[derive(Debug)]
pub(super) enum Stop {
    /// The source failed.
    Io(io::Error),
    /// These bytes are not packets.
    Damaged,
    /// The stream ends within a packet.
    Cut,
}

/// Packets of a stream, one after another.
pub(super) struct Packets<'r> {
    input: &'r mut dyn Read,
    buf: Vec<u8>,
    start: usize,
    end: usize,
    /// Where the next packet starts in the stream.
    pub offset: u64,
    eof: bool,
    failure: Option<io::Error>,
}

impl<'r> Packets<'r> {
    pub fn new(input: &'r mut dyn Read) -> Self {
        Packets { input, buf: vec![0; CHUNK], start: 0, end: 0, offset: 0, eof: false, failure: None }
    }

    /// Bytes that are left of a packet that was cut.
    pub fn left_over(&self) -> usize {
        self.end - self.start
    }

    /// Returns the next packet's body.
    ///
    /// # Errors
    /// Why there is no more; `offset` and `left_over` say where.
    pub fn next(&mut self) -> Result<Option<&[u8]>, Stop> {
        loop {
            // Tag and length take at most 5 + 5 bytes in anything we accept.
            self.fill(20);
            if self.start == self.end {
                return match self.failure.take() {
                    Some(error) => Err(Stop::Io(error)),
                    None => Ok(None),
                };
            }
            let Some((tag, head, body)) = self.head()? else { return Err(self.cut()) };
            if !self.fill(head + body) {
                return Err(self.cut());
            }
            let from = self.start + head;
            self.start = from + body;
            self.offset += (head + body) as u64;
            if tag == u64::from(field::TRACE_PACKET) << 3 | 2 {
                return Ok(Some(&self.buf[from..from + body]));
            }
        }
    }

    /// Tag, bytes before the body, bytes of the body. `None` where the stream ends first.
    fn head(&self) -> Result<Option<(u64, usize, usize)>, Stop> {
        let all = &self.buf[self.start..self.end];
        let mut rest = all;
        let at_end = self.eof && all.len() < 20;
        let malformed = |_| if at_end { Stop::Cut } else { Stop::Damaged };
        let tag = match take_varint(&mut rest) {
            Ok(tag) => tag,
            Err(error) => return if at_end { Ok(None) } else { Err(malformed(error)) },
        };
        if tag >> 3 == 0 || tag >> 3 > u64::from(u32::MAX >> 3) {
            return Err(Stop::Damaged);
        }
        let body = match tag & 7 {
            0 => match take_varint(&mut rest) {
                Ok(_) => 0,
                Err(_) if at_end => return Ok(None),
                Err(error) => return Err(malformed(error)),
            },
            1 => 8,
            2 => match take_varint(&mut rest) {
                Ok(len) if len <= MAX_PACKET as u64 => len as usize,
                Err(_) if at_end => return Ok(None),
                _ => return Err(Stop::Damaged),
            },
            5 => 4,
            _ => return Err(Stop::Damaged),
        };
        Ok(Some((tag, all.len() - rest.len(), body)))
    }

    fn cut(&mut self) -> Stop {
        self.failure.take().map_or(Stop::Cut, Stop::Io)
    }

    /// Makes `wanted` bytes available; false where the stream ends first.
    fn fill(&mut self, wanted: usize) -> bool {
        while self.end - self.start < wanted {
            if self.eof {
                return false;
            }
            if self.start > 0 {
                self.buf.copy_within(self.start..self.end, 0);
                self.end -= self.start;
                self.start = 0;
            }
            if self.end == self.buf.len() {
                // Grows with what has really arrived, never by what a length claims.
                self.buf.resize(self.buf.len() * 2, 0);
            }
            match self.input.read(&mut self.buf[self.end..]) {
                Ok(0) => self.eof = true,
                Ok(n) => self.end += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.failure = Some(error);
                    self.eof = true;
                }
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packets(mut bytes: &[u8]) -> (Vec<Vec<u8>>, Option<Stop>, u64) {
        let mut stream = Packets::new(&mut bytes);
        let mut found = Vec::new();
        loop {
            match stream.next() {
                Ok(Some(packet)) => found.push(packet.to_vec()),
                Ok(None) => return (found, None, stream.offset),
                Err(stop) => return (found, Some(stop), stream.offset),
            }
        }
    }

    #[test]
    fn other_fields_are_passed_over() {
        let (found, stop, _) = packets(&[0x0a, 1, 7, 0x10, 5, 0x12, 2, 9, 9, 0x0a, 0]);
        assert_eq!(found, [vec![7], vec![]]);
        assert!(stop.is_none());
    }

    #[test]
    fn a_cut_stream_says_where() {
        let (found, stop, offset) = packets(&[0x0a, 1, 7, 0x0a, 4, 1]);
        assert_eq!((found.len(), offset), (1, 3));
        assert!(matches!(stop, Some(Stop::Cut)));
    }

    #[test]
    fn a_gigantic_length_allocates_nothing() {
        let (found, stop, _) = packets(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0x7f, 1, 2, 3]);
        assert!(found.is_empty());
        assert!(matches!(stop, Some(Stop::Damaged)));
    }

    #[test]
    fn a_packet_larger_than_the_buffer_is_whole() {
        let mut bytes = vec![0x0a];
        super::super::wire::varint(&mut bytes, 3 << 20);
        bytes.resize(bytes.len() + (3 << 20), 5);
        let (found, stop, _) = packets(&bytes);
        assert_eq!(found[0].len(), 3 << 20);
        assert!(stop.is_none());
    }
}
