//! Which instructions a random block has, and where their operands are.
//!
//! The fact a newcomer gets wrong: rsi, rdi, rbp and rsp address the scratch area (the driver points them there), so no instruction of a block may write them, but for those that move them by a little.

use crate::random::Random;
use crate::{decode, forms, still_undefined};
use iced_x86::{Code, Encoder, EncodingKind, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register};
use lift::emit::{Emit, Flags, Form, step};
use lift::registers::Effects;

/// Encodings per form of an instruction.
const COUNT: u32 = 4;
const LONGEST: u64 = 14;

/// Instructions by what they work on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pool {
    Integer,
    /// Arithmetic and conversions: their NaNs are all the same, so that it does not matter which of two stays.
    Float,
    /// Everything else on vectors.
    Vector,
    X87,
}

/// All encodings that may stand in a block.
pub(crate) struct Pools {
    all: [Vec<Vec<u8>>; 4],
}

impl Pools {
    pub(crate) fn new() -> Self {
        let mut random = Random::new(11);
        let mut factory = InstructionInfoFactory::new();
        let mut all = [const { Vec::new() }; 4];
        for code in Code::values().filter(|c| c.op_code().mode64() && c.op_code().encoding() == EncodingKind::Legacy) {
            for bytes in forms::encodings(code, COUNT, &mut random) {
                let Some((pool, bytes)) = in_scratch(&bytes, &mut random).and_then(|b| Some((usable(&b, &mut factory)?, b))) else { continue };
                all[pool as usize].push(bytes);
            }
        }
        Self { all }
    }

    /// The block of a seed: the same in every run.
    pub(crate) fn block(&self, seed: u64) -> Vec<Vec<u8>> {
        let mut random = Random::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let others = random.pick(&[Pool::Integer, Pool::Integer, Pool::Float, Pool::Vector, Pool::X87]);
        let (mut block, mut undefined) = (Vec::new(), 0);
        let length = 2 + random.below(LONGEST - 1);
        while (block.len() as u64) < length {
            let pool = if random.below(3) == 0 { Pool::Integer } else { others };
            let next = match random.below(24) {
                0 => division(&mut random),
                // It leaves rsi and rdi where no vector may be: misaligned operands are not refused by lifted code.
                1 if matches!(others, Pool::Integer | Pool::Float) => repeated(&mut random),
                _ => vec![random_one(&self.all[pool as usize], &mut random)],
            };
            // Only flags that somebody defined may be read.
            let decoded = decode(&next.concat());
            if decoded.iter().all(|i| i.rflags_read() & undefined == 0) {
                undefined = decoded.iter().fold(undefined, still_undefined);
                block.extend(next);
            }
        }
        block
    }
}

fn random_one(from: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    from[random.below(from.len() as u64) as usize].clone()
}

/// The instruction with its operand in memory, if it has one, near rsi or rdi; vectors aligned.
fn in_scratch(bytes: &[u8], random: &mut Random) -> Option<Vec<u8>> {
    let mut i = *decode(bytes).first()?;
    if !(0..i.op_count()).any(|k| i.op_kind(k) == OpKind::Memory) {
        return Some(bytes.to_vec());
    }
    let wide = i.memory_size().size() >= 16;
    let displacement = if wide { 16 * random.below(8) } else { random.below(0x70) };
    i.set_memory_base(random.pick(&[Register::RSI, Register::RDI]));
    i.set_memory_index(if !wide && random.below(3) == 0 { Register::RBP } else { Register::None });
    i.set_memory_index_scale(random.pick(&[1, 2, 4, 8]));
    i.set_memory_displacement64(displacement);
    i.set_memory_displ_size(1);
    let lock = i.code().op_code().can_use_lock_prefix() && i.op0_kind() == OpKind::Memory && random.below(3) == 0;
    i.set_has_lock_prefix(lock);
    let mut encoder = Encoder::new(64);
    encoder.encode(&i, crate::native::GUEST_CODE).ok()?;
    Some(encoder.take_buffer())
}

