//! Drops a model from the page cache, and looks whether it is gone.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::cold;
use super::memory_error::MemoryError;
use super::pin::{Pin, Pins};
use super::portion::{self, Portion};
use super::residency::{self, FileResidency};
use crate::host::process;

/// What came of it.
#[derive(Debug, Clone, Serialize)]
pub struct Evicted {
    /// Bytes that were in the page cache before; null if that can't be known.
    pub before_bytes: Option<u64>,
    /// Those that are now.
    pub resident_bytes: Option<u64>,
    /// Processes that held it and were ended.
    pub unpinned: Vec<u32>,
    /// Files that stay, and why as far as it can be seen.
    pub left: Vec<Left>,
}

/// A file that stays in memory, or part of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Left {
    /// The file.
    pub path: PathBuf,
    /// What is still there; null if that can't be known.
    pub resident_bytes: Option<u64>,
    /// Why.
    pub why: String,
}

/// Time for a process that holds files to end: unlocking many gigabytes takes a while.
const DEADLINE: Duration = Duration::from_secs(30);

/// Ends the processes that hold the files (their other files are let go as well), then drops all
/// pages of each file.
///
/// # Errors
/// If a process does not end. A file that can't be dropped is no error: it is in the answer.
pub fn evict(portions: &[Portion], pins: &Pins) -> Result<Evicted, MemoryError> {
    let before = residency::look(portions);
    let holders = pins.holders(portions);
    for pin in &holders {
        let ended = pins.end(pin, DEADLINE);
        ended.map_err(|error| MemoryError::Holder(format!("cannot end process {}: {error}", pin.pid)))?;
    }
    let refused: Vec<Option<String>> = portions.iter().map(drop_one).collect();
    let after = residency::look(portions);
    let left = portions.iter().zip(&after).zip(refused).filter_map(|((portion, file), refused)| {
        (file.resident_bytes != Some(0)).then(|| left(portion, file, refused))
    });
    Ok(Evicted {
        before_bytes: residency::resident_bytes(&before),
        resident_bytes: residency::resident_bytes(&after),
        unpinned: holders.iter().map(|pin: &Pin| pin.pid).collect(),
        left: left.collect(),
    })
}

/// Whole files go, whatever part of them is meant: another part of a page would keep it.
fn drop_one(portion: &Portion) -> Option<String> {
    let dropped = portion::open(&portion.path).and_then(|file| cold::drop_pages(&file, 0..portion.length));
    dropped.err().map(|error| error.to_string())
}

fn left(portion: &Portion, file: &FileResidency, refused: Option<String>) -> Left {
    let why = match (&file.unknown, refused) {
        (Some(why), _) => why.clone(),
        (None, Some(why)) => why,
        (None, None) => match process::mapping(&portion.path).as_slice() {
            [] if file.dirty_bytes.is_some_and(|dirty| dirty > 0) => "it is being written".to_owned(),
            [] => "it is in use".to_owned(),
            [pid] => format!("process {pid} has it mapped"),
            [pid, rest @ ..] => format!("process {pid} and {} more have it mapped", rest.len()),
        },
    };
    Left { path: portion.path.clone(), resident_bytes: file.resident_bytes, why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_mapped_stays_and_is_named() {
        let directory = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let pins = Pins::in_directory(directory.path().join("pins"));
        let path = directory.path().join("f");
        std::fs::write(&path, vec![1; 40_000]).unwrap();
        let whole = std::iter::once(0..40_000).collect();
        let portions = [Portion { name: "f".to_owned(), path: path.clone(), length: 40_000, ranges: whole }];
        let gone = evict(&portions, &pins).unwrap();
        assert_eq!((gone.before_bytes, gone.resident_bytes), (Some(40_000), Some(0)), "{gone:?}");
        let file = std::fs::File::open(&path).unwrap();
        // SAFETY: nobody changes the file of this test.
        let map = unsafe { memmap2::Mmap::map(&file) }.unwrap();
        assert_eq!(map[39_999], 1);
        // A child that another test has just started has it mapped, too, until it becomes another program.
        let comes_to_be = |so: &dyn Fn(&Evicted) -> bool| {
            let so = (0..600).any(|_| {
                let so = so(&evict(&portions, &pins).unwrap());
                std::thread::sleep(Duration::from_millis(if so { 0 } else { 100 }));
                so
            });
            assert!(so, "{:?}", evict(&portions, &pins).unwrap());
        };
        let why = format!("process {} has it mapped", std::process::id());
        comes_to_be(&|stays| {
            stays.resident_bytes.is_some_and(|bytes| bytes > 0) && stays.left.iter().any(|left| left.why == why)
        });
        drop(map);
        comes_to_be(&|gone| gone.left.is_empty());
    }
}
