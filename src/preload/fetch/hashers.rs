//! Threads that hash behind the writers, one file after the other on each.

use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::super::error::PreloadError;
use super::arrival::{Arrival, End};

/// What a thread says of a file.
pub type Said = (Arc<Arrival>, Result<End, PreloadError>);

/// The threads; they end when this is dropped.
#[derive(Debug)]
pub struct Hashers {
    lines: Vec<Sender<Arc<Arrival>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Hashers {
    /// Starts them.
    pub fn start(count: usize) -> (Hashers, UnboundedReceiver<Said>) {
        let (said, heard) = unbounded_channel();
        let mut hashers = Hashers { lines: Vec::new(), threads: Vec::new() };
        for _ in 0..count.max(1) {
            let (line, work) = channel::<Arc<Arrival>>();
            let said: UnboundedSender<Said> = said.clone();
            hashers.lines.push(line);
            hashers.threads.push(std::thread::spawn(move || {
                while let Ok(arrival) = work.recv() {
                    let end = arrival.advance();
                    if let Some(end) = end.transpose() {
                        // Nobody listens any more once the run was given up.
                        let _ = said.send((arrival, end));
                    }
                }
            }));
        }
        (hashers, heard)
    }

    /// Bytes of a file came; `number` keeps a file with one thread.
    pub fn advance(&self, number: usize, arrival: &Arc<Arrival>) {
        // A thread ends only with us.
        let _ = self.lines[number % self.lines.len()].send(Arc::clone(arrival));
    }
}

impl Drop for Hashers {
    fn drop(&mut self) {
        self.lines.clear();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
