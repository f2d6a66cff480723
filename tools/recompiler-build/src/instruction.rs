//! The instructions that LLVM puts in the place of helper calls (`syscalls::abi::float`, and `DIV64`, which no operation of WASM is).
//!
//! Owns their text for LLVM. The loader has the same instructions as a helper (`loader/src/helper/{float,divide}.rs`), for code that Cranelift made; the instruction twins run both.

use core::mem::offset_of;
use syscalls::abi::{CpuState, float, helper, import};
use wasmer_compiler_llvm::{HostInstruction, HostInstructions, HostOperands as Takes, HostResult as Gives};

pub(crate) fn host_instructions() -> HostInstructions {
    let mut list = vec![
        one(float::COMISS, "comiss $0, $1", Takes::Singles, Gives::Nothing),
        one(float::COMISD, "comisd $0, $1", Takes::Doubles, Gives::Nothing),
        one(float::UCOMISS, "ucomiss $0, $1", Takes::Singles, Gives::Nothing),
        one(float::UCOMISD, "ucomisd $0, $1", Takes::Doubles, Gives::Nothing),
        one(float::CVTSS2SI, "cvtss2si $0, $1", Takes::Single, Gives::Word),
        one(float::CVTSS2SI64, "cvtss2si $0, $1", Takes::Single, Gives::Quad),
        one(float::CVTSD2SI, "cvtsd2si $0, $1", Takes::Double, Gives::Word),
        one(float::CVTSD2SI64, "cvtsd2si $0, $1", Takes::Double, Gives::Quad),
        one(float::CVTTSS2SI, "cvttss2si $0, $1", Takes::Single, Gives::Word),
        one(float::CVTTSS2SI64, "cvttss2si $0, $1", Takes::Single, Gives::Quad),
        one(float::CVTTSD2SI, "cvttsd2si $0, $1", Takes::Double, Gives::Word),
        one(float::CVTTSD2SI64, "cvttsd2si $0, $1", Takes::Double, Gives::Quad),
        one(float::CVTPS2DQ, "cvtps2dq $0, $1", Takes::Lanes, Gives::LowLane),
        one(float::CVTPD2DQ, "cvtpd2dq $0, $1", Takes::Lanes, Gives::LowLane),
        one(float::CVTTPS2DQ, "cvttps2dq $0, $1", Takes::Lanes, Gives::LowLane),
        one(float::CVTTPD2DQ, "cvttpd2dq $0, $1", Takes::Lanes, Gives::LowLane),
    ];
    for immediate in 0..16 {
        list.push(one(float::ROUNDPS + immediate, &format!("roundps $0, $1, {immediate}"), Takes::Lanes, Gives::LowLane));
        list.push(one(float::ROUNDSD + immediate, &format!("roundsd $0, $1, {immediate}"), Takes::Double, Gives::Double));
    }
    // The low half of the dividend is where `DIV64` expects it: rax in `CpuState`, which is at GS.
    let division = format!("mov rdx, $2\n\tmov rax, qword ptr gs:[{}]\n\tdiv $1", offset_of!(CpuState, gpr));
    list.push(one(helper::DIV64, &division, Takes::Integers, Gives::Rax));
    HostInstructions { function: import::HELPER_INDEX, list }
}

fn one(operation: u32, assembly: &str, operands: Takes, result: Gives) -> HostInstruction {
    HostInstruction { operation, assembly: assembly.to_owned(), operands, result }
}
