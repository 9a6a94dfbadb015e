//! Credentials of registries, as Docker's and Podman's tools keep them.

use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::HeaderValue;

use super::super::access::{self, Secret};

/// `Authorization: Bearer …`, marked as one that must not be printed.
pub fn bearer(token: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// `Authorization: Basic …`.
pub fn basic(pair: &Secret) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(pair.reveal()))).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// `user:password` for a registry, from REGISTRY_AUTH_FILE, DOCKER_CONFIG or the user's home.
pub fn registry(host: &str) -> Option<Secret> {
    let docker = access::text("DOCKER_CONFIG").map(PathBuf::from).or_else(|| Some(access::home()?.join(".docker")));
    let runtime =
        access::text("XDG_RUNTIME_DIR").map(|directory| PathBuf::from(directory).join("containers/auth.json"));
    let files = [
        access::text("REGISTRY_AUTH_FILE").map(PathBuf::from),
        docker.map(|directory| directory.join("config.json")),
        runtime,
    ];
    files.into_iter().flatten().find_map(|path| of_file(&std::fs::read_to_string(path).ok()?, host))
}

fn of_file(text: &str, host: &str) -> Option<Secret> {
    let value: serde_json::Value = serde_json::from_str(text).ok()?;
    let auths = value.get("auths")?.as_object()?;
    // Docker's own hub stands there under its first name.
    let names = if host == "registry-1.docker.io" {
        vec![host, "docker.io", "https://index.docker.io/v1/"]
    } else {
        vec![host]
    };
    let entry = names.iter().find_map(|name| auths.get(*name).or_else(|| auths.get(&format!("https://{name}"))))?;
    let pair = match entry.get("auth").and_then(|auth| auth.as_str()) {
        Some(auth) => String::from_utf8(STANDARD.decode(auth.trim()).ok()?).ok()?,
        None => format!("{}:{}", entry.get("username")?.as_str()?, entry.get("password")?.as_str()?),
    };
    Some(Secret::new(pair))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_file_is_read() {
        let text = r#"{"auths": {"ghcr.io": {"auth": "YWRhOmdlaGVpbQ=="}, "https://index.docker.io/v1/": {"username": "a", "password": "b"}}}"#;
        assert_eq!(of_file(text, "ghcr.io").unwrap().reveal(), "ada:geheim");
        assert_eq!(of_file(text, "registry-1.docker.io").unwrap().reveal(), "a:b");
        assert_eq!(of_file(text, "other.io"), None);
        assert_eq!(of_file("{", "ghcr.io"), None);
        assert!(!format!("{:?}", of_file(text, "ghcr.io")).contains("geheim"));
    }
}
