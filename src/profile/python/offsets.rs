//! Where CPython keeps things, by version: its thread states, frames, code objects and texts.
//!
//! The tables are `offsetof` of each version's own headers, 64-bit builds: Include/cpython/
//! {pystate,code,frameobject,unicodeobject}.h and Include/internal/pycore_{runtime,interp,frame,gil}.h
//! of the tags v3.9.18, v3.10.13, v3.11.7, v3.12.1, v3.13.0 and v3.14.0. From 3.13 on the process
//! itself says most of it (`_Py_DebugOffsets`, pycore_debug_offsets.h), which then wins.

use super::memory::Memory;

/// `struct py_process` of python.bpf.h.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PyProcess {
    pub interp_head: u64,
    pub gil: u64,
    pub tls: u32,
    pub tls_block: u32,
    pub interp_next: u16,
    pub interp_threads: u16,
    pub tstate_next: u16,
    pub tstate_thread_id: u16,
    pub tstate_frame: u16,
    pub cframe_frame: u16,
    pub frame_code: u16,
    pub frame_prev: u16,
    pub frame_ip: u16,
    pub frame_owner: u16,
    pub frame_read: u16,
    pub gil_locked: u16,
    pub gil_holder: u16,
    pub flags: u8,
    pub skip_owner: u8,
    /// The C struct's padding, named so that no byte of it is undefined.
    pub pad: u32,
}

// SAFETY: repr(C), integers only, padding named.
unsafe impl aya::Pod for PyProcess {}

/// `PY_*` of python.bpf.h.
pub(crate) mod flag {
    pub const CFRAME: u8 = 1;
    pub const OWNER: u8 = 2;
    pub const TAGGED: u8 = 4;
}

/// How the version keeps a frame's position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Position {
    /// `f_lasti`, an index: bytes in 3.9, code units of two bytes in 3.10.
    Index { unit: u64 },
    /// An address inside `co_code_adaptive`.
    Address,
}

/// How the version maps positions to lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LineFormat {
    /// `co_lnotab`, up to 3.9 (Objects/lnotab_notes.txt).
    Lnotab,
    /// `co_linetable` of 3.10 (Objects/lnotab_notes.txt, PEP 626).
    Ranges,
    /// `co_linetable` since 3.11 (Objects/locations.md).
    Locations,
}

/// Fields of a code object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CodeLayout {
    pub size: usize,
    pub name: usize,
    /// `None` before 3.11.
    pub qualname: Option<usize>,
    pub filename: usize,
    pub firstlineno: usize,
    pub linetable: usize,
    /// Where the instructions begin (since 3.11), else where the pointer to their bytes object is.
    pub code: usize,
}

/// Everything that differs between versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    pub minor: u8,
    /// `_PyRuntime.autoTSSkey` (`gilstate.autoTSSkey` before 3.12); checked before it is used.
    pub tss: u64,
    pub interp_head: u64,
    pub interp_next: u16,
    pub interp_threads: u16,
    /// Pointer to the GIL in the interpreter (since 3.12), else the GIL itself in `_PyRuntime`.
    pub gil: u64,
    pub gil_holder: u16,
    pub gil_locked: u16,
    pub gil_size: u64,
    pub tstate_next: u16,
    pub tstate_thread_id: u16,
    pub tstate_frame: u16,
    pub cframe_frame: Option<u16>,
    pub frame_code: u16,
    pub frame_prev: u16,
    pub frame_ip: u16,
    pub frame_owner: Option<u16>,
    pub frame_read: u16,
    /// Least `owner` of a frame that is the interpreter's own.
    pub skip_owner: u8,
    /// Low bits of `f_executable` are a tag (`_PyStackRef`, since 3.14).
    pub tagged: bool,
    pub position: Position,
    pub lines: LineFormat,
    pub code: CodeLayout,
    /// `sizeof(PyASCIIObject)` and `sizeof(PyCompactUnicodeObject)`.
    pub text_headers: (u64, u64),
}

const V9: Layout = Layout {
    minor: 9,
    tss: 584,
    interp_head: 32,
    interp_next: 0,
    interp_threads: 8,
    gil: 352,
    gil_holder: 8,
    gil_locked: 16,
    gil_size: 208,
    tstate_next: 8,
    tstate_thread_id: 176,
    tstate_frame: 24,
    cframe_frame: None,
    frame_code: 32,
    frame_prev: 24,
    frame_ip: 104,
    frame_owner: None,
    frame_read: 112,
    skip_owner: 0,
    tagged: false,
    position: Position::Index { unit: 1 },
    lines: LineFormat::Lnotab,
    code: CodeLayout { size: 176, name: 112, qualname: None, filename: 104, firstlineno: 40, linetable: 120, code: 48 },
    text_headers: (48, 72),
};

