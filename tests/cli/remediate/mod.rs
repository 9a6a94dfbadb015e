//! `aictl remediate` as its users meet it, with a look and commands that are made up.

use std::sync::atomic::{AtomicU64, Ordering};

pub mod cluster;
mod safety;
mod site;
mod walk;

/// Walks the marks 1, 1 + `stride`, …, each in a place of its own and several at once, since they
/// mostly wait. `walk` says whether the run got through, or `None` where there is no server.
/// Returns the first mark that a run got through to; all before it were walked.
fn every_mark(stride: u64, walk: impl Fn(u64) -> Option<bool> + Sync) -> Option<u64> {
    let (next, first) = (AtomicU64::new(0), AtomicU64::new(u64::MAX));
    std::thread::scope(|scope| {
        let walkers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    loop {
                        let mark = 1 + next.fetch_add(stride, Ordering::Relaxed);
                        if mark > first.load(Ordering::Relaxed) {
                            return true;
                        }
                        match walk(mark) {
                            None => return false,
                            Some(true) => _ = first.fetch_min(mark, Ordering::Relaxed),
                            Some(false) => {}
                        }
                    }
                })
            })
            .collect();
        walkers.into_iter().all(|walker| walker.join().unwrap())
    })
    .then(|| first.into_inner())
}
