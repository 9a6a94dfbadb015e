//! The Trace Event Format: ours, PyTorch's profiler's (Kineto), and anybody's.

mod event;
mod kineto;
mod places;
mod read;
mod scan;
mod write;

pub(super) use read::read;
pub use write::ChromeWriter;

/// Whether a file's first bytes are those of a JSON object or of a list of objects.
pub(super) fn looks_right(head: &[u8]) -> bool {
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    let mut rest = head.iter().copied().filter(|b| !b.is_ascii_whitespace());
    match rest.next() {
        Some(b'{') => matches!(rest.next(), None | Some(b'"' | b'}')),
        Some(b'[') => matches!(rest.next(), None | Some(b'{' | b']')),
        _ => false,
    }
}
