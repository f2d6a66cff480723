//! What WASM leaves open and x86 does not, said in WASM: modules for processors that would do it otherwise.
//!
//! Owns which NaN arithmetic gives, and, for a compiler that has no better way, the order of memory accesses. A module for x86-64 is compiled as it is: its processors do both by themselves. The fact a newcomer gets wrong: of two NaNs x86 gives the first operand, quiet or
//! not; Arm gives a signalling one first. And a NaN made of numbers has its sign bit set on x86, which printf shows.

use std::convert::Infallible;
use syscalls::abi::{import, offset};
use wasm_encoder::reencode::{self, Reencode, utils};
use wasm_encoder::{BlockType, CodeSection, Function, Ieee32, Ieee64, Instruction, InstructionSink, MemArg, Module, ValType};
use wasmparser::{CompositeInnerType, FunctionBody, Operator, Parser, Payload};

/// In cache keys: another one whenever the same module comes out otherwise.
pub const VERSION: &str = "portable 2";

pub type Error = reencode::Error<Infallible>;

/// How a module's memory accesses keep x86's order on a processor that keeps none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The compiler sees to it.
    Compiler,
    /// By fences of the module's: behind every load of this memory, before every store, around what does both.
    Fences { memory: u32 },
}

/// The module with x86's answers in it.
pub fn module(wasm: &[u8], order: Order) -> Result<Vec<u8>, Error> {
    let mut portable = Portable { parameters: parameters(wasm)?, next: 0, order };
    let mut module = Module::new();
    portable.parse_core_module(&mut module, Parser::new(0), wasm)?;
    Ok(module.finish())
}

/// How many parameters each of the module's own functions has.
fn parameters(wasm: &[u8]) -> Result<Vec<u32>, wasmparser::Error> {
    let (mut types, mut functions) = (Vec::new(), Vec::new());
    for payload in Parser::new(0).parse_all(wasm) {
        match payload? {
            Payload::TypeSection(section) => {
                for ty in section.into_iter().flat_map(|group| group.map(|g| g.into_types().collect::<Vec<_>>()).unwrap_or_default()) {
                    types.push(if let CompositeInnerType::Func(f) = &ty.composite_type.inner { f.params().len() as u32 } else { 0 });
                }
            }
            Payload::FunctionSection(section) => {
                for ty in section {
                    functions.push(types.get(ty? as usize).copied().unwrap_or(0));
                }
            }
            _ => {}
        }
    }
    Ok(functions)
}

struct Portable {
    parameters: Vec<u32>,
    /// The function whose body comes next.
    next: usize,
    order: Order,
}

impl Reencode for Portable {
    type Error = Infallible;

    fn parse_function_body(&mut self, code: &mut CodeSection, body: FunctionBody<'_>) -> Result<(), Error> {
        let mut locals = Vec::new();
        for pair in body.get_locals_reader()? {
            let (count, ty) = pair?;
            locals.push((count, self.val_type(ty)?));
        }
        let first = self.parameters.get(self.next).copied().unwrap_or(0) + locals.iter().map(|(count, _)| count).sum::<u32>();
        self.next += 1;
        let used = kinds(&body)?;
        locals.extend(used.iter().map(|kind| (3, kind.ty())));
        // Of `zero_extended`: for the few functions that need them, in all.
        locals.push((2, ValType::I32));
        let mut function = Function::new(locals);
        for operator in body.get_operators_reader()? {
            let operator = operator?;
            let (before, behind) = self.fences(&operator);
            if compares_words(&operator) && self.order != Order::Compiler {
                zero_extended(&mut function.instructions(), first + 3 * used.len() as u32);
            }
            if before {
                function.instruction(&Instruction::AtomicFence);
            }
            let arithmetic = arithmetic(&operator);
            let instruction = utils::instruction(self, operator)?;
            match arithmetic {
                Some((kind, operands)) => {
                    let at = used.iter().position(|k| *k == kind).expect("it was seen") as u32;
                    Nans { kind, operands, a: first + 3 * at }.emit(&mut function, &instruction);
                }
                None => drop(function.instruction(&instruction)),
            }
            if behind {
                function.instruction(&Instruction::AtomicFence);
            }
        }
        code.function(&function);
        Ok(())
    }
}

