//! The page of keys.

use super::keys::KEYS;

/// Its lines: keys, and what they do.
pub(super) fn lines() -> Vec<(String, String)> {
    KEYS.iter().map(|(keys, _, words)| ((*keys).to_owned(), (*words).to_owned())).collect()
}
