//! Where to probe a function without ever putting a return probe on it.
//!
//! The kernel emulates push, nop and jumps, and single-steps anything else at twenty times the
//! cost. So the entry probe goes to the first emulated instruction of the straight run the
//! function starts with, and the exit probe to an emulated instruction (in practice the
//! conditional jump over a destructor) that every way from the entry to the `ret` passes
//! exactly once, after the work and before the epilogue.

use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register};
use serde::{Deserialize, Serialize};

/// An instruction to probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Site {
    /// Its address in the file's own numbering.
    pub address: u64,
    /// Bytes from the stack pointer there to where the return address lies; `None` if they vary.
    pub delta: Option<u32>,
    /// The kernel emulates it; otherwise a hit costs twenty times as much.
    pub emulated: bool,
}

/// Where a function is entered and left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Shape {
    /// Where to probe its entry: every argument register is still untouched there.
    pub entry: Site,
    /// The emulated instruction all ways out lead through, if there is one.
    pub exit: Option<Site>,
    /// Its `ret` instructions and tail jumps.
    pub ends: Vec<Site>,
}

/// The longest function looked at; longer ones are not worth their time.
pub(crate) const MOST_CODE: usize = 16 << 10;
/// Instructions looked at for an entry.
const PROLOGUE: usize = 8;
const ARGUMENTS: [Register; 6] =
    [Register::RDI, Register::RSI, Register::RDX, Register::RCX, Register::R8, Register::R9];

/// Finds a function's entry and exit; `None` if its code can't be read.
pub(crate) fn shape(code: &[u8], address: u64) -> Option<Shape> {
    let function = Function::decode(code, address)?;
    let deltas = function.deltas();
    let entry = function.entry(&deltas);
    let reached = function.reach(&[0], None, false);
    let mut ends: Vec<usize> =
        (0..function.code.len()).filter(|&i| reached[i] && function.is_end(i, &deltas)).collect();
    if function.cut {
        ends.clear();
    }
    let exit = function.exit(&ends, &reached).map(|i| function.site(i, &deltas));
    Some(Shape { entry, exit, ends: ends.iter().map(|&i| function.site(i, &deltas)).collect() })
}

struct Function<'a> {
    bytes: &'a [u8],
    address: u64,
    code: Vec<Instruction>,
    /// Index of the instruction at an offset, plus one.
    at: Vec<u16>,
    /// Where control may go next inside the function.
    next: Vec<[Option<u16>; 2]>,
    /// Something could not be decoded, and what follows it is not known.
    cut: bool,
}

impl<'a> Function<'a> {
    fn decode(bytes: &'a [u8], address: u64) -> Option<Function<'a>> {
        let bytes = &bytes[..bytes.len().min(MOST_CODE)];
        let mut code = Vec::with_capacity(bytes.len() / 4);
        let mut at = vec![0u16; bytes.len() + 1];
        let mut decoder = Decoder::with_ip(64, bytes, address, DecoderOptions::NONE);
        let mut cut = bytes.len() == MOST_CODE;
        while decoder.can_decode() {
            let offset = decoder.position();
            let instruction = decoder.decode();
            if instruction.is_invalid() {
                // A probe inside an instruction would break the target: trust nothing after this.
                cut = true;
                break;
            }
            code.push(instruction);
            at[offset] = u16::try_from(code.len()).ok()?;
        }
        if code.is_empty() {
            return None;
        }
        let mut function = Function { bytes, address, code, at, next: Vec::new(), cut };
        function.next = (0..function.code.len()).map(|i| function.ways(i)).collect();
        Some(function)
    }

    fn index_of(&self, target: u64) -> Option<usize> {
        let offset = usize::try_from(target.checked_sub(self.address)?).ok()?;
        match self.at.get(offset) {
            Some(&i) if i > 0 => Some(usize::from(i) - 1),
            _ => None,
        }
    }

    /// Instructions that may follow one.
    fn successors(&self, i: usize) -> impl Iterator<Item = usize> + '_ {
        self.next[i].iter().flatten().map(|next| usize::from(*next))
    }

    fn ways(&self, i: usize) -> [Option<u16>; 2] {
        let instruction = &self.code[i];
        let next = (i + 1 < self.code.len()).then_some(i + 1);
        let ways = match instruction.flow_control() {
            FlowControl::ConditionalBranch => [next, self.index_of(instruction.near_branch_target())],
            FlowControl::UnconditionalBranch => [self.index_of(instruction.near_branch_target()), None],
            FlowControl::Return | FlowControl::IndirectBranch | FlowControl::Exception => [None, None],
            _ => [next, None],
        };
        // There are fewer instructions than bytes, which are at most MOST_CODE.
        ways.map(|way| way.and_then(|way| u16::try_from(way).ok()))
    }

