//! A proxy of the test's own between aictl and the API server, which loses what it is told to lose.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use ureq::tls::TlsConfig;

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is passed on, and so is its answer.
    Pass,
    /// The connection ends before it is passed on.
    Refuse,
    /// It is passed on and done; the connection ends before the answer.
    Lose,
    /// It is answered with this status, and not passed on.
    Answer(u16),
    /// It is passed on and done; the answer never comes, and the connection stays.
    Hang,
}

type Judge = dyn Fn(&str, &str) -> Fate + Send + Sync;
/// What a command in a pod does: its exit code, and what it writes to stderr.
type Exec = dyn Fn(&str, &[String]) -> (i32, Vec<u8>) + Send + Sync;
type Turn = dyn Fn(&str) -> String + Send + Sync;

pub struct Proxy {
    pub url: String,
    judge: Arc<Mutex<Arc<Judge>>>,
    /// Requests that were not simply passed on.
    pub met: Arc<AtomicUsize>,
    exec: Arc<Mutex<Option<Arc<Exec>>>>,
}

impl Proxy {
    /// A proxy in front of a server; it passes all on until it is told otherwise.
    pub fn new(server: &str) -> Proxy {
        Proxy::turning(server, str::to_owned)
    }

    /// The same, with other paths asked of the server than were asked of it.
    pub fn turning(server: &str, turn: impl Fn(&str) -> String + Send + Sync + 'static) -> Proxy {
        let turn: Arc<Turn> = Arc::new(turn);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let judge: Arc<Mutex<Arc<Judge>>> = Arc::new(Mutex::new(Arc::new(|_: &str, _: &str| Fate::Pass)));
        let met = Arc::new(AtomicUsize::new(0));
        let exec: Arc<Mutex<Option<Arc<Exec>>>> = Arc::default();
        let running = Arc::clone(&exec);
        let (server, judging, counting) = (server.to_owned(), Arc::clone(&judge), Arc::clone(&met));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (server, judge, met) = (server.clone(), Arc::clone(&judging), Arc::clone(&counting));
                let (turn, exec) = (Arc::clone(&turn), Arc::clone(&running));
                std::thread::spawn(move || serve(stream, &server, &judge, &met, &*turn, &exec));
            }
        });
        Proxy { url, judge, met, exec }
    }

    /// Says what becomes of requests, by method and path.
    pub fn judge(&self, judge: impl Fn(&str, &str) -> Fate + Send + Sync + 'static) {
        *self.judge.lock().unwrap() = Arc::new(judge);
    }

    /// Runs commands in pods itself, as a kubelet would: by the pod's name and the words.
    pub fn exec(&self, run: impl Fn(&str, &[String]) -> (i32, Vec<u8>) + Send + Sync + 'static) {
        *self.exec.lock().unwrap() = Some(Arc::new(run));
    }

    pub fn met(&self) -> usize {
        self.met.load(Ordering::SeqCst)
    }
}

