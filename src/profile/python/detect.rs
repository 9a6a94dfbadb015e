//! Finds the CPython in a process, its version, and where its threads keep their state.

use std::path::PathBuf;

use super::memory::Memory;
use super::offsets::{self, Layout};
use super::symbols::Symbols;
use crate::host::maps::Mapping;

/// glibc's `struct pthread`, x86-64: `specific_1stblock`, 32 pairs of a sequence number and a
/// value (nptl/descr.h). Checked in the process before it is relied on.
const GLIBC_FIRST_BLOCK: u32 = 0x310;
/// Values in a block, and PTHREAD_KEYS_MAX.
const GLIBC_BLOCK: u32 = 32;
const KEYS_MAX: u32 = 1024;
/// Thread states looked at to check the slot, interpreters followed.
const THREADS_CHECKED: usize = 64;
const INTERPRETERS_MAX: usize = 64;
/// How much of `_PyRuntime` is searched for the key when it is not where it should be.
const RUNTIME_SEARCHED: u64 = 8192;

/// A CPython in a process.
#[derive(Debug, Clone)]
pub(crate) struct Interpreter {
    pub layout: Layout,
    /// Address of `_PyRuntime`.
    pub runtime: u64,
    /// Address of `PyCode_Type`.
    pub code_type: Option<u64>,
    /// "3.11.2".
    pub version: String,
    /// File it is in.
    pub path: PathBuf,
    /// That file's device and inode.
    pub file: (u64, u64),
}

/// What is known only once the interpreter runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Running {
    /// Address of the main interpreter's GIL.
    pub gil: u64,
    /// Slot of the thread state, as `tls` and `tls_block` of `PyProcess`; zeros if it is not certain.
    pub tls: (u32, u32),
}

/// The mappings whose file may hold the interpreter, the executable first: where both it and a
/// library define the runtime, the dynamic linker takes the executable's.
pub(crate) fn candidates<'m>(executable: Option<&std::path::Path>, maps: &'m [Mapping]) -> Vec<&'m Mapping> {
    let named = |mapping: &&Mapping| mapping.path.file_name().is_some_and(|name| is_libpython(&name.to_string_lossy()));
    let own = maps.iter().find(|m| executable.map_or(m.executable, |exe| m.path == exe)).or(maps.first());
    let mut all: Vec<&Mapping> = own.into_iter().collect();
    for mapping in maps.iter().filter(named) {
        if !all.iter().any(|m| m.file == mapping.file) {
            all.push(mapping);
        }
    }
    all
}

fn is_libpython(name: &str) -> bool {
    name.strip_prefix("libpython").is_some_and(|rest| rest.starts_with('3')) && name.contains(".so")
}

/// Tells the version and layout of an interpreter whose symbols were found in `mapping`.
pub(crate) fn identify(memory: &impl Memory, mapping: &Mapping, symbols: &Symbols) -> Result<Interpreter, String> {
    let path = mapping.path.display();
    let bias = symbols.bias(mapping).ok_or_else(|| format!("{path}: mapped in a way aictl does not know"))?;
    let runtime = bias.wrapping_add(symbols.runtime);
    if memory.u64(runtime).is_none() {
        return Err(format!("{path}: the memory of its process can't be read; CAP_SYS_PTRACE is needed"));
    }
    let debug = offsets::debug_offsets(memory, runtime);
    let hex = debug
        .map(|debug| debug.version)
        .or_else(|| symbols.version.and_then(|at| memory.u64(bias.wrapping_add(at))))
        .filter(|hex| hex >> 24 == 3);
    let (minor, version) = match hex {
        Some(hex) => ((hex >> 16) as u8, format!("3.{}.{}", (hex >> 16) as u8, (hex >> 8) as u8)),
        None => {
            let name = mapping.path.file_name().unwrap_or_default().to_string_lossy();
            let text = symbols.version_text.clone().or_else(|| version_in_name(&name));
            let text = text.ok_or_else(|| format!("{path}: a CPython whose version can't be told"))?;
            let minor = text.split('.').nth(1).and_then(|minor| minor.parse().ok()).unwrap_or(0);
            (minor, text)
        }
    };
    if debug.is_some_and(|debug| debug.free_threaded) {
        return Err(format!("{path}: free-threaded CPython {version} is not supported, only builds with the GIL"));
    }
    let mut layout = offsets::of_version(minor)
        .ok_or_else(|| format!("{path}: CPython {version} is not supported, only 3.9 to 3.14"))?;
    if let Some(debug) = debug {
        debug
            .apply(&mut layout)
            .ok_or_else(|| format!("{path}: CPython {version} describes itself in a way aictl does not know"))?;
    }
    let code_type = symbols.code_type.map(|at| bias.wrapping_add(at));
    Ok(Interpreter { layout, runtime, code_type, version, path: mapping.path.clone(), file: mapping.file })
}