    fn is_call(&self, i: usize) -> bool {
        matches!(self.code[i].flow_control(), FlowControl::Call | FlowControl::IndirectCall)
    }

    fn raw(&self, i: usize) -> &[u8] {
        let start = (self.code[i].ip() - self.address) as usize;
        &self.bytes[start..start + self.code[i].len()]
    }

    /// Whether the kernel emulates the instruction (arch/x86/kernel/uprobes.c: push_setup_ops,
    /// branch_setup_ops); prefixes are left to single-stepping.
    fn emulated(&self, i: usize) -> bool {
        matches!(
            self.raw(i),
            [0x50..=0x57]
                | [0x41, 0x50..=0x57]
                | [0x90]
                | [0x70..=0x7f, _]
                | [0x0f, 0x80..=0x8f, ..]
                | [0xeb, _]
                | [0xe9, ..]
        )
    }

    fn site(&self, i: usize, deltas: &[Option<i64>]) -> Site {
        Site {
            address: self.code[i].ip(),
            delta: deltas[i].and_then(|d| u32::try_from(d).ok()),
            emulated: self.emulated(i),
        }
    }

    /// For every instruction, the bytes from the stack pointer to the return address before it runs.
    fn deltas(&self) -> Vec<Option<i64>> {
        #[derive(Clone, Copy, PartialEq)]
        struct State {
            sp: Option<i64>,
            bp: Option<i64>,
        }
        let mut states: Vec<Option<State>> = vec![None; self.code.len()];
        let mut todo = vec![(0usize, State { sp: Some(0), bp: None })];
        while let Some((i, state)) = todo.pop() {
            let merged = match states[i] {
                None => state,
                // Where two ways meet with different stacks, nothing is known.
                Some(known) => State {
                    sp: known.sp.filter(|_| known.sp == state.sp),
                    bp: known.bp.filter(|_| known.bp == state.bp),
                },
            };
            if states[i] == Some(merged) {
                continue;
            }
            states[i] = Some(merged);
            let mut after = merged;
            let instruction = &self.code[i];
            let first = instruction.op0_register();
            let immediate = matches!(
                instruction.op1_kind(),
                OpKind::Immediate8to64 | OpKind::Immediate32to64 | OpKind::Immediate8 | OpKind::Immediate32
            );
            match instruction.mnemonic() {
                // A call gives its return address back.
                Mnemonic::Call | Mnemonic::Cmp | Mnemonic::Test => {}
                Mnemonic::Sub if first == Register::RSP => {
                    after.sp = after.sp.filter(|_| immediate).map(|d| d + instruction.immediate(1) as i64);
                }
                Mnemonic::Add if first == Register::RSP => {
                    after.sp = after.sp.filter(|_| immediate).map(|d| d - instruction.immediate(1) as i64);
                }
                Mnemonic::Lea if first == Register::RSP => {
                    let plain = instruction.memory_index() == Register::None;
                    let offset = instruction.memory_displacement64() as i64;
                    after.sp = match instruction.memory_base() {
                        Register::RBP if plain => after.bp.map(|d| d - offset),
                        Register::RSP if plain => after.sp.map(|d| d - offset),
                        _ => None,
                    };
                }
                Mnemonic::Mov if first == Register::RSP => {
                    after.sp = after.bp.filter(|_| instruction.op1_register() == Register::RBP);
                }
                Mnemonic::Mov if first == Register::RBP => {
                    after.bp = after.sp.filter(|_| instruction.op1_register() == Register::RSP);
                }
                Mnemonic::Leave => after = State { sp: after.bp.map(|d| d - 8), bp: None },
                Mnemonic::Push => after.sp = after.sp.map(|d| d - i64::from(instruction.stack_pointer_increment())),
                Mnemonic::Pop => {
                    after.sp = after.sp.map(|d| d - i64::from(instruction.stack_pointer_increment()));
                    if first == Register::RBP {
                        after.bp = None;
                    }
                }
                _ if first.full_register() == Register::RSP => after.sp = None,
                _ if first.full_register() == Register::RBP => after.bp = None,
                _ => {}
            }
            todo.extend(self.successors(i).map(|next| (next, after)));
        }
        states.into_iter().map(|s| s.and_then(|s| s.sp)).collect()
    }

