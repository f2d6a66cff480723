//! What functions of a `ClosedWorld` look like to LLVM, by architecture.
//!
//! Owns where parameters and results travel, and how code finds the segment memory. Both architectures keep the same promise: up to eleven parameters and ten results in registers, each result where the parameter of the
//! same place came in, and no register preserved. The fact a newcomer gets wrong: AArch64 has no convention that returns ten integers; the last ones travel in vector registers, in both directions.

use crate::{
    error::{err, err_nt},
    translator::intrinsics::{Intrinsics, type_to_llvm},
};
use inkwell::{
    AddressSpace,
    attributes::{Attribute, AttributeLoc},
    builder::Builder,
    context::Context,
    module::Module,
    types::{BasicMetadataTypeEnum, BasicType, BasicTypeEnum, FunctionType},
    values::{BasicValueEnum, IntValue, PointerValue},
};
use target_lexicon::{Architecture, Triple};
use wasmer_types::{CompileError, FunctionType as FuncSig, Type};

/// x86: a pointer of this address space is relative to GS (LLVM, "X86 address spaces").
const GS_ADDRESS_SPACE: u16 = 256;

/// AArch64: holds the base of the segment memory whenever code of a closed world runs. C's functions preserve it, and LLVM is told to leave it alone (`RESERVED`).
const BASE_REGISTER: &str = "x28";
/// LLVM's feature for that.
pub(crate) const RESERVED: &str = "+reserve-x28";

/// LLVM's numbers of `x86_regcallcc` and `preserve_nonecc`.
const REGISTER_CALL: u32 = 92;
const PRESERVE_NONE: u32 = 21;

/// `preserve_nonecc` begins with x20 to x28. Parameters are to come in where results go out, from x0 on, so those nine are passed nothing.
const SKIPPED: u32 = 9;
/// How many integers AArch64 returns in general registers.
const GENERAL: usize = 8;

/// Operands of `dmb`.
#[derive(Clone, Copy)]
pub(crate) enum Barrier {
    /// Loads before it, and everything behind it.
    Loads = 0b1001,
    /// Stores before it, and stores behind it.
    Stores = 0b1010,
    /// Everything.
    All = 0b1011,
}

/// `memory(inaccessiblemem: …)` as LLVM's `MemoryEffects` encodes it.
const READS_OUTSIDE: u64 = 1 << 2;
const CHANGES_OUTSIDE: u64 = 3 << 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Convention {
    X86_64,
    Aarch64,
}

impl Convention {
    pub(crate) fn of(triple: &Triple) -> Result<Self, CompileError> {
        match triple.architecture {
            Architecture::X86_64 => Ok(Self::X86_64),
            Architecture::Aarch64(_) => Ok(Self::Aarch64),
            other => Err(CompileError::UnsupportedTarget(format!("a closed world on {other}"))),
        }
    }

    pub(crate) fn number(self) -> u32 {
        match self {
            Self::X86_64 => REGISTER_CALL,
            Self::Aarch64 => PRESERVE_NONE,
        }
    }

    /// Parameters in front of the function's own that nobody passes or reads.
    pub(crate) fn skipped(self) -> u32 {
        match self {
            Self::X86_64 => 0,
            Self::Aarch64 => SKIPPED,
        }
    }

