//! Whether a model is ready: for jobs that are held until it is.

use std::path::PathBuf;

use serde::Deserialize;

use super::{Place, place};
use crate::preload::snapshot::State;
use crate::preload::{Model, Snapshot, Source};

/// Where to look.
#[derive(Debug, Clone, Default)]
pub struct ModelPlace {
    /// Files with what `aictl preload status -o json` said elsewhere; none: this node's store.
    pub status: Vec<PathBuf>,
    /// Directory that serves as HF_HOME, as `--to`.
    pub store: Option<PathBuf>,
}

/// A line of a status, as far as it counts here.
#[derive(Debug, Deserialize)]
struct Said {
    source: String,
    state: String,
}

/// Whether a model is there, whole: in this node's store, or by every status that was given.
///
/// # Errors
/// In words, if that can't be seen.
pub fn is_ready(model: &str, at: &ModelPlace) -> Result<bool, String> {
    let source = super::source(model).map_err(|why| format!("{model} is no source of models: {why}"))?;
    if at.status.is_empty() {
        let place = Place { to: at.store.clone() };
        // A model that is not in the store is no error here.
        let Ok(snapshots) = place::snapshots(std::slice::from_ref(&source), &place) else { return Ok(false) };
        let whole = |snapshot: &Snapshot| {
            Model::of(snapshot, None).state == State::Ready && !place::lacks_weights(&source, snapshot, &place)
        };
        return Ok(snapshots.iter().any(whole));
    }
    for path in &at.status {
        let shown = path.display();
        let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {shown}: {error}"))?;
        let said: Vec<Said> =
            serde_json::from_str(&text).map_err(|error| format!("{shown} is no status of models: {error}"))?;
        if !said.iter().any(|one| is(&one.source, &source) && one.state == State::Ready.name()) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn is(said: &str, wanted: &Source) -> bool {
    said == wanted.to_string() || super::source(said).is_ok_and(|said| said == *wanted)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::preload::store::{Entry, Manifest, Store};

    #[test]
    fn a_model_without_its_weights_is_not_ready() {
        let directory = tempfile::tempdir().unwrap();
        let source: Source = "hf://org/model".parse().unwrap();
        let repository = Store::at_home(directory.path()).repository(&source);
        repository.create().unwrap();
        let entry = |name: &str, wanted| {
            let blob = repository.blob(name);
            fs::write(&blob, "abc").unwrap();
            let (name, digest) = (name.to_owned(), name.to_owned());
            let mut entry =
                Entry { name, bytes: 3, digest, etag: None, sha256: None, wanted, whole: None, packed: false };
            entry.found_right(&blob).unwrap();
            entry
        };
        let at = ModelPlace { status: Vec::new(), store: Some(directory.path().to_owned()) };
        for (wanted, ready) in [([true, false, false], false), ([true, true, false], true), ([true; 3], true)] {
            // Digests are one component, and names are like them here.
            let files =
                vec![entry("config-json", wanted[0]), entry("a-safetensors", wanted[1]), entry("b-bin", wanted[2])];
            let files = files.into_iter().map(|entry| Entry { name: entry.name.replace('-', "."), ..entry }).collect();
            let manifest = Manifest::new(source.to_string(), "c0ffee".to_owned(), files);
            manifest.write(&repository).unwrap();
            repository.link(&manifest).unwrap();
            assert_eq!(is_ready("hf://org/model", &at), Ok(ready), "{wanted:?}");
        }
    }
}
