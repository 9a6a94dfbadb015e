//! Layers of artifacts that are archives (tar, also with gzip or zstd): their members become blobs of
//! their own, so that what is published is plain files, as of every other source.
//!
//! ModelPack's and KitOps's tools write such layers. A layer is hashed before it comes here, but who
//! made it is a stranger: names are checked, links and devices are refused, sizes are measured by the
//! room on the disk, and no more is held in memory than a piece.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use flate2::read::MultiGzDecoder;
use ruzstd::decoding::StreamingDecoder;
use sha2::{Digest, Sha256};
use tar::{Archive, EntryType};

use super::digest;
use super::error::PreloadError;
use super::name;
use super::source::hex;
use super::store::manifest::Stamp;
use super::store::{Repository, free_bytes};

/// Bytes read at a time.
const PIECE: usize = 1 << 20;
/// More members than any model has files.
const MOST: usize = 100_000;
/// What gzip (RFC 1952) and zstd (RFC 8878) begin with.
const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// A file that an archive holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of its content, in hex, which names its blob.
    pub sha256: String,
    /// Its blob; `None` if it is not wanted, and there is none.
    pub stamp: Option<Stamp>,
}

/// Makes blobs of an archive's members that are wanted. What is there already stays as it is.
///
/// # Errors
/// If it is no sound archive, holds anything but files and directories, or a name that leads
/// elsewhere; if the disk is full or the store fails; or if `stop` was set.
pub fn unpack(
    repository: &Repository,
    layer: &str,
    wants: &dyn Fn(&str) -> bool,
    stop: &AtomicBool,
) -> Result<Vec<Member>, PreloadError> {
    let path = repository.blob(layer);
    let work = Work { repository, layer, wants, stop };
    let failed = |error| PreloadError::store("read", &path, error);
    let mut file = File::open(&path).map_err(failed)?;
    let mut magic = [0; 4];
    let length = file.read(&mut magic).map_err(failed)?;
    file.rewind().map_err(failed)?;
    let file = BufReader::with_capacity(PIECE, file);
    if magic[..length].starts_with(&GZIP) {
        work.members(MultiGzDecoder::new(file))
    } else if magic[..length] == ZSTD {
        work.members(StreamingDecoder::new(file).map_err(|error| work.unsound(error))?)
    } else {
        work.members(file)
    }
}

struct Work<'a> {
    repository: &'a Repository,
    layer: &'a str,
    wants: &'a dyn Fn(&str) -> bool,
    stop: &'a AtomicBool,
}