impl Portable {
    /// Is a fence needed before it, and behind it?
    fn fences(&self, operator: &Operator<'_>) -> (bool, bool) {
        let Order::Fences { memory } = self.order else { return (false, false) };
        let (own, before, behind) = access(operator);
        if own == Some(memory) { (before, behind) } else { (false, false) }
    }
}

/// The memory of an access, whether it must stay behind what is before it, and before what is behind it.
fn access(operator: &Operator<'_>) -> (Option<u32>, bool, bool) {
    use Operator::*;
    macro_rules! of {
        ($memarg:expr, $before:expr, $behind:expr) => {
            (Some($memarg.memory), $before, $behind)
        };
    }
    match operator {
        I32Load { memarg } | I64Load { memarg } | F32Load { memarg } | F64Load { memarg } | V128Load { memarg } => of!(memarg, false, true),
        I32Load8S { memarg } | I32Load8U { memarg } | I32Load16S { memarg } | I32Load16U { memarg } => of!(memarg, false, true),
        I64Load8S { memarg } | I64Load8U { memarg } | I64Load16S { memarg } | I64Load16U { memarg } | I64Load32S { memarg } | I64Load32U { memarg } => of!(memarg, false, true),
        V128Load8x8S { memarg } | V128Load8x8U { memarg } | V128Load16x4S { memarg } | V128Load16x4U { memarg } => of!(memarg, false, true),
        V128Load32x2S { memarg } | V128Load32x2U { memarg } | V128Load32Zero { memarg } | V128Load64Zero { memarg } => of!(memarg, false, true),
        V128Load8Splat { memarg } | V128Load16Splat { memarg } | V128Load32Splat { memarg } | V128Load64Splat { memarg } => of!(memarg, false, true),
        V128Load8Lane { memarg, .. } | V128Load16Lane { memarg, .. } | V128Load32Lane { memarg, .. } | V128Load64Lane { memarg, .. } => of!(memarg, false, true),
        I32Store { memarg } | I64Store { memarg } | F32Store { memarg } | F64Store { memarg } | V128Store { memarg } => of!(memarg, true, false),
        I32Store8 { memarg } | I32Store16 { memarg } | I64Store8 { memarg } | I64Store16 { memarg } | I64Store32 { memarg } => of!(memarg, true, false),
        V128Store8Lane { memarg, .. } | V128Store16Lane { memarg, .. } | V128Store32Lane { memarg, .. } | V128Store64Lane { memarg, .. } => of!(memarg, true, false),
        MemoryFill { mem } => (Some(*mem), true, true),
        MemoryCopy { dst_mem, .. } => (Some(*dst_mem), true, true),
        I32AtomicRmwAdd { memarg } | I32AtomicRmwSub { memarg } | I32AtomicRmwAnd { memarg } | I32AtomicRmwOr { memarg } | I32AtomicRmwXor { memarg } => of!(memarg, true, true),
        I64AtomicRmwAdd { memarg } | I64AtomicRmwSub { memarg } | I64AtomicRmwAnd { memarg } | I64AtomicRmwOr { memarg } | I64AtomicRmwXor { memarg } => of!(memarg, true, true),
        I32AtomicRmw8AddU { memarg } | I32AtomicRmw8SubU { memarg } | I32AtomicRmw8AndU { memarg } | I32AtomicRmw8OrU { memarg } | I32AtomicRmw8XorU { memarg } => {
            of!(memarg, true, true)
        }
        I32AtomicRmw16AddU { memarg } | I32AtomicRmw16SubU { memarg } | I32AtomicRmw16AndU { memarg } => of!(memarg, true, true),
        I32AtomicRmw16OrU { memarg } | I32AtomicRmw16XorU { memarg } => of!(memarg, true, true),
        I32AtomicRmwXchg { memarg } | I64AtomicRmwXchg { memarg } | I32AtomicRmw8XchgU { memarg } | I32AtomicRmw16XchgU { memarg } => of!(memarg, true, true),
        I32AtomicRmwCmpxchg { memarg } | I64AtomicRmwCmpxchg { memarg } | I32AtomicRmw8CmpxchgU { memarg } | I32AtomicRmw16CmpxchgU { memarg } => of!(memarg, true, true),
        I64AtomicRmw8CmpxchgU { memarg } | I64AtomicRmw16CmpxchgU { memarg } | I64AtomicRmw32CmpxchgU { memarg } => of!(memarg, true, true),
        _ => (None, false, false),
    }
}

