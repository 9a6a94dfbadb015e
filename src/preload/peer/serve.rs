//! The server that gives others what is on the shelf.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_RANGE, HeaderName, HeaderValue, RANGE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::super::access::Secret;
use super::super::source::hex;
use super::super::store::manifest::is_digest;
use super::shelf::{Presence, Shelf};
use super::{LONGEST_PART, MOVED, SUM};

/// Parts that are in memory at once for others; each is a range of 8 MiB as a rule.
const AT_ONCE: usize = 6;
/// Longest time that a request waits for its turn; then it is told to come again.
const TURN: Duration = Duration::from_secs(10);
/// Longest time that a request waits for a range to come.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Requests line by line are over by then, or the connection is closed.
const HEADERS: Duration = Duration::from_secs(20);

/// Serves until the runtime ends. Returns the address that it listens on.
///
/// # Errors
/// If the address can't be taken.
pub async fn serve(listen: SocketAddr, token: Secret, shelf: Arc<Shelf>) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(listen).await?;
    let address = listener.local_addr()?;
    let wanted: [u8; 32] = Sha256::digest(format!("Bearer {}", token.reveal())).into();
    let slots = Arc::new(Semaphore::new(AT_ONCE));
    tokio::spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                // Out of descriptors: a moment later there are some again.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let _ = stream.set_nodelay(true);
            let (shelf, slots) = (Arc::clone(&shelf), Arc::clone(&slots));
            let service = service_fn(move |request| {
                let (shelf, slots) = (Arc::clone(&shelf), Arc::clone(&slots));
                async move { Ok::<_, Infallible>(answer(&request, wanted, &shelf, slots).await) }
            });
            tokio::spawn(async move {
                let mut http = hyper::server::conn::http1::Builder::new();
                http.timer(TokioTimer::new()).header_read_timeout(HEADERS);
                // Who hangs up has what it wanted, or asks again.
                let _ = http.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    Ok(address)
}

async fn answer(
    request: &Request<Incoming>,
    wanted: [u8; 32],
    shelf: &Shelf,
    slots: Arc<Semaphore>,
) -> Response<Full<Bytes>> {
    let said = request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default();
    // Digests are compared, so that the time it takes tells nothing of the token.
    if <[u8; 32]>::from(Sha256::digest(said)) != wanted {
        return empty(StatusCode::UNAUTHORIZED, shelf);
    }
    if request.method() != Method::GET {
        return empty(StatusCode::METHOD_NOT_ALLOWED, shelf);
    }
    let path = request.uri().path();
    if path == "/v1/state" {
        let body = if shelf.is_done() { "done" } else { "busy" };
        return Response::new(Full::new(Bytes::from_static(body.as_bytes())));
    }
    let Some(digest) = path.strip_prefix("/v1/blob/").filter(|digest| is_digest(digest)) else {
        return empty(StatusCode::NOT_FOUND, shelf);
    };
    let part = request.headers().get(RANGE).and_then(|value| range(value.to_str().ok()?));
    let Some(part) = part.filter(|part| part.end - part.start <= LONGEST_PART) else {
        return empty(StatusCode::RANGE_NOT_SATISFIABLE, shelf);
    };
    let wait = request.uri().query().and_then(|query| query.strip_prefix("wait_ms=")?.parse().ok());
    let wait = Duration::from_millis(wait.unwrap_or(0)).min(LONGEST_WAIT);
    let span = format!("bytes {}-{}/*", part.start, part.end - 1);
    // Waiting holds no slot: it takes no memory.
    match shelf.wait_for(digest, &part, wait).await {
        Presence::Here => {}
        Presence::NotYet => return empty(StatusCode::SERVICE_UNAVAILABLE, shelf),
        Presence::Never => return empty(StatusCode::NOT_FOUND, shelf),
    }
    let Ok(Ok(slot)) = tokio::time::timeout(TURN, slots.acquire_owned()).await else {
        return empty(StatusCode::SERVICE_UNAVAILABLE, shelf);
    };
    let Ok(bytes) = shelf.read(digest, part).await else { return empty(StatusCode::NOT_FOUND, shelf) };
    let sum = hex(&Sha256::digest(&bytes));
    let mut response = Response::new(Full::new(Bytes::from_owner(Part { bytes, _slot: slot })));
    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    let headers = response.headers_mut();
    for (name, value) in [(CONTENT_RANGE, &span), (HeaderName::from_static(SUM), &sum)] {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
    response
}

fn empty(status: StatusCode, shelf: &Shelf) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response.headers_mut().insert(MOVED, HeaderValue::from(shelf.moved_bytes()));
    response
}

/// A part in memory; its slot is free again once the last byte of it is sent.
struct Part {
    bytes: Vec<u8>,
    _slot: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// `bytes=5-9`.
fn range(text: &str) -> Option<Range<u64>> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let (first, last) = (first.parse::<u64>().ok()?, last.parse::<u64>().ok()?);
    (first <= last && last < u64::MAX).then(|| first..last + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        assert_eq!(range("bytes=5-9"), Some(5..10));
        for text in ["", "bytes=", "bytes=9-5", "bytes=-5", "bytes=5-", "bytes=0-18446744073709551615", "lines=1-2"] {
            assert_eq!(range(text), None, "{text}");
        }
    }
}