/// "3.10" of "libpython3.10.so.1.0" or "python3.10".
fn version_in_name(name: &str) -> Option<String> {
    let rest = &name[name.find("python3.")? + 6..];
    let end = rest.bytes().position(|b| !b.is_ascii_digit() && b != b'.').unwrap_or(rest.len());
    Some(rest[..end].trim_end_matches('.').to_owned())
}

/// Looks at the interpreter's threads; `None` while it has none yet.
pub(crate) fn running(memory: &impl Memory, interpreter: &Interpreter) -> Option<Running> {
    let Interpreter { layout, runtime, .. } = interpreter;
    let mut main = memory.u64(runtime + layout.interp_head).filter(|head| *head != 0)?;
    let threads = threads(memory, layout, main);
    for _ in 0..INTERPRETERS_MAX {
        // The list begins with the newest; the main interpreter is its last.
        match memory.u64(main.wrapping_add(layout.interp_next.into())) {
            Some(0) | None => break,
            Some(next) => main = next,
        }
    }
    let gil = match layout.minor {
        ..12 => runtime + layout.gil,
        _ => memory.u64(main.wrapping_add(layout.gil)).unwrap_or(0),
    };
    (!threads.is_empty()).then(|| Running { gil, tls: slot(memory, interpreter, &threads).unwrap_or_default() })
}

/// (thread state, thread pointer) of an interpreter's threads.
fn threads(memory: &impl Memory, layout: &Layout, interp: u64) -> Vec<(u64, u64)> {
    let mut threads = Vec::new();
    let mut at = memory.u64(interp.wrapping_add(layout.interp_threads.into())).unwrap_or(0);
    while at != 0 && threads.len() < THREADS_CHECKED {
        if let Some(thread) = memory.u64(at.wrapping_add(layout.tstate_thread_id.into())).filter(|thread| *thread != 0)
        {
            threads.push((at, thread));
        }
        at = memory.u64(at.wrapping_add(layout.tstate_next.into())).unwrap_or(0);
    }
    threads
}

/// Finds the slot of the thread state: reads the key where the version keeps it, or searches
/// for it, and believes what it finds only if the slot holds the states of the threads known.
fn slot(memory: &impl Memory, interpreter: &Interpreter, threads: &[(u64, u64)]) -> Option<(u32, u32)> {
    let expected = std::iter::once(interpreter.layout.tss);
    expected.chain((0..RUNTIME_SEARCHED).step_by(8)).find_map(|offset| {
        // struct Py_tss_t: whether it is initialised, then the key (Include/cpython/pythread.h).
        let word = memory.u64(interpreter.runtime + offset)?;
        let key = (word >> 32) as u32;
        if word as u32 != 1 || key >= KEYS_MAX {
            return None;
        }
        slots_of(key).into_iter().find(|slot| holds_states(memory, *slot, threads))
    })
}

/// Where the C libraries keep the value of a key.
fn slots_of(key: u32) -> [(u32, u32); 2] {
    let (block, index) = (key / GLIBC_BLOCK, key % GLIBC_BLOCK);
    let value = 16 * index + 8;
    let glibc = match block {
        0 => (GLIBC_FIRST_BLOCK + value, 0),
        // `specific`, pointers to the further blocks, follows the first block.
        _ => (GLIBC_FIRST_BLOCK + 16 * GLIBC_BLOCK + 8 * block, value),
    };
    // musl 1.2: `tsd` of `struct __pthread` (src/internal/pthread_impl.h). A block's offset of 0
    // would mean no block, so key 0 is left to the search through the lists.
    [glibc, (128, 8 * key)]
}

