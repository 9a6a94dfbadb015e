//! What is meant of a model: files and ranges in them, in the order in which loaders read them.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::cold;
use super::memory_error::MemoryError;
use super::tensors::{self, Choice, Header, Index, Need};
use crate::host::page_cache;

/// A file, and what is meant of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Portion {
    /// Its name in the model.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// Its length.
    pub length: u64,
    /// What of it, in order; none if nothing is.
    pub ranges: Vec<Range<u64>>,
}

impl Portion {
    /// Bytes that are meant.
    pub fn bytes(&self) -> u64 {
        self.ranges.iter().map(|range| range.end - range.start).sum()
    }
}

/// Opens a regular file for reading, without waiting for what is none (a pipe).
///
/// # Errors
/// If it can't be opened, or is no regular file.
pub fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    Ok(file)
}

/// Whether a file holds tensors in the format of safetensors.
pub fn has_tensors(name: &str) -> bool {
    name.ends_with(".safetensors")
}

/// Formats of weights.
const WEIGHTS: [&str; 8] = ["safetensors", "bin", "pt", "pth", "gguf", "h5", "msgpack", "onnx"];

/// Whether a file holds weights, by its name.
pub fn is_weights(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(_, ending)| WEIGHTS.contains(&ending))
}

/// Directories a model may be deep.
const DEEPEST: usize = 16;

/// Names and paths of the files at a path: itself, or all below a directory, links followed to
/// files but not to directories. Names are relative, in order.
///
/// # Errors
/// If there is nothing there, or it can't be read.
pub fn files_at(path: &Path) -> Result<Vec<(String, PathBuf)>, MemoryError> {
    let metadata = fs::metadata(path).map_err(|error| MemoryError::file("open", path, error))?;
    if !metadata.is_dir() {
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        return Ok(vec![(name, path.to_owned())]);
    }
    let mut found = Vec::new();
    walk(path, path, 0, &mut found)?;
    if found.is_empty() {
        return Err(MemoryError::Nothing { path: path.to_owned() });
    }
    found.sort();
    Ok(found)
}

fn walk(root: &Path, directory: &Path, depth: usize, found: &mut Vec<(String, PathBuf)>) -> Result<(), MemoryError> {
    let failed = |error| MemoryError::file("read", directory, error);
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        let kind = entry.file_type().map_err(failed)?;
        if kind.is_dir() {
            // What versioning tools and the hub's own keep there is no part of a model.
            let hidden = entry.file_name().to_string_lossy().starts_with('.');
            if depth < DEEPEST && !hidden {
                walk(root, &path, depth + 1, found)?;
            }
        } else if fs::metadata(&path).is_ok_and(|target| target.is_file()) {
            let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
            found.push((name, path));
        }
    }
    Ok(())
}

/// The portions of files that a choice of tensors leaves, in the order of loaders: what is small and
/// read first (configuration, tokenizer, index), the weights that the index names, other weights in
/// the same format, the rest. Within each, in the order of names.
///
/// # Errors
/// If a file can't be read; where tensors are chosen, also if a header or index is not sound.
pub fn portions(files: &[(String, PathBuf)], choice: &Choice) -> Result<Vec<Portion>, MemoryError> {
    let mut indexed = BTreeSet::new();
    for (name, path) in files.iter().filter(|(name, _)| Index::is_one(name)) {
        match read_index(path) {
            Ok(index) => {
                let beside = name.rsplit_once('/').map_or(String::new(), |(directory, _)| format!("{directory}/"));
                indexed.extend(index.files().into_iter().map(|file| format!("{beside}{file}")));
            }
            // Only the order hangs on it, unless tensors are chosen.
            Err(error) if !choice.is_all() => return Err(error),
            Err(_) => {}
        }
    }
    let weights = |name: &str| {
        let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
        matches!(ending, "safetensors" | "bin" | "pt" | "pth" | "gguf" | "h5" | "msgpack" | "onnx")
    };
    let turn = |name: &String| match () {
        () if !weights(name) => 0,
        () if indexed.contains(name) => 1,
        () if has_tensors(name) => 2,
        () => 3,
    };
    let mut ordered: Vec<&(String, PathBuf)> = files.iter().collect();
    ordered.sort_by_key(|(name, _)| (turn(name), name));
    // A choice speaks of tensors once: files beside those of the index would bring them again.
    if !choice.is_all() && !indexed.is_empty() {
        ordered.retain(|(name, _)| turn(name) < 2);
    }
    let mut opened = Vec::new();
    let mut headers = Vec::new();
    for (name, path) in ordered {
        let file = open(path).map_err(|error| MemoryError::file("open", path, error))?;
        let length = file.metadata().map_err(|error| MemoryError::file("read", path, error))?.len();
        let header = if choice.is_all() || !has_tensors(name) {
            None
        } else {
            Some(Header::read(&file).map_err(|source| MemoryError::Header { path: path.clone(), source })?)
        };
        opened.push((name, path, length));
        headers.push(header);
    }
    let needs: Vec<Need> = tensors::select(choice, &headers);
    let portion = |((name, path, length), need): ((&String, &PathBuf, u64), Need)| Portion {
        name: name.clone(),
        path: path.clone(),
        length,
        ranges: need.ranges(length),
    };
    Ok(opened.into_iter().zip(needs).map(portion).collect())
}

