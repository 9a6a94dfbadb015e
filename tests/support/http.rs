//! A web server for tests, with faults on demand: it truncates, resets, stalls, refuses, changes
//! files under the reader's hands; and on top of it a model hub that answers as the hub's
//! documents say. Counts what it sends.

#![allow(clippy::type_complexity, reason = "a handler is named once")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What goes wrong with one answer that carries a file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
    /// Another status, and how long to wait.
    Status(u16, Option<u64>),
    /// The connection ends after so many bytes of the body.
    Truncate(usize),
    /// The connection is reset after so many.
    Reset(usize),
    /// Nothing more comes after so many.
    Stall(usize),
    /// So many bytes a second.
    Slow(usize),
    /// The first byte is another.
    Wrong,
}

/// A request, as far as tests look.
#[derive(Debug, Clone)]
pub struct Request {
    /// GET or HEAD.
    pub method: String,
    /// The path with its query.
    pub target: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
}

/// A file that is served.
#[derive(Debug, Clone)]
pub struct Served {
    /// Its bytes.
    pub content: Arc<Vec<u8>>,
    /// Its tag, with quotes.
    pub etag: Option<String>,
    /// Whether parts are served.
    pub ranges: bool,
    /// Sent in its stead.
    pub redirect: Option<String>,
    /// More headers, also of the redirect.
    pub headers: Vec<(String, String)>,
}

impl Served {
    /// A file with parts and a tag made of its length and ends.
    pub fn new(content: Vec<u8>) -> Served {
        let etag = format!("\"{}\"", &sha256(&content)[..16]);
        Served { content: Arc::new(content), etag: Some(etag), ranges: true, redirect: None, headers: Vec::new() }
    }
}

type FaultOf = Box<dyn FnMut(&Request, usize) -> Option<Fault> + Send>;

#[derive(Default)]
struct State {
    files: Mutex<BTreeMap<String, Served>>,
    documents: Mutex<BTreeMap<String, (Vec<(String, String)>, Vec<u8>)>>,
    faults: Mutex<Option<FaultOf>>,
    log: Mutex<Vec<Request>>,
    data_requests: AtomicUsize,
    data_bytes: AtomicU64,
    held: AtomicBool,
    end: AtomicBool,
}

/// The server; it ends when this is dropped.
pub struct Server {
    port: u16,
    state: Arc<State>,
}

