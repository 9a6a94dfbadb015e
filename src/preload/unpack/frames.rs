//! zstd as RFC 8878 has it: a file is any number of frames, one behind the other, and frames that are
//! to be skipped may lie between them. The decoder that we use knows one frame.

use std::io::{self, BufRead, Read};

use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// The bytes that all frames of a source hold, one after the other. Memory is that of the largest
/// window, of which the decoder allows 128 MiB.
pub struct Frames<R> {
    source: R,
    decoder: FrameDecoder,
    /// Whether the decoder is at work on a frame.
    within: bool,
}

impl<R: BufRead> Frames<R> {
    /// Of a source that stands at the beginning of a frame.
    pub fn new(source: R) -> Frames<R> {
        Frames { source, decoder: FrameDecoder::new(), within: false }
    }

    /// Goes to the next frame that holds anything; false at the end.
    fn next(&mut self) -> io::Result<bool> {
        while !self.source.fill_buf()?.is_empty() {
            match self.decoder.reset(&mut self.source) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                    let length = u64::from(length);
                    if io::copy(&mut self.source.by_ref().take(length), &mut io::sink())? < length {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        Ok(false)
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            while self.within && self.decoder.can_collect() == 0 {
                if self.decoder.is_finished() {
                    self.within = false;
                } else {
                    let block = BlockDecodingStrategy::UptoBlocks(1);
                    self.decoder.decode_blocks(&mut self.source, block).map_err(io::Error::other)?;
                }
            }
            if self.within {
                return self.decoder.read(buffer);
            }
            self.within = self.next()?;
            if !self.within {
                return Ok(0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    fn frame(bytes: &[u8]) -> Vec<u8> {
        compress_to_vec(bytes, CompressionLevel::Fastest)
    }

    fn skipped(length: u32, bytes: &[u8]) -> Vec<u8> {
        [&[0x5a, 0x2a, 0x4d, 0x18], &length.to_le_bytes()[..], bytes].concat()
    }

    fn read(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        // A small buffer, for frames to lie across its ends.
        Frames::new(BufReader::with_capacity(7, bytes)).read_to_end(&mut all).map(|_| all)
    }

    #[test]
    fn all_frames_are_read() {
        let (one, other) = (vec![1; 300_000], b"other".to_vec());
        let file = [skipped(3, b"abc"), frame(&one), frame(b""), skipped(0, b""), frame(&other), skipped(1, b"x")];
        assert!(read(&file.concat()).unwrap() == [one, other].concat());
        assert_eq!(read(b"").unwrap(), b"");
    }

    #[test]
    fn what_is_cut_off_is_an_error() {
        let file = [frame(&[1; 3000]), frame(b"other")].concat();
        let first = frame(&[1; 3000]).len();
        for length in (1..file.len()).filter(|length| *length != first) {
            assert!(read(&file[..length]).is_err(), "{length}");
        }
        assert!(read(&skipped(5, b"abc")).is_err());
        assert!(read(&[file, b"garbage".to_vec()].concat()).is_err());
    }
}
