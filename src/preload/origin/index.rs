//! Plain HTTP: one file, or what the index page of a directory names.

use std::collections::BTreeSet;

use futures::StreamExt;
use futures::stream;
use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode};
use url::Url;

use super::super::error::PreloadError;
use super::super::name;
use super::web::{Web, refusal};
use super::{Listing, Place, ReadError, Remote, made_digest, made_revision};

/// Files that an index may name, in all of its directories.
const MOST_FILES: usize = 20_000;
/// Directories below each other.
const DEEPEST: usize = 8;
/// Files asked for at once.
const AT_ONCE: usize = 32;

/// A URL and what is below it.
#[derive(Debug)]
pub struct Index {
    web: Web,
    url: Url,
}

impl Index {
    /// Opens a URL.
    pub fn open(url: &Url, connections: usize) -> Result<Index, PreloadError> {
        Ok(Index { web: Web::new(url, None, connections)?, url: url.clone() })
    }

    /// For reads.
    pub fn web(&self) -> &Web {
        &self.web
    }

    /// Looks at the file, or at all files of the index.
    pub async fn list(&self) -> Result<Listing, ReadError> {
        let mut found: Vec<(String, Url)> = Vec::new();
        if self.url.path().ends_with('/') {
            self.walk(&mut found).await?;
        } else {
            let last = self.url.path_segments().and_then(|mut segments| segments.next_back()).unwrap_or_default();
            found.push((
                decoded(last).ok_or_else(|| ReadError::Final("its URL names no file".to_owned()))?,
                self.url.clone(),
            ));
        }
        // A name that leads elsewhere is told with all others; it is not asked for.
        let looks = found.into_iter().map(|(name, url)| self.look(name, url));
        let looked: Vec<Result<Remote, ReadError>> = stream::iter(looks).buffer_unordered(AT_ONCE).collect().await;
        let files = looked.into_iter().collect::<Result<Vec<Remote>, ReadError>>()?;
        Ok(Listing { revision: made_revision(&files), files })
    }

    async fn walk(&self, found: &mut Vec<(String, Url)>) -> Result<(), ReadError> {
        let mut directories = vec![(String::new(), self.url.clone(), 0)];
        while let Some((prefix, url, depth)) = directories.pop() {
            let (body, _) = self.web.document(&url, HeaderMap::new()).await?;
            for link in links(&String::from_utf8_lossy(&body)) {
                let Ok(target) = url.join(&link) else { continue };
                let below = target.as_str().strip_prefix(url.as_str()).filter(|_| target.query().is_none());
                let Some(below) = below.filter(|below| !below.is_empty()) else { continue };
                let (part, is_directory) = below.strip_suffix('/').map_or((below, false), |part| (part, true));
                let Some(part) = decoded(part) else { continue };
                let name = format!("{prefix}{part}");
                if is_directory && depth < DEEPEST {
                    directories.push((format!("{name}/"), target, depth + 1));
                } else if !is_directory {
                    found.push((name, target));
                }
                if found.len() + directories.len() > MOST_FILES {
                    return Err(ReadError::Final(format!("its index names more than {MOST_FILES} files")));
                }
            }
        }
        Ok(())
    }

    /// Size, tag and manners of a file: by its first byte, since some servers answer HEAD otherwise.
    async fn look(&self, name: String, url: Url) -> Result<Remote, ReadError> {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, HeaderValue::from_static("bytes=0-0"));
        let (answer, _) = self.web.send(Method::GET, &url, headers).await?;
        let said = |name| answer.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (in_ranges, bytes) = match answer.status() {
            StatusCode::PARTIAL_CONTENT => {
                let total = said(header::CONTENT_RANGE).and_then(|range| range.rsplit_once('/')?.1.trim().parse().ok());
                (true, total)
            }
            StatusCode::OK => (false, answer.content_length()),
            // There is no first byte.
            StatusCode::RANGE_NOT_SATISFIABLE => (false, Some(0)),
            status => return Err(refusal(status, answer.headers(), &[])),
        };
        let bytes = bytes.ok_or_else(|| ReadError::Final(format!("its server does not say how long {name} is")))?;
        let etag = said(header::ETAG);
        let strong = etag.as_deref().is_some_and(|etag| !etag.starts_with("W/"));
        let modified = said(header::LAST_MODIFIED).filter(|_| !strong);
        let version = etag.as_deref().or(modified.as_deref()).unwrap_or_default();
        // Two mirrors of the same file may have the same tag; a URL is part of it all the same.
        let digest = made_digest(&["web", url.as_str(), version, &bytes.to_string()]);
        let place = Place::Web { url, pinned: true, modified };
        Ok(Remote { name, bytes, digest, sha256: None, git: None, etag, in_ranges, packed: false, place })
    }
}

/// What `href="…"` says in a page.
fn links(page: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let lower = page.to_ascii_lowercase();
    let mut at = 0;
    while let Some(next) = lower[at..].find("href=") {
        at += next + 5;
        let Some(quote) = page[at..].chars().next().filter(|c| matches!(c, '"' | '\'')) else { continue };
        let Some(end) = page[at + 1..].find(quote) else { break };
        found.insert(page[at + 1..at + 1 + end].replace("&amp;", "&"));
        at += end + 2;
    }
    found
}

/// A segment of a URL as a name; `None` if it is not text or would lead elsewhere.
fn decoded(segment: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let [first, tail @ ..] = rest {
        match (first, tail) {
            (b'%', [high, low, tail @ ..]) => {
                let digit = |digit: &u8| char::from(*digit).to_digit(16);
                bytes.push(u8::try_from(digit(high)? * 16 + digit(low)?).ok()?);
                rest = tail;
            }
            (byte, tail) => {
                bytes.push(*byte);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).ok().filter(|name| name::check(name).is_ok() && !name.contains('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_page_names_its_files() {
        let page = r#"<a href="../">..</a> <A HREF='a%20b.bin'>a</A> <a href="sub/">s</a> <a href=x>"#;
        assert_eq!(links(page).into_iter().collect::<Vec<_>>(), ["../", "a%20b.bin", "sub/"]);
        assert_eq!(decoded("a%20b.bin").as_deref(), Some("a b.bin"));
        for tricky in ["%2e%2e", "a%2Fb", "a%00", "%ff", "%4"] {
            assert!(decoded(tricky).is_none() || decoded(tricky).as_deref() == Some("%4"), "{tricky}");
        }
    }
}