fn holds_states(memory: &impl Memory, (tls, block): (u32, u32), threads: &[(u64, u64)]) -> bool {
    let holds = |&(state, thread): &(u64, u64)| {
        let mut slot = thread.wrapping_add(tls.into());
        if block != 0 {
            slot = memory.u64(slot)?.wrapping_add(block.into());
        }
        Some(memory.u64(slot)? == state)
    };
    // A thread that is just being made or has just ended may hold nothing.
    let known: Vec<bool> = threads.iter().filter_map(holds).collect();
    let right = known.iter().filter(|right| **right).count();
    right > 0 && right * 2 >= known.len()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// Memory of 64-bit words.
    #[derive(Default)]
    struct Words(HashMap<u64, u64>);

    impl Memory for Words {
        fn read(&self, address: u64, buffer: &mut [u8]) -> bool {
            buffer.iter_mut().zip(address..).all(|(byte, at)| {
                let word = self.0.get(&(at & !7));
                *byte = word.map_or(0, |word| word.to_le_bytes()[(at & 7) as usize]);
                word.is_some()
            })
        }
    }

    const RUNTIME: u64 = 0x10_0000;
    const INTERP: u64 = 0x20_0000;

    fn interpreter(minor: u8) -> Interpreter {
        Interpreter {
            layout: offsets::of_version(minor).unwrap(),
            runtime: RUNTIME,
            code_type: None,
            version: format!("3.{minor}.0"),
            path: PathBuf::from("/usr/bin/python3"),
            file: (0, 0),
        }
    }

    /// A runtime with one interpreter of two threads, and the key at `tss`.
    fn world(layout: &Layout, tss: u64, key: u64) -> Words {
        let mut words = Words((0..RUNTIME_SEARCHED).step_by(8).map(|at| (RUNTIME + at, 0)).collect());
        let (first, second) = (0x30_0000, 0x31_0000);
        words.0.extend([
            (RUNTIME + layout.interp_head, INTERP),
            (RUNTIME + tss, key << 32 | 1),
            (INTERP + u64::from(layout.interp_next), 0),
            (INTERP + u64::from(layout.interp_threads), first),
            (INTERP + layout.gil, 0x55_0000),
            (first + u64::from(layout.tstate_next), second),
            (first + u64::from(layout.tstate_thread_id), 0x40_0000),
            (second + u64::from(layout.tstate_next), 0),
            (second + u64::from(layout.tstate_thread_id), 0x41_0000),
        ]);
        words
    }

    #[test]
    fn the_slot_is_believed_only_if_it_holds_the_thread_states() {
        for minor in 9..=14 {
            let interpreter = interpreter(minor);
            let mut words = world(&interpreter.layout, interpreter.layout.tss, 3);
            let found = running(&words, &interpreter).unwrap();
            assert_eq!(found.tls, (0, 0), "nothing is in the slots");
            assert_eq!(found.gil, if minor < 12 { RUNTIME + interpreter.layout.gil } else { 0x55_0000 });
            words.0.insert(0x40_0000 + 0x348, 0x30_0000);
            words.0.insert(0x41_0000 + 0x348, 0x31_0000);
            assert_eq!(running(&words, &interpreter).unwrap().tls, (0x348, 0));
        }
    }

    #[test]
    fn the_key_is_searched_for_and_may_be_in_a_further_block_or_musls() {
        let interpreter = interpreter(12);
        let mut words = world(&interpreter.layout, interpreter.layout.tss + 24, 40);
        words.0.insert(0x40_0000 + 0x510 + 8, 0x60_0000);
        words.0.insert(0x60_0000 + 16 * 8 + 8, 0x30_0000);
        assert_eq!(running(&words, &interpreter).unwrap().tls, (0x518, 136));
        let mut words = world(&interpreter.layout, interpreter.layout.tss, 2);
        words.0.insert(0x40_0000 + 128, 0x60_0000);
        words.0.insert(0x60_0000 + 16, 0x30_0000);
        assert_eq!(running(&words, &interpreter).unwrap().tls, (128, 16));
    }

    #[test]
    fn an_interpreter_that_has_not_started_has_no_threads() {
        let interpreter = interpreter(13);
        let mut words = world(&interpreter.layout, interpreter.layout.tss, 3);
        words.0.insert(RUNTIME + interpreter.layout.interp_head, 0);
        assert_eq!(running(&words, &interpreter), None);
        assert_eq!(running(&Words::default(), &interpreter), None);
    }

    #[test]
    fn a_list_of_threads_that_never_ends_is_left() {
        let interpreter = interpreter(11);
        let mut words = world(&interpreter.layout, interpreter.layout.tss, 3);
        words.0.insert(0x31_0000 + u64::from(interpreter.layout.tstate_next), 0x30_0000);
        words.0.insert(INTERP + u64::from(interpreter.layout.interp_next), INTERP);
        assert!(running(&words, &interpreter).is_some());
    }

    #[test]
    fn versions_are_read_from_names() {
        assert_eq!(version_in_name("libpython3.10.so.1.0").as_deref(), Some("3.10"));
        assert_eq!(version_in_name("python3.9").as_deref(), Some("3.9"));
        assert_eq!(version_in_name("python3"), None);
        assert!(is_libpython("libpython3.12.so.1.0") && !is_libpython("libpython2.7.so.1.0"));
        assert!(!is_libpython("libpython3-stdlib.txt"));
    }

    #[test]
    fn keys_lie_in_glibcs_blocks() {
        assert_eq!(slots_of(0)[0], (0x318, 0));
        assert_eq!(slots_of(31)[0], (0x310 + 31 * 16 + 8, 0));
        assert_eq!(slots_of(33)[0], (0x510 + 8, 24));
    }
}
