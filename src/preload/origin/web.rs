//! HTTP: requests for parts of files, with redirects, credentials and a close look at the answers.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};
use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::{Client, Method, Response, StatusCode};
use url::Url;

use super::super::error::{PreloadError, scrub};
use super::{Place, ReadError, Remote, Stream};
use crate::cluster::in_a_line;
use crate::host::trust::trusting;

/// A server that doesn't take a connection by then is not reachable.
const CONNECT: Duration = Duration::from_secs(10);
/// A request without a body's stream is answered by then.
const ANSWER: Duration = Duration::from_secs(30);
/// Longest body of a listing or a manifest.
const LONGEST_ANSWER: usize = 64 << 20;
/// Redirects one after the other.
const MOST_REDIRECTS: usize = 8;
/// The target of a redirect is used again for this long; signed ones live an hour.
const REDIRECT_LIVES: Duration = Duration::from_secs(10 * 60);
/// Longest pause that a server may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(120);
/// Connections of one client: its pool is behind one lock, and is searched.
const CONNECTIONS_A_CLIENT: usize = 16;

/// HTTP with one server and those it redirects to.
#[derive(Debug)]
pub struct Web {
    first: Client,
    /// Made when they are needed, since each reads this machine's certificates.
    others: Vec<OnceLock<Client>>,
    connections: usize,
    next: AtomicUsize,
    home: Url,
    authorization: Mutex<Option<HeaderValue>>,
    moved: Mutex<HashMap<String, (Url, Instant)>>,
}

fn client(connections: usize) -> reqwest::Result<Client> {
    trusting(Client::builder())
        .redirect(reqwest::redirect::Policy::none())
        // More connections carry more than streams that share one.
        .http1_only()
        .connect_timeout(CONNECT)
        .tcp_nodelay(true)
        .pool_max_idle_per_host(connections.max(1))
        .user_agent(concat!("aictl/", env!("CARGO_PKG_VERSION")))
        .build()
}

impl Web {
    /// For a server; `authorization` is sent to it alone.
    pub fn new(home: &Url, authorization: Option<HeaderValue>, connections: usize) -> Result<Web, PreloadError> {
        let first = client(connections).map_err(|error| PreloadError::Source {
            what: scrub(home.as_str()),
            why: words(error),
            passing: false,
        })?;
        let others = vec![OnceLock::new(); connections.div_ceil(CONNECTIONS_A_CLIENT).saturating_sub(1)];
        let authorization = Mutex::new(authorization);
        Ok(Web {
            first,
            others,
            connections,
            next: AtomicUsize::new(0),
            home: home.clone(),
            authorization,
            moved: Mutex::default(),
        })
    }

    /// One after the other.
    fn client(&self) -> &Client {
        let at = self.next.fetch_add(1, Ordering::Relaxed) % (self.others.len() + 1);
        let Some(other) = at.checked_sub(1).and_then(|at| self.others.get(at)) else { return &self.first };
        // What could be made once can be made again; if not, one carries all.
        other.get_or_init(|| client(self.connections).unwrap_or_else(|_| self.first.clone()))
    }

    /// Changes what is sent to the server as authorization.
    pub fn authorize(&self, value: Option<HeaderValue>) {
        *lock(&self.authorization) = value;
    }

