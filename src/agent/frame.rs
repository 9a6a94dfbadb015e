//! Messages on a stream of bytes: a kind, a length, and so many bytes.

use std::io::{self, Read, Write};

use flate2::{Decompress, FlushDecompress, Status};
use tokio::io::{AsyncRead, AsyncReadExt};

/// No message is longer: the events of one are cut off at a hundredth of it, notes are smaller.
pub const LONGEST: usize = 64 << 20;
/// Unpacked events of one message; the far end packs runs of 64 KiB, and notes that are larger.
const LONGEST_RUN: usize = 128 << 20;
/// Room that is made at a time for what is unpacked.
const ROOM: usize = 128 << 10;
/// Kind and length.
const HEAD: usize = 5;

/// Kinds of messages, by their first byte. The near end's are below 16.
pub mod kind {
    /// [`Hello`](super::super::protocol::Hello), as JSON.
    pub const HELLO: u8 = 1;
    /// The sender's clock, for a round trip.
    pub const PING: u8 = 2;
    /// All sequenced messages before this number have come.
    pub const ACK: u8 = 3;
    /// End the capture.
    pub const STOP: u8 = 4;
    /// All has come; end.
    pub const BYE: u8 = 5;
    /// [`Welcome`](super::super::protocol::Welcome), as JSON.
    pub const WELCOME: u8 = 16;
    /// The clock of a ping, and the answerer's own.
    pub const PONG: u8 = 17;
    /// Sequenced: number, then events ([`RelayWriter`](crate::trace::RelayWriter)), deflated.
    pub const EVENTS: u8 = 18;
    /// Sequenced: number, then [`News`](super::super::protocol::News), as JSON.
    pub const NEWS: u8 = 19;
    /// Why this connection won't do, as text.
    pub const REFUSED: u8 = 20;
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub kind: u8,
    /// What it says.
    pub body: Vec<u8>,
}

/// The bytes of a message.
pub fn encode(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD + body.len());
    bytes.push(kind);
    bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// The bytes of a sequenced message.
pub fn encode_sequenced(kind: u8, number: u64, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD + 8 + body.len());
    bytes.push(kind);
    bytes.extend_from_slice(&((body.len() + 8) as u32).to_le_bytes());
    bytes.extend_from_slice(&number.to_le_bytes());
    bytes.extend_from_slice(body);
    bytes
}

fn length(head: [u8; HEAD]) -> io::Result<usize> {
    let length = u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize;
    if length > LONGEST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a message is too long: this is not our stream"));
    }
    Ok(length)
}

/// Reads a message; `None` at the end of the stream.
///
/// # Errors
/// Those of the stream, and if it holds what is no message.
pub fn read(stream: &mut impl Read) -> io::Result<Option<Frame>> {
    let mut head = [0; HEAD];
    match stream.read_exact(&mut head) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let length = length(head)?;
    let mut body = Vec::new();
    // Memory as it comes, not as it is announced.
    if stream.take(length as u64).read_to_end(&mut body)? < length {
        return Ok(None);
    }
    Ok(Some(Frame { kind: head[0], body }))
}