impl Work<'_> {
    fn wrong(&self, why: String) -> PreloadError {
        PreloadError::Source { what: format!("layer {}", &self.layer[..12.min(self.layer.len())]), why, passing: false }
    }

    fn unsound(&self, error: impl std::fmt::Display) -> PreloadError {
        self.wrong(format!("it is no sound archive: {error}"))
    }

    fn members(&self, source: impl Read) -> Result<Vec<Member>, PreloadError> {
        let mut archive = Archive::new(source);
        let mut members: Vec<Member> = Vec::new();
        let mut piece = vec![0; PIECE];
        for entry in archive.entries().map_err(|error| self.unsound(error))? {
            let mut entry = entry.map_err(|error| self.unsound(error))?;
            let written = entry.path_bytes();
            let shown = String::from_utf8_lossy(&written).into_owned();
            match entry.header().entry_type() {
                EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {}
                EntryType::Directory | EntryType::XGlobalHeader => continue,
                kind => return Err(self.wrong(format!("{shown:?} in it is {}; only files are taken", kind_of(kind)))),
            }
            // "./x", as `tar -C DIRECTORY .` writes it.
            let name = shown.strip_prefix("./").unwrap_or(&shown).to_owned();
            let checked =
                if written.as_ref() == shown.as_bytes() { name::check(&name) } else { Err("it is not UTF-8") };
            checked.map_err(|why| self.wrong(format!("it names a file {shown:?}: {why}")))?;
            if members.len() >= MOST {
                return Err(self.wrong(format!("it holds more than {MOST} files")));
            }
            let bytes = entry.size();
            let (sha256, stamp) = if (self.wants)(&name) {
                let (sha256, stamp) = self.keep(&mut entry, bytes, members.len(), &mut piece)?;
                (sha256, Some(stamp))
            } else {
                (self.copy(&mut entry, bytes, None, &mut piece)?, None)
            };
            members.push(Member { name, bytes, sha256, stamp });
        }
        Ok(members)
    }

    /// Makes a blob of a member.
    fn keep(
        &self,
        entry: &mut impl Read,
        bytes: u64,
        number: usize,
        piece: &mut [u8],
    ) -> Result<(String, Stamp), PreloadError> {
        let blobs = self.repository.directory().join("blobs");
        let free_bytes = free_bytes(&blobs);
        if bytes > free_bytes {
            return Err(PreloadError::Full { store: blobs, needed_bytes: bytes, free_bytes });
        }
        let aside = self.repository.private("incomplete").join(format!("{}.{number}", self.layer));
        let aside = Aside::new(aside)?;
        let sha256 = self.copy(entry, bytes, Some(&aside), piece)?;
        let blob = self.repository.blob(&sha256);
        let failed = |what, error| PreloadError::store(what, &aside.path, error);
        // Other revisions may have it, and know it by its stamp.
        let there = fs::symlink_metadata(&blob).is_ok_and(|there| there.is_file() && there.len() == bytes)
            && digest::of_file(&blob, false).is_ok_and(|found| found.sha256 == sha256);
        if !there {
            aside.file.sync_data().map_err(|error| failed("force to disk", error))?;
            fs::rename(&aside.path, &blob).map_err(|error| failed("rename", error))?;
        }
        let found = fs::symlink_metadata(&blob).map_err(|error| PreloadError::store("read", &blob, error))?;
        Ok((sha256, Stamp::of(&found)))
    }

    /// Copies a member, and says what it hashes to.
    fn copy(
        &self,
        entry: &mut impl Read,
        bytes: u64,
        aside: Option<&Aside>,
        piece: &mut [u8],
    ) -> Result<String, PreloadError> {
        let mut sha256 = Sha256::new();
        let mut left = bytes;
        while left > 0 {
            if self.stop.load(Ordering::Relaxed) {
                return Err(self.wrong("the run was ended".to_owned()));
            }
            let length = match entry.read(piece) {
                Ok(0) => return Err(self.unsound("it ends in the middle of a file")),
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.unsound(error)),
            };
            sha256.update(&piece[..length]);
            if let Some(aside) = aside {
                let written = (&aside.file).write_all(&piece[..length]);
                written.map_err(|error| PreloadError::store("write", &aside.path, error))?;
            }
            left = left.saturating_sub(length as u64);
        }
        Ok(hex(&sha256.finalize()))
    }
}

/// A file on its way, which is removed if it gets no other name.
struct Aside {
    path: PathBuf,
    file: File,
}