    /// The type of a function: its parameters, and its results as a structure that the calling convention returns in registers.
    pub(crate) fn function_type<'ctx>(self, intrinsics: &Intrinsics<'ctx>, sig: &FuncSig) -> Result<FunctionType<'ctx>, CompileError> {
        let of = |types: &[Type]| {
            let carriers = types.iter().enumerate().map(|(k, ty)| Ok(self.carrier(intrinsics, k, type_to_llvm(intrinsics, *ty)?)));
            carriers.collect::<Result<Vec<BasicTypeEnum<'ctx>>, CompileError>>()
        };
        let skipped = (0..self.skipped()).map(|_| intrinsics.i64_ty.into());
        let params: Vec<BasicMetadataTypeEnum<'ctx>> = skipped.chain(of(sig.params())?.into_iter().map(Into::into)).collect();
        Ok(match of(sig.results())?.as_slice() {
            [] => intrinsics.void_ty.fn_type(&params, false),
            [one] => one.fn_type(&params, false),
            results => intrinsics.void_ty.get_context().struct_type(results, false).fn_type(&params, false),
        })
    }

    /// What carries the parameter or result number `k`.
    fn carrier<'ctx>(self, intrinsics: &Intrinsics<'ctx>, k: usize, ty: BasicTypeEnum<'ctx>) -> BasicTypeEnum<'ctx> {
        match self {
            Self::Aarch64 if k >= GENERAL && ty == intrinsics.i64_ty.into() => intrinsics.f64_ty.into(),
            _ => ty,
        }
    }

    /// A value as parameter or result number `k`.
    pub(crate) fn carry<'ctx>(self, builder: &Builder<'ctx>, intrinsics: &Intrinsics<'ctx>, k: usize, value: BasicValueEnum<'ctx>) -> Result<BasicValueEnum<'ctx>, CompileError> {
        convert(builder, value, self.carrier(intrinsics, k, value.get_type()))
    }

    /// The address at `offset` in the segment memory.
    pub(crate) fn segment_pointer<'ctx>(
        self,
        context: &'ctx Context,
        module: &Module<'ctx>,
        builder: &Builder<'ctx>,
        intrinsics: &Intrinsics<'ctx>,
        offset: IntValue<'ctx>,
    ) -> Result<PointerValue<'ctx>, CompileError> {
        if self == Self::X86_64 {
            let segment = context.ptr_type(AddressSpace::from(GS_ADDRESS_SPACE));
            return err_nt!(builder.build_int_to_ptr(offset, segment, "segment_ptr"));
        }
        // Read where it is used: then no register is spent on a copy, and none has to survive a call.
        let name = "llvm.read_register.i64";
        let read = module.get_function(name).unwrap_or_else(|| module.add_function(name, intrinsics.i64_ty.fn_type(&[context.metadata_type().into()], false), None));
        let register = context.metadata_node(&[context.metadata_string(BASE_REGISTER).into()]);
        let call = err!(builder.build_call(read, &[register.into()], "segment"));
        effects(context, call, READS_OUTSIDE);
        let base = err!(builder.build_int_to_ptr(call.try_as_basic_value().unwrap_basic().into_int_value(), intrinsics.ptr_ty, ""));
        // SAFETY: the memory covers every offset: `ClosedWorld`'s promise.
        Ok(unsafe { err!(builder.build_gep(intrinsics.i8_ty, base, &[offset], "segment_ptr")) })
    }

    /// Where the processor itself keeps no order of loads and stores, the instruction that does. On x86-64 nothing: an access of shared memory is in order already.
    pub(crate) fn barrier<'ctx>(self, context: &'ctx Context, module: &Module<'ctx>, builder: &Builder<'ctx>, intrinsics: &Intrinsics<'ctx>, kind: Barrier) -> Result<(), CompileError> {
        if self == Self::X86_64 {
            return Ok(());
        }
        let name = "llvm.aarch64.dmb";
        let dmb = module.get_function(name).unwrap_or_else(|| module.add_function(name, intrinsics.void_ty.fn_type(&[intrinsics.i32_ty.into()], false), None));
        let call = err!(builder.build_call(dmb, &[intrinsics.i32_ty.const_int(kind as u64, false).into()], ""));
        // The accesses it orders are volatile, or of the thread's own stack: none of them need be written back for it.
        effects(context, call, CHANGES_OUTSIDE);
        Ok(())
    }
}

fn effects<'ctx>(context: &'ctx Context, call: inkwell::values::CallSiteValue<'ctx>, memory: u64) {
    for (name, value) in [("nounwind", 0), ("memory", memory)] {
        call.add_attribute(AttributeLoc::Function, context.create_enum_attribute(Attribute::get_named_enum_kind_id(name), value));
    }
}

/// A value in another type of its size.
pub(crate) fn convert<'ctx>(builder: &Builder<'ctx>, value: BasicValueEnum<'ctx>, ty: BasicTypeEnum<'ctx>) -> Result<BasicValueEnum<'ctx>, CompileError> {
    if value.get_type() == ty { Ok(value) } else { err_nt!(builder.build_bit_cast(value, ty, "")) }
}
