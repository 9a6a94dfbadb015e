//! `--listen`: an exporter for Prometheus, and for `aictl top --fleet`.
//!
//! Looks when it is asked, at most once a second however many ask, so that nothing is measured that
//! nobody reads. A client that is slow, or says nothing, has a time to end in, and keeps nobody else
//! waiting; there are so many at a time and no more.

use std::convert::Infallible;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::super::error::{DONE, Error};
use super::super::runtime::block_on_threads;
use super::super::settings::Settings;
use super::Done;
use super::local::Local;
use crate::metrics::{NodeSample, exposition};

/// Port that exporters of a cluster listen at; dcgm-exporter's own.
pub const PORT: u16 = 9400;
/// What `aictl top --fleet` reads, below the root.
pub const NODE_PAGE: &str = "v1/node";

/// A look is good for this long.
const FRESH: Duration = Duration::from_secs(1);
/// Connections at a time; more wait.
const MOST: usize = 128;
/// A request is there by then.
const HEADERS: Duration = Duration::from_secs(10);
/// An answer is taken by then, or its client is let go.
const WHOLE: Duration = Duration::from_secs(60);

/// The reader, and its last look.
type Held = (Local, Option<(Instant, Arc<NodeSample>)>);

struct Exporter {
    held: Arc<Mutex<Held>>,
}

impl Exporter {
    /// What there is now; one look for all who ask in the same second. It goes on to its end even if
    /// who asked has gone.
    async fn sample(&self) -> Result<Arc<NodeSample>, String> {
        let held = Arc::clone(&self.held);
        let looked = tokio::task::spawn_blocking(move || {
            // A look that panicked leaves a reader that can be asked again.
            let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
            let (local, last) = &mut *held;
            if let Some((at, sample)) = last
                && at.elapsed() < FRESH
            {
                return Arc::clone(sample);
            }
            let sample = Arc::new(local.look());
            *last = Some((Instant::now(), Arc::clone(&sample)));
            sample
        });
        looked.await.map_err(|error| format!("the look failed: {error}"))
    }

    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET\n".to_owned());
        }
        let path = request.uri().path();
        match path {
            "/" => plain(StatusCode::OK, "text/html; charset=utf-8", INDEX.to_owned()),
            "/healthz" => plain(StatusCode::OK, "text/plain", "ok\n".to_owned()),
            "/metrics" | "/v1/node" => match self.sample().await {
                Err(why) => plain(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", format!("{why}\n")),
                Ok(sample) if path == "/metrics" => {
                    let text = exposition::render(std::slice::from_ref(&*sample));
                    packed(request, exposition::CONTENT_TYPE, text)
                }
                Ok(sample) => match serde_json::to_string(&*sample) {
                    Ok(text) => packed(request, "application/json", text),
                    Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", format!("{error}\n")),
                },
            },
            _ => plain(StatusCode::NOT_FOUND, "text/plain", "there is /metrics, /v1/node and /healthz\n".to_owned()),
        }
    }
}

const INDEX: &str = "<!doctype html><title>aictl top</title><h1>aictl top</h1>\
    <p><a href=\"metrics\">metrics</a> for Prometheus, <a href=\"v1/node\">v1/node</a> as JSON</p>\n";

/// Packed where the client takes that: a tenth of the bytes, of a thousand nodes over one line.
fn packed(request: &Request<Incoming>, kind: &'static str, text: String) -> Response<Full<Bytes>> {
    let takes = request.headers().get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    if !takes.flat_map(|value| value.split(',')).any(takes_gzip) {
        return plain(StatusCode::OK, kind, text);
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    match encoder.write_all(text.as_bytes()).and_then(|()| encoder.finish()) {
        Ok(bytes) => {
            let mut response = plain(StatusCode::OK, kind, bytes);
            response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            response
        }
        Err(_) => plain(StatusCode::OK, kind, text),
    }
}

/// Whether one part of Accept-Encoding is gzip, and not "gzip;q=0", which forbids it.
fn takes_gzip(part: &str) -> bool {
    let mut words = part.split(';').map(str::trim);
    let is_gzip = words.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
    let weight = words.find_map(|word| word.strip_prefix("q=")).map(|weight| weight.parse::<f32>().unwrap_or(0.0));
    is_gzip && weight.is_none_or(|weight| weight > 0.0)
}

fn plain(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// Serves until a signal ends it.
pub fn run(address: SocketAddr, local: Local, settings: &Settings) -> Done {
    let served = block_on_threads(async {
        let listener = TcpListener::bind(address).await.map_err(|error| {
            Error::failed(format!("cannot listen at {address}"), error).hint("is another exporter there? choose a port")
        })?;
        let bound = listener.local_addr().unwrap_or(address);
        settings.ui.note(&format!("listening at http://{bound}/metrics; Ctrl-C ends"));
        let exporter = Arc::new(Exporter { held: Arc::new(Mutex::new((local, None))) });
        let room = Arc::new(Semaphore::new(MOST));
        loop {
            let Ok(place) = Arc::clone(&room).acquire_owned().await else { return Ok(()) };
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                // Out of descriptors, or a client that was gone at once.
                Err(_) => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let exporter = Arc::clone(&exporter);
            tokio::spawn(async move {
                let service = service_fn(move |request: Request<Incoming>| {
                    let exporter = Arc::clone(&exporter);
                    async move { Ok::<_, Infallible>(exporter.answer(&request).await) }
                });
                let serving = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEADERS)
                    // A connection that waits for its next question would keep a place from others.
                    .keep_alive(false)
                    .serve_connection(TokioIo::new(stream), service);
                let _ = tokio::time::timeout(WHOLE, serving).await;
                drop(place);
            });
        }
    });
    served.map(|()| DONE)
}

#[cfg(test)]
mod tests {
    use super::takes_gzip;

    #[test]
    fn what_clients_take() {
        for part in ["gzip", " gzip ", "GZIP;q=0.5", "gzip; q=1"] {
            assert!(takes_gzip(part), "{part}");
        }
        for part in ["", "identity", "deflate", "gzip;q=0", "gzip; q=0.0", "gzip;q=x", "xgzip"] {
            assert!(!takes_gzip(part), "{part}");
        }
    }
}