impl Aside {
    fn new(path: PathBuf) -> Result<Aside, PreloadError> {
        let failed = |error| PreloadError::store("create", &path, error);
        fs::create_dir_all(path.parent().unwrap_or(Path::new("."))).map_err(failed)?;
        let file = File::create(&path).map_err(failed)?;
        Ok(Aside { path, file })
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn kind_of(kind: EntryType) -> &'static str {
    match kind {
        EntryType::Symlink | EntryType::Link => "a link",
        EntryType::Char | EntryType::Block => "a device",
        EntryType::Fifo => "a pipe",
        _ => "of a kind that is not known",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tar::{Builder, Header};

    use super::super::store::Store;
    use super::*;

    const LAYER: &str = "0123456789abcdef";

    fn header(kind: EntryType, size: u64) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_size(size);
        header
    }

    fn packed(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = Builder::new(Vec::new());
        for (name, content) in files {
            builder.append_data(&mut header(EntryType::Regular, content.len() as u64), name, *content).unwrap();
        }
        builder.into_inner().unwrap()
    }

    /// With a name that the crate itself would not write.
    fn packed_raw(kind: EntryType, name: &[u8], link: &[u8]) -> Vec<u8> {
        let mut header = header(kind, 0);
        let fields = header.as_gnu_mut().unwrap();
        fields.name[..name.len()].copy_from_slice(name);
        fields.linkname[..link.len()].copy_from_slice(link);
        header.set_cksum();
        let mut bytes = header.as_bytes().to_vec();
        bytes.resize(512 * 3, 0);
        bytes
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
    }

    struct Bench {
        directory: tempfile::TempDir,
        repository: Repository,
    }

    fn bench() -> Bench {
        let directory = tempfile::tempdir().unwrap();
        let repository = Store::at_home(directory.path()).repository(&"oci://localhost/a/b:c".parse().unwrap());
        repository.create().unwrap();
        Bench { directory, repository }
    }

    impl Bench {
        fn unpack(&self, archive: &[u8]) -> Result<Vec<Member>, PreloadError> {
            fs::write(self.repository.blob(LAYER), archive).unwrap();
            let wants = |name: &str| !name.ends_with(".bin");
            let members = unpack(&self.repository, LAYER, &wants, &AtomicBool::new(false));
            assert_eq!(fs::read_dir(self.repository.private("incomplete")).map_or(0, Iterator::count), 0);
            members
        }

        fn content(&self, member: &Member) -> Vec<u8> {
            fs::read(self.repository.blob(&member.sha256)).unwrap()
        }
    }

    #[test]
    fn members_become_blobs_however_they_are_packed() {
        let long = format!("{}/{}", "d".repeat(120), "n".repeat(120));
        let plain =
            packed(&[("./a/b.txt", b"hello\n"), (&long, &[7; 3_000_000]), ("c.bin", b"not wanted"), ("e", b"")]);
        for archive in [plain.clone(), gzip(&plain), zstd(&plain), [gzip(&plain[..512]), gzip(&plain[512..])].concat()]
        {
            let bench = bench();
            let members = bench.unpack(&archive).unwrap();
            let names: Vec<&str> = members.iter().map(|member| member.name.as_str()).collect();
            assert_eq!(names, ["a/b.txt", &long, "c.bin", "e"]);
            assert_eq!(members[0].sha256, "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03");
            assert_eq!(bench.content(&members[0]), b"hello\n");
            assert_eq!(bench.content(&members[1]), [7; 3_000_000]);
            assert_eq!((members[2].bytes, members[2].stamp), (10, None));
            assert!(!bench.repository.blob(&members[2].sha256).exists());
            assert_eq!(bench.content(&members[3]), b"");
            // Again: what is there stays.
            assert_eq!(bench.unpack(&archive).unwrap(), members);
            // A blob that somebody damaged is replaced.
            fs::write(bench.repository.blob(&members[0].sha256), "HELLO\n").unwrap();
            assert_eq!(bench.content(&bench.unpack(&archive).unwrap()[0]), b"hello\n");
        }
    }

    #[test]
    fn tricks_are_refused_by_name() {
        let tricks: [(EntryType, &[u8], &[u8], &str); 9] = [
            (EntryType::Regular, b"../x", b"", "leaves its directory"),
            (EntryType::Regular, b"/etc/passwd", b"", "absolute"),
            (EntryType::Regular, b"a/../../x", b"", "leaves its directory"),
            (EntryType::Regular, b"a\nb", b"", "control characters"),
            (EntryType::Regular, b"a\xff", b"", "not UTF-8"),
            (EntryType::Symlink, b"x", b"/etc/passwd", "a link"),
            (EntryType::Link, b"x", b"../../y", "a link"),
            (EntryType::Char, b"x", b"", "a device"),
            (EntryType::Fifo, b"x", b"", "a pipe"),
        ];
        for (kind, name, link, word) in tricks {
            let bench = bench();
            let error = bench.unpack(&packed_raw(kind, name, link)).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
            assert!(error.starts_with("cannot read layer 0123456789ab: "), "{error}");
            assert!(!error.chars().any(char::is_control), "{error:?}");
            drop(bench.directory);
        }
    }

    #[test]
    fn sizes_that_lie_find_no_room_or_no_end() {
        let lie = |size| {
            let mut header = header(EntryType::Regular, size);
            header.set_path("x").unwrap();
            header.set_cksum();
            header.as_bytes().to_vec()
        };
        let bench = bench();
        assert!(bench.unpack(&lie(1 << 60)).unwrap_err().is_disk_full());
        let error = bench.unpack(&lie(5000)).unwrap_err().to_string();
        assert!(error.contains("no sound archive"), "{error}");
        let packed = gzip(&packed(&[("x", &[1; 100_000])]));
        let error = bench.unpack(&packed[..packed.len() / 2]).unwrap_err().to_string();
        assert!(error.contains("no sound archive"), "{error}");
        assert!(bench.unpack(b"\x28\xb5\x2f\xfdnonsense").is_err());
        assert!(bench.unpack(&[b'x'; 2000]).is_err());
        assert!(bench.unpack(b"").unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_write_elsewhere(mut bytes in prop::collection::vec(any::<u8>(), 0..2000), at in 0usize..1536) {
            let bench = bench();
            let _ = bench.unpack(&bytes);
            let mut archive = packed(&[("a", b"1"), ("b", b"2")]);
            bytes.truncate(20);
            let at = at.min(archive.len() - 20);
            archive[at..at + bytes.len()].copy_from_slice(&bytes);
            let _ = bench.unpack(&archive);
            let beside: Vec<_> = fs::read_dir(bench.directory.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
            prop_assert_eq!(beside, ["hub"]);
        }
    }
}
