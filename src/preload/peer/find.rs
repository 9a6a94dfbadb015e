//! Who the peers are: names that are looked up again and again, and lists in files.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::str::FromStr;

/// Where addresses of peers come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whereabouts {
    /// `host:port`: all addresses that the name has, such as those of a headless Service.
    Name(String, u16),
    /// `@file`: a line each.
    File(PathBuf),
}

impl FromStr for Whereabouts {
    type Err = String;

    fn from_str(text: &str) -> Result<Whereabouts, String> {
        if let Some(path) = text.strip_prefix('@') {
            return Ok(Whereabouts::File(path.into()));
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port.parse().map_err(|_| wrong(text))?),
            _ => (text, super::PORT),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() || host.contains(char::is_whitespace) {
            return Err(wrong(text));
        }
        Ok(Whereabouts::Name(host.to_owned(), port))
    }
}

fn wrong(text: &str) -> String {
    format!("{text:?} is not HOST:PORT or @FILE")
}

impl Whereabouts {
    /// The addresses there now, as `host:port`; what can't be looked up has none for now.
    pub async fn addresses(&self) -> BTreeSet<String> {
        match self {
            Whereabouts::Name(host, port) => match tokio::net::lookup_host((host.as_str(), *port)).await {
                Ok(found) => found.map(|address| address.to_string()).collect(),
                Err(_) => BTreeSet::new(),
            },
            Whereabouts::File(path) => {
                let text = tokio::fs::read_to_string(path).await.unwrap_or_default();
                let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
                lines.map(str::to_owned).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn names_and_files() {
        let name = |host: &str, port| Ok(Whereabouts::Name(host.to_owned(), port));
        assert_eq!("peers.ns.svc:80".parse(), name("peers.ns.svc", 80));
        assert_eq!("peers".parse(), name("peers", super::super::PORT));
        assert_eq!("[::1]:9".parse(), name("::1", 9));
        for text in ["", ":80", "a b", "a:b"] {
            assert!(text.parse::<Whereabouts>().is_err(), "{text}");
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("peers");
        std::fs::write(&path, "# all\n10.0.0.1:7\n\n 10.0.0.2:7 \n").unwrap();
        let listed = format!("@{}", path.display()).parse::<Whereabouts>().unwrap().addresses().await;
        assert_eq!(listed.into_iter().collect::<Vec<_>>(), ["10.0.0.1:7", "10.0.0.2:7"]);
        assert!(Whereabouts::File(directory.path().join("none")).addresses().await.is_empty());
        let local = "127.0.0.1:9".parse::<Whereabouts>().unwrap().addresses().await;
        assert_eq!(local.into_iter().collect::<Vec<_>>(), ["127.0.0.1:9"]);
    }
}
