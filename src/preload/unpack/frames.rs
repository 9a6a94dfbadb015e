//! zstd as RFC 8878 has it: a file is any number of frames, one behind the other, and frames that are
//! to be skipped may lie between them. The decoder that we use knows one frame.

use std::io::{self, BufRead, Read};

use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use super::PARTS;

/// The bytes that all frames of a source hold, one after the other. The decoder holds the largest window,
/// and as much again while it grows.
pub struct Frames<R> {
    source: R,
    decoder: FrameDecoder,
    /// Whether the decoder is at work on a frame.
    within: bool,
}

impl<R: BufRead> Frames<R> {
    /// Of a source that stands at the beginning of a frame. Frames that need a larger window, in bytes,
    /// are an error.
    pub fn new(source: R, window: u64) -> Frames<R> {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(window);
        Frames { source, decoder, within: false }
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
                Err(FrameDecoderError::WindowSizeTooBig { requested, max }) => {
                    let [requested, max] = [requested, max].map(|bytes| bytes.div_ceil(1 << 20));
                    return Err(io::Error::other(format!(
                        "its zstd needs a window of {requested} MiB, of {max} that --max-memory leaves; raise it to {}Mi",
                        requested * PARTS
                    )));
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
        Frames::new(BufReader::with_capacity(7, bytes), 8 << 20).read_to_end(&mut all).map(|_| all)
    }

    #[test]
    fn all_frames_are_read() {
        let (one, other) = (vec![1; 300_000], b"other".to_vec());
        let file = [skipped(3, b"abc"), frame(&one), frame(b""), skipped(0, b""), frame(&other), skipped(1, b"x")];
        assert!(read(&file.concat()).unwrap() == [one, other].concat());
        assert_eq!(read(b"").unwrap(), b"");
    }

    #[test]
    fn a_window_that_is_too_large_is_told_with_what_to_do() {
        // RFC 8878, 3.1.1.1: no single segment, a window of 2^(10 + 17) bytes.
        let error = read(&[0x28, 0xb5, 0x2f, 0xfd, 0, 17 << 3, 1, 0, 0]).unwrap_err().to_string();
        assert!(error.contains("128 MiB, of 8 that --max-memory leaves; raise it to 1024Mi"), "{error}");
        assert_eq!(read(&[0x28, 0xb5, 0x2f, 0xfd, 0, 13 << 3, 1, 0, 0]).unwrap(), b"");
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
