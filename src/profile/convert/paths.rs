//! The paths behind the kernel's file keys.

use rustc_hash::FxHashMap;

use super::super::records::{PATH_TEXT, PathEvent};

/// Holds at least as many of the latest paths as the kernel remembers having told
/// (`told_paths`, 16384), in two generations, so that memory stays bounded when a job
/// reads millions of files.
pub(crate) struct Paths {
    young: FxHashMap<u64, Box<str>>,
    old: FxHashMap<u64, Box<str>>,
}

const GENERATION: usize = 20_000;

impl Paths {
    /// Starts empty.
    pub fn new() -> Self {
        Paths { young: FxHashMap::default(), old: FxHashMap::default() }
    }

    /// Takes in a path the kernel tells.
    pub fn tell(&mut self, event: &PathEvent) {
        self.put(event.file, path_of(event).into_boxed_str());
    }

    /// The path of a key, if it was told.
    pub fn get(&mut self, key: u64) -> Option<&str> {
        if !self.young.contains_key(&key) {
            let path = self.old.remove(&key)?;
            self.put(key, path);
        }
        self.young.get(&key).map(|p| &**p)
    }

    fn put(&mut self, key: u64, path: Box<str>) {
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, path);
    }
}

/// Puts a path together from its components, the last of which comes first.
fn path_of(event: &PathEvent) -> String {
    let used = usize::min(event.len as usize, PATH_TEXT);
    let parts: Vec<_> = event.text[..used].split(|b| *b == 0).filter(|p| !p.is_empty()).collect();
    let inode = event.head.dur;
    match (event.head.id >> 12) & 0xf {
        0o1 => format!("pipe:[{inode}]"),
        0o14 => format!("socket:[{inode}]"),
        0 => {
            let name = parts.first().map(|p| String::from_utf8_lossy(p)).unwrap_or_default();
            format!("anon_inode:{name}")
        }
        _ => {
            let mut path = String::with_capacity(used + 1);
            for part in parts.iter().rev() {
                path.push('/');
                path.push_str(&String::from_utf8_lossy(part));
            }
            if path.is_empty() { "/".to_owned() } else { path }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::records::Head;
    use super::*;
    use bytemuck::Zeroable;

    fn event(mode: u32, text: &[u8]) -> PathEvent {
        let mut event = PathEvent {
            head: Head { id: mode, dur: 42, ..Head::zeroed() },
            file: 1,
            fd: 3,
            len: text.len() as u32,
            text: [0; PATH_TEXT],
        };
        event.text[..text.len()].copy_from_slice(text);
        event
    }

    #[test]
    fn paths_are_put_together_from_the_end() {
        assert_eq!(path_of(&event(0o100644, b"c.bin\0data\0mnt\0")), "/mnt/data/c.bin");
        assert_eq!(path_of(&event(0o010600, b"")), "pipe:[42]");
        assert_eq!(path_of(&event(0o140777, b"")), "socket:[42]");
        assert_eq!(path_of(&event(0o600, b"[eventpoll]\0")), "anon_inode:[eventpoll]");
    }

    #[test]
    fn a_lying_length_does_no_harm() {
        let mut lying = event(0o100644, b"x\0");
        lying.len = u32::MAX;
        assert_eq!(path_of(&lying), "/x");
    }

    #[test]
    fn used_paths_outlive_a_flood_of_others() {
        let mut paths = Paths::new();
        paths.tell(&event(0o100644, b"kept\0"));
        for key in 10..100_000 {
            paths.put(key, "x".into());
            assert_eq!(paths.get(1), Some("/kept"));
        }
        assert!(paths.young.len() + paths.old.len() <= 2 * GENERATION);
    }
}
