//! With which credentials, over which mirror: what the environment and other tools' files say.

use std::fmt;
use std::fs;
use std::path::PathBuf;

/// The hub, unless HF_ENDPOINT names a mirror.
const HUB: &str = "https://huggingface.co";

/// Something that must not be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps a secret.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The secret itself, for a request's header.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// What opens sources.
#[derive(Debug, Clone)]
pub struct Access {
    /// Address of the hub or of its mirror, without a slash at its end.
    pub hub: String,
    /// Token of the hub.
    pub hub_token: Option<Secret>,
    /// Where claims are mounted.
    pub mounts: Vec<(String, PathBuf)>,
    /// Nothing may be asked for over the network.
    pub offline: bool,
}

impl Access {
    /// As Hugging Face's own tools find it: HF_ENDPOINT, HF_TOKEN, HF_TOKEN_PATH, HF_HOME/token,
    /// HF_HUB_OFFLINE.
    pub fn of_environment(mounts: Vec<(String, PathBuf)>) -> Access {
        let hub = text("HF_ENDPOINT").unwrap_or_else(|| HUB.to_owned()).trim_end_matches('/').to_owned();
        let hub_token = text("HF_TOKEN").or_else(|| text("HUGGING_FACE_HUB_TOKEN")).or_else(token_file).map(Secret);
        let offline = text("HF_HUB_OFFLINE")
            .is_some_and(|value| matches!(value.to_ascii_uppercase().as_str(), "1" | "TRUE" | "YES" | "ON"));
        Access { hub, hub_token, mounts, offline }
    }

    /// The directory of a claim.
    pub fn mount(&self, claim: &str) -> PathBuf {
        let given = self.mounts.iter().find(|(name, _)| name == claim).map(|(_, directory)| directory.clone());
        given.unwrap_or_else(|| PathBuf::from("/mnt/pvc").join(claim))
    }
}

/// A variable that is set and not empty.
pub fn text(name: &str) -> Option<String> {
    std::env::var(name).ok().map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
}

/// Where the user's own files are.
pub fn home() -> Option<PathBuf> {
    text("HOME").map(PathBuf::from)
}

fn token_file() -> Option<String> {
    let cache = || text("XDG_CACHE_HOME").map(PathBuf::from).or_else(|| home().map(|home| home.join(".cache")));
    let hub = || text("HF_HOME").map(PathBuf::from).or_else(|| cache().map(|cache| cache.join("huggingface")));
    let path = text("HF_TOKEN_PATH").map(PathBuf::from).or_else(|| hub().map(|hub| hub.join("token")))?;
    let token = fs::read_to_string(path).ok()?.trim().to_owned();
    (!token.is_empty()).then_some(token)
}