    fn entry(&self, deltas: &[Option<i64>]) -> Site {
        for i in 0..self.code.len().min(PROLOGUE) {
            let known = deltas[i].is_some_and(|d| (0..=255).contains(&d));
            if !known {
                break;
            }
            if self.emulated(i) {
                return self.site(i, deltas);
            }
            let instruction = &self.code[i];
            let written = instruction.op0_register().full_register();
            let harmless = matches!(
                instruction.mnemonic(),
                Mnemonic::Endbr64
                    | Mnemonic::Mov
                    | Mnemonic::Movzx
                    | Mnemonic::Movsxd
                    | Mnemonic::Lea
                    | Mnemonic::Xor
                    | Mnemonic::Sub
                    | Mnemonic::Cmp
                    | Mnemonic::Test
                    | Mnemonic::Push
                    | Mnemonic::Pxor
                    | Mnemonic::Xorps
                    | Mnemonic::Movaps
                    | Mnemonic::Movups
                    | Mnemonic::Movq
                    | Mnemonic::Movd
            );
            let compares = matches!(instruction.mnemonic(), Mnemonic::Cmp | Mnemonic::Test | Mnemonic::Push);
            if !harmless || (ARGUMENTS.contains(&written) && !compares) {
                break;
            }
        }
        self.site(0, deltas)
    }

    /// A `ret`, or a jump to another function with nothing left on the stack.
    fn is_end(&self, i: usize, deltas: &[Option<i64>]) -> bool {
        let instruction = &self.code[i];
        match instruction.flow_control() {
            FlowControl::Return => true,
            FlowControl::UnconditionalBranch => {
                self.index_of(instruction.near_branch_target()).is_none() && deltas[i] == Some(0)
            }
            FlowControl::IndirectBranch => instruction.code() == Code::Jmp_rm64 && deltas[i] == Some(0),
            _ => false,
        }
    }

    fn exit(&self, ends: &[usize], all: &[bool]) -> Option<usize> {
        // A jump through a table leads we don't know where.
        if self
            .code
            .iter()
            .enumerate()
            .any(|(i, c)| c.flow_control() == FlowControl::IndirectBranch && !ends.contains(&i))
        {
            return None;
        }
        if ends.is_empty() {
            return None;
        }
        let without_calls = self.reach(&[0], None, true);
        let quick = self.lead_quietly_to(ends);
        let mut found: Vec<(usize, Vec<bool>)> = Vec::new();
        for i in (0..self.code.len()).rev() {
            if !all[i] || without_calls[i] || !self.emulated(i) {
                continue;
            }
            let next: Vec<usize> = self.successors(i).collect();
            // An emulated tail jump is an end itself.
            if !ends.contains(&i) && !next.iter().any(|&next| quick[next]) {
                continue;
            }
            let after = self.reach(&next, None, false);
            if after[i] {
                continue;
            }
            let around = self.reach(&[0], Some(i), false);
            if ends.iter().any(|&e| e != i && around[e]) {
                continue;
            }
            found.push((i, after));
        }
        // The last of them: no other follows it.
        found.iter().find(|(i, after)| found.iter().all(|(other, _)| other == i || !after[*other])).map(|(i, _)| *i)
    }

    /// What can be reached from `from`, itself included, without passing `barred`; with
    /// `quietly`, without passing a call.
    fn reach(&self, from: &[usize], barred: Option<usize>, quietly: bool) -> Vec<bool> {
        let mut seen = vec![false; self.code.len()];
        let mut todo: Vec<usize> = from.iter().copied().filter(|i| Some(*i) != barred).collect();
        while let Some(i) = todo.pop() {
            if std::mem::replace(&mut seen[i], true) {
                continue;
            }
            if quietly && self.is_call(i) {
                continue;
            }
            todo.extend(self.successors(i).filter(|n| Some(*n) != barred && !seen[*n]));
        }
        seen
    }

