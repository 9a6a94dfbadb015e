//! A model hub by its API: which commit a branch is, and the tree of files of that commit.
//! (huggingface.co/docs/hub/api; large files name the SHA-256 of their content.)

use reqwest::header::{self, HeaderMap};
use serde::Deserialize;
use url::Url;

use super::super::access::{Access, Secret};
use super::super::error::{PreloadError, scrub};
use super::super::name;
use super::super::store::manifest::is_digest;
use super::web::Web;
use super::{Listing, Place, ReadError, Remote, auth};

/// Pages of a tree; one has up to a thousand files.
const MOST_PAGES: usize = 1000;

/// One repository of a hub.
#[derive(Debug)]
pub struct Hub {
    web: Web,
    hub: Url,
    kind: &'static str,
    repository: String,
    revision: String,
}

#[derive(Debug, Deserialize)]
struct Info {
    sha: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Node {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    #[serde(default)]
    oid: String,
    #[serde(default)]
    size: u64,
    lfs: Option<Lfs>,
}

#[derive(Debug, Deserialize)]
struct Lfs {
    oid: String,
    size: u64,
}

impl Hub {
    /// Opens a repository.
    pub fn open(
        kind: &'static str,
        repository: &str,
        revision: &str,
        access: &Access,
        connections: usize,
    ) -> Result<Hub, PreloadError> {
        let wrong = |why: String| PreloadError::Source { what: scrub(&access.hub), why, passing: false };
        let hub = Url::parse(&access.hub).map_err(|error| wrong(format!("HF_ENDPOINT is not a URL: {error}")))?;
        if hub.cannot_be_a_base() || !matches!(hub.scheme(), "http" | "https") {
            return Err(wrong("HF_ENDPOINT is not an http URL".to_owned()));
        }
        let token = access.hub_token.as_ref().map(Secret::reveal).and_then(auth::bearer);
        let web = Web::new(&hub, token, connections)?;
        Ok(Hub { web, hub, kind, repository: repository.to_owned(), revision: revision.to_owned() })
    }

    /// For reads.
    pub fn web(&self) -> &Web {
        &self.web
    }

    fn url(&self, segments: &[&str]) -> Url {
        let mut url = self.hub.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty();
            segments.iter().for_each(|segment| {
                path.push(segment);
            });
        }
        url
    }

    fn api(&self, rest: &[&str]) -> Url {
        let repository: Vec<&str> = self.repository.split('/').collect();
        self.url(&[&["api", self.kind], repository.as_slice(), rest].concat())
    }

    /// The commit that the revision is now.
    pub async fn newest(&self) -> Result<String, ReadError> {
        let (body, _) = self.web.document(&self.api(&["revision", &self.revision]), HeaderMap::new()).await?;
        let info: Info = serde_json::from_slice(&body).map_err(not_the_hubs)?;
        info.sha.filter(|sha| is_digest(sha)).ok_or_else(|| ReadError::Final("the hub names no commit".to_owned()))
    }

    /// The files of a commit.
    pub async fn list(&self, commit: &str) -> Result<Listing, ReadError> {
        let mut files = Vec::new();
        let mut page = self.api(&["tree", commit]);
        page.set_query(Some("recursive=true&expand=false"));
        for _ in 0..MOST_PAGES {
            let (body, headers) = self.web.document(&page, HeaderMap::new()).await?;
            let nodes: Vec<Node> = serde_json::from_slice(&body).map_err(not_the_hubs)?;
            for node in nodes.into_iter().filter(|node| node.kind == "file") {
                files.push(self.file(commit, node)?);
            }
            match next_page(&headers, &page) {
                Some(next) => page = next,
                None => return Ok(Listing { revision: commit.to_owned(), files }),
            }
        }
        Err(ReadError::Final("its tree has no end".to_owned()))
    }

    fn file(&self, commit: &str, node: Node) -> Result<Remote, ReadError> {
        let (digest, bytes, sha256) = match node.lfs {
            Some(lfs) => (lfs.oid.clone(), lfs.size, Some(lfs.oid)),
            None => (node.oid.clone(), node.size, None),
        };
        // A sum that is none must not become a file's name, and proves nothing.
        let hexadecimal =
            |text: &str, length: usize| text.len() == length && text.chars().all(|c| c.is_ascii_hexdigit());
        let right = if sha256.is_some() { hexadecimal(&digest, 64) } else { hexadecimal(&digest, 40) };
        if !right {
            return Err(ReadError::Final(format!("the hub gives {:?} no digest", node.path)));
        }
        let git = sha256.is_none().then(|| digest.clone());
        let mut segments: Vec<&str> = if self.kind == "models" { vec![] } else { vec![self.kind] };
        segments.extend(self.repository.split('/'));
        segments.extend(["resolve", commit]);
        // The name is checked with all others; a segment of dots would be swallowed by the URL.
        if name::check(&node.path).is_ok() {
            segments.extend(node.path.split('/'));
        }
        let url = self.url(&segments);
        Ok(Remote {
            name: node.path.clone(),
            bytes,
            etag: Some(digest.clone()),
            digest: digest.to_ascii_lowercase(),
            sha256: sha256.map(|sum| sum.to_ascii_lowercase()),
            git,
            in_ranges: true,
            packed: false,
            // A commit does not change, and the tags of the servers behind redirects are their own.
            place: Place::Web { url, pinned: false, modified: None },
        })
    }
}

/// `Link: <URL>; rel="next"`, on the same server only: it gets the token.
fn next_page(headers: &HeaderMap, page: &Url) -> Option<Url> {
    let links = headers.get_all(header::LINK).iter().filter_map(|value| value.to_str().ok());
    let next = links.flat_map(|links| links.split(',')).find(|link| link.contains("rel=\"next\""))?;
    let target = next.split_once('<')?.1.split_once('>')?.0;
    let target = page.join(target).ok()?;
    (target.origin() == page.origin()).then_some(target)
}

fn not_the_hubs(_: serde_json::Error) -> ReadError {
    ReadError::Final("the answer is not a hub's".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_go_on_at_the_same_server_only() {
        let page = Url::parse("https://hub/api/models/a/b/tree/c").unwrap();
        let next = |link: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::LINK, header::HeaderValue::from_static(link));
            next_page(&headers, &page).map(|url| url.to_string())
        };
        assert_eq!(next("<https://hub/api/x?cursor=1>; rel=\"next\"").as_deref(), Some("https://hub/api/x?cursor=1"));
        assert_eq!(next("<https://evil/api/x?cursor=1>; rel=\"next\""), None);
        assert_eq!(next("<https://hub/a>; rel=\"prev\""), None);
    }
}