impl Server {
    /// Starts it on a free port.
    pub fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if shared.end.load(Ordering::Relaxed) {
                    return;
                }
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || {
                    let _ = serve(&shared, stream);
                });
            }
        });
        Server { port, state }
    }

    /// Its address by number.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Its address by name: another host, to a client.
    pub fn other_url(&self) -> String {
        format!("http://localhost:{}", self.port)
    }

    /// Serves a file.
    pub fn file(&self, path: &str, served: Served) {
        self.state.files.lock().unwrap().insert(path.to_owned(), served);
    }

    /// Serves a document with headers; the target includes its query.
    pub fn document(&self, target: &str, headers: &[(&str, String)], body: impl Into<Vec<u8>>) {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        self.state.documents.lock().unwrap().insert(target.to_owned(), (headers, body.into()));
    }

    /// Asks this for the fault of each answer that carries a file; they are counted from 0.
    pub fn faults(&self, of: impl FnMut(&Request, usize) -> Option<Fault> + Send + 'static) {
        self.state.data_requests.store(0, Ordering::Relaxed);
        *self.state.faults.lock().unwrap() = Some(Box::new(of));
    }

    /// Sends no byte of a file from now on, until it is told to go on: whoever fetches one is at work until then,
    /// however slow or fast this machine is.
    pub fn hold(&self, hold: bool) {
        self.state.held.store(hold, Ordering::Relaxed);
    }

    /// Waits until so many bytes of files were sent, since the last call of [`Server::take_bytes`].
    pub fn wait_for_bytes(&self, count: u64) {
        let begin = Instant::now();
        while self.state.data_bytes.load(Ordering::Relaxed) < count {
            assert!(begin.elapsed() < Duration::from_secs(60), "nobody fetches {count} bytes");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// All requests since the last call.
    pub fn take_log(&self) -> Vec<Request> {
        std::mem::take(&mut self.state.log.lock().unwrap())
    }

    /// Bytes of files sent since the last call.
    pub fn take_bytes(&self) -> u64 {
        self.state.data_bytes.swap(0, Ordering::Relaxed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.state.end.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn serve(state: &State, stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut stream = stream;
    while !state.end.load(Ordering::Relaxed) {
        let Some(request) = read_request(&mut reader)? else { return Ok(()) };
        state.log.lock().unwrap().push(request.clone());
        let document = state.documents.lock().unwrap().get(&request.target).cloned();
        if let Some((headers, body)) = document {
            answer(&mut stream, 200, &headers, body.len(), &[])?;
            stream.write_all(&body)?;
            continue;
        }
        let path = request.target.split('?').next().unwrap_or_default().to_owned();
        let served = state.files.lock().unwrap().get(&path).cloned();
        match served {
            Some(served) if !send_file(state, &mut stream, &request, &served)? => return Ok(()),
            Some(_) => {}
            None => answer(&mut stream, 404, &[], 0, &[])?,
        }
    }
    Ok(())
}

/// Returns whether the connection goes on.
fn send_file(state: &State, stream: &mut TcpStream, request: &Request, served: &Served) -> std::io::Result<bool> {
    if let Some(target) = &served.redirect {
        let mut headers = served.headers.clone();
        headers.push(("Location".to_owned(), target.clone()));
        answer(stream, 302, &headers, 0, &[])?;
        return Ok(true);
    }
    let number = state.data_requests.fetch_add(1, Ordering::Relaxed);
    let fault = state.faults.lock().unwrap().as_mut().and_then(|of| of(request, number));
    // The fault may have changed the file.
    let path = request.target.split('?').next().unwrap_or_default();
    let served = state.files.lock().unwrap().get(path).cloned().unwrap_or_else(|| served.clone());
    let size = served.content.len();
    let mut headers = served.headers.clone();
    headers.extend(served.etag.iter().map(|etag| ("ETag".to_owned(), etag.clone())));
    if let Some(Fault::Status(status, wait)) = fault {
        headers.extend(wait.map(|seconds| ("Retry-After".to_owned(), seconds.to_string())));
        answer(stream, status, &headers, 0, &[])?;
        return Ok(true);
    }
    if request.headers.get("if-match").is_some_and(|wanted| Some(wanted) != served.etag.as_ref()) {
        answer(stream, 412, &headers, 0, &[])?;
        return Ok(true);
    }
    let span = request.headers.get("range").filter(|_| served.ranges).and_then(|range| {
        let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
        Some((first.parse::<usize>().ok()?, last.parse::<usize>().unwrap_or(usize::MAX)))
    });
    let (status, first, end) = match span {
        Some((first, _)) if first >= size => {
            headers.push(("Content-Range".to_owned(), format!("bytes */{size}")));
            answer(stream, 416, &headers, 0, &[])?;
            return Ok(true);
        }
        Some((first, last)) => (206, first, last.saturating_add(1).min(size)),
        None => (200, 0, size),
    };
    if status == 206 {
        headers.push(("Content-Range".to_owned(), format!("bytes {first}-{}/{size}", end - 1)));
    }
    answer(stream, status, &headers, end - first, &[])?;
    if request.method == "HEAD" {
        return Ok(true);
    }
    let mut body = served.content[first..end].to_vec();
    if fault == Some(Fault::Wrong) && !body.is_empty() {
        body[0] ^= 0xff;
    }
    let send = |stream: &mut TcpStream, bytes: &[u8]| -> std::io::Result<()> {
        while state.held.load(Ordering::Relaxed) && !state.end.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(5));
        }
        state.data_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        stream.write_all(bytes)
    };
    match fault {
        Some(Fault::Truncate(length)) => {
            send(stream, &body[..length.min(body.len())])?;
            return Ok(false);
        }
        Some(Fault::Reset(length)) => {
            send(stream, &body[..length.min(body.len())])?;
            std::thread::sleep(Duration::from_millis(20));
            let linger = libc::linger { l_onoff: 1, l_linger: 0 };
            // SAFETY: a descriptor that is open, and a structure of the size that is given.
            unsafe {
                libc::setsockopt(
                    stream.as_raw_fd(),
                    libc::SOL_SOCKET,
                    libc::SO_LINGER,
                    std::ptr::from_ref(&linger).cast(),
                    size_of_val(&linger) as u32,
                );
            }
            return Ok(false);
        }
        Some(Fault::Stall(length)) => {
            send(stream, &body[..length.min(body.len())])?;
            // Until the client has enough of it.
            stream.set_read_timeout(Some(Duration::from_secs(30)))?;
            let _ = stream.read(&mut [0; 16]);
            return Ok(false);
        }
        Some(Fault::Slow(rate)) => {
            for piece in body.chunks((rate / 50).max(1)) {
                send(stream, piece)?;
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        _ => body.chunks(256 << 10).try_for_each(|piece| send(stream, piece))?,
    }
    Ok(true)
}

fn read_request(reader: &mut BufReader<TcpStream>) -> std::io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let (method, target) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim_end().split_once(':') {
            Some((name, value)) => headers.insert(name.to_ascii_lowercase(), value.trim().to_owned()),
            None => break,
        };
    }
    Ok(Some(Request { method, target, headers }))
}

fn answer(
    stream: &mut TcpStream,
    status: u16,
    headers: &[(String, String)],
    length: usize,
    body: &[u8],
) -> std::io::Result<()> {
    let mut text = format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n");
    headers.iter().for_each(|(name, value)| text.push_str(&format!("{name}: {value}\r\n")));
    text.push_str("\r\n");
    stream.write_all(text.as_bytes())?;
    stream.write_all(body)
}

/// SHA-256 in hex.
pub fn sha256(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What git calls a file's content.
pub fn git_digest(bytes: &[u8]) -> String {
    use sha1::{Digest, Sha1};
    let mut sha1 = Sha1::new();
    sha1.update(format!("blob {}\0", bytes.len()));
    sha1.update(bytes);
    sha1.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes that repeat nowhere, the same for the same seed.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// One repository of a hub on a [`Server`].
pub struct Hub {
    /// The server.
    pub server: Server,
    repository: String,
}

/// The commit that `main` is in a [`Hub`] unless a test says otherwise.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

impl Hub {
    /// A hub with one repository, whose files are (name, content, large): large ones lie in LFS, and
    /// are redirected to the server's other name.
    pub fn with(repository: &str, files: &[(&str, Vec<u8>, bool)]) -> Hub {
        let hub = Hub { server: Server::start(), repository: repository.to_owned() };
        hub.commit(COMMIT, files);
        hub
    }

    /// Makes a commit, and lets `main` be it.
    pub fn commit(&self, commit: &str, files: &[(&str, Vec<u8>, bool)]) {
        let mut nodes = Vec::new();
        for (name, content, large) in files {
            let resolve = format!("/{}/resolve/{commit}/{name}", self.repository);
            let git = git_digest(content);
            let mut node = serde_json::json!({"type": "file", "oid": git, "size": content.len(), "path": name});
            let mut served = Served { etag: Some(format!("\"{git}\"")), ..Served::new(content.clone()) };
            served.headers.push(("X-Repo-Commit".to_owned(), commit.to_owned()));
            if *large {
                let sum = sha256(content);
                node["lfs"] = serde_json::json!({"oid": sum, "size": content.len(), "pointerSize": 134});
                let place = format!("/cdn/{sum}");
                self.server.file(&place, Served::new(content.clone()));
                served.headers.push(("X-Linked-Etag".to_owned(), format!("\"{sum}\"")));
                served.headers.push(("X-Linked-Size".to_owned(), content.len().to_string()));
                served.redirect = Some(format!("{}{place}?X-Amz-Signature=signed-secret", self.server.other_url()));
            }
            self.server.file(&resolve, served);
            nodes.push(node);
        }
        self.tree(commit, nodes);
        self.branch("main", commit);
    }

    /// Says which commit a branch is.
    pub fn branch(&self, name: &str, commit: &str) {
        let body = serde_json::json!({"id": self.repository, "sha": commit, "siblings": []}).to_string();
        for revision in [name, commit] {
            self.server.document(&format!("/api/models/{}/revision/{revision}", self.repository), &[], body.clone());
        }
    }

    /// The tree of a commit, in pages of three.
    pub fn tree(&self, commit: &str, nodes: Vec<serde_json::Value>) {
        let target = |page: usize| {
            let cursor = if page == 0 { String::new() } else { format!("&cursor=page{page}") };
            format!("/api/models/{}/tree/{commit}?recursive=true&expand=false{cursor}", self.repository)
        };
        let pages: Vec<&[serde_json::Value]> = if nodes.is_empty() { vec![&[]] } else { nodes.chunks(3).collect() };
        for (page, chunk) in pages.iter().enumerate() {
            let next = format!("<{}{}>; rel=\"next\"", self.server.url(), target(page + 1));
            let link = [("Link", next)];
            let headers: &[(&str, String)] = if page + 1 < pages.len() { &link } else { &[] };
            self.server.document(&target(page), headers, serde_json::to_vec(chunk).unwrap());
        }
    }
}
