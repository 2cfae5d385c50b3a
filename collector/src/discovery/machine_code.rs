//! What the machine code of a TLS library says: where a probe costs least, and where a session keeps its random.
//!
//! The kernel executes some instructions in a probe's stead (pushing a register, jumps, calls), and single-steps all
//! others, which takes seven times as long (`arch/x86/kernel/uprobes.c`, `branch_setup_xol_ops` and
//! `push_setup_xol_ops`, since 4.16). So the best place for a probe is the first such instruction of a function, if
//! every path comes by there with the arguments and the stack as they were at the entry. A function whose first
//! instruction makes room on the stack has none; but OpenSSL's are often wrappers that hand their arguments to a common
//! inner function, which has.
//!
//! Everything here is an answer or none: where the code is not understood completely the probe stays at the symbol.

use std::collections::HashSet;

use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess,
    OpKind, Register,
};

/// Instructions of a function's beginning that are looked at.
const ENTRY_INSTRUCTIONS_MAX: usize = 16;
/// Instructions that are followed along all paths of a wrapper.
const STEPS_MAX: usize = 600;
/// Bytes of code that are looked at.
pub const CODE_BYTES_MAX: usize = 4096;

/// System V ABI for x86-64, section 3.2.3.
const ARGUMENTS: [Register; 6] =
    [Register::RDI, Register::RSI, Register::RDX, Register::RCX, Register::R8, Register::R9];
const CALL_CLOBBERS: [Register; 9] = [
    Register::RAX,
    Register::RCX,
    Register::RDX,
    Register::RSI,
    Register::RDI,
    Register::R8,
    Register::R9,
    Register::R10,
    Register::R11,
];

/// A piece of code.
#[derive(Clone, Copy)]
pub struct Code64<'a> {
    /// Its first byte's address.
    pub address: u64,
    /// Its bytes; may go on after the function.
    pub bytes: &'a [u8],
}

/// The address in the function that begins here at which a probe at its entry and its return costs least, if there is
/// one: an instruction that the kernel emulates, before anything is changed that the probe needs.
#[must_use]
pub fn cheap_entry(code: Code64<'_>) -> Option<u64> {
    let place = first_emulated(code)?;
    // A loop back to the beginning would count its rounds as calls.
    let jumps_there = instructions(code).any(|instruction| {
        is_direct_jump(&instruction) && (code.address + 1..=place).contains(&instruction.near_branch_target())
    });
    (!jumps_there).then_some(place)
}

fn first_emulated(code: Code64<'_>) -> Option<u64> {
    let mut info = InstructionInfoFactory::new();
    for instruction in instructions(code).take(ENTRY_INSTRUCTIONS_MAX) {
        if is_emulated(&instruction) {
            return Some(instruction.ip());
        }
        let keeps = |register: Register| register != Register::RSP && !ARGUMENTS[..5].contains(&register);
        if instruction.flow_control() != FlowControl::Next || !written(&mut info, &instruction).all(keeps) {
            return None;
        }
    }
    None
}

/// Whether the kernel emulates it, from 5.10 on.
fn is_emulated(instruction: &Instruction) -> bool {
    match instruction.code() {
        Code::Push_r64 | Code::Nopd if instruction.len() <= 2 => true,
        _ => is_direct_jump(instruction) || instruction.is_call_near(),
    }
}

fn is_direct_jump(instruction: &Instruction) -> bool {
    instruction.is_jcc_short_or_near() || instruction.is_jmp_short_or_near()
}

fn instructions(code: Code64<'_>) -> impl Iterator<Item = Instruction> {
    let mut decoder = Decoder::with_ip(64, code.bytes, code.address, DecoderOptions::NONE);
    std::iter::from_fn(move || decoder.can_decode().then(|| decoder.decode()))
        .take_while(|instruction| !instruction.is_invalid())
}

/// The whole registers that an instruction writes.
fn written<'i>(
    info: &'i mut InstructionInfoFactory,
    instruction: &Instruction,
) -> impl Iterator<Item = Register> + 'i {
    info.info(instruction)
        .used_registers()
        .iter()
        .filter(|used| {
            matches!(
                used.access(),
                OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite
            )
        })
        .map(|used| used.register().full_register())
}

/// What a register is known to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Value {
    Unknown,
    /// An argument plus a number. That a count was widened is not kept.
    Argument(u8, i64),
    /// What stands in memory at an argument plus the first number, plus the second one.
    Behind(u8, i64, i64),
    /// An address on the stack.
    Stack,
    Constant(i32),
}

impl Value {
    fn plus(self, more: i64) -> Self {
        match self {
            Self::Argument(n, at) => Self::Argument(n, at.wrapping_add(more)),
            Self::Behind(n, pointer, at) => Self::Behind(n, pointer, at.wrapping_add(more)),
            Self::Stack => Self::Stack,
            Self::Unknown | Self::Constant(_) => Self::Unknown,
        }
    }
}

