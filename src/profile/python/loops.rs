//! Whether a frame that was seen at one place and then at an earlier one can be the same call.
//!
//! CPython gives the next call of a function the same frame address, so two samples of a
//! function called in a loop look like one long call. But within one call the position can go
//! back over a place only by a backward jump across it: without one, it is another call.

/// Bytes of code looked at; a longer function is taken to jump anywhere.
pub(crate) const CODE_LIMIT: usize = 256 << 10;

/// The backward jumps of a code object: (from, to), positions in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Loops {
    /// Not known: anything may be a loop.
    Unknown,
    /// All of them.
    Known(Vec<(u32, u32)>),
}

/// Opcodes of one version.
struct Jumps {
    extended: &'static [u8],
    /// Jump back by the argument, in units of two bytes, from the following instruction.
    back: &'static [u8],
    /// Jump to the argument, times the unit in bytes.
    absolute: &'static [u8],
    unit: u32,
    /// Hide a jump: code replaced by the optimizer or by sys.monitoring.
    hides: &'static [u8],
    /// Units of inline cache after each opcode, as hexadecimal digits.
    caches: &'static str,
}

/// Lib/opcode.py (3.9 to 3.12), Lib/_opcode_metadata.py and Lib/opcode.py (3.13, 3.14) of each version's tag.
fn jumps(minor: u8) -> Option<Jumps> {
    // JUMP_IF_{FALSE,TRUE}_OR_POP, JUMP_ABSOLUTE, POP_JUMP_IF_{FALSE,TRUE}, JUMP_IF_NOT_EXC_MATCH.
    const ABSOLUTE: &[u8] = &[111, 112, 113, 114, 115, 121];
    let absolute = |unit| Jumps { extended: &[144], back: &[], absolute: ABSOLUTE, unit, hides: &[], caches: "" };
    let relative = |extended, back, hides, caches| Jumps { extended, back, absolute: &[], unit: 2, hides, caches };
    Some(match minor {
        9 => absolute(1),
        10 => absolute(2),
        // EXTENDED_ARG(_QUICK); JUMP_BACKWARD(_NO_INTERRUPT, _QUICK), POP_JUMP_BACKWARD_IF_*.
        11 => relative(&[144, 34], &[134, 140, 38, 173, 174, 175, 176], &[], CACHES_11),
        // INSTRUMENTED_JUMP_BACKWARD, INSTRUMENTED_LINE; from 3.13 ENTER_EXECUTOR.
        12 => relative(&[144], &[134, 140], &[246, 254], CACHES_12),
        13 => relative(&[71], &[77, 78], &[70, 249, 254], CACHES_13),
        // JUMP_BACKWARD_{JIT,NO_JIT} too.
        14 => relative(&[69], &[75, 76, 175, 176], &[253, 254, 255], CACHES_14),
        _ => return None,
    })
}

const CACHES_11: &str = "\
    00011111100001101444444444222200000000044444000550000005aaaa10aa\
    1111000011001111110000000000100400000000004200000100500001100001\
    00000000000001010000000004400044a00000101114000001111";
const CACHES_12: &str = "\
    0000001110100110101111133100330000300033333333333000000031111011\
    1111009099009999999000000000110400000000009100044400400000110000\
    0000000000000100000040000400000111000011100300000000000000000000\
    000000000000000000000000000000000000000000000100030000001";
const CACHES_13: &str = "\
    0001010000000000000000000000000000000001300001000000030000110000\
    0000000010000100009000000004010001111000100040000000010000000000\
    0000000000000000000000111111111111333333333333333333331111111119\
    99999999999441101444113333331110000000000000000000113000011111";
const CACHES_14: &str = "\
    0005000000000000000000000000000000000013000050000000300311000000\
    0000001000010000900000000000400010001111001000400000000100000000\
    0555555555555553333333333333333333333311111111111999999999999900\
    44110144411333333111000000000000000000000000010001111000013301";

impl Loops {
    /// Finds the backward jumps in instructions.
    pub fn find(minor: u8, code: &[u8]) -> Loops {
        let Some(jumps) = jumps(minor) else { return Loops::Unknown };
        let mut found = Vec::new();
        let mut extended = 0_u32;
        let units = code.as_chunks::<2>().0;
        let mut index = 0;
        while let Some([opcode, argument]) = units.get(index) {
            let cache = jumps.caches.as_bytes().get(usize::from(*opcode)).map_or(0, |digit| hex(*digit));
            let at = 2 * index as u32;
            index += 1 + cache;
            let argument = extended << 8 | u32::from(*argument);
            extended = if jumps.extended.contains(opcode) { argument } else { 0 };
            if jumps.hides.contains(opcode) {
                return Loops::Unknown;
            }
            let target = if jumps.back.contains(opcode) {
                Some((2 * index as u32).saturating_sub(argument.saturating_mul(2)))
            } else if jumps.absolute.contains(opcode) {
                Some(argument.saturating_mul(jumps.unit))
            } else {
                None
            };
            if let Some(target) = target.filter(|target| *target <= at) {
                found.push((at, target));
            }
        }
        Loops::Known(found)
    }

    /// Whether a call that was at `before` can come to `now`.
    pub fn reach(&self, before: u32, now: u32) -> bool {
        match self {
            Loops::Unknown => true,
            Loops::Known(jumps) => now >= before || jumps.iter().any(|&(from, to)| to <= now && now < from),
        }
    }
}

fn hex(digit: u8) -> usize {
    char::from(digit).to_digit(16).unwrap_or(0) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_loop_there_is_no_way_back() {
        // 3.12: NOP; NOP; JUMP_BACKWARD to the first NOP; NOP; NOP.
        let loops = Loops::find(12, &[9, 0, 9, 0, 140, 3, 9, 0, 9, 0]);
        assert_eq!(loops, Loops::Known(vec![(4, 0)]));
        assert!(loops.reach(2, 0) && loops.reach(8, 2));
        assert!(!loops.reach(8, 6), "nothing jumps back over 6");
        assert!(loops.reach(0, 8), "forward always");
        assert!(!Loops::find(12, &[9, 0, 9, 0]).reach(2, 0));
        // LOAD_GLOBAL and its four units of cache, which look like jumps and are none.
        assert_eq!(Loops::find(12, &[116, 0, 140, 4, 140, 4, 140, 4, 140, 4, 9, 0]), Loops::Known(vec![]));
        assert!(Loops::find(99, &[9, 0]).reach(2, 0), "an unknown version may do anything");
    }

    #[test]
    fn long_and_absolute_jumps_are_followed() {
        let mut code = vec![9; 600];
        code.extend([144, 1, 140, 46]);
        assert_eq!(Loops::find(12, &code), Loops::Known(vec![(602, 0)]));
        assert_eq!(Loops::find(9, &[9, 0, 9, 0, 113, 2]), Loops::Known(vec![(4, 2)]));
        assert_eq!(Loops::find(10, &[9, 0, 9, 0, 113, 1]), Loops::Known(vec![(4, 2)]));
    }
}
