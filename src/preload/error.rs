//! What can go wrong on the way of a model, in words without credentials.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why a model is not there.
#[derive(Debug, Error)]
pub enum PreloadError {
    /// The store can't be used.
    #[error("cannot {what} {path}")]
    Store {
        /// The operation: "create", "lock", "read".
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another run works on the store.
    #[error("another run is at work in {store} ({holder})")]
    Held {
        /// The store's directory.
        store: PathBuf,
        /// Who holds it, as far as it is known.
        holder: String,
    },
    /// Not enough room for what is missing.
    #[error("{store} has {free_bytes} bytes free, and {needed_bytes} are needed")]
    Full {
        /// The store's directory.
        store: PathBuf,
        /// What is missing.
        needed_bytes: u64,
        /// What is free.
        free_bytes: u64,
    },
    /// The source has nothing of that name.
    #[error("{source_name} has {what}")]
    Nothing {
        /// The source.
        source_name: String,
        /// What it lacks: "no such revision", "no files that match".
        what: String,
    },
    /// The source does not let us in.
    #[error("{source_name} is refused: {why}")]
    Refused {
        /// The source.
        source_name: String,
        /// What the other side said.
        why: String,
    },
    /// The source names a file in a way that could write somewhere else.
    #[error("{source_name} names a file {name:?}: {why}")]
    Name {
        /// The source.
        source_name: String,
        /// The name.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A file's content is not what the source says it is.
    #[error("{name} has {had} {found}, not {wanted}; it is kept apart as {quarantine}")]
    Checksum {
        /// The file.
        name: String,
        /// What was compared: "sha256".
        had: &'static str,
        /// What was found.
        found: String,
        /// What was promised.
        wanted: String,
        /// Where the wrong bytes are now.
        quarantine: PathBuf,
    },
    /// A file of tensors says of itself what can't be.
    #[error("the safetensors header of {name} is not sound: {why}; the file is kept apart as {quarantine}")]
    Header {
        /// The file.
        name: String,
        /// What is wrong with it.
        why: String,
        /// Where the file is now.
        quarantine: PathBuf,
    },
    /// Nobody can be given anything.
    #[error("cannot listen on {address} for other nodes")]
    Listen {
        /// Where.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The source changed again and again while it was read.
    #[error("{name} changed while it was read, {times} times")]
    Restless {
        /// The file.
        name: String,
        /// How often.
        times: usize,
    },
    /// The source can't be read.
    #[error("cannot read {what}: {why}")]
    Source {
        /// What: a source or one of its files.
        what: String,
        /// Why, without credentials.
        why: String,
        /// Whether it may be different in a while.
        passing: bool,
    },
}

impl PreloadError {
    /// An error of the store's file system; a full disk reads as one.
    pub fn store(what: &'static str, path: impl AsRef<Path>, source: io::Error) -> PreloadError {
        PreloadError::Store { what, path: path.as_ref().to_owned(), source }
    }

    /// The file system has no room left.
    pub fn is_disk_full(&self) -> bool {
        match self {
            PreloadError::Full { .. } => true,
            PreloadError::Store { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            _ => false,
        }
    }

    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            error if error.is_disk_full() => {
                "make room (aictl preload gc --max-size …), then run the same again: it goes on where it stopped"
            }
            PreloadError::Held { .. } => "wait for it, or give --wait a time",
            PreloadError::Refused { source_name, .. } if source_name.starts_with("hf://") => {
                "set HF_TOKEN, or log in with the hub's own tool; a gated model must be accepted in the browser first"
            }
            PreloadError::Refused { .. } => {
                "look at the credentials in the environment; docs/preload.md says which are read"
            }
            PreloadError::Checksum { .. } => "run the same again: it is fetched anew",
            PreloadError::Header { .. } => {
                "its source has it so: whoever made it has to write it anew; --exclude leaves it out"
            }
            PreloadError::Listen { .. } => {
                "another run may listen there; name another address: --peer-listen ADDRESS:PORT"
            }
            PreloadError::Restless { .. } => "wait until its writer is done",
            PreloadError::Source { passing: true, .. } => "run the same again: it goes on where it stopped",
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

/// Takes out of a text what may be secret: credentials in URLs and everything behind their `?`.
pub fn scrub(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        clean.push_str(before);
        let end = after
            .find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '<' | '>' | ')' | '`'))
            .unwrap_or(after.len());
        let (url, tail) = after.split_at(end);
        let authority = url.find(['/', '?', '#']).unwrap_or(url.len());
        let host = url[..authority].rfind('@').map_or(0, |at| at + 1);
        let shown = url.find('?').unwrap_or(url.len());
        clean.push_str(&url[host..shown.max(host)]);
        if shown < url.len() {
            clean.push_str("?…");
        }
        rest = tail;
    }
    clean.push_str(rest);
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_lose_their_secrets() {
        assert_eq!(
            scrub("error for url (https://ada:pass@host/a?X-Amz-Signature=abc): gone"),
            "error for url (https://host/a?…): gone"
        );
        assert_eq!(scrub("a://b c://d?e 'f://g@h/i'"), "a://b c://d?… 'f://h/i'");
        assert_eq!(scrub("plain"), "plain");
    }

    #[test]
    fn a_full_disk_is_told_from_others() {
        let full = PreloadError::store("write", "/x", io::Error::from_raw_os_error(libc::ENOSPC));
        assert!(full.is_disk_full() && full.hint().is_some());
        assert!(!PreloadError::store("write", "/x", io::Error::from_raw_os_error(libc::EIO)).is_disk_full());
    }
}
