//! Enumerates encodings: for a `Code` (one form of one instruction), instructions with operands of every kind the form takes.

use super::Random;
use iced_x86::{Code, Encoder, Instruction, Mnemonic, OpCodeOperandKind as K, OpKind, Register};

/// A few encodings of `code` with random operands, as bytes at `native::GUEST_CODE`. Forms with operands tests cannot place (far pointers, branches) give none.
pub(crate) fn encodings(code: Code, count: u32, random: &mut Random) -> Vec<Vec<u8>> {
    let mut found: Vec<Vec<u8>> = Vec::new();
    for _ in 0..4 * count {
        let Some(i) = instruction(code, random) else { continue };
        let mut encoder = Encoder::new(64);
        if encoder.encode(&i, super::native::GUEST_CODE).is_err() {
            continue;
        }
        let bytes = encoder.take_buffer();
        let decoded = super::decode(&bytes);
        if decoded.len() == 1 && decoded[0].code() == code && !found.contains(&bytes) {
            found.push(bytes);
        }
        if found.len() == count as usize {
            break;
        }
    }
    found
}

fn instruction(code: Code, random: &mut Random) -> Option<Instruction> {
    let form = code.op_code();
    let mut i = Instruction::default();
    i.set_code(code);
    // One choice for the whole instruction: r8..r15 and ah..dh do not go together.
    let bank = random.below(3);
    for k in 0..form.op_count() {
        operand(&mut i, k, form.op_kind(k), bank, random)?;
    }
    Some(i)
}

fn operand(i: &mut Instruction, k: u32, kind: K, bank: u64, random: &mut Random) -> Option<()> {
    let in_memory = random.below(2) == 0;
    match kind {
        K::mem | K::mem_mib => memory(i, k, random),
        K::r8_or_mem | K::r16_or_mem | K::r32_or_mem | K::r64_or_mem | K::xmm_or_mem | K::mm_or_mem if in_memory => memory(i, k, random),
        K::r8_or_mem | K::r8_reg | K::r8_opcode => register(i, k, byte(bank, random)),
        K::r16_or_mem | K::r16_reg | K::r16_rm | K::r16_opcode => register(i, k, general(Register::AX, bank, random)),
        K::r32_or_mem | K::r32_reg | K::r32_rm | K::r32_opcode | K::r32_reg_mem => register(i, k, general(Register::EAX, bank, random)),
        K::r64_or_mem | K::r64_reg | K::r64_rm | K::r64_opcode | K::r64_reg_mem => register(i, k, general(Register::RAX, bank, random)),
        K::xmm_or_mem | K::xmm_reg | K::xmm_rm => register(i, k, numbered(Register::XMM0, random.below(if bank == 2 { 16 } else { 8 }))),
        K::mm_or_mem | K::mm_reg | K::mm_rm => register(i, k, numbered(Register::MM0, random.below(8))),
        K::st0 => register(i, k, Register::ST0),
        K::sti_opcode => register(i, k, numbered(Register::ST0, random.below(8))),
        K::al => register(i, k, Register::AL),
        K::ax => register(i, k, Register::AX),
        K::eax => register(i, k, Register::EAX),
        K::rax => register(i, k, Register::RAX),
        K::cl => register(i, k, Register::CL),
        K::dx => register(i, k, Register::DX),
        K::es_rDI => implicit(i, k, OpKind::MemoryESRDI),
        K::seg_rSI => implicit(i, k, OpKind::MemorySegRSI),
        K::seg_rDI => implicit(i, k, OpKind::MemorySegRDI),
        K::seg_rBX_al => {
            i.set_memory_base(Register::RBX);
            i.set_memory_index(Register::AL);
            implicit(i, k, OpKind::Memory)
        }
        K::imm8 if i.mnemonic() == Mnemonic::Enter => {
            // Nested frames are refused; compilers have never made them.
            i.set_immediate8_2nd(if random.below(4) == 0 { 1 } else { 0 });
            implicit(i, k, OpKind::Immediate8_2nd)
        }
        K::imm8_const_1 => immediate(i, k, OpKind::Immediate8, 1),
        K::imm8 => immediate(i, k, OpKind::Immediate8, if random.below(3) == 0 { random.below(9) } else { random.next() & 0xff }),
        K::imm8sex16 => immediate(i, k, OpKind::Immediate8to16, (random.next() as i8) as u64),
        K::imm8sex32 => immediate(i, k, OpKind::Immediate8to32, (random.next() as i8) as u64),
        K::imm8sex64 => immediate(i, k, OpKind::Immediate8to64, (random.next() as i8) as u64),
        K::imm16 => immediate(i, k, OpKind::Immediate16, random.value() & 0xffff),
        K::imm32 => immediate(i, k, OpKind::Immediate32, random.value() & 0xffff_ffff),
        K::imm32sex64 => immediate(i, k, OpKind::Immediate32to64, (random.value() as i32) as u64),
        K::imm64 => immediate(i, k, OpKind::Immediate64, random.value()),
        _ => None,
    }
}

