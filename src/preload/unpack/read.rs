//! Reads an archive: tar, as it is or packed by gzip or zstd, made by a stranger.

use std::cell::Cell;
use std::io::{self, BufRead, Read};
use std::sync::atomic::{AtomicBool, Ordering};

use flate2::bufread::MultiGzDecoder;
use tar::{Archive, Entry, EntryType, PaxExtensions};

use super::super::name;
use super::frames::Frames;

/// More members than any model has files.
const MOST: usize = 100_000;
/// More bytes than their names have together.
const MOST_OF_NAMES: usize = 16 << 20;
/// More bytes than there are between the contents of two members: headers, a long name, PAX records.
/// All of them are held in memory.
const MOST_OF_HEADERS: u64 = 1 << 20;
/// More zeros than packers put behind the end, to fill a tape's block.
const MOST_OF_PADDING: u64 = 64 << 20;
/// Letters of a name that are shown.
const SHOWN: usize = 200;
/// What gzip (RFC 1952) and zstd (RFC 8878; the last three bytes of a frame that is skipped) begin with.
const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
const ZSTD_SKIPPED: [u8; 3] = [0x2a, 0x4d, 0x18];

/// Why an archive can't be taken; the words complete a sentence.
#[derive(Debug, PartialEq, Eq)]
pub struct Unsound(pub String);

impl Unsound {
    /// Of what went wrong in reading.
    pub fn of(error: impl std::fmt::Display) -> Unsound {
        // The reader of tar tells names as they are.
        let harmless = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
        let error: String = error.to_string().chars().take(SHOWN).map(harmless).collect();
        Unsound(format!("it can't be unpacked: {error}"))
    }
}

/// Gives `take` each file of an archive: its name, which is a plain relative path; its size; and its
/// content. What is left of that is skipped. How it is packed is seen from its first bytes.
///
/// In memory there are never more than a mebibyte of headers, and a decoder's window; of zstd that may be
/// `window` bytes.
///
/// # Errors
/// If it is no sound archive, or ends without its end mark; if it holds anything but files and
/// directories, files that are stored sparse, or a name that leads elsewhere; if `stop` was set, or
/// `take` fails.
pub fn each_file<E: From<Unsound>>(
    mut source: impl BufRead,
    stop: &AtomicBool,
    window: u64,
    take: impl FnMut(String, u64, &mut dyn Read) -> Result<(), E>,
) -> Result<(), E> {
    let begin = source.fill_buf().map_err(Unsound::of)?;
    if begin.starts_with(&GZIP) {
        walk(MultiGzDecoder::new(source), stop, take)
    } else if begin.starts_with(&ZSTD)
        || (begin.first().is_some_and(|byte| byte >> 4 == 5) && begin[1..].starts_with(&ZSTD_SKIPPED))
    {
        walk(Frames::new(source, window), stop, take)
    } else {
        walk(source, stop, take)
    }
}

fn walk<E: From<Unsound>>(
    source: impl Read,
    stop: &AtomicBool,
    mut take: impl FnMut(String, u64, &mut dyn Read) -> Result<(), E>,
) -> Result<(), E> {
    let (left, ended) = (Cell::new(MOST_OF_HEADERS), Cell::new(false));
    let mut archive = Archive::new(Meter { source, stop, left: &left, ended: &ended });
    let (mut members, mut of_names) = (0, 0);
    let mut entries = archive.entries().map_err(Unsound::of)?;
    loop {
        left.set(MOST_OF_HEADERS);
        let Some(entry) = entries.next() else { break };
        let mut entry = entry.map_err(Unsound::of)?;
        let Some(name) = file_name(&mut entry)? else { continue };
        (members, of_names) = (members + 1, of_names + name.len());
        if members > MOST || of_names > MOST_OF_NAMES {
            let most = format!("it holds more than {MOST} files, or more than {MOST_OF_NAMES} bytes of names");
            return Err(Unsound(most).into());
        }
        left.set(u64::MAX);
        let bytes = entry.size();
        take(name, bytes, &mut entry)?;
        io::copy(&mut entry, &mut io::sink()).map_err(Unsound::of)?;
    }
    if ended.get() {
        // Cut off between two members it would look whole.
        return Err(Unsound::of("it ends without its end mark").into());
    }
    left.set(MOST_OF_PADDING);
    let mut rest = archive.into_inner();
    let mut piece = [0; 8192];
    loop {
        match rest.read(&mut piece).map_err(Unsound::of)? {
            0 => return Ok(()),
            length if piece[..length].iter().all(|byte| *byte == 0) => {}
            _ => return Err(Unsound::of("something follows behind its end").into()),
        }
    }
}