/// The registers on one path through a function.
#[derive(Clone, PartialEq, Eq, Hash)]
struct State {
    registers: [Value; 16],
}

impl State {
    fn at_entry() -> Self {
        let mut state = Self { registers: [Value::Unknown; 16] };
        for (n, register) in (0..).zip(ARGUMENTS) {
            state.set(register, Value::Argument(n, 0));
        }
        state.set(Register::RSP, Value::Stack);
        state
    }

    fn get(&self, register: Register) -> Value {
        let full = register.full_register();
        if full.is_gpr64() { self.registers[full.number()] } else { Value::Unknown }
    }

    fn set(&mut self, register: Register, value: Value) {
        let full = register.full_register();
        if full.is_gpr64() {
            self.registers[full.number()] = value;
        }
    }

    /// The address of a memory operand.
    fn address(&self, instruction: &Instruction) -> Value {
        if instruction.memory_index() != Register::None || instruction.segment_prefix() != Register::None {
            return Value::Unknown;
        }
        self.get(instruction.memory_base()).plus(instruction.memory_displacement64().cast_signed())
    }

    /// Takes an instruction that is followed by the next one.
    fn step(&mut self, info: &mut InstructionInfoFactory, instruction: &Instruction) {
        let value = match (instruction.mnemonic(), instruction.op1_kind()) {
            (Mnemonic::Mov | Mnemonic::Movsxd, OpKind::Register) => self.get(instruction.op1_register()),
            (Mnemonic::Mov, OpKind::Immediate32) => Value::Constant(instruction.immediate32().cast_signed()),
            (Mnemonic::Mov, OpKind::Immediate32to64) => {
                Value::Constant(instruction.immediate32().cast_signed())
            }
            (Mnemonic::Mov, OpKind::Memory) if instruction.op0_register().is_gpr64() => {
                match self.address(instruction) {
                    Value::Argument(n, at) => Value::Behind(n, at, 0),
                    _ => Value::Unknown,
                }
            }
            (Mnemonic::Lea, OpKind::Memory) => self.address(instruction),
            (Mnemonic::Xor, OpKind::Register) if instruction.op0_register() == instruction.op1_register() => {
                Value::Constant(0)
            }
            _ => Value::Unknown,
        };
        let rsp = self.get(Register::RSP);
        // Of a comparison the first operand is a register that is not written.
        let to = instruction.op0_register().full_register();
        for register in written(info, instruction) {
            self.set(register, if register == to { value } else { Value::Unknown });
        }
        self.set(Register::RSP, rsp);
    }

    fn after_call(&mut self) {
        CALL_CLOBBERS.into_iter().for_each(|register| self.set(register, Value::Unknown));
    }
}

/// A function that does the work for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inner {
    /// Where it begins.
    pub address: u64,
    /// Which of its arguments, from 0, points to where it writes how many bytes moved.
    pub moved: usize,
}

/// Where the function `f(session, buffer, size, ...)` hands its arguments on, with a pointer to where the count goes: if
/// it does that on every path that can move bytes. `moved` is which of its own arguments, from 0, is such a pointer; if
/// none is, the pointer is to the stack.
///
/// `code` must be the whole function and nothing else.
#[must_use]
pub fn inner(code: Code64<'_>, moved: Option<u8>) -> Option<Inner> {
    let mut found: Option<Inner> = None;
    let pointer = moved.map_or(Value::Stack, |n| Value::Argument(n, 0));
    walk(code, |step| match step {
        Step::Call { target: Some(target), is_last, state } => {
            let given = |n: usize| state.get(ARGUMENTS[n]);
            let same = (0..3).all(|n| given(usize::from(n)) == Value::Argument(n, 0));
            // The last one: of `f(..., flags, moved)` the fourth may hold anything.
            let Some(moved) = [4, 3].into_iter().find(|n| given(*n) == pointer).filter(|_| same) else {
                return if is_last { Verdict::Fail } else { Verdict::GoOn };
            };
            let inner = Inner { address: target, moved };
            if found.replace(inner).is_some_and(|other| other != inner) {
                Verdict::Fail
            } else {
                Verdict::EndPath
            }
        }
        Step::Call { target: None, .. } => Verdict::Fail,
        Step::Return(state) => match state.get(Register::RAX) {
            Value::Constant(failed) if failed <= 0 => Verdict::EndPath,
            _ => Verdict::Fail,
        },
        Step::Next { .. } => Verdict::GoOn,
    })?;
    found
}