fn numbered(first: Register, n: u64) -> Register {
    first + n as u32
}

fn register(i: &mut Instruction, k: u32, r: Register) -> Option<()> {
    i.set_op_kind(k, OpKind::Register);
    i.set_op_register(k, r);
    Some(())
}

/// Any but rsp.
fn general(first: Register, bank: u64, random: &mut Random) -> Register {
    let n = random.below(if bank == 2 { 16 } else { 8 });
    numbered(first, if n == 4 { 0 } else { n })
}

/// al..bl and ah..bh, or the sixteen low bytes (not spl).
fn byte(bank: u64, random: &mut Random) -> Register {
    if bank == 2 {
        return random.pick(&[Register::AL, Register::BL, Register::SIL, Register::DIL, Register::BPL, Register::R8L, Register::R13L, Register::R15L]);
    }
    let all = [Register::AL, Register::CL, Register::DL, Register::BL, Register::AH, Register::CH, Register::DH, Register::BH];
    random.pick(&all)
}

/// An operand without anything to choose.
fn implicit(i: &mut Instruction, k: u32, kind: OpKind) -> Option<()> {
    i.set_op_kind(k, kind);
    Some(())
}

fn immediate(i: &mut Instruction, k: u32, kind: OpKind, v: u64) -> Option<()> {
    i.set_op_kind(k, kind);
    match kind {
        OpKind::Immediate16 => i.set_immediate16(v as u16),
        OpKind::Immediate32 => i.set_immediate32(v as u32),
        OpKind::Immediate64 => i.set_immediate64(v),
        OpKind::Immediate8 => i.set_immediate8(v as u8),
        OpKind::Immediate8to16 => i.set_immediate8to16(v as i16),
        OpKind::Immediate8to32 => i.set_immediate8to32(v as i32),
        OpKind::Immediate8to64 => i.set_immediate8to64(v as i64),
        _ => i.set_immediate32to64(v as i64),
    }
    Some(())
}

/// [base + index*scale + disp], the base one of a few, the index sometimes absent.
fn memory(i: &mut Instruction, k: u32, random: &mut Random) -> Option<()> {
    i.set_op_kind(k, OpKind::Memory);
    i.set_memory_base(random.pick(&[Register::RBX, Register::RBP, Register::RSI, Register::RDI, Register::RSP, Register::RAX]));
    if random.below(2) == 0 {
        let index = random.pick(&[Register::RCX, Register::RDX, Register::RSI]);
        if index != i.memory_base() {
            i.set_memory_index(index);
            i.set_memory_index_scale(random.pick(&[1, 2, 4, 8]));
        }
    }
    let displacement = random.pick(&[0_i64, 8, -16, 0x100, -0x100, 0x7f0]);
    i.set_memory_displacement64(displacement as u64);
    // As the encoder wants it with 64-bit addressing: none, one byte, or 8 for four bytes. It refuses 4, and a form would have no displacement at all.
    let bytes = match displacement {
        0 if i.memory_base() != Register::RBP => 0,
        -128..128 => 1,
        _ => 8,
    };
    i.set_memory_displ_size(bytes);
    Some(())
}

/// What it does is its maker's choice, so that one processor is no oracle for another: a double shift of 16 bits by more than 16 (undefined; Intel's and AMD's results differ), a rotation with carry by a whole turn (Intel's
/// take it for none, AMD's set the overflow flag), and the register forms of AMD's prefetches, which Intel's take for nothing and AMD's for undefined.
#[allow(dead_code, reason = "each user of this file has some of its functions")]
pub(crate) fn is_makers_choice(i: &Instruction) -> bool {
    let register = (0..i.op_count()).all(|k| i.op_kind(k) != OpKind::Memory);
    match i.code() {
        Code::Reservednop_rm16_r16_0F0D | Code::Reservednop_rm32_r32_0F0D | Code::Reservednop_rm64_r64_0F0D => register,
        Code::Shld_rm16_r16_imm8 | Code::Shrd_rm16_r16_imm8 => i.immediate8() & 31 > 16,
        Code::Rcl_rm8_imm8 | Code::Rcr_rm8_imm8 => matches!(i.immediate8() & 31, 9 | 18 | 27),
        Code::Rcl_rm16_imm8 | Code::Rcr_rm16_imm8 => i.immediate8() & 31 == 17,
        Code::Shld_rm16_r16_CL | Code::Shrd_rm16_r16_CL => true,
        _ => false,
    }
}