const V10: Layout = Layout {
    minor: 10,
    frame_ip: 96,
    frame_read: 104,
    position: Position::Index { unit: 2 },
    lines: LineFormat::Ranges,
    ..V9
};

const V11: Layout = Layout {
    minor: 11,
    tss: 592,
    interp_head: 40,
    interp_threads: 16,
    gil: 360,
    tstate_thread_id: 152,
    tstate_frame: 56,
    cframe_frame: Some(8),
    frame_code: 32,
    frame_prev: 48,
    frame_ip: 56,
    frame_owner: Some(69),
    frame_read: 72,
    skip_owner: 3,
    position: Position::Address,
    lines: LineFormat::Locations,
    code: CodeLayout {
        size: 192,
        name: 120,
        qualname: Some(128),
        filename: 112,
        firstlineno: 72,
        linetable: 136,
        code: 184,
    },
    ..V10
};

const V12: Layout = Layout {
    minor: 12,
    tss: 1544,
    interp_threads: 72,
    gil: 384,
    tstate_thread_id: 136,
    cframe_frame: Some(0),
    frame_code: 0,
    frame_prev: 8,
    frame_owner: Some(70),
    code: CodeLayout { size: 200, firstlineno: 68, code: 192, ..V11.code },
    text_headers: (40, 56),
    ..V11
};

const V13: Layout = Layout {
    minor: 13,
    tss: 2160,
    interp_head: 632,
    interp_next: 7264,
    interp_threads: 7344,
    gil: 16,
    tstate_thread_id: 152,
    tstate_frame: 72,
    cframe_frame: None,
    code: CodeLayout { size: 208, code: 200, ..V12.code },
    ..V12
};

const V14: Layout = Layout {
    minor: 14,
    tss: 2336,
    interp_head: 808,
    interp_next: 7272,
    frame_owner: Some(74),
    frame_read: 80,
    tagged: true,
    code: CodeLayout { size: 216, code: 208, ..V13.code },
    ..V13
};

/// First eight bytes of `_PyRuntime` since 3.13.
pub(crate) const DEBUG_COOKIE: &[u8; 8] = b"xdebugpy";
/// Words of `_Py_DebugOffsets` read: all that is used of it, 3.14's being the longest.
const DEBUG_WORDS: usize = 50;

/// The layout of a version; `None` for one that is not known.
pub(crate) fn of_version(minor: u8) -> Option<Layout> {
    [V9, V10, V11, V12, V13, V14].into_iter().find(|layout| layout.minor == minor)
}

/// What the process says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DebugOffsets {
    /// `PY_VERSION_HEX`.
    pub version: u64,
    /// A build without GIL.
    pub free_threaded: bool,
    words: [u64; DEBUG_WORDS],
}

/// Reads `_Py_DebugOffsets` at `_PyRuntime`; `None` before 3.13.
pub(crate) fn debug_offsets(memory: &impl Memory, runtime: u64) -> Option<DebugOffsets> {
    let mut raw = [0; DEBUG_WORDS * 8];
    if !memory.read(runtime, &mut raw) || raw[..8] != *DEBUG_COOKIE {
        return None;
    }
    let mut words = [0; DEBUG_WORDS];
    for (word, bytes) in words.iter_mut().zip(raw.as_chunks::<8>().0) {
        *word = u64::from_le_bytes(*bytes);
    }
    Some(DebugOffsets { version: words[1], free_threaded: words[2] != 0, words })
}

