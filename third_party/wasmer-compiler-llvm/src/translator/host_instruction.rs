//! Calls of an imported function that stand for one machine instruction (`config::HostInstructions`).
//!
//! Owns how operands and results get between the integers of the call and the instruction's registers. The fact a newcomer gets wrong: the instruction is volatile (its exception flags are a result that LLVM does
//! not see), but all except divisions touch no memory, and saying so lets loads and stores move across them.

use crate::{
    config::{HostInstruction, HostOperands, HostResult},
    error::{err, err_nt},
    translator::intrinsics::Intrinsics,
};
use inkwell::{
    InlineAsmDialect,
    attributes::{Attribute, AttributeLoc},
    builder::Builder,
    context::Context,
    types::{BasicMetadataTypeEnum, BasicType, BasicTypeEnum},
    values::{BasicMetadataValueEnum, BasicValue, BasicValueEnum, CallSiteValue, IntValue},
};
use wasmer_types::CompileError;

/// `memory(inaccessiblemem: readwrite)`, as LLVM's `MemoryEffects` encodes it: state that no load or store of the module meets.
const OUTSIDE_MEMORY: u64 = 3 << 2;

/// Emits `instruction` on the bits `a` and `b`; gives the result's bits, an i64.
pub(super) fn emit<'ctx>(
    context: &'ctx Context,
    builder: &Builder<'ctx>,
    intrinsics: &Intrinsics<'ctx>,
    instruction: &HostInstruction,
    a: IntValue<'ctx>,
    b: IntValue<'ctx>,
) -> Result<BasicValueEnum<'ctx>, CompileError> {
    let single = |v: IntValue<'ctx>| -> Result<BasicValueEnum<'ctx>, CompileError> {
        let low = err!(builder.build_int_truncate(v, intrinsics.i32_ty, ""));
        err_nt!(builder.build_bit_cast(low, intrinsics.f32_ty, ""))
    };
    let double = |v: IntValue<'ctx>| err_nt!(builder.build_bit_cast(v, intrinsics.f64_ty, ""));
    let vector = |low: IntValue<'ctx>, high: IntValue<'ctx>| -> Result<BasicValueEnum<'ctx>, CompileError> {
        let zero = intrinsics.i64x2_ty.const_zero();
        let at = |k: u64| intrinsics.i32_ty.const_int(k, false);
        let v = err!(builder.build_insert_element(zero, low, at(0), ""));
        err_nt!(builder.build_insert_element(v, high, at(1), "").map(|v| v.as_basic_value_enum()))
    };
    let operands = match instruction.operands {
        HostOperands::Singles => vec![single(a)?, single(b)?],
        HostOperands::Doubles => vec![double(a)?, double(b)?],
        HostOperands::Single => vec![single(a)?],
        HostOperands::Double => vec![double(a)?],
        HostOperands::Lanes => vec![vector(a, b)?],
        HostOperands::Integers => vec![a.into(), b.into()],
    };
    let types: Vec<BasicMetadataTypeEnum<'ctx>> = operands.iter().map(|v| v.get_type().into()).collect();
    let register = if matches!(instruction.operands, HostOperands::Integers) { "r" } else { "x" };
    let inputs = vec![register; operands.len()].join(",");
    let (result, constraints): (Option<BasicTypeEnum<'ctx>>, String) = match instruction.result {
        // A comparison: its flags of RFLAGS go over those of others.
        HostResult::Nothing => (None, format!("{inputs},~{{flags}}")),
        HostResult::Word => (Some(intrinsics.i32_ty.into()), format!("=r,{inputs}")),
        HostResult::Quad => (Some(intrinsics.i64_ty.into()), format!("=r,{inputs}")),
        HostResult::Double => (Some(intrinsics.f64_ty.into()), format!("=x,{inputs}")),
        HostResult::LowLane => (Some(intrinsics.i64x2_ty.into()), format!("=x,{inputs}")),
        HostResult::Rax => (Some(intrinsics.i64_ty.into()), format!("=&{{rax}},{inputs},~{{rdx}},~{{flags}}")),
    };
    let ty = match result {
        Some(ty) => ty.fn_type(&types, false),
        None => intrinsics.void_ty.fn_type(&types, false),
    };
    let text = instruction.assembly.clone();
    let assembly = context.create_inline_asm(ty, text, constraints, true, false, Some(InlineAsmDialect::Intel), false);
    let arguments: Vec<BasicMetadataValueEnum<'ctx>> = operands.into_iter().map(Into::into).collect();
    let call = err!(builder.build_indirect_call(ty, assembly, &arguments, ""));
    if !matches!(instruction.result, HostResult::Rax) {
        touches_no_memory(context, call);
    }
    let value = call.try_as_basic_value().basic();
    Ok(match (instruction.result, value) {
        (HostResult::Word, Some(v)) => err!(builder.build_int_z_extend(v.into_int_value(), intrinsics.i64_ty, "")).into(),
        (HostResult::Double, Some(v)) => err!(builder.build_bit_cast(v, intrinsics.i64_ty, "")),
        (HostResult::LowLane, Some(v)) => {
            let first = intrinsics.i32_ty.const_zero();
            err!(builder.build_extract_element(v.into_vector_value(), first, ""))
        }
        (HostResult::Quad | HostResult::Rax, Some(v)) => v,
        (_, _) => intrinsics.i64_zero.into(),
    })
}

/// Emits an arithmetic instruction on two registers of one type; `a` is its destination operand, or with AVX its first source.
pub(super) fn binary<'ctx>(
    context: &'ctx Context,
    builder: &Builder<'ctx>,
    mnemonic: &str,
    avx: bool,
    a: BasicValueEnum<'ctx>,
    b: BasicValueEnum<'ctx>,
) -> Result<BasicValueEnum<'ctx>, CompileError> {
    let (text, constraints) = match avx {
        // The assembler, too, swaps the sources, where that gives the two-byte prefix.
        true => (format!("{{vex3}} v{mnemonic} $0, $1, $2"), "=x,x,x"),
        false => (format!("{mnemonic} $0, $2"), "=x,0,x"),
    };
    let ty = a.get_type().fn_type(&[a.get_type().into(), b.get_type().into()], false);
    let assembly = context.create_inline_asm(ty, text, constraints.to_owned(), true, false, Some(InlineAsmDialect::Intel), false);
    let call = err!(builder.build_indirect_call(ty, assembly, &[a.into(), b.into()], ""));
    touches_no_memory(context, call);
    Ok(call.try_as_basic_value().unwrap_basic())
}

/// The exception flags are a result that LLVM does not see, so that the instruction stays where it is.
fn touches_no_memory<'ctx>(context: &'ctx Context, call: CallSiteValue<'ctx>) {
    for (name, value) in [("nounwind", 0), ("memory", OUTSIDE_MEMORY)] {
        let kind = Attribute::get_named_enum_kind_id(name);
        call.add_attribute(AttributeLoc::Function, context.create_enum_attribute(kind, value));
    }
}