/// As [`read`], for the near end.
///
/// # Errors
/// As [`read`]'s.
pub async fn read_async(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Frame>> {
    let mut head = [0; HEAD];
    match stream.read_exact(&mut head).await {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let length = length(head)?;
    let mut body = Vec::new();
    if stream.take(length as u64).read_to_end(&mut body).await? < length {
        return Ok(None);
    }
    Ok(Some(Frame { kind: head[0], body }))
}

/// Writes a message.
///
/// # Errors
/// Those of the stream.
pub fn write(stream: &mut impl Write, kind: u8, body: &[u8]) -> io::Result<()> {
    stream.write_all(&encode(kind, body))?;
    stream.flush()
}

/// The number in front of a body, and the rest.
pub fn number(body: &[u8]) -> Option<(u64, &[u8])> {
    let (number, rest) = body.split_first_chunk::<8>()?;
    Some((u64::from_le_bytes(*number), rest))
}

/// Unpacks runs of events, one after the other, with the same tables.
#[derive(Debug)]
pub struct Unpacker(Decompress);

impl Default for Unpacker {
    fn default() -> Unpacker {
        Unpacker(Decompress::new(false))
    }
}

impl Unpacker {
    /// Appends what a run holds.
    ///
    /// # Errors
    /// If it is none, is cut, or holds more than any of ours.
    pub fn unpack(&mut self, mut packed: &[u8], into: &mut Vec<u8>) -> io::Result<()> {
        let before = into.len();
        self.0.reset(false);
        loop {
            into.reserve(ROOM);
            let taken = self.0.total_in();
            let status = self.0.decompress_vec(packed, into, FlushDecompress::None);
            let status = status.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            let taken = usize::try_from(self.0.total_in() - taken).unwrap_or(usize::MAX);
            packed = packed.get(taken..).unwrap_or_default();
            if into.len() - before > LONGEST_RUN {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a run of events is too long"));
            }
            match status {
                Status::StreamEnd => return Ok(()),
                // Room was left, and nothing came.
                _ if packed.is_empty() && into.len() < into.capacity() => {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                _ => {}
            }
        }
    }

    /// A message with its events unpacked; any other as it is.
    ///
    /// # Errors
    /// As [`Unpacker::unpack`]'s.
    pub fn open(&mut self, frame: Frame) -> io::Result<Frame> {
        let (kind::EVENTS, Some((head, packed))) = (frame.kind, frame.body.split_first_chunk::<8>()) else {
            return Ok(frame);
        };
        let mut body = head.to_vec();
        let unpacked = self.unpack(packed, &mut body);
        unpacked.map_err(|error| io::Error::new(error.kind(), format!("events can't be unpacked: {error}")))?;
        Ok(Frame { kind: frame.kind, body })
    }
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::DeflateEncoder;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn messages_come_back(kinds in proptest::collection::vec((any::<u8>(), proptest::collection::vec(any::<u8>(), 0..90)), 0..9)) {
            let bytes: Vec<u8> = kinds.iter().flat_map(|(kind, body)| encode(*kind, body)).collect();
            let mut stream = bytes.as_slice();
            for (kind, body) in &kinds {
                prop_assert_eq!(read(&mut stream).unwrap(), Some(Frame { kind: *kind, body: body.clone() }));
            }
            prop_assert_eq!(read(&mut stream).unwrap(), None);
        }

        #[test]
        fn any_bytes_are_messages_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut stream = bytes.as_slice();
            while let Ok(Some(_)) = read(&mut stream) {}
        }
    }

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut packed = DeflateEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(bytes).unwrap();
        packed.finish().unwrap()
    }

    #[test]
    fn runs_are_unpacked_one_after_the_other_and_what_is_broken_spoils_no_other() {
        let mut unpacker = Unpacker::default();
        // Just as long as the room that is made, and longer.
        for length in [0, 1, 5_000, ROOM, 2 * ROOM, 3 * ROOM + 7] {
            let run: Vec<u8> = (0..length).map(|n| ((n * n) >> 7) as u8).collect();
            let mut whole = packed(&run);
            let mut out = b"before".to_vec();
            unpacker.unpack(&whole, &mut out).unwrap();
            assert!(out.starts_with(b"before") && out[6..] == run, "{length}");
            whole.pop();
            assert!(unpacker.unpack(&whole, &mut Vec::new()).is_err(), "{length}");
        }
        assert!(unpacker.unpack(&[0xff; 40], &mut Vec::new()).is_err());
        // A bomb.
        let bomb = packed(&vec![0; LONGEST_RUN + 1]);
        assert!(unpacker.unpack(&bomb, &mut Vec::new()).is_err());
    }

    #[test]
    fn only_events_are_unpacked() {
        let mut unpacker = Unpacker::default();
        let mut body = 7u64.to_le_bytes().to_vec();
        body.extend(packed(b"events"));
        let frame = unpacker.open(Frame { kind: kind::EVENTS, body: body.clone() }).unwrap();
        assert_eq!(number(&frame.body), Some((7, b"events".as_slice())));
        let news = Frame { kind: kind::NEWS, body };
        assert_eq!(unpacker.open(news.clone()).unwrap(), news);
        let short = Frame { kind: kind::EVENTS, body: vec![1] };
        assert_eq!(unpacker.open(short.clone()).unwrap(), short);
    }

    #[test]
    fn a_number_stands_in_front() {
        let bytes = encode_sequenced(kind::NEWS, 7, b"rest");
        let frame = read(&mut bytes.as_slice()).unwrap().unwrap();
        assert_eq!(number(&frame.body), Some((7, b"rest".as_slice())));
        assert_eq!(number(b"short"), None);
    }
}