impl DebugOffsets {
    /// Replaces what the process knows better; a value out of range means a layout that is not known.
    pub fn apply(&self, layout: &mut Layout) -> Option<()> {
        // 3.14 has threads_main, code_object_generation, tlbc_generation, stackpointer and tlbc_index more.
        let (interp, thread, frame, code) = match layout.minor {
            13 => (6, 19, 28, 34),
            14 => (6, 22, 31, 39),
            _ => return None,
        };
        let late = usize::from(layout.minor >= 14);
        let word = |index: usize, limit: u64| self.words.get(index).copied().filter(|word| *word < limit);
        let short = |index: usize, limit: u64| word(index, limit).and_then(|word| u16::try_from(word).ok());
        let long = |index: usize, limit: u64| word(index, limit).and_then(|word| usize::try_from(word).ok());
        layout.interp_head = word(5, 1 << 16)?;
        layout.interp_next = short(interp + 2, 1 << 16)?;
        layout.interp_threads = short(interp + 3, 1 << 16)?;
        layout.gil = word(interp + 8 + late, 1 << 16)?;
        layout.tstate_next = short(thread + 2, 4096)?;
        layout.tstate_frame = short(thread + 4, 4096)?;
        layout.tstate_thread_id = short(thread + 5, 4096)?;
        // The kernel side reads one piece of 128 bytes at most of a frame.
        layout.frame_prev = short(frame + 1, 120)?;
        layout.frame_code = short(frame + 2, 120)?;
        layout.frame_ip = short(frame + 3, 120)?;
        let owner = short(frame + 5, 127)?;
        layout.frame_owner = Some(owner);
        layout.frame_read =
            [layout.frame_prev + 8, layout.frame_code + 8, layout.frame_ip + 8, owner + 1].into_iter().max()?;
        layout.code = CodeLayout {
            size: long(code, 4096)?,
            filename: long(code + 1, 4096)?,
            name: long(code + 2, 4096)?,
            qualname: Some(long(code + 3, 4096)?),
            linetable: long(code + 4, 4096)?,
            firstlineno: long(code + 5, 4096)?,
            code: long(code + 9, 4096)?,
        };
        Some(())
    }
}

impl Layout {
    /// What the kernel needs of it.
    pub fn kernel(&self, runtime: u64, gil: u64, tls: (u32, u32)) -> PyProcess {
        let mut flags = 0;
        if self.cframe_frame.is_some() {
            flags |= flag::CFRAME;
        }
        if self.frame_owner.is_some() {
            flags |= flag::OWNER;
        }
        if self.tagged {
            flags |= flag::TAGGED;
        }
        PyProcess {
            interp_head: runtime + self.interp_head,
            gil,
            tls: tls.0,
            tls_block: tls.1,
            interp_next: self.interp_next,
            interp_threads: self.interp_threads,
            tstate_next: self.tstate_next,
            tstate_thread_id: self.tstate_thread_id,
            tstate_frame: self.tstate_frame,
            cframe_frame: self.cframe_frame.unwrap_or(0),
            frame_code: self.frame_code,
            frame_prev: self.frame_prev,
            frame_ip: self.frame_ip,
            frame_owner: self.frame_owner.unwrap_or(0),
            frame_read: self.frame_read,
            gil_locked: self.gil_locked,
            gil_holder: self.gil_holder,
            flags,
            skip_owner: self.skip_owner,
            pad: 0,
        }
    }

    /// Offset into the instructions, in bytes, of a frame's position; `None` before the first one
    /// or outside.
    pub fn lasti(&self, code: u64, ip: u64) -> Option<u32> {
        match self.position {
            Position::Index { unit } => {
                // A 32-bit number; -1 before the first instruction.
                let index = i32::try_from(ip as u32).ok()?;
                u32::try_from(u64::try_from(index).ok()? * unit).ok()
            }
            Position::Address => {
                let first = code.checked_add(self.code.code as u64)?;
                u32::try_from(ip.checked_sub(first)?).ok().filter(|offset| *offset < 1 << 24)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_struct_has_no_hidden_padding() {
        // sizeof(struct py_process): 2 words, 2 half words, 13 u16, 2 u8 and 4 bytes to the next word.
        assert_eq!(size_of::<PyProcess>(), 16 + 8 + 26 + 2 + 4);
    }

    #[test]
    fn positions_before_the_first_instruction_are_none() {
        assert_eq!(V9.lasti(0, 0xffff_ffff), None);
        assert_eq!(V9.lasti(0, 0xdead_beef_0000_0006), Some(6));
        assert_eq!(V10.lasti(0, 6), Some(12));
        assert_eq!(V11.lasti(0x1000, 0x1000 + 184 - 2), None);
        assert_eq!(V11.lasti(0x1000, 0x1000 + 184 + 8), Some(8));
        assert_eq!(V13.lasti(u64::MAX - 3, 8), None);
    }

    #[test]
    fn every_frame_field_lies_in_what_is_read() {
        for layout in [V9, V10, V11, V12, V13, V14] {
            let ends = [layout.frame_code + 8, layout.frame_prev + 8, layout.frame_ip + 4];
            assert!(ends.iter().all(|end| *end <= layout.frame_read), "3.{}", layout.minor);
            assert!(layout.frame_owner.is_none_or(|owner| owner < layout.frame_read));
            assert!(layout.frame_read <= 128);
        }
    }
}
