//! Keeps the scan of a library between runs.
//!
//! A probe in the wrong place would break the target, so an entry is used only when its
//! checksum is right, it is about this very build, and the bytes at every probe are the same.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::elf::Elf;
use super::torch::TorchScan;

/// Changes whenever the scan or this file's form does.
const VERSION: u32 = 2;

#[derive(Serialize, Deserialize)]
struct Entry {
    version: u32,
    build_id: String,
    size: u64,
    /// Over the bytes at every probe of the library itself.
    probed: u64,
    scan: TorchScan,
}

/// FNV-1a.
fn checksum(seed: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(seed, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3))
}
const SEED: u64 = 0xcbf2_9ce4_8422_2325;

fn probed_bytes(file: &File, scan: &TorchScan) -> io::Result<u64> {
    let operators = scan.operators.iter().flat_map(|o| [o.entry.offset, o.exit.offset]);
    let marks = scan.marks.iter().flat_map(|m| m.exits.iter().map(|p| p.offset).chain([m.entry.offset]));
    let mut sum = SEED;
    for offset in operators.chain(marks) {
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, offset)?;
        sum = checksum(sum, &bytes);
    }
    Ok(sum)
}

fn path_of(dir: &Path, elf: &Elf) -> io::Result<Option<(PathBuf, String, u64)>> {
    let Some(id) = elf.build_id() else { return Ok(None) };
    let size = elf.file().metadata()?.len();
    Ok(Some((dir.join(format!("torch-{id}-{size:x}.json")), id, size)))
}

/// The kept scan of this library, if there is a sound one.
pub(crate) fn load(dir: &Path, elf: &Elf) -> Option<TorchScan> {
    let (path, id, size) = path_of(dir, elf).ok()??;
    let meta = fs::symlink_metadata(&path).ok()?;
    let ours = meta.uid() == rustix::process::geteuid().as_raw() && meta.permissions().mode() & 0o022 == 0;
    if !meta.is_file() || !ours {
        return None;
    }
    let bytes = fs::read(&path).ok()?;
    let line = bytes.iter().position(|b| *b == b'\n')?;
    let (sum, body) = (std::str::from_utf8(&bytes[..line]).ok()?, &bytes[line + 1..]);
    if u64::from_str_radix(sum, 16).ok()? != checksum(SEED, body) {
        return None;
    }
    let entry: Entry = serde_json::from_slice(body).ok()?;
    let right = entry.version == VERSION && entry.build_id == id && entry.size == size;
    (right && probed_bytes(elf.file(), &entry.scan).ok()? == entry.probed).then_some(entry.scan)
}

/// Keeps a scan; readers see the old entry or the new one, never half of it.
pub(crate) fn store(dir: &Path, elf: &Elf, scan: &TorchScan) -> io::Result<()> {
    let Some((path, build_id, size)) = path_of(dir, elf)? else { return Ok(()) };
    fs::create_dir_all(dir)?;
    let probed = probed_bytes(elf.file(), scan)?;
    let entry = Entry { version: VERSION, build_id, size, probed, scan: scan.clone() };
    let body = serde_json::to_vec(&entry).map_err(io::Error::other)?;
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let written = fs::OpenOptions::new().write(true).create_new(true).open(&temporary).and_then(|mut file| {
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
        writeln!(file, "{:016x}", checksum(SEED, &body))?;
        file.write_all(&body)?;
        file.sync_data()
    });
    let moved = written.and_then(|()| fs::rename(&temporary, &path));
    if moved.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    moved
}

#[cfg(test)]
mod tests {
    use super::super::torch::{Operator, Point};
    use super::*;

    fn sample() -> (tempfile::TempDir, Elf, TorchScan) {
        let elf = Elf::open(File::open("/proc/self/exe").unwrap()).unwrap();
        let at = |offset| Point { offset, delta: Some(0) };
        let operator = Operator { name: "aten::add".to_owned(), entry: at(64), exit: at(128) };
        let scan = TorchScan { operators: vec![operator], ..TorchScan::default() };
        (tempfile::tempdir().unwrap(), elf, scan)
    }

    #[test]
    fn a_scan_comes_back() {
        let (dir, elf, scan) = sample();
        if elf.build_id().is_none() {
            return; // Linked without one: nothing can be kept, which `store` takes in its stride.
        }
        assert_eq!(load(dir.path(), &elf), None);
        store(dir.path(), &elf, &scan).unwrap();
        assert_eq!(load(dir.path(), &elf), Some(scan));
    }

    #[test]
    fn a_corrupt_or_foreign_entry_is_ignored() {
        let (dir, elf, scan) = sample();
        store(dir.path(), &elf, &scan).unwrap();
        let Some((path, ..)) = path_of(dir.path(), &elf).unwrap() else { return };
        let good = fs::read(&path).unwrap();
        for at in [0, 17, 40, good.len() - 2] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&path, bad).unwrap();
            assert_eq!(load(dir.path(), &elf), None, "byte {at}");
        }
        fs::write(&path, &good[..good.len() / 2]).unwrap();
        assert_eq!(load(dir.path(), &elf), None);
        fs::write(&path, &good).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        assert_eq!(load(dir.path(), &elf), None, "others may write it");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(load(dir.path(), &elf), Some(scan));
    }
}