/// A compare-and-swap of 32 bits.
fn compares_words(operator: &Operator<'_>) -> bool {
    matches!(operator, Operator::I32AtomicRmwCmpxchg { .. })
}

/// Cranelift 0.135 compares all 64 bits of the two registers there, and leaves in the upper half of the expected one whatever an `i32.wrap_i64` left: the swap is then not made although the words are equal. So the word goes through a helper's operand in the
/// CPU state, stored wide and loaded narrow, which leaves zeros above it; of arithmetic that changes nothing Cranelift makes nothing. Instruction twins (`lock cmpxchg`) found it, and will say when this is not enough.
fn zero_extended(s: &mut InstructionSink<'_>, local: u32) {
    let (expected, new) = (local, local + 1);
    let at = MemArg { offset: offset::scratch(3), align: 2, memory_index: import::CPU_INDEX };
    s.local_set(new).local_set(expected);
    s.i32_const(0).local_get(expected).i64_extend_i32_u().i64_store(at);
    s.i32_const(0).i32_load(at).local_get(new);
}

/// What is computed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Single,
    Double,
    Singles,
    Doubles,
}

impl Kind {
    fn ty(self) -> ValType {
        match self {
            Kind::Single => ValType::F32,
            Kind::Double => ValType::F64,
            Kind::Singles | Kind::Doubles => ValType::V128,
        }
    }
}

/// Arithmetic that may make a NaN, and how many operands it has.
fn arithmetic(operator: &Operator<'_>) -> Option<(Kind, u32)> {
    use Operator::*;
    match operator {
        F32Add | F32Sub | F32Mul | F32Div => Some((Kind::Single, 2)),
        F64Add | F64Sub | F64Mul | F64Div => Some((Kind::Double, 2)),
        F32x4Add | F32x4Sub | F32x4Mul | F32x4Div => Some((Kind::Singles, 2)),
        F64x2Add | F64x2Sub | F64x2Mul | F64x2Div => Some((Kind::Doubles, 2)),
        F32Sqrt => Some((Kind::Single, 1)),
        F64Sqrt => Some((Kind::Double, 1)),
        F32x4Sqrt => Some((Kind::Singles, 1)),
        F64x2Sqrt => Some((Kind::Doubles, 1)),
        _ => None,
    }
}

/// The kinds of arithmetic in a function, in the order they are met.
fn kinds(body: &FunctionBody<'_>) -> Result<Vec<Kind>, wasmparser::Error> {
    let mut used = Vec::new();
    for operator in body.get_operators_reader()? {
        if let Some((kind, _)) = arithmetic(&operator?)
            && !used.contains(&kind)
        {
            used.push(kind);
        }
    }
    Ok(used)
}

const SINGLE_QUIET: u32 = 1 << 22;
const SINGLE_NAN: u32 = 0xffc0_0000;
const DOUBLE_QUIET: u64 = 1 << 51;
const DOUBLE_NAN: u64 = 0xfff8_0000_0000_0000;

/// One operation, in three locals from `a` on: its operands and its result.
struct Nans {
    kind: Kind,
    operands: u32,
    a: u32,
}