/// A command in a pod, by the API's protocol over a websocket: streams are the first byte of each
/// message; 2 is stderr, 3 how it ended.
fn run_in_pod(stream: &mut TcpStream, path: &str, key: &str, protocol: &str, run: &Exec) {
    use base64::Engine;
    use sha1::Digest;
    let accept = sha1::Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11"));
    let accept = base64::engine::general_purpose::STANDARD.encode(accept);
    let url = url::Url::parse(&format!("http://x{path}")).unwrap();
    let words: Vec<String> =
        url.query_pairs().filter(|(name, _)| name == "command").map(|(_, word)| word.into()).collect();
    let pod = url.path().split('/').nth_back(1).unwrap_or_default().to_owned();
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
         sec-websocket-accept: {accept}\r\nsec-websocket-protocol: {protocol}\r\n\r\n"
    );
    let _ = stream.write_all(head.as_bytes());
    let (code, said) = run(&pod, &words);
    let mut send = |channel: u8, bytes: &[u8]| {
        let mut frame = vec![0x82];
        let length = bytes.len() + 1;
        match length {
            0..126 => frame.push(length as u8),
            _ => {
                frame.push(126);
                frame.extend((length as u16).to_be_bytes());
            }
        }
        frame.push(channel);
        frame.extend(bytes);
        let _ = stream.write_all(&frame);
    };
    for part in said.chunks(4000) {
        send(2, part);
    }
    let status = match code {
        0 => serde_json::json!({"metadata": {}, "status": "Success"}),
        code => serde_json::json!({"metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
            "message": format!("command terminated with non-zero exit code: {code}"),
            "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]}}),
    };
    send(3, status.to_string().as_bytes());
    let _ = stream.write_all(&[0x88, 0x02, 0x03, 0xe8]);
    // Until the other end has closed as well.
    let _ = stream.read(&mut [0; 64]);
}

fn serve(
    stream: TcpStream,
    server: &str,
    judge: &Mutex<Arc<Judge>>,
    met: &AtomicUsize,
    turn: &Turn,
    exec: &Mutex<Option<Arc<Exec>>>,
) {
    let tls = TlsConfig::builder().disable_verification(true).build();
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).tls_config(tls).build().into();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let mut words = line.split_whitespace();
        let (method, path) = (words.next().unwrap_or("").to_owned(), words.next().unwrap_or("").to_owned());
        let mut request =
            ureq::http::Request::builder().method(method.as_str()).uri(format!("{server}{}", turn(&path)));
        let mut length = 0;
        let (mut key, mut protocol) = (None, String::new());
        loop {
            let mut header = String::new();
            if reader.read_line(&mut header).unwrap_or(0) == 0 {
                return;
            }
            let Some((name, value)) = header.trim().split_once(':') else { break };
            match name.to_ascii_lowercase().as_str() {
                "sec-websocket-key" => key = Some(value.trim().to_owned()),
                "sec-websocket-protocol" => protocol = value.split(',').next().unwrap_or_default().trim().to_owned(),
                "content-length" => length = value.trim().parse().unwrap_or(0),
                "host" | "connection" | "accept-encoding" | "transfer-encoding" => {}
                name => request = request.header(name, value.trim()),
            }
        }
        if let Some(key) = key
            && let Some(run) = exec.lock().unwrap().clone()
        {
            return run_in_pod(&mut stream, &path, &key, &protocol, &*run);
        }
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let judge = Arc::clone(&judge.lock().unwrap());
        let fate = judge(&method, &path);
        if fate != Fate::Pass {
            met.fetch_add(1, Ordering::SeqCst);
        }
        let (status, kind, text) = match fate {
            Fate::Refuse => return,
            Fate::Answer(status) => {
                let reason = if status == 409 { "Conflict" } else { "TooManyRequests" };
                let text = format!(
                    "{{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"status\":\"Failure\",\"reason\":\"{reason}\",\
                     \"message\":\"made up\",\"code\":{status}}}"
                );
                (status, "application/json".to_owned(), text.into_bytes())
            }
            Fate::Pass | Fate::Lose | Fate::Hang => {
                let answered = if body.is_empty() {
                    agent.run(request.body(()).unwrap())
                } else {
                    agent.run(request.body(body).unwrap())
                };
                let Ok(mut answer) = answered else { return };
                let kind = answer.headers().get("content-type").map(|kind| kind.to_str().unwrap().to_owned());
                let date = answer.headers().get("date").map(|date| date.to_str().unwrap().to_owned());
                let text = answer.body_mut().read_to_vec().unwrap_or_default();
                let kind = format!("{}\r\ndate: {}", kind.unwrap_or_default(), date.unwrap_or_default());
                (answer.status().as_u16(), kind, text)
            }
        };
        if fate == Fate::Lose {
            return;
        }
        if fate == Fate::Hang {
            // Until whoever asked goes away.
            let _ = reader.read(&mut [0]);
            return;
        }
        let head = format!("HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n", text.len());
        if stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&text)).is_err() {
            return;
        }
    }
}