/// Where in a session, as `SSL_get_client_random(session, out, size)` knows it, its random may be: an offset, or a
/// pointer's offset and one behind it. The first few places that it takes the address of, or reads.
#[must_use]
pub fn random_places(code: Code64<'_>) -> Vec<(Option<u32>, u32)> {
    /// Smaller offsets are those of flags and pointers at the beginning of the struct.
    const OFFSET_MIN: i64 = 0x20;
    const PLACES_MAX: usize = 3;
    let mut places: Vec<(Option<u32>, u32)> = Vec::new();
    walk(code, |step| {
        let Step::Next { instruction, state } = step else { return Verdict::GoOn };
        let is_wide = instruction.op0_register().is_gpr64() || instruction.op0_register().is_xmm();
        let has_address = matches!(
            instruction.mnemonic(),
            Mnemonic::Lea | Mnemonic::Mov | Mnemonic::Movdqu | Mnemonic::Movups | Mnemonic::Movdqa
        ) && instruction.op1_kind() == OpKind::Memory;
        if !is_wide || !has_address {
            return Verdict::GoOn;
        }
        let place = match state.address(instruction) {
            Value::Argument(0, at) if at >= OFFSET_MIN => (None, u32::try_from(at).ok()),
            Value::Behind(0, pointer, at) if at >= OFFSET_MIN => {
                (u32::try_from(pointer).ok(), u32::try_from(at).ok())
            }
            _ => return Verdict::GoOn,
        };
        if let (pointer, Some(at)) = place
            && !places.contains(&(pointer, at))
            && places.len() < PLACES_MAX
        {
            places.push((pointer, at));
        }
        Verdict::GoOn
    });
    places
}

/// Something met on a path.
enum Step<'a> {
    /// An instruction, before its effect.
    Next { instruction: &'a Instruction, state: &'a State },
    /// A call, or a jump out of the function; of some the target is not known.
    Call {
        target: Option<u64>,
        /// A jump: what is called decides on the result.
        is_last: bool,
        state: &'a State,
    },
    /// The end of the function.
    Return(&'a State),
}

enum Verdict {
    GoOn,
    EndPath,
    Fail,
}

/// Follows every path through a function. `None` if it is told to fail, or does not understand.
fn walk(code: Code64<'_>, mut each: impl FnMut(Step<'_>) -> Verdict) -> Option<()> {
    let inside =
        |address: u64| address.checked_sub(code.address).is_some_and(|at| at < code.bytes.len() as u64);
    let mut info = InstructionInfoFactory::new();
    let mut seen: HashSet<(u64, State)> = HashSet::new();
    let mut open = vec![(code.address, State::at_entry())];
    let mut steps = 0;
    while let Some((mut ip, mut state)) = open.pop() {
        // The end of the code is that of a call which does not return.
        while inside(ip) && seen.insert((ip, state.clone())) {
            steps += 1;
            if steps > STEPS_MAX {
                return None;
            }
            let at = usize::try_from(ip - code.address).ok()?;
            let mut decoder = Decoder::with_ip(64, &code.bytes[at..], ip, DecoderOptions::NONE);
            let instruction = decoder.decode();
            let next = instruction.next_ip();
            let target = is_near(&instruction).then(|| instruction.near_branch_target());
            let verdict = match instruction.flow_control() {
                _ if instruction.is_invalid() => return None,
                FlowControl::Next => {
                    let verdict = each(Step::Next { instruction: &instruction, state: &state });
                    state.step(&mut info, &instruction);
                    verdict
                }
                FlowControl::ConditionalBranch => {
                    open.push((target?, state.clone()));
                    Verdict::GoOn
                }
                FlowControl::UnconditionalBranch if target.is_some_and(inside) => {
                    ip = target?;
                    continue;
                }
                FlowControl::UnconditionalBranch | FlowControl::IndirectBranch => {
                    end_of_path(each(Step::Call { target, is_last: true, state: &state }))
                }
                FlowControl::Call | FlowControl::IndirectCall => {
                    let verdict = each(Step::Call { target, is_last: false, state: &state });
                    state.after_call();
                    verdict
                }
                FlowControl::Return => end_of_path(each(Step::Return(&state))),
                FlowControl::Exception | FlowControl::Interrupt => Verdict::EndPath,
                FlowControl::XbeginXabortXend => return None,
            };
            match verdict {
                Verdict::GoOn => ip = next,
                Verdict::EndPath => break,
                Verdict::Fail => return None,
            }
        }
    }
    Some(())
}

fn end_of_path(verdict: Verdict) -> Verdict {
    match verdict {
        Verdict::Fail => Verdict::Fail,
        _ => Verdict::EndPath,
    }
}

fn is_near(instruction: &Instruction) -> bool {
    is_direct_jump(instruction) || instruction.is_call_near() || instruction.is_jcc_short_or_near()
}

#[cfg(test)]
#[path = "machine_code_tests.rs"]
mod tests;
