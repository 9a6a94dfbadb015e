//! One HTTP server of an engine: slurmrestd, Ray's job server.

use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, StatusCode};
use serde_json::Value;

use crate::host::trust::trusting;
use crate::queue::QueueError;

/// A server that doesn't take the connection by then is not reachable.
const CONNECT: Duration = Duration::from_secs(5);
/// A request is answered by then.
const ANSWER: Duration = Duration::from_secs(30);
/// Waits between the tries of a request that changes nothing.
const AGAIN: [Duration; 2] = [Duration::from_millis(200), Duration::from_millis(800)];

/// A server.
pub(super) struct Http {
    client: Client,
    base: String,
    /// For messages: the target's name and the address.
    place: String,
    /// How long an answer is waited for.
    patience: Duration,
}

/// What it answered.
#[derive(Debug)]
pub(super) struct Answered {
    pub status: StatusCode,
    pub body: Bytes,
}

impl Answered {
    /// The answer's text, to show.
    pub fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        let text = text.trim();
        match text.char_indices().nth(600) {
            Some((end, _)) => format!("{}…", &text[..end]),
            None => text.to_owned(),
        }
    }
}

impl Http {
    /// Reads an address: `http://HOST:PORT`, `https://…`, `HOST:PORT`, `unix:/PATH`. Speaks to nobody yet.
    pub fn open(target: &str, address: &str, headers: &[(&str, String)]) -> Result<Http, QueueError> {
        Http::open_with(target, address, headers, ANSWER)
    }

    fn open_with(
        target: &str,
        address: &str,
        headers: &[(&str, String)],
        patience: Duration,
    ) -> Result<Http, QueueError> {
        let wrong = |why: String| QueueError::Invalid {
            what: format!("target {target}: {why}"),
            hint: "write http://HOST:PORT, https://HOST:PORT or unix:/PATH".to_owned(),
        };
        let mut builder = trusting(Client::builder()).connect_timeout(CONNECT).timeout(patience).no_proxy();
        let base = match address.strip_prefix("unix:") {
            Some(path) => {
                let path = path.strip_prefix("//").unwrap_or(path);
                builder = builder.unix_socket(path);
                "http://localhost".to_owned()
            }
            None if address.contains("://") => address.trim_end_matches('/').to_owned(),
            None => format!("http://{}", address.trim_end_matches('/')),
        };
        let parsed = url::Url::parse(&base).map_err(|error| wrong(format!("{address:?} is no address: {error}")))?;
        if !matches!(parsed.scheme(), "http" | "https") || parsed.host().is_none() {
            return Err(wrong(format!("{address:?} is no address of a server")));
        }
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| wrong(error.to_string()))?;
            let mut value = HeaderValue::from_str(value)
                .map_err(|_| wrong(format!("what goes into the header {name} has characters that it can't have")))?;
            value.set_sensitive(true);
            map.insert(name, value);
        }
        let client = builder.default_headers(map).build();
        let client = client.map_err(|error| wrong(format!("no connection can be made: {}", deepest(&error))))?;
        Ok(Http { client, base, place: format!("{target} at {address}"), patience })
    }

    /// "slurm at http://head:6820".
    pub fn place(&self) -> &str {
        &self.place
    }

    /// The whole address of a path.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// Asks for what is there; again, if the server is away for a moment. One that was silent until the
    /// deadline hangs, and is not waited for again.
    pub async fn get(&self, path: &str) -> Result<Answered, QueueError> {
        let began = Instant::now();
        for wait in AGAIN {
            match self.send(Method::GET, path, None).await {
                Ok(answered) if !matches!(answered.status.as_u16(), 429 | 502 | 503 | 504) => return Ok(answered),
                Err(error) if !error.is_passing() || began.elapsed() >= self.patience => return Err(error),
                Ok(_) | Err(_) => tokio::time::sleep(wait).await,
            }
        }
        self.send(Method::GET, path, None).await
    }

    /// Sends one request, once.
    pub async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answered, QueueError> {
        let failed = |error: reqwest::Error| QueueError::Unreachable {
            what: format!("cannot reach {}", self.place),
            message: match (error.is_timeout(), error.is_connect()) {
                (true, true) => format!("no connection within {CONNECT:?}"),
                (true, false) => format!("it took the connection and gave no answer within {:?}", self.patience),
                (false, _) => deepest(&error),
            },
            passing: true,
        };
        let mut request = self.client.request(method, self.url(path)).header("accept", "application/json");
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(failed)?;
        let status = response.status();
        let body = response.bytes().await.map_err(failed)?;
        Ok(Answered { status, body })
    }
}

/// The cause beneath all causes, which is the one that says something: "connection refused".
fn deepest(error: &dyn std::error::Error) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_that_hangs_is_given_up_once() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        // Takes connections, and keeps them without a word.
        let taken = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let held = std::sync::Arc::clone(&taken);
        std::thread::spawn(move || listener.incoming().for_each(|stream| held.lock().unwrap().push(stream)));
        let http = Http::open_with("lab", &address, &[], Duration::from_millis(300)).unwrap();
        let error = http.get("/jobs").await.unwrap_err();
        let said = format!("cannot reach lab at {address}: it took the connection and gave no answer within 300ms");
        assert_eq!(error.to_string(), said);
        assert!(error.is_passing(), "whoever waits for a job waits on");
        while taken.lock().unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(taken.lock().unwrap().len(), 1, "asked once");
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_says_so() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        // Nobody has this one; one that was free a moment ago is another test's by now.
        let port = 1;
        let http = Http::open("lab", &format!("127.0.0.1:{port}"), &[]).unwrap();
        let error = http.get("/jobs").await.unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot reach lab at 127.0.0.1:{port}: ")), "{error}");
        assert!(error.to_lowercase().contains("refused"), "{error}");
    }
}
