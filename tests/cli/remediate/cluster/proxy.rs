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

pub struct Proxy {
    pub url: String,
    judge: Arc<Mutex<Arc<Judge>>>,
    /// Requests that were not simply passed on.
    pub met: Arc<AtomicUsize>,
}

impl Proxy {
    /// A proxy in front of a server; it passes all on until it is told otherwise.
    pub fn new(server: &str) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let judge: Arc<Mutex<Arc<Judge>>> = Arc::new(Mutex::new(Arc::new(|_: &str, _: &str| Fate::Pass)));
        let met = Arc::new(AtomicUsize::new(0));
        let (server, judging, counting) = (server.to_owned(), Arc::clone(&judge), Arc::clone(&met));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (server, judge, met) = (server.clone(), Arc::clone(&judging), Arc::clone(&counting));
                std::thread::spawn(move || serve(stream, &server, &judge, &met));
            }
        });
        Proxy { url, judge, met }
    }

    /// Says what becomes of requests, by method and path.
    pub fn judge(&self, judge: impl Fn(&str, &str) -> Fate + Send + Sync + 'static) {
        *self.judge.lock().unwrap() = Arc::new(judge);
    }

    pub fn met(&self) -> usize {
        self.met.load(Ordering::SeqCst)
    }
}

fn serve(stream: TcpStream, server: &str, judge: &Mutex<Arc<Judge>>, met: &AtomicUsize) {
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
        let mut request = ureq::http::Request::builder().method(method.as_str()).uri(format!("{server}{path}"));
        let mut length = 0;
        loop {
            let mut header = String::new();
            if reader.read_line(&mut header).unwrap_or(0) == 0 {
                return;
            }
            let Some((name, value)) = header.trim().split_once(':') else { break };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().unwrap_or(0),
                "host" | "connection" | "accept-encoding" | "transfer-encoding" => {}
                name => request = request.header(name, value.trim()),
            }
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