    /// Sends a request and follows redirects. The answer may be an error's.
    pub async fn send(&self, method: Method, url: &Url, headers: HeaderMap) -> Result<(Response, Url), ReadError> {
        let mut at = self.redirected(url).unwrap_or_else(|| url.clone());
        for _ in 0..MOST_REDIRECTS {
            let client = self.client();
            let mut request = client.request(method.clone(), at.clone()).headers(headers.clone());
            request = request.header(header::ACCEPT_ENCODING, "identity");
            if same_server(&at, &self.home)
                && let Some(value) = lock(&self.authorization).clone()
            {
                request = request.header(header::AUTHORIZATION, value);
            }
            let answer = request.send().await.map_err(|error| ReadError::passing(words(error)))?;
            if !answer.status().is_redirection() || answer.status() == StatusCode::NOT_MODIFIED {
                return Ok((answer, at));
            }
            let target = answer.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
            let target = target.and_then(|target| at.join(target).ok());
            let target = target.ok_or_else(|| ReadError::Final("a redirect to nowhere".to_owned()))?;
            if at.scheme() == "https" && target.scheme() != "https" {
                return Err(ReadError::Final("a redirect from https to something less".to_owned()));
            }
            if !matches!(target.scheme(), "http" | "https") {
                return Err(ReadError::Final("a redirect to something else than http".to_owned()));
            }
            lock(&self.moved).insert(url.as_str().to_owned(), (target.clone(), Instant::now()));
            at = target;
        }
        Err(ReadError::Final("redirects in a circle".to_owned()))
    }

    fn redirected(&self, url: &Url) -> Option<Url> {
        let moved = lock(&self.moved);
        let (target, since) = moved.get(url.as_str())?;
        (since.elapsed() < REDIRECT_LIVES).then(|| target.clone())
    }

    /// Forgets where a URL was redirected to; returns whether it was.
    fn forget(&self, url: &Url) -> bool {
        lock(&self.moved).remove(url.as_str()).is_some()
    }

    /// The body of a small document, and its headers.
    pub async fn document(&self, url: &Url, headers: HeaderMap) -> Result<(Vec<u8>, HeaderMap), ReadError> {
        let fetch = async {
            let (answer, _) = self.send(Method::GET, url, headers).await?;
            let (status, headers) = (answer.status(), answer.headers().clone());
            let mut body = Vec::new();
            let mut stream = answer.bytes_stream();
            while let Some(chunk) = stream.next().await {
                body.extend_from_slice(&chunk.map_err(|error| ReadError::passing(words(error)))?);
                if body.len() > LONGEST_ANSWER {
                    return Err(ReadError::Final("an answer of more than 64 MiB".to_owned()));
                }
            }
            if !status.is_success() {
                return Err(refusal(status, &headers, &body));
            }
            Ok((body, headers))
        };
        let late = |_| ReadError::passing(format!("no answer within {} s", ANSWER.as_secs()));
        tokio::time::timeout(ANSWER, fetch).await.map_err(late)?
    }

    /// Starts to read a part of a file.
    pub async fn read(&self, remote: &Remote, range: Range<u64>) -> Result<Stream, ReadError> {
        let Place::Web { url, pinned, modified } = &remote.place else {
            return Err(ReadError::Final("it has no URL".to_owned()));
        };
        let whole = range.start == 0 && range.end == remote.bytes;
        let mut headers = HeaderMap::new();
        if remote.in_ranges || !whole {
            let value = format!("bytes={}-{}", range.start, range.end.saturating_sub(1));
            headers.insert(header::RANGE, HeaderValue::try_from(value).map_err(|_| ReadError::NoRanges)?);
        }
        let etag = remote.etag.as_deref().filter(|_| *pinned);
        if let Some(value) =
            etag.filter(|etag| !etag.starts_with("W/")).and_then(|etag| HeaderValue::from_str(etag).ok())
        {
            headers.insert(header::IF_MATCH, value);
        }
        let (answer, _) = self.send(Method::GET, url, headers).await?;
        let status = answer.status();
        match status {
            StatusCode::PARTIAL_CONTENT | StatusCode::OK => {}
            StatusCode::PRECONDITION_FAILED | StatusCode::RANGE_NOT_SATISFIABLE => return Err(ReadError::Changed),
            // The target of a redirect was signed for a while.
            StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED | StatusCode::NOT_FOUND if self.forget(url) => {
                return Err(ReadError::passing(format!("HTTP {}", status.as_u16())));
            }
            _ => return Err(refusal(status, answer.headers(), &[])),
        }
        let said = |name| answer.headers().get(name).and_then(|value| value.to_str().ok());
        let other_version = etag.is_some_and(|etag| said(header::ETAG).is_some_and(|now| now != etag))
            || modified.as_deref().is_some_and(|then| said(header::LAST_MODIFIED).is_some_and(|now| now != then));
        if other_version {
            return Err(ReadError::Changed);
        }
        if status == StatusCode::PARTIAL_CONTENT {
            let Some((first, total)) = said(header::CONTENT_RANGE).and_then(content_range) else {
                return Err(ReadError::passing("a part without Content-Range"));
            };
            if total.is_some_and(|total| total != remote.bytes) {
                return Err(ReadError::Changed);
            }
            if first != range.start {
                return Err(ReadError::passing(format!("the part from {first} instead of {}", range.start)));
            }
        } else if !whole {
            return Err(ReadError::NoRanges);
        } else if answer.content_length().is_some_and(|length| length != remote.bytes) {
            return Err(ReadError::Changed);
        }
        Ok(answer.bytes_stream().map_err(|error| ReadError::passing(words(error))).boxed())
    }
}