/// Longest index that is read; those of the largest models have some megabytes.
const LONGEST_INDEX: u64 = 256 << 20;

/// Reads a model's index. If it was not in the page cache before, it is not there afterwards: who
/// only looks what is in memory must not change it.
///
/// # Errors
/// If it can't be read, or is not one.
pub fn read_index(path: &Path) -> Result<Index, MemoryError> {
    let failed = |error| MemoryError::file("read", path, error);
    let mut file = open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    let was_cold = page_cache::cached(&file, 0..length).is_ok_and(|cached| cached.bytes == 0);
    let mut json = Vec::new();
    file.by_ref().take(LONGEST_INDEX).read_to_end(&mut json).map_err(failed)?;
    if was_cold {
        // No harm if it stays.
        let _ = cold::drop_pages(&file, 0..length);
    }
    Index::parse(&json).map_err(|why| MemoryError::Index { path: path.to_owned(), why })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(portions: &[Portion]) -> Vec<(&str, u64)> {
        portions.iter().map(|portion| (portion.name.as_str(), portion.bytes())).collect()
    }

    /// A safetensors file with one-byte tensors.
    fn write_tensors(path: &Path, names: &[&str]) -> u64 {
        let entries = names.iter().enumerate().map(|(i, name)| {
            format!(r#""{name}":{{"dtype":"U8","shape":[1000],"data_offsets":[{},{}]}}"#, i * 1000, i * 1000 + 1000)
        });
        let json = format!("{{{}}}", entries.collect::<Vec<_>>().join(","));
        let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(json.as_bytes());
        bytes.resize(bytes.len() + names.len() * 1000, 1);
        fs::write(path, &bytes).unwrap();
        8 + json.len() as u64
    }

    #[test]
    fn loaders_read_in_this_order() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let head = write_tensors(&path.join("model-00001-of-00002.safetensors"), &["layers.0.w", "layers.1.w"]);
        write_tensors(&path.join("model-00002-of-00002.safetensors"), &["layers.2.w", "layers.3.w"]);
        write_tensors(&path.join("consolidated.safetensors"), &["layers.0.w"]);
        fs::write(path.join("a.bin"), "x").unwrap();
        fs::write(path.join("config.json"), "{}").unwrap();
        fs::create_dir(path.join(".git")).unwrap();
        fs::write(path.join(".git/x"), "x").unwrap();
        fs::create_dir(path.join("sub")).unwrap();
        std::os::unix::fs::symlink("../config.json", path.join("sub/link.json")).unwrap();
        std::os::unix::fs::symlink("nowhere", path.join("broken")).unwrap();
        std::os::unix::fs::symlink("..", path.join("sub/circle")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, path.join("pipe"), rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
            .unwrap();
        let map = serde_json::json!({ "weight_map": {
            "layers.0.w": "model-00001-of-00002.safetensors", "layers.2.w": "model-00002-of-00002.safetensors" } });
        fs::write(path.join(Index::NAME), map.to_string()).unwrap();
        let files = files_at(path).unwrap();
        let all = portions(&files, &Choice::default()).unwrap();
        let order: Vec<&str> = all.iter().map(|portion| portion.name.as_str()).collect();
        assert_eq!(
            order,
            [
                "config.json",
                "model.safetensors.index.json",
                "sub/link.json",
                "model-00001-of-00002.safetensors",
                "model-00002-of-00002.safetensors",
                "consolidated.safetensors",
                "a.bin"
            ]
        );
        let rank = Choice { rank: "0/4".parse().ok(), names: None };
        let some = portions(&files, &rank).unwrap();
        assert_eq!(
            names(&some)[3..],
            [("model-00001-of-00002.safetensors", head + 1000), ("model-00002-of-00002.safetensors", 0)]
        );
        fs::write(path.join("model-00002-of-00002.safetensors"), [0xff; 40]).unwrap();
        assert!(matches!(portions(&files, &rank), Err(MemoryError::Header { .. })));
        assert!(portions(&files, &Choice::default()).is_ok(), "only the choice reads headers");
    }

    #[test]
    fn one_file_is_a_model_too() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.gguf");
        fs::write(&path, "123").unwrap();
        let all = portions(&files_at(&path).unwrap(), &Choice::default()).unwrap();
        assert_eq!(names(&all), [("x.gguf", 3)]);
        fs::write(&path, "").unwrap();
        assert_eq!(names(&portions(&files_at(&path).unwrap(), &Choice::default()).unwrap()), [("x.gguf", 0)]);
        assert!(files_at(&directory.path().join("none")).is_err());
        fs::create_dir(directory.path().join("empty")).unwrap();
        assert!(matches!(files_at(&directory.path().join("empty")), Err(MemoryError::Nothing { .. })));
    }
}