impl Nans {
    fn emit(&self, function: &mut Function, operation: &Instruction<'_>) {
        let (a, b, result) = (self.a, self.a + 1, self.a + 2);
        let s = &mut function.instructions();
        if self.operands == 2 {
            s.local_set(b);
        }
        s.local_set(a).local_get(a);
        if self.operands == 2 {
            s.local_get(b);
        }
        function.instruction(operation);
        let s = &mut function.instructions();
        s.local_set(result);
        self.is_nan(s, result);
        if self.kind.ty() == ValType::V128 {
            s.v128_any_true();
        }
        s.if_(BlockType::Result(self.kind.ty()));
        if self.kind.ty() == ValType::V128 {
            self.quiet(s, a);
            self.second(s);
            self.is_nan(s, a);
            s.v128_bitselect().local_get(result);
            self.is_nan(s, result);
            s.v128_bitselect();
        } else {
            self.quiet(s, a);
            self.second(s);
            self.is_nan(s, a);
            s.select();
        }
        s.else_().local_get(result).end();
    }

    /// What a NaN is that does not come of the first operand.
    fn second(&self, s: &mut InstructionSink<'_>) {
        let two = |word: u64| (u128::from(word) << 64 | u128::from(word)) as i128;
        let default = |s: &mut InstructionSink<'_>| {
            match self.kind {
                Kind::Single => s.f32_const(Ieee32::new(SINGLE_NAN)),
                Kind::Double => s.f64_const(Ieee64::new(DOUBLE_NAN)),
                Kind::Singles => s.v128_const(two(u64::from(SINGLE_NAN) << 32 | u64::from(SINGLE_NAN))),
                Kind::Doubles => s.v128_const(two(DOUBLE_NAN)),
            };
        };
        if self.operands == 1 {
            return default(s);
        }
        self.quiet(s, self.a + 1);
        default(s);
        self.is_nan(s, self.a + 1);
        if self.kind.ty() == ValType::V128 {
            s.v128_bitselect()
        } else {
            s.select()
        };
    }

    fn is_nan(&self, s: &mut InstructionSink<'_>, local: u32) {
        s.local_get(local).local_get(local);
        match self.kind {
            Kind::Single => s.f32_ne(),
            Kind::Double => s.f64_ne(),
            Kind::Singles => s.f32x4_ne(),
            Kind::Doubles => s.f64x2_ne(),
        };
    }

    fn quiet(&self, s: &mut InstructionSink<'_>, local: u32) {
        s.local_get(local);
        let two = |word: u64| (u128::from(word) << 64 | u128::from(word)) as i128;
        match self.kind {
            Kind::Single => s.i32_reinterpret_f32().i32_const(SINGLE_QUIET as i32).i32_or().f32_reinterpret_i32(),
            Kind::Double => s.i64_reinterpret_f64().i64_const(DOUBLE_QUIET as i64).i64_or().f64_reinterpret_i64(),
            Kind::Singles => s.v128_const(two(u64::from(SINGLE_QUIET) << 32 | u64::from(SINGLE_QUIET))).v128_or(),
            Kind::Doubles => s.v128_const(two(DOUBLE_QUIET)).v128_or(),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile;
    use crate::processor::Processor;
    use policy::manifest::Form;
    use std::num::NonZero;
    use wasm_encoder::{ExportKind, ExportSection, FunctionSection, MemorySection, MemoryType, TypeSection};
    use wasmer::{Instance, Store, TypedFunction, imports};

    /// One function `f` of this type with this body, and a memory.
    fn with(params: &[ValType], result: ValType, body: impl Fn(&mut InstructionSink<'_>)) -> Vec<u8> {
        let (mut types, mut functions, mut memories, mut exports, mut code) =
            (TypeSection::new(), FunctionSection::new(), MemorySection::new(), ExportSection::new(), CodeSection::new());
        types.ty().function(params.iter().copied(), [result]);
        functions.function(0);
        memories.memory(MemoryType { minimum: 1, maximum: Some(1), memory64: false, shared: true, page_size_log2: None });
        exports.export("f", ExportKind::Func, 0);
        let mut f = Function::new([(1, ValType::I32)]);
        body(&mut f.instructions());
        f.instructions().end();
        code.function(&f);
        let mut module = Module::new();
        module.section(&types).section(&functions).section(&memories).section(&exports).section(&code);
        module.finish()
    }

    fn run(wasm: &[u8], a: u64, b: u64) -> u64 {
        let mut store = Store::new(compile::engine(Form::Resumable, &Processor::native(), NonZero::<usize>::MIN));
        let compiled = wasmer::Module::new(&store, wasm).unwrap();
        let instance = Instance::new(&mut store, &compiled, &imports! {}).unwrap();
        let f: TypedFunction<(i64, i64), i64> = instance.exports.get_typed_function(&store, "f").unwrap();
        f.call(&mut store, a as i64, b as i64).unwrap() as u64
    }

    /// The same on this machine's processor, which is the oracle, with and without the rewriting: on x86-64 it must change nothing, whatever the operands.
    #[test]
    fn what_is_added_says_what_x86_does() {
        const VALUES: [u64; 8] =
            [0, 0x3ff0_0000_0000_0000, 0x7ff0_0000_0000_0000, 0xfff0_0000_0000_0000, 0x7ff8_0000_dead_beef, 0xfff0_0000_1234_5678, 0x7fc1_2345_ffa5_4321, 0xffff_ffff_7fa0_0001];
        type Body = fn(&mut InstructionSink<'_>);
        let double: Body = |s| {
            s.local_get(0).f64_reinterpret_i64().local_get(1).f64_reinterpret_i64().f64_sub().i64_reinterpret_f64();
        };
        let root: Body = |s| {
            s.local_get(0).f64_reinterpret_i64().f64_sqrt().i64_reinterpret_f64();
        };
        let single: Body = |s| {
            s.local_get(0).i32_wrap_i64().f32_reinterpret_i32().local_get(1).i32_wrap_i64().f32_reinterpret_i32().f32_div().i32_reinterpret_f32().i64_extend_i32_u();
        };
        let doubles: Body = |s| {
            s.local_get(0).i64x2_splat().local_get(1).i64x2_splat().f64x2_div().i64x2_extract_lane(1);
        };
        let singles: Body = |s| {
            s.local_get(0).i64x2_splat().local_get(1).i64x2_splat().f32x4_sub().i64x2_extract_lane(0);
        };
        for body in [double, root, single, doubles, singles] {
            let plain = with(&[ValType::I64, ValType::I64], ValType::I64, body);
            let portable = module(&plain, Order::Compiler).unwrap();
            assert_ne!(plain, portable);
            for (a, b) in VALUES.iter().flat_map(|a| VALUES.iter().map(move |b| (*a, *b))) {
                assert_eq!(run(&portable, a, b), run(&plain, a, b), "{a:x} {b:x}");
            }
        }
    }

    fn operators(wasm: &[u8]) -> Vec<String> {
        let bodies = Parser::new(0).parse_all(wasm).filter_map(|p| match p.unwrap() {
            Payload::CodeSectionEntry(body) => Some(body),
            _ => None,
        });
        bodies.flat_map(|b| b.get_operators_reader().unwrap().into_iter().map(|o| format!("{:?}", o.unwrap()).split([' ', '{']).next().unwrap().to_owned())).collect()
    }

    #[test]
    fn fences_keep_loads_first_and_stores_last_in_their_memory_alone() {
        let at = MemArg { offset: 0, align: 0, memory_index: 0 };
        let atomic = MemArg { align: 3, ..at };
        let body = |s: &mut InstructionSink<'_>| {
            s.i32_const(0).local_get(0).i64_store(at).i32_const(8).i64_load(at).i32_const(8).local_get(1).i64_atomic_rmw_xchg(atomic).i64_add();
        };
        let plain = with(&[ValType::I64, ValType::I64], ValType::I64, body);
        let fenced = operators(&module(&plain, Order::Fences { memory: 0 }).unwrap());
        let kinds: Vec<&str> = fenced.iter().map(String::as_str).filter(|o| o.contains("Fence") || o.contains("Load") || o.contains("Store") || o.contains("Xchg")).collect();
        assert_eq!(kinds, ["AtomicFence", "I64Store", "I64Load", "AtomicFence", "AtomicFence", "I64AtomicRmwXchg", "AtomicFence"]);
        for other in [Order::Compiler, Order::Fences { memory: 1 }] {
            assert_eq!(operators(&module(&plain, other).unwrap()), operators(&plain), "{other:?}");
        }
    }
}
