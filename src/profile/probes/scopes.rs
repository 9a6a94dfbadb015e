//! Where PyTorch's profiler scopes begin and end, exactly.
//!
//! at::RecordFunction's constructor and `end` serve every backward node too, thirty times for
//! one scope. The functions behind `torch.autograd.profiler.record_function` are not exported
//! but for one; the others lie beside it. So their calls are looked for around that one, and
//! the call instructions themselves are probed (the kernel emulates calls).

use std::io;

use iced_x86::{Decoder, DecoderOptions};

use super::elf::{Elf, Symbols};

const ANCHOR: &str = "_ZN5torch8autograd8profiler25record_function_enter_newE";
const CONSTRUCTOR: &str = "_ZN2at14RecordFunctionC1ENS_11RecordScopeE";
const END: &str = "_ZN2at14RecordFunction3endEv";
/// How far around the anchor its source file's code reaches, bytes.
const AROUND: u64 = 64 << 10;
/// `mov esi, 7`: at::RecordScope::USER_SCOPE.
const USER_SCOPE: [u8; 5] = [0xbe, 7, 0, 0, 0];
/// How far before its call the scope is set, bytes.
const BEFORE: usize = 48;

/// Addresses of the calls that begin and that end a scope.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ScopeCalls {
    /// Calls of the constructor for a user's scope.
    pub enter: Vec<u64>,
    /// Calls of `end`, and jumps to it.
    pub exit: Vec<u64>,
}

/// Looks for the calls; `None` unless both kinds are found.
pub(crate) fn find(elf: &Elf, symbols: &Symbols) -> io::Result<Option<ScopeCalls>> {
    let Some(anchor) = symbols.iter().find(|s| s.code && s.name.starts_with(ANCHOR)).map(|s| s.address) else {
        return Ok(None);
    };
    let start = anchor.saturating_sub(AROUND);
    let Ok(code) = elf.read(start, 2 * AROUND as usize) else { return Ok(None) };
    let constructor = targets(elf, symbols, CONSTRUCTOR)?;
    let end = targets(elf, symbols, END)?;
    let mut found = ScopeCalls::default();
    for at in 0..code.len().saturating_sub(5) {
        let jump = code[at] == 0xe9;
        if code[at] != 0xe8 && !jump {
            continue;
        }
        let distance = i32::from_le_bytes([code[at + 1], code[at + 2], code[at + 3], code[at + 4]]);
        let target = (start + at as u64 + 5).wrapping_add_signed(distance.into());
        let scope = || code[at.saturating_sub(BEFORE)..at].windows(5).any(|w| w == USER_SCOPE);
        if end.contains(&target) && is_instruction(&code, at) {
            found.exit.push(start + at as u64);
        } else if !jump && constructor.contains(&target) && scope() && is_instruction(&code, at) {
            found.enter.push(start + at as u64);
        }
    }
    Ok((!found.enter.is_empty() && !found.exit.is_empty()).then_some(found))
}

/// Whether an instruction starts at `at`: code decoded from wherever before falls into step.
fn is_instruction(code: &[u8], at: usize) -> bool {
    const STARTS: usize = 32;
    let Some(first) = at.checked_sub(128) else { return false };
    let meets = |start: usize| {
        let mut decoder = Decoder::with_ip(64, &code[start..], start as u64, DecoderOptions::NONE);
        while start + decoder.position() < at {
            let _ = decoder.decode();
        }
        start + decoder.position() == at
    };
    (first..first + STARTS).filter(|start| meets(*start)).count() * 4 >= STARTS * 3
}

/// Where calls of a function lead: to itself, or to the stub the linker made for it.
fn targets(elf: &Elf, symbols: &Symbols, name: &str) -> io::Result<Vec<u64>> {
    let mut targets: Vec<u64> = symbols.iter().filter(|s| s.name == name).map(|s| s.address).collect();
    let Some(index) = symbols.index_of(name) else { return Ok(targets) };
    // Elf64_Rela: slot, symbol and type, addend.
    let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap_or_default());
    let relocations = elf.section(".rela.plt")?;
    let slot = relocations.chunks_exact(24).find(|r| word(&r[8..16]) >> 32 == index as u64).map(|r| word(&r[..8]));
    for section in [".plt", ".plt.sec"] {
        let (Some(slot), Some(base)) = (slot, elf.section_address(section)) else { continue };
        // Entries of 16 bytes that jump through the slot: [endbr64] [bnd] jmp [rip + n].
        for (i, entry) in elf.section(section)?.chunks_exact(16).enumerate() {
            let Some(jump) = entry.windows(2).take(8).position(|w| w == [0xff, 0x25]) else { continue };
            let distance = i32::from_le_bytes([entry[jump + 2], entry[jump + 3], entry[jump + 4], entry[jump + 5]]);
            let at = base + 16 * i as u64;
            if (at + jump as u64 + 6).wrapping_add_signed(distance.into()) == slot {
                targets.push(at);
            }
        }
    }
    Ok(targets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instruction_is_told_from_its_inside() {
        // push rbx; sub rsp,16; call; cmpb [rsp],0; je; call; add rsp,16; pop rbx; ret; nop
        let function = [
            0x53, 0x48, 0x83, 0xec, 0x10, 0xe8, 1, 2, 3, 4, 0x80, 0x3c, 0x24, 0x00, 0x74, 0x05, 0xe8, 0, 1, 0, 0, 0x48,
            0x83, 0xc4, 0x10, 0x5b, 0xc3, 0x90,
        ];
        let code = function.repeat(10);
        let at = 8 * function.len();
        assert!(is_instruction(&code, at + 5) && is_instruction(&code, at + 16));
        assert!(!is_instruction(&code, at + 7) && !is_instruction(&code, at + 18));
        assert!(!is_instruction(&code, 10), "too near the beginning to tell");
    }
}