/// The name of a member that is a file; `None` for what needs no place.
fn file_name<R: Read>(entry: &mut Entry<'_, R>) -> Result<Option<String>, Unsound> {
    let kind = entry.header().entry_type();
    if kind == EntryType::XGlobalHeader {
        let mut records = Vec::new();
        entry.read_to_end(&mut records).map_err(Unsound::of)?;
        for record in PaxExtensions::new(&records) {
            let key = record.map_err(Unsound::of)?.key_bytes().to_vec();
            if [b"path".as_slice(), b"size", b"linkpath"].contains(&key.as_slice()) || is_sparse(&key) {
                let key = String::from_utf8_lossy(&key).into_owned();
                return Err(Unsound(format!("it says of all its files that their {key} is the same")));
            }
        }
        return Ok(None);
    }
    let written = entry.path_bytes().into_owned();
    let text = String::from_utf8_lossy(&written);
    let shown: String = text.chars().take(SHOWN).collect();
    for record in entry.pax_extensions().map_err(Unsound::of)?.into_iter().flatten() {
        if is_sparse(record.map_err(Unsound::of)?.key_bytes()) {
            return Err(sparse(&shown));
        }
    }
    match kind {
        // Before POSIX a directory was a file whose name ends so.
        EntryType::Regular if text.ends_with('/') && entry.size() == 0 => return Ok(None),
        EntryType::Regular | EntryType::Continuous => {}
        EntryType::Directory => return Ok(None),
        EntryType::GNUSparse => return Err(sparse(&shown)),
        kind => return Err(Unsound(format!("{shown:?} in it is {}; only files are taken", kind_of(kind)))),
    }
    // "./x", as `tar -C DIRECTORY .` writes it.
    let name = text.strip_prefix("./").map_or(&*text, |name| name.trim_start_matches('/'));
    let checked = if written == text.as_bytes() { name::check(name) } else { Err("it is not UTF-8") };
    checked.map_err(|why| Unsound(format!("it names a file {shown:?}: {why}")))?;
    Ok(Some(name.to_owned()))
}

/// Whether a PAX record describes holes (GNU tar's manual, "Storing Sparse Files").
fn is_sparse(key: &[u8]) -> bool {
    key.starts_with(b"GNU.sparse.")
}

fn sparse(shown: &str) -> Unsound {
    Unsound(format!("{shown:?} in it is stored sparse; pack it with its holes (no --sparse; bsdtar: --no-read-sparse)"))
}

fn kind_of(kind: EntryType) -> &'static str {
    match kind {
        EntryType::Symlink | EntryType::Link => "a link",
        EntryType::Char | EntryType::Block => "a device",
        EntryType::Fifo => "a pipe",
        _ => "of a kind that is not known",
    }
}

/// Sees how much is read: the reader of tar holds names and records as long as they say they are.
struct Meter<'a, R> {
    source: R,
    stop: &'a AtomicBool,
    /// Bytes that may be read yet.
    left: &'a Cell<u64>,
    /// Whether the source has no more.
    ended: &'a Cell<bool>,
}

impl<R: Read> Read for Meter<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(io::Error::other("the run was ended"));
        }
        let left = self.left.get();
        let length = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if length == 0 && !buffer.is_empty() {
            return Err(io::Error::other("it holds more between two files than any packer writes"));
        }
        let length = self.source.read(&mut buffer[..length])?;
        self.left.set(left - length as u64);
        if length == 0 && !buffer.is_empty() {
            self.ended.set(true);
        }
        Ok(length)
    }
}