    /// From where one of `ends` is reached without passing a call; the ends themselves included.
    fn lead_quietly_to(&self, ends: &[usize]) -> Vec<bool> {
        // One way back from the ends, where a search from each instruction would take the square of it.
        let mut before: Vec<Vec<u16>> = vec![Vec::new(); self.code.len()];
        for i in (0..self.code.len()).filter(|i| !self.is_call(*i)) {
            for next in self.successors(i) {
                before[next].extend(u16::try_from(i));
            }
        }
        let mut seen = vec![false; self.code.len()];
        let mut todo: Vec<usize> = ends.to_vec();
        while let Some(i) = todo.pop() {
            if !std::mem::replace(&mut seen[i], true) {
                todo.extend(before[i].iter().map(|i| usize::from(*i)));
            }
        }
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: u64 = 0x1000;

    fn exit(code: &[u8]) -> Option<(u64, Option<u32>)> {
        shape(code, AT).unwrap().exit.map(|s| (s.address - AT, s.delta))
    }

    /// push rbx; sub rsp,16; call; cmpb [rsp],0; je +5; call; add rsp,16; pop rbx; ret
    const OPERATOR: [u8; 28] = [
        0x53, 0x48, 0x83, 0xec, 0x10, 0xe8, 0, 0, 0, 0, 0x80, 0x3c, 0x24, 0x00, 0x74, 0x05, 0xe8, 0, 0, 0, 0, 0x48,
        0x83, 0xc4, 0x10, 0x5b, 0xc3, 0x90,
    ];

    #[test]
    fn the_jump_over_the_destructor_is_the_exit() {
        let shape = shape(&OPERATOR, AT).unwrap();
        assert_eq!(shape.entry, Site { address: AT, delta: Some(0), emulated: true });
        // The je, with a pushed register and sixteen bytes below the return address.
        assert_eq!(shape.exit, Some(Site { address: AT + 14, delta: Some(24), emulated: true }));
        assert_eq!(shape.ends, [Site { address: AT + 26, delta: Some(0), emulated: false }]);
    }

    #[test]
    fn a_jump_before_the_work_is_no_exit() {
        // push rbx; test edi,edi; je +5; call; pop rbx; ret: an early way out, then the work.
        assert_eq!(exit(&[0x53, 0x85, 0xff, 0x74, 0x05, 0xe8, 0, 0, 0, 0, 0x5b, 0xc3]), None);
        // call; test eax,eax; je over a call that is the work; call; ret: no way without a call.
        let both = [0x53, 0xe8, 0, 0, 0, 0, 0x85, 0xc0, 0x74, 0x00, 0xe8, 0, 0, 0, 0, 0x5b, 0xc3];
        assert_eq!(exit(&both), None);
    }

    #[test]
    fn a_jump_in_a_loop_or_passed_by_is_no_exit() {
        // call; dec ebx; jne back to the call; pop rbx; ret
        assert_eq!(exit(&[0x53, 0xe8, 0, 0, 0, 0, 0xff, 0xcb, 0x75, 0xf7, 0x5b, 0xc3]), None);
        // call; je over the second jump; je next; nop-free end: the second is passed by, the first is not.
        let code = [0x53, 0xe8, 0, 0, 0, 0, 0x74, 0x02, 0x74, 0x00, 0x5b, 0xc3];
        assert_eq!(exit(&code), Some((6, Some(8))));
    }

    #[test]
    fn what_cannot_be_followed_has_no_exit() {
        // push rbx; call; jmp rax: through a table to nobody knows where.
        assert_eq!(exit(&[0x53, 0xe8, 0, 0, 0, 0, 0xff, 0xe0]), None);
        // The same as the operator, but with bytes that are no instruction before its end.
        let mut cut = OPERATOR;
        cut[21] = 0x06;
        let shape = shape(&cut, AT).unwrap();
        assert_eq!((shape.exit, shape.ends.len()), (None, 0));
    }

    #[test]
    fn the_entry_skips_what_is_single_stepped_while_the_arguments_last() {
        let entry = |code: &[u8]| shape(code, AT).unwrap().entry;
        // endbr64; push rbp
        assert_eq!(
            entry(&[0xf3, 0x0f, 0x1e, 0xfa, 0x55, 0xc3]),
            Site { address: AT + 4, delta: Some(0), emulated: true }
        );
        // cmpb [rdi+0x68],0; je; ret: at::RecordFunction::end
        let end = [0x80, 0x7f, 0x68, 0x00, 0x74, 0x01, 0xc3, 0xc3];
        assert_eq!(entry(&end), Site { address: AT + 4, delta: Some(0), emulated: true });
        // sub rsp,8; push: the return address lies deeper there.
        assert_eq!(entry(&[0x48, 0x83, 0xec, 0x08, 0x53, 0xc3]).delta, Some(8));
        // mov rdi,rax; push: the first argument is gone by then.
        assert_eq!(entry(&[0x48, 0x89, 0xc7, 0x53, 0xc3]), Site { address: AT, delta: Some(0), emulated: false });
    }

    #[test]
    fn frames_by_rbp_are_followed() {
        // push rbp; mov rbp,rsp; and rsp,-32; call; je +0; leave; ret: rsp varies, so no exact exit.
        let code = [0x55, 0x48, 0x89, 0xe5, 0x48, 0x83, 0xe4, 0xe0, 0xe8, 0, 0, 0, 0, 0x74, 0x00, 0xc9, 0xc3];
        assert_eq!(exit(&code), Some((13, None)));
        assert_eq!(shape(&code, AT).unwrap().ends[0].delta, Some(0), "known again after leave");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_survived(code in proptest::collection::vec(proptest::prelude::any::<u8>(), 1..200)) {
            if let Some(shape) = shape(&code, AT) {
                for site in shape.exit.iter().chain(&shape.ends).chain([&shape.entry]) {
                    proptest::prop_assert!((AT..AT + code.len() as u64).contains(&site.address));
                }
            }
        }
    }
}
