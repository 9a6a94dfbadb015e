//! Opens a recording of any format we know, told apart by content.

use std::io::{self, Read};

use flate2::read::MultiGzDecoder;
use thiserror::Error;

use super::model::Trace;
use super::{chrome, perfetto};

/// Enough of a file to tell what it is.
const HEAD: usize = 4096;

/// Why a recording can't be opened. `offset` is in bytes, of the unpacked data where the file
/// is compressed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReadError {
    /// There is nothing in it.
    #[error("the file is empty; a capture that ran writes at least its clock, so record again")]
    Empty,
    /// Its content is of no format we know.
    #[error(
        "not a recording aictl can read: starts with {start}; give a Perfetto recording, a Chrome JSON trace, or either in gzip"
    )]
    Unknown {
        /// The first bytes, in words.
        start: String,
    },
    /// Compressed in a way we do not unpack.
    #[error("compressed with {what}; unpack it first with `{command}`")]
    Compressed {
        /// Name of the format.
        what: &'static str,
        /// How to unpack it.
        command: &'static str,
    },
    /// The source failed before anything could be read.
    #[error("can't read on at byte {offset}; copy the file again if it was cut on its way")]
    Io {
        /// Where.
        offset: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It starts like a recording, but not even its first packet can be read.
    #[error("damaged or cut at byte {offset}, before the first whole packet; record or copy it again")]
    Damaged {
        /// Where.
        offset: u64,
    },
    /// JSON, but not a trace.
    #[error("JSON, but not a trace: no `traceEvents` and no list of events up to byte {offset}")]
    NotATrace {
        /// Where it was given up.
        offset: u64,
    },
}

/// Reads a recording: Perfetto's protobuf or Chrome's JSON (ours or PyTorch's), plain or in gzip.
///
/// Streams: memory goes into the [`Trace`] and a few buffers of less than a MiB. What is
/// cut, damaged or impossible is mended and told in [`Trace::warnings`].
///
/// # Errors
/// If nothing of the recording can be read.
pub fn read(input: &mut dyn Read) -> Result<Trace, ReadError> {
    let head = head(input)?;
    if head.starts_with(&[0x1f, 0x8b]) {
        let mut packed = head.as_slice().chain(input);
        let mut unpacked = MultiGzDecoder::new(&mut packed);
        let inner = self::head(&mut unpacked)?;
        return plain(&inner, &mut unpacked);
    }
    plain(&head, input)
}

fn plain(head: &[u8], rest: &mut dyn Read) -> Result<Trace, ReadError> {
    let mut whole = head.chain(rest);
    if head.is_empty() {
        return Err(ReadError::Empty);
    }
    if perfetto::looks_right(head) {
        return perfetto::read(&mut whole);
    }
    if chrome::looks_right(head) {
        return chrome::read(&mut whole);
    }
    match head {
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Err(ReadError::Compressed { what: "zstd", command: "zstd -d" }),
        [0xfd, b'7', b'z', b'X', b'Z', ..] => Err(ReadError::Compressed { what: "xz", command: "xz -d" }),
        [b'B', b'Z', b'h', ..] => Err(ReadError::Compressed { what: "bzip2", command: "bzip2 -d" }),
        [b'P', b'K', 3, 4, ..] => Err(ReadError::Compressed { what: "zip", command: "unzip" }),
        [0x1f, 0x8b, ..] => Err(ReadError::Compressed { what: "gzip twice", command: "gzip -d" }),
        _ => Err(ReadError::Unknown { start: words(head) }),
    }
}

/// Reads up to [`HEAD`] bytes.
fn head(input: &mut dyn Read) -> Result<Vec<u8>, ReadError> {
    let mut head = vec![0; HEAD];
    let mut len = 0;
    while len < HEAD {
        match input.read(&mut head[len..]) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // The rest of a cut file: what came before it may still be of use.
            Err(_) if len > 0 => break,
            Err(source) => return Err(ReadError::Io { offset: 0, source }),
        }
    }
    head.truncate(len);
    Ok(head)
}

/// The first bytes, as text if they are text.
fn words(head: &[u8]) -> String {
    let start = &head[..head.len().min(16)];
    match std::str::from_utf8(start) {
        Ok(text) if !text.chars().any(char::is_control) => format!("{text:?}"),
        _ => start.iter().take(8).map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" "),
    }
}
