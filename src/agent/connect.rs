//! What the near end runs in the agent's container (`exec`): a pipe between its own stdin and
//! stdout and the far end's socket. It holds nothing, so a connection that is lost loses nothing.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A far end that was just started is there by then.
const START: Duration = Duration::from_secs(10);
const TRY: Duration = Duration::from_millis(10);

/// Joins stdin and stdout with a far end, until either ends. With `deadline` a far end is started
/// first, as a process of its own: in an agent that was installed, none waits.
///
/// # Errors
/// If there is none, or it can't be started.
pub fn connect(socket: &Path, deadline: Option<Duration>) -> io::Result<()> {
    if let Some(deadline) = deadline {
        start(socket, deadline)?;
    }
    let begin = Instant::now();
    let stream = loop {
        match UnixStream::connect(socket) {
            Ok(stream) => break stream,
            Err(error) if begin.elapsed() > START => return Err(error),
            Err(_) => thread::sleep(TRY),
        }
    };
    let (mut from, mut to) = (stream.try_clone()?, stream);
    thread::Builder::new().name("stdin".to_owned()).spawn(move || {
        // Whatever ends this, the other direction ends, too.
        let _ = copy(&mut io::stdin().lock(), &mut to);
        let _ = to.shutdown(Shutdown::Both);
    })?;
    copy(&mut from, &mut io::stdout().lock())
}

/// Every byte at once: a message that waits in a buffer would wait for the next.
fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        to.write_all(buffer.get(..count).unwrap_or_default())?;
        to.flush()?;
    }
}

fn start(socket: &Path, deadline: Duration) -> io::Result<()> {
    let mut command = Command::new("/proc/self/exe");
    command
        .args(["agent", "serve", "--deadline", &deadline.as_secs().to_string(), "--socket"])
        .arg(socket)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    // SAFETY: setsid alone, which is async-signal-safe: it must outlive this connection.
    unsafe {
        command.pre_exec(|| match libc::setsid() {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        });
    }
    command.spawn().map(drop)
}
