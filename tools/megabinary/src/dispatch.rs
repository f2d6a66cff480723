//! The dispatcher shard: the miss stub and `_dispatch`.
//!
//! Owns the code of the merged module that no ELF object gave. The fact a newcomer gets wrong: `_dispatch` starts a program but is not the runtime's dispatcher loop; its result is the
//! program's rax when the start function returns, and it traps when code leaves through a tagged pc, because the resumable form needs a host that keeps `vkernel.blocks`.

use crate::section::EntryMap;
use syscalls::abi::structured::{NEXT_PC, PARAMETERS, RESULTS, RSP};
use syscalls::abi::{TAG, import, offset};
use wasm_encoder::{BlockType, Function, InstructionSink, MemArg, ValType};
use wasmparser::FuncType;

const RAX: usize = 0;

/// The type of structured functions.
pub(crate) fn structured_type() -> FuncType {
    use wasmparser::ValType::{I32, I64};
    let of = |registers: &[usize]| registers.iter().map(|r| if *r == RSP { I32 } else { I64 }).collect::<Vec<_>>();
    FuncType::new(of(&PARAMETERS), of(&RESULTS))
}

fn at(memory_index: u32, offset: u64) -> MemArg {
    MemArg { offset, align: 3, memory_index }
}

/// A structured function that makes the state exact and returns `TAG | rip` (ARCHITECTURE.md, "Tagged pcs").
pub(crate) fn miss_stub() -> Function {
    let mut f = Function::new([]);
    let mut i = f.instructions();
    for (local, register) in PARAMETERS.into_iter().enumerate() {
        i.i32_const(0).local_get(local as u32);
        if register == RSP {
            i.i64_extend_i32_u();
        }
        i.i64_store(at(import::CPU_INDEX, offset::gpr(register)));
    }
    for result in RESULTS {
        match result {
            NEXT_PC => i.i32_const(0).i64_load(at(import::CPU_INDEX, offset::RIP)).i64_const(TAG as i64).i64_or(),
            RSP => i.i32_const(0),
            _ => i.i64_const(0),
        };
    }
    i.end();
    f
}

/// `(target, argc, argv: i32) -> i32`: compares the 32 bytes at `target` with each digest of `map`, and starts the first that is equal.
///
/// `argv` is the guest address of the C array that the kernel would have put above argc: pointers, null, environment, null, auxiliary vector.
pub(crate) fn dispatch(map: &EntryMap, function_type: u32) -> Function {
    const SLOT: u32 = 3;
    const RSP_LOCAL: u32 = 4;
    const NEXT: u32 = 5;
    const RESULT: u32 = 6;
    let mut f = Function::new([(2, ValType::I32), (2, ValType::I64)]);
    let mut i = f.instructions();
    i.block(BlockType::Empty);
    for (digest, row) in &map.0 {
        equal(&mut i, &digest.bytes);
        i.if_(BlockType::Empty);
        if let Some(start) = row.start {
            // It ends by proc_exit with another status, or returns.
            i.call(start).i32_const(0).return_().end();
            continue;
        }
        i.i32_const(row.slot as i32).local_set(SLOT);
        i.i32_const(0).i64_const(i64::from(row.pc)).i64_store(at(import::CPU_INDEX, offset::RIP));
        i.br(1).end();
    }
    i.unreachable().end();
    i.local_get(2).i32_const(8).i32_sub().local_tee(RSP_LOCAL);
    i.local_get(1).i64_extend_i32_u().i64_store(at(import::MEM_INDEX, 0));
    for register in PARAMETERS {
        if register == RSP {
            i.local_get(RSP_LOCAL)
        } else {
            i.i64_const(0)
        };
    }
    i.local_get(SLOT).call_indirect(0, function_type);
    for result in RESULTS.into_iter().rev() {
        match result {
            NEXT_PC => i.local_set(NEXT),
            RAX => i.local_set(RESULT),
            _ => i.drop(),
        };
    }
    i.local_get(NEXT).i64_const(0).i64_lt_s().if_(BlockType::Empty).unreachable().end();
    i.local_get(RESULT).i32_wrap_i64().end();
    f
}

/// Pushes whether the 32 bytes at local 0 are these.
fn equal(i: &mut InstructionSink<'_>, digest: &[u8; 32]) {
    for (n, word) in digest.chunks_exact(8).enumerate() {
        let word = i64::from_le_bytes(word.try_into().expect("chunks of eight"));
        i.local_get(0).i64_load(MemArg { offset: 8 * n as u64, align: 0, memory_index: import::MEM_INDEX });
        i.i64_const(word).i64_eq();
        if n > 0 {
            i.i32_and();
        }
    }
}

/// The map in `vkernel.map` is what the code of `_dispatch` routes by.
#[derive(Debug, thiserror::Error)]
pub enum DispatchError {
    #[error("the module is not valid WASM: {0}")]
    Wasm(#[from] wasmparser::BinaryReaderError),
    #[error("_dispatch is missing or its code does not follow vkernel.map: rebuild the megabinary")]
    Mismatch,
}

/// Makes the code of `_dispatch` again from the map and compares it with the module's.
pub fn check_dispatch(module: &[u8], map: &EntryMap) -> Result<(), DispatchError> {
    use wasmparser::{ExternalKind, Payload};
    let (mut last_body, mut functions, mut exported, mut types) = (None, 0u32, None, Vec::new());
    for payload in wasmparser::Parser::new(0).parse_all(module) {
        match payload? {
            Payload::TypeSection(section) => types = section.into_iter_err_on_gc_types().collect::<Result<_, _>>()?,
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    functions += u32::from(matches!(import?.ty, wasmparser::TypeRef::Func(_)));
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    let export = export?;
                    if export.name == "_dispatch" && export.kind == ExternalKind::Func {
                        exported = Some(export.index);
                    }
                }
            }
            Payload::CodeSectionEntry(body) => {
                functions = functions.saturating_add(1);
                last_body = Some(body.as_bytes());
            }
            _ => {}
        }
    }
    let function_type = types.iter().position(|t| *t == structured_type());
    let expected = function_type.map(|t| dispatch(map, t as u32).into_raw_body());
    if exported != functions.checked_sub(1) || last_body != expected.as_deref() {
        return Err(DispatchError::Mismatch);
    }
    Ok(())
}
