//! The far end: waits on a socket for the near end, captures what it orders, and ends itself when
//! the capture is over, its time is up, or the near end is gone.

use std::fs::{self, Permissions};
use std::io::{self, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::clock::now_ns;
use super::frame::{self, kind};
use super::outbox::Outbox;
use super::protocol::{Hello, Order, PROTOCOL, Welcome};
use super::work;

/// How often it looks whether it should end.
const TICK: Duration = Duration::from_millis(100);
/// What is recorded may still be sent for so long after a signal: a pod's grace is 10 s.
const LAST: Duration = Duration::from_secs(8);

/// What the threads of a far end share.
struct Shared {
    outbox: Outbox,
    /// The capture is to end.
    stop: AtomicBool,
    /// Why, if it was not the near end that ended it.
    cut: OnceLock<&'static str>,
    /// The near end has all.
    bye: AtomicBool,
    /// When the near end was last heard, ns.
    heard_ns: AtomicU64,
    worker: Mutex<Option<JoinHandle<()>>>,
    began: AtomicBool,
}

/// Serves one capture at a socket, for `deadline` at most, and for `patience` at most while the near
/// end is gone. `stop` is set by signals.
///
/// # Errors
/// If the socket can't be made.
pub fn serve(socket: &Path, deadline: Duration, patience: Duration, stop: &AtomicBool) -> io::Result<()> {
    // One that was killed left it behind.
    let _ = fs::remove_file(socket);
    let listener = UnixListener::bind(socket)?;
    fs::set_permissions(socket, Permissions::from_mode(0o600))?;
    let shared = Arc::new(Shared {
        outbox: Outbox::default(),
        stop: AtomicBool::new(false),
        cut: OnceLock::new(),
        bye: AtomicBool::new(false),
        heard_ns: AtomicU64::new(now_ns()),
        worker: Mutex::default(),
        began: AtomicBool::new(false),
    });
    let accepting = Arc::clone(&shared);
    thread::Builder::new().name("accept".to_owned()).spawn(move || {
        let mut last: Option<UnixStream> = None;
        for stream in listener.incoming().flatten() {
            // Whoever comes now takes over: the one before has lost its way.
            if let Some(old) = last.take() {
                let _ = old.shutdown(std::net::Shutdown::Both);
            }
            last = stream.try_clone().ok();
            let shared = Arc::clone(&accepting);
            // A connection without a thread is one that fails.
            let _ = thread::Builder::new().name("connection".to_owned()).spawn(move || {
                let _ = converse(stream, &shared);
            });
        }
    })?;
    wait(&shared, deadline, patience, stop);
    // Probes come off in order, though the kernel would take them off without us.
    shared.stop.store(true, Ordering::Relaxed);
    let worker = shared.worker.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(worker) = worker {
        let _ = worker.join();
    }
    shared.outbox.close();
    let _ = fs::remove_file(socket);
    Ok(())
}

/// Until there is nothing more to do.
fn wait(shared: &Shared, deadline: Duration, patience: Duration, stop: &AtomicBool) {
    let begin = Instant::now();
    let mut ending: Option<Instant> = None;
    loop {
        thread::sleep(TICK);
        let silent_ns = now_ns().saturating_sub(shared.heard_ns.load(Ordering::Relaxed));
        if Duration::from_nanos(silent_ns) > patience {
            // What was sent may still be read by a near end that wakes up: it is not the whole capture.
            shared.cut.get_or_init(|| "the agent heard nothing from here for too long, and ended");
            return;
        }
        let told = stop.load(Ordering::Relaxed);
        if told || begin.elapsed() > deadline {
            shared.cut.get_or_init(|| if told { "its pod was told to end" } else { "its time was up" });
            // What was recorded so far is sent, if somebody takes it.
            shared.stop.store(true, Ordering::Relaxed);
            ending.get_or_insert_with(Instant::now);
        }
        if ending.is_some_and(|ending| ending.elapsed() > LAST) {
            return;
        }
        let began = shared.began.load(Ordering::Relaxed);
        let worker = shared.worker.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = worker.as_ref().is_none_or(JoinHandle::is_finished);
        let has_nothing = is_over && shared.outbox.is_empty() && (began || ending.is_some());
        if shared.bye.load(Ordering::Relaxed) || (ending.is_some() && has_nothing) {
            return;
        }
    }
}

/// One connection from its first words to its end.
fn converse(stream: UnixStream, shared: &Arc<Shared>) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let writer = Arc::new(Mutex::new(stream));
    let say = |kind: u8, body: &[u8]| -> io::Result<()> {
        let mut stream = writer.lock().unwrap_or_else(PoisonError::into_inner);
        frame::write(&mut *stream, kind, body)
    };
    let Some(first) = frame::read(&mut reader)?.filter(|frame| frame.kind == kind::HELLO) else {
        return say(kind::REFUSED, b"this is an agent of aictl, and that was no word of aictl's");
    };
    let hello: Hello = match serde_json::from_slice(&first.body) {
        Ok(hello) => hello,
        Err(error) => return say(kind::REFUSED, format!("the order can't be read: {error}").as_bytes()),
    };
    if hello.protocol != PROTOCOL {
        let ours = env!("CARGO_PKG_VERSION");
        let words = format!("the agent is aictl {ours} and can't speak with aictl {}", hello.version);
        return say(kind::REFUSED, words.as_bytes());
    }
    shared.heard_ns.store(now_ns(), Ordering::Relaxed);
    if let Some(order) = hello.order
        && !shared.began.swap(true, Ordering::SeqCst)
    {
        begin(order, shared)?;
    }
    if !shared.began.load(Ordering::SeqCst) {
        return say(kind::REFUSED, b"the agent has begun nothing that could be gone on with");
    }
    let Some(connection) = shared.outbox.take_over(hello.next) else {
        return say(kind::REFUSED, b"what comes next is not there any more");
    };
    let welcome = Welcome { version: env!("CARGO_PKG_VERSION").to_owned(), monotonic_ns: now_ns() };
    say(kind::WELCOME, &serde_json::to_vec(&welcome)?)?;
    let sending = Arc::clone(&writer);
    let outbox = Arc::clone(shared);
    thread::Builder::new().name("send".to_owned()).spawn(move || {
        while let Some(message) = outbox.outbox.next(connection) {
            let mut stream = sending.lock().unwrap_or_else(PoisonError::into_inner);
            if io::Write::write_all(&mut *stream, &message).is_err() {
                // The reader ends, too; the near end comes again.
                let _ = stream.shutdown(std::net::Shutdown::Both);
                return;
            }
        }
    })?;
    while let Some(frame) = frame::read(&mut reader)? {
        shared.heard_ns.store(now_ns(), Ordering::Relaxed);
        match (frame.kind, frame::number(&frame.body)) {
            (kind::PING, Some(_)) => {
                let mut body = frame.body;
                body.truncate(8);
                body.extend_from_slice(&now_ns().to_le_bytes());
                say(kind::PONG, &body)?;
            }
            (kind::ACK, Some((number, _))) => shared.outbox.acknowledge(number),
            (kind::STOP, _) => shared.stop.store(true, Ordering::Relaxed),
            (kind::BYE, _) => {
                shared.bye.store(true, Ordering::Relaxed);
                return Ok(());
            }
            // Of a newer near end, which can do without.
            _ => {}
        }
    }
    Ok(())
}

fn begin(order: Order, shared: &Arc<Shared>) -> io::Result<()> {
    let working = Arc::clone(shared);
    let worker = thread::Builder::new()
        .name("capture".to_owned())
        .spawn(move || work::run(&order, &working.outbox, &working.stop, &working.cut))?;
    *shared.worker.lock().unwrap_or_else(PoisonError::into_inner) = Some(worker);
    Ok(())
}
