//! Keeps LLVM 22 from leaving garbage above 32 bits.
//!
//! `(or (and x, -256), zextload i8)` and its 16-bit sister become a load into the low part of x's register. Where that `or` has 32 bits, LLVM also takes its result for one whose upper 32 bits are zero, as if an
//! instruction of 32 bits had made it, and leaves out the zero extension that follows (llvm-project issue 205291; mended in LLVM's main branch by pull request 205600). So a value made of a narrow load is hidden behind empty assembly
//! before it is combined: that costs no instruction but the one that inserts it.
//!
//! Owns where that is done. The fact a newcomer gets wrong: instruction selection looks at one block at a time, so only loads of the same block matter; and it makes `or` of sums and differences without carries.

use crate::error::err;
use inkwell::basic_block::BasicBlock;
use inkwell::context::Context;
use inkwell::values::{AnyValue, BasicValueEnum, FunctionValue, InstructionOpcode, InstructionValue, IntValue};
use wasmer_types::CompileError;

/// How far a value is followed to the load it is made of.
const STEPS: usize = 4;
/// The widest load that can be inserted.
const NARROW_BITS: u32 = 16;

/// Rewrites a function, as the last pass.
pub(super) fn hide<'ctx>(context: &'ctx Context, function: FunctionValue<'ctx>) -> Result<(), CompileError> {
    let builder = context.create_builder();
    for block in function.get_basic_blocks() {
        for instruction in block.get_instructions().collect::<Vec<_>>() {
            if !combines(instruction) {
                continue;
            }
            for index in 0..2 {
                let Some(value) = operand(instruction, index).filter(|v| is_narrow_load(*v, block)) else { continue };
                let ty = value.get_type();
                let signature = ty.fn_type(&[ty.into()], false);
                let assembly = context.create_inline_asm(signature, String::new(), "=r,0".to_owned(), false, false, None, false);
                builder.position_before(&instruction);
                let call = err!(builder.build_indirect_call(signature, assembly, &[value.into()], ""));
                instruction.set_operand(index, call.try_as_basic_value().unwrap_basic());
            }
        }
    }
    Ok(())
}

/// What instruction selection may take for an `or`.
fn combines(i: InstructionValue<'_>) -> bool {
    matches!(i.get_opcode(), InstructionOpcode::Or | InstructionOpcode::Add | InstructionOpcode::Xor)
        && matches!(BasicValueEnum::try_from(i.as_any_value_enum()), Ok(BasicValueEnum::IntValue(v)) if matches!(v.get_type().get_bit_width(), 32 | 64))
        && (i.get_opcode() == InstructionOpcode::Or || (0..2).any(|index| operand(i, index).is_some_and(clears_low_bits)))
}

/// May the value end in eight zeros for all the compiler knows?
fn clears_low_bits(v: IntValue<'_>) -> bool {
    let mut v = v;
    for _ in 0..STEPS {
        let Some(i) = v.as_instruction() else { return false };
        match i.get_opcode() {
            InstructionOpcode::And | InstructionOpcode::Shl => return true,
            InstructionOpcode::Trunc | InstructionOpcode::ZExt | InstructionOpcode::Freeze => match operand(i, 0) {
                Some(inner) => v = inner,
                None => return false,
            },
            _ => return false,
        }
    }
    true
}

/// Is the value a load of at most 16 bits, or could it be made one, in this block?
fn is_narrow_load(v: IntValue<'_>, block: BasicBlock<'_>) -> bool {
    let (mut v, mut bits) = (v, u32::MAX);
    for _ in 0..STEPS {
        let Some(i) = v.as_instruction().filter(|i| i.get_parent() == Some(block)) else { return false };
        bits = bits.min(v.get_type().get_bit_width());
        match i.get_opcode() {
            InstructionOpcode::Load => return bits <= NARROW_BITS,
            InstructionOpcode::ZExt | InstructionOpcode::Trunc | InstructionOpcode::Freeze => {}
            InstructionOpcode::And => {
                let mask = operand(i, 1).and_then(|m| m.get_zero_extended_constant());
                bits = bits.min(mask.map_or(u32::MAX, |m| u64::BITS - m.leading_zeros()));
            }
            InstructionOpcode::LShr => {
                let width = v.get_type().get_bit_width();
                let by = operand(i, 1).and_then(|by| by.get_zero_extended_constant()).map_or(0, |by| by.min(u64::from(width)) as u32);
                bits = bits.min(width - by);
            }
            _ => return false,
        }
        let Some(inner) = operand(i, 0) else { return false };
        v = inner;
    }
    // Too far to follow: no harm in hiding it.
    bits <= NARROW_BITS
}

fn operand(i: InstructionValue<'_>, index: u32) -> Option<IntValue<'_>> {
    match i.get_operand(index)?.value()? {
        BasicValueEnum::IntValue(v) => Some(v),
        _ => None,
    }
}