/// Which pool an encoding belongs to; None if it can stand in no block.
fn usable(bytes: &[u8], factory: &mut InstructionInfoFactory) -> Option<Pool> {
    use Mnemonic::*;
    let decoded = decode(bytes);
    let [i] = decoded.as_slice() else { return None };
    // Makers' processors also differ in which NaN a sum of products is.
    if forms::is_makers_choice(i) || matches!(i.mnemonic(), Dpps | Dppd) {
        return None;
    }
    let stack = matches!(i.mnemonic(), Push | Pop) && i.memory_base() == Register::None;
    let own = |r: Register| matches!(r.full_register(), Register::RSI | Register::RDI | Register::RBP | Register::RSP);
    let writes_own = factory
        .info(i)
        .used_registers()
        .iter()
        .any(|u| own(u.register()) && !matches!(u.access(), OpAccess::Read | OpAccess::CondRead | OpAccess::None) && !(stack && u.register() == Register::RSP));
    let named = (0..i.op_count()).any(|k| i.op_kind(k) == OpKind::Memory);
    let memory = factory.info(i).used_memory().len();
    let implicit = memory > usize::from(named) && !stack;
    // Division has a guard before it, and comes as a unit; the rest shows addresses, clocks, or another processor, changes modes, or ends the block.
    let excluded = matches!(
        i.mnemonic(),
        Div | Idiv
            | Cpuid
            | Rdtsc
            | Rdtscp
            | Xgetbv
            | Rdsspd
            | Rdsspq
            | Std
            | Popfq
            | Enter
            | Leave
            | Fnstenv
            | Fnsave
            | Fldenv
            | Frstor
            | Ldmxcsr
            | Stmxcsr
            | Fldcw
            | Wait
            | Fxsave
            | Fxsave64
            | Fxrstor
            | Fxrstor64
            | Xsave
            | Xsave64
            | Xsaveopt
            | Xsaveopt64
            | Xsavec
            | Xsavec64
            | Xrstor
            | Xrstor64
            | Xlatb
            | Cmpxchg16b
    );
    let far_bits = named && matches!(i.mnemonic(), Bt | Bts | Btr | Btc) && i.op1_kind() == OpKind::Register;
    let selector = (0..i.op_count()).any(|k| i.op_register(k).is_segment_register());
    if writes_own || implicit || excluded || far_bits || selector || i.is_string_instruction() || !goes_on(i) {
        return None;
    }
    // Of two NaNs that are added or multiplied the compiler may have swapped the operands: only where all NaNs are the same.
    let swappable = ["Add", "Mul", "Hadd", "Dpp"].iter().any(|a| format!("{:?}", i.mnemonic()).starts_with(a));
    let pool = pool(i);
    if pool == Pool::Vector && swappable { None } else { Some(pool) }
}

/// Has a row that neither is a gap for this form nor stops the guest.
fn goes_on(i: &Instruction) -> bool {
    if lift::x86::semantics(i).is_none() || i.flow_control() != iced_x86::FlowControl::Next || i.is_privileged() {
        return false;
    }
    let mut e = Emit::new(Form::Resumable);
    step(&mut e, i, Flags::NONE, &mut Effects::default());
    e.finish().2.is_empty()
}

fn pool(i: &Instruction) -> Pool {
    use Mnemonic::*;
    let any = |f: fn(Register) -> bool| (0..i.op_count()).any(|k| i.op_kind(k) == OpKind::Register && f(i.op_register(k)));
    let name = format!("{:?}", i.mnemonic());
    if name.starts_with('F') || any(Register::is_mm) || i.mnemonic() == Emms {
        return Pool::X87;
    }
    if !any(Register::is_xmm) {
        return Pool::Integer;
    }
    let arithmetic = ["Add", "Sub", "Mul", "Div", "Sqrt", "Min", "Max", "Hadd", "Hsub", "Dpp", "Round", "Cvt", "Comis", "Ucomis"].iter().any(|a| name.starts_with(a));
    let moves = matches!(i.mnemonic(), Movss | Movsd | Movaps | Movups | Movapd | Movupd | Movhlps | Movlhps | Unpcklpd | Unpckhpd | Shufpd);
    // An integer that becomes a NaN would be one of its own.
    let integers = (0..i.op_count()).any(|k| i.op_kind(k) == OpKind::Memory) || name.ends_with("dq") || name.contains("pi");
    if (arithmetic || moves) && !integers { Pool::Float } else { Pool::Vector }
}

fn assembled(build: impl FnOnce(&mut iced_x86::code_asm::CodeAssembler) -> Result<(), iced_x86::IcedError>) -> Vec<Vec<u8>> {
    let mut a = iced_x86::code_asm::CodeAssembler::new(64).expect("a 64-bit assembler");
    build(&mut a).expect("assembles");
    let bytes = a.assemble(crate::native::GUEST_CODE).expect("assembles");
    let mut rest = &bytes[..];
    decode(&bytes).iter().map(|i| rest.split_off(..i.len()).expect("decoded from it").to_vec()).collect()
}

/// A division whose divisor is odd, and whose dividend is mostly small enough. (#DE is a result too.)
fn division(random: &mut Random) -> Vec<Vec<u8>> {
    use iced_x86::code_asm::*;
    let (quad, long, byte) = [(rbx, ebx, bl), (r8, r8d, r8b), (r13, r13d, r13b)][random.below(3) as usize];
    let kind = random.below(6);
    assembled(|a| {
        a.or(long, 1)?;
        if random.below(4) != 0 {
            a.xor(edx, edx)?;
            a.movzx(eax, ax)?;
        }
        match kind {
            0 => a.div(quad),
            1 => a.idiv(quad),
            2 => a.div(long),
            3 => a.idiv(long),
            4 => a.div(byte),
            _ => a.idiv(byte),
        }
    })
}

/// A string instruction over a few elements; rsi and rdi move by a little.
fn repeated(random: &mut Random) -> Vec<Vec<u8>> {
    use iced_x86::code_asm::*;
    let (kind, count) = (random.below(7), random.below(9) as u32);
    assembled(|a| {
        a.mov(ecx, count)?;
        match kind {
            0 => a.rep().movsb(),
            1 => a.rep().movsq(),
            2 => a.rep().stosd(),
            3 => a.lodsw(),
            4 => a.repe().cmpsb(),
            5 => a.repne().scasw(),
            _ => a.movsd(),
        }
    })
}
