//! Every form of every integer row against the host CPU. Vector and x87 rows have their own file beside this one.

mod support;

use iced_x86::{Code, EncodingKind, Mnemonic, OpCodeOperandKind, Register};
use support::{Options, Random, check, compare, forms};

/// Mnemonics whose operands the sweep cannot place; they have tests of their own below.
const OWN_TESTS: &[Mnemonic] = &[Mnemonic::Enter, Mnemonic::Leave, Mnemonic::Pop, Mnemonic::Popfq, Mnemonic::Xlatb, Mnemonic::Cmpxchg16b];

/// Not comparable by nature.
const NO_TWIN: &[Mnemonic] = &[Mnemonic::Cpuid, Mnemonic::Rdtsc, Mnemonic::Rdtscp, Mnemonic::Xgetbv, Mnemonic::Rdsspd, Mnemonic::Rdsspq];

fn is_integer(code: Code) -> bool {
    let form = code.op_code();
    let vector = |k: OpCodeOperandKind| {
        use OpCodeOperandKind as K;
        matches!(k, K::xmm_reg | K::xmm_rm | K::xmm_or_mem | K::st0 | K::sti_opcode | K::mm_reg | K::mm_rm | K::mm_or_mem)
    };
    form.mode64() && form.encoding() == EncodingKind::Legacy && !is_x87(code) && !(0..form.op_count()).any(|k| vector(form.op_kind(k)))
}

#[test]
fn every_integer_form_agrees_with_the_host() {
    let mut random = Random::new(1);
    let (mut tested, mut failures) = (0, Vec::new());
    for code in Code::values().filter(|c| is_integer(*c)) {
        let m = code.mnemonic();
        if OWN_TESTS.contains(&m) || NO_TWIN.contains(&m) {
            continue;
        }
        for bytes in forms::encodings(code, 6, &mut random) {
            let i = support::decode(&bytes)[0];
            if lift::x86::semantics(&i).is_none() || i.is_string_instruction() || writes_rsp(&i) {
                continue;
            }
            tested += 1;
            if let Err(e) = compare(&bytes, &Options::default()) {
                failures.push(format!("{code:?}: {e}"));
            }
        }
    }
    println!("{tested} encodings");
    assert!(tested > 1000, "only {tested} encodings were found");
    assert!(failures.is_empty(), "{} of {tested} differ:\n{}", failures.len(), failures.join("\n"));
}

/// x87, MMX and state instructions without a telling operand.
fn is_x87(code: Code) -> bool {
    use iced_x86::CpuidFeature as F;
    code.cpuid_features().iter().any(|f| matches!(f, F::FPU | F::FPU287 | F::FPU387 | F::MMX | F::FXSR | F::XSAVE | F::XSAVEC | F::XSAVEOPT))
        || matches!(code.mnemonic(), Mnemonic::Ldmxcsr | Mnemonic::Stmxcsr)
}

fn writes_rsp(i: &iced_x86::Instruction) -> bool {
    i.op_count() > 0 && i.op0_register().full_register() == Register::RSP
}

#[test]
fn push_and_pop_move_rsp() {
    use iced_x86::code_asm::*;
    check(|a| a.nop().unwrap());
    check(|a| a.push(rax).unwrap());
    check(|a| a.push(rsp).unwrap());
    check(|a| a.pop(rcx).unwrap());
    check(|a| a.pop(rsp).unwrap());
    check(|a| a.push(qword_ptr(rsp + 8)).unwrap());
    check(|a| a.pop(qword_ptr(rsp + 8)).unwrap());
}