/// First byte and whole size of `bytes 0-99/1000`.
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let rest = text.trim().strip_prefix("bytes")?.trim_start();
    let (span, total) = rest.split_once('/')?;
    let first = span.split_once('-')?.0.trim().parse().ok()?;
    match total.trim() {
        "*" => Some((first, None)),
        total => Some((first, Some(total.parse().ok()?))),
    }
}

/// What a status that is no success means.
pub fn refusal(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> ReadError {
    let said = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let message = said("x-error-message").map(str::to_owned).or_else(|| {
        let value: serde_json::Value = serde_json::from_slice(body).ok()?;
        Some(value.get("error")?.as_str()?.to_owned())
    });
    let number = status.as_u16();
    let why = match message {
        Some(message) => format!("HTTP {number}: {}", scrub(&message.chars().take(200).collect::<String>())),
        None => format!("HTTP {number} {}", status.canonical_reason().unwrap_or_default()).trim_end().to_owned(),
    };
    match number {
        401 | 403 | 407 => ReadError::Refused(why),
        408 | 425 | 429 | 500 | 502 | 503 | 504 | 509 => {
            let wait = said("retry-after").and_then(retry_after);
            ReadError::Passing { why, wait, busy: matches!(number, 429 | 503 | 509) }
        }
        _ => ReadError::Final(why),
    }
}

/// `Retry-After: 120`, or a date.
pub fn retry_after(text: &str) -> Option<Duration> {
    let wait = match text.trim().parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let at = jiff::fmt::rfc2822::parse(text.trim()).ok()?.timestamp();
            Duration::try_from(at.duration_since(jiff::Timestamp::now())).unwrap_or(Duration::ZERO)
        }
    };
    Some(wait.min(LONGEST_WAIT))
}

/// An error of the client in words, all of its causes, without the URL.
pub fn words(error: reqwest::Error) -> String {
    let error = error.without_url();
    scrub(&in_a_line(&error))
}

fn same_server(one: &Url, other: &Url) -> bool {
    one.scheme() == other.scheme()
        && one.host_str() == other.host_str()
        && one.port_or_known_default() == other.port_or_known_default()
}

/// A poisoned lock holds whole values all the same: nothing here panics halfway.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges() {
        assert_eq!(content_range("bytes 5-9/100"), Some((5, Some(100))));
        assert_eq!(content_range("bytes 5-9/*"), Some((5, None)));
        for text in ["", "bytes */100", "lines 1-2/3", "bytes 5/100", "bytes a-b/c"] {
            assert_eq!(content_range(text), None, "{text}");
        }
    }

    #[test]
    fn pauses_that_servers_ask_for() {
        assert_eq!(retry_after("3"), Some(Duration::from_secs(3)));
        assert_eq!(retry_after("99999"), Some(LONGEST_WAIT));
        assert_eq!(retry_after("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        assert_eq!(retry_after("soon"), None);
    }
}
