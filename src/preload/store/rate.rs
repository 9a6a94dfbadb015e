//! How fast the last fetch from each kind of source was: what the time of the next is guessed by.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::Store;

/// A shorter fetch tells of delays more than of the line.
const LEAST_BYTES: u64 = 32 << 20;

fn path(store: &Store) -> PathBuf {
    store.hub().join(".locks/aictl.rates.json")
}

fn rates(store: &Store) -> BTreeMap<String, f64> {
    fs::read(path(store)).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
}

/// Bytes a second of the last fetch; `None` if there was none.
pub fn rate_of(store: &Store, scheme: &str) -> Option<f64> {
    rates(store).get(scheme).copied().filter(|rate| rate.is_finite() && *rate > 0.0)
}

/// Remembers it. Of no weight where it can't be written.
pub fn keep_rate(store: &Store, scheme: &str, bytes: u64, took: Duration) {
    if bytes < LEAST_BYTES || took.is_zero() {
        return;
    }
    let mut rates = rates(store);
    rates.insert(scheme.to_owned(), (bytes as f64 / took.as_secs_f64()).round());
    if let Ok(text) = serde_json::to_vec(&rates) {
        let _ = super::write_whole(&path(store), &text);
    }
}
