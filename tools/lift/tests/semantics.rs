//! Every form of every integer row against the host CPU. Vector and x87 rows have their own file beside this one.

mod support;

use std::collections::HashSet;

use iced_x86::code_asm::*;
use iced_x86::{Code, EncodingKind, Instruction, Mnemonic, OpCodeOperandKind, Register, RepPrefixKind};
use support::{DATA, Options, Random, State, check, check_with, compare, forms};

/// Mnemonics whose operands the sweep cannot place; they have tests of their own below.
const OWN_TESTS: &[Mnemonic] = &[Mnemonic::Enter, Mnemonic::Leave, Mnemonic::Pop, Mnemonic::Popfq, Mnemonic::Xlatb, Mnemonic::Cmpxchg16b];

/// Implicit operands in memory, or none the sweep knows: string instructions have their own test; the rest only stop the guest.
const IMPLICIT: &[Mnemonic] = {
    use Mnemonic::*;
    &[
        Movsb, Movsw, Movsd, Movsq, Stosb, Stosw, Stosd, Stosq, Lodsb, Lodsw, Lodsd, Lodsq, Cmpsb, Cmpsw, Cmpsd, Cmpsq, Scasb, Scasw, Scasd, Scasq, Insb, Insw, Insd, Outsb, Outsw,
        Outsd,
    ]
};

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
    let (mut covered, mut untested) = (HashSet::new(), HashSet::new());
    for code in Code::values().filter(|c| is_integer(*c)) {
        let m = code.mnemonic();
        if OWN_TESTS.contains(&m) || NO_TWIN.contains(&m) {
            continue;
        }
        let before = tested;
        for bytes in forms::encodings(code, 6, &mut random) {
            let i = support::decode(&bytes)[0];
            if lift::x86::semantics(&i).is_none() || i.is_string_instruction() || writes_rsp(&i) || bit_offset_is_base(&i) {
                continue;
            }
            // By cl they are defined for counts up to 16.
            let by_cl = matches!(code, Code::Shld_rm16_r16_CL | Code::Shrd_rm16_r16_CL);
            if forms::is_makers_choice(&i) && !by_cl {
                continue;
            }
            let short = |s: &mut State, _: &mut Random| s.gpr[1] &= !16;
            let options = if by_cl { with(&short) } else { Options::default() };
            tested += 1;
            if let Err(e) = compare(&bytes, &options) {
                failures.push(format!("{code:?}: {e}"));
            }
        }
        if tested > before {
            covered.insert(m);
        } else if lift::x86::semantics(&with_code(code)).is_some() {
            untested.insert(m);
        }
    }
    untested.retain(|m| !covered.contains(m) && !IMPLICIT.contains(m));
    assert!(untested.is_empty(), "rows without a test: {untested:?}");
    println!("{tested} encodings");
    assert!(tested > 1000, "only {tested} encodings were found");
    assert!(failures.is_empty(), "{} of {tested} differ:\n{}", failures.len(), failures.join("\n"));
}

fn with_code(code: Code) -> iced_x86::Instruction {
    let mut i = iced_x86::Instruction::default();
    i.set_code(code);
    i
}

/// x87, MMX and state instructions without a telling operand.
fn is_x87(code: Code) -> bool {
    use iced_x86::CpuidFeature as F;
    code.cpuid_features().iter().any(|f| matches!(f, F::FPU | F::FPU287 | F::FPU387 | F::MMX | F::FXSR | F::XSAVE | F::XSAVEC | F::XSAVEOPT))
        || format!("{:?}", code.mnemonic()).starts_with('F')
        || matches!(code.mnemonic(), Mnemonic::Wait | Mnemonic::Emms | Mnemonic::Ldmxcsr | Mnemonic::Stmxcsr)
}

fn writes_rsp(i: &iced_x86::Instruction) -> bool {
    i.op_count() > 0 && i.op0_register().full_register() == Register::RSP
}

/// A base register as bit offset: no place for the operand can be found.
fn bit_offset_is_base(i: &iced_x86::Instruction) -> bool {
    matches!(i.mnemonic(), Mnemonic::Bt | Mnemonic::Bts | Mnemonic::Btr | Mnemonic::Btc) && i.op1_register().full_register() == i.memory_base()
}

fn with(setup: &dyn Fn(&mut State, &mut Random)) -> Options<'_> {
    Options { setup, ..Options::default() }
}

#[test]
fn push_and_pop_move_rsp() {
    check(|a| a.push(rax).unwrap());
    check(|a| a.push(rsp).unwrap());
    check(|a| a.push(qword_ptr(rsp + 8)).unwrap());
    check(|a| a.push(-5).unwrap());
    check(|a| a.push(cx).unwrap());
    check(|a| a.pop(rcx).unwrap());
    check(|a| a.pop(r13).unwrap());
    check(|a| a.pop(rsp).unwrap());
    check(|a| a.pop(cx).unwrap());
    check(|a| a.pop(qword_ptr(rsp + 8)).unwrap());
    check(|a| a.lea(rsp, qword_ptr(rsp + 24)).unwrap());
    check(|a| a.add(rsp, 40).unwrap());
    check(|a| a.sub(rsp, 40).unwrap());
    check(|a| a.and(rsp, -16).unwrap());
}

#[test]
fn a_static_stack_follows_constant_adjustments() {
    let options = Options { form: lift::emit::Form::Structured, ignored_flags: support::COMPARED_FLAGS, ..Options::default() };
    check_with(
        |a| {
            a.push(rbx).unwrap();
            a.push(rsp).unwrap();
            a.sub(rsp, 0x48).unwrap();
            a.mov(qword_ptr(rsp + 8), rdi).unwrap();
            a.lea(rax, qword_ptr(rsp + rcx * 2 + 0x10)).unwrap();
            a.lea(rsp, qword_ptr(rsp - 0x10)).unwrap();
            a.mov(rbp, rsp).unwrap();
            a.push(qword_ptr(rsp + 0x18)).unwrap();
            a.add(qword_ptr(rsp), rsi).unwrap();
            a.pop(rdx).unwrap();
            a.pop(qword_ptr(rsp + 8)).unwrap();
            a.lock().add(dword_ptr(rsp + 4), 5).unwrap();
            a.add(rsp, 0x50).unwrap();
            a.pop(r12).unwrap();
        },
        &options,
    );
    check_with(|a| a.idiv(rsi).unwrap(), &options);
    check_with(|a| a.div(qword_ptr(rsp + 8)).unwrap(), &options);
    check_with(|a| a.mul(rdi).unwrap(), &options);
    check_with(|a| a.lock().cmpxchg(qword_ptr(rsp + 8), rdx).unwrap(), &options);
}

#[test]
fn leave_and_enter_move_the_frame() {
    let frame = |s: &mut State, r: &mut Random| s.gpr[5] = DATA + 0x800 + r.below(64);
    check_with(|a| a.leave().unwrap(), &with(&frame));
    for level in [0, 1, 2, 5, 32 + 3] {
        check_with(|a| a.enter(48, level).unwrap(), &with(&frame));
        check_with(|a| a.add_instruction(Instruction::with2(Code::Enterw_imm16_imm8, 48, level).unwrap()).unwrap(), &with(&frame));
    }
}

#[test]
fn flags_travel_over_the_stack() {
    check(|a| {
        a.pushfq().unwrap();
        a.pop(rax).unwrap();
        // IF is set in user mode on both sides; the rest of the upper bits is nobody's.
        a.and(eax, 0xed5).unwrap();
    });
    check(|a| {
        a.and(ecx, 0xcd5).unwrap();
        a.push(rcx).unwrap();
        a.popfq().unwrap();
    });
}

#[test]
fn xlat_indexes_by_al() {
    check_with(|a| a.xlatb().unwrap(), &with(&|s, r| s.gpr[3] = DATA + r.below(256)));
}

#[test]
fn cmpxchg16b_compares_both_halves() {
    let place = |s: &mut State, r: &mut Random| {
        s.gpr[7] = DATA + 0x400;
        if r.below(2) == 0 {
            let pair = [s.gpr[0].to_le_bytes(), s.gpr[2].to_le_bytes()].concat();
            s.at(DATA + 0x400, 16).copy_from_slice(&pair);
        }
    };
    check_with(|a| a.cmpxchg16b(xmmword_ptr(rdi)).unwrap(), &with(&place));
    check_with(|a| a.lock().cmpxchg16b(xmmword_ptr(rdi)).unwrap(), &with(&place));
    check_with(
        |a| a.lock().cmpxchg8b(qword_ptr(rdi)).unwrap(),
        &with(&|s, r| {
            place(s, r);
            if r.below(2) == 0 {
                let pair = (s.gpr[2] << 32 | s.gpr[0] & 0xffff_ffff).to_le_bytes();
                s.at(DATA + 0x400, 8).copy_from_slice(&pair);
            }
        }),
    );
}

/// rsi and rdi in the data (overlapping now and then), a small count, either direction.
fn strings(s: &mut State, r: &mut Random) {
    s.gpr[6] = DATA + 0x1000 + r.below(64);
    s.gpr[7] = if r.below(2) == 0 { s.gpr[6].wrapping_add(r.below(32)).wrapping_sub(16) } else { DATA + 0x2000 + r.below(64) };
    s.gpr[1] = r.below(24);
    if r.below(3) == 0 {
        s.flags |= iced_x86::RflagsBits::DF;
    }
    // Long equal runs, so that repe and repne both get somewhere.
    let byte = r.pick(&[0_u8, 0x41]);
    if r.below(2) == 0 {
        s.at(DATA + 0xf00, 0x400).fill(byte);
    }
    match r.below(3) {
        0 => s.gpr[0] = u64::from_le_bytes([byte; 8]),
        1 => s.gpr[0] = 0,
        _ => {}
    }
}

#[test]
fn string_instructions_move_compare_and_repeat() {
    let forms: [fn(&mut CodeAssembler) -> Result<(), iced_x86::IcedError>; 20] = [
        CodeAssembler::movsb,
        CodeAssembler::movsw,
        CodeAssembler::movsd,
        CodeAssembler::movsq,
        CodeAssembler::stosb,
        CodeAssembler::stosw,
        CodeAssembler::stosd,
        CodeAssembler::stosq,
        CodeAssembler::lodsb,
        CodeAssembler::lodsw,
        CodeAssembler::lodsd,
        CodeAssembler::lodsq,
        CodeAssembler::cmpsb,
        CodeAssembler::cmpsw,
        CodeAssembler::cmpsd,
        CodeAssembler::cmpsq,
        CodeAssembler::scasb,
        CodeAssembler::scasw,
        CodeAssembler::scasd,
        CodeAssembler::scasq,
    ];
    let options = Options { rounds: 300, ..with(&strings) };
    for (k, form) in forms.iter().enumerate() {
        check_with(|a| form(a).unwrap(), &options);
        check_with(|a| form(a.rep()).unwrap(), &options);
        if k >= 12 {
            check_with(|a| form(a.repne()).unwrap(), &options);
        }
        // Flags of before survive a count of zero.
        check_with(
            |a| {
                a.cmp(r8, r9).unwrap();
                form(a.rep()).unwrap();
            },
            &options,
        );
    }
}

/// An address-size prefix: esi, edi and ecx count, whatever is above them.
#[test]
fn string_instructions_with_32_bit_addresses_agree_with_the_host() {
    let above = |s: &mut State, r: &mut Random| {
        strings(s, r);
        // With a count of 0 the host's instructions disagree about the other registers, and the makers about rcx.
        let registers: &[usize] = if s.gpr[1] == 0 { &[] } else { &[1, 6, 7] };
        for register in registers {
            s.gpr[*register] |= r.below(4) << 32;
        }
    };
    type Source = fn(u32, Register, RepPrefixKind) -> Result<Instruction, iced_x86::IcedError>;
    type Target = fn(u32, RepPrefixKind) -> Result<Instruction, iced_x86::IcedError>;
    let sources: [Source; 3] = [Instruction::with_movsb, Instruction::with_cmpsd, Instruction::with_lodsw];
    let targets: [Target; 2] = [Instruction::with_stosd, Instruction::with_scasb];
    let options = Options { rounds: 300, ..with(&above) };
    for prefix in [RepPrefixKind::None, RepPrefixKind::Repe] {
        let sources = sources.map(|form| form(32, Register::None, prefix).unwrap());
        let targets = targets.map(|form| form(32, prefix).unwrap());
        for i in sources.into_iter().chain(targets) {
            check_with(|a| a.add_instruction(i).unwrap(), &options);
        }
    }
}

#[test]
fn every_locked_form_agrees_with_the_host() {
    use Mnemonic::*;
    let lockable = [Add, Adc, Sub, Sbb, And, Or, Xor, Not, Neg, Inc, Dec, Bts, Btr, Btc, Xadd, Cmpxchg];
    let mut random = Random::new(2);
    let (mut tested, mut failures) = (0, Vec::new());
    for code in Code::values().filter(|c| is_integer(*c) && lockable.contains(&c.mnemonic())) {
        for mut bytes in forms::encodings(code, 24, &mut random) {
            bytes.insert(0, 0xf0);
            let i = support::decode(&bytes)[0];
            if !i.has_lock_prefix() || i.code() != code || bit_offset_is_base(&i) {
                continue;
            }
            tested += 1;
            failures.extend(compare(&bytes, &Options::default()).err());
        }
    }
    println!("{tested} encodings");
    assert!(tested > 200, "only {tested} encodings were found");
    assert!(failures.is_empty(), "{} of {tested} differ:\n{}", failures.len(), failures.join("\n"));
}

/// Lazy flags cross instructions: what one leaves pending, the next keeps, overwrites in part, or consumes.
#[test]
fn random_sequences_agree_with_the_host() {
    let mut random = Random::new(3);
    let mut pool = Vec::new();
    for code in Code::values().filter(|c| is_integer(*c)) {
        for bytes in forms::encodings(code, 2, &mut random) {
            let i = support::decode(&bytes)[0];
            let plain = (0..i.op_count()).all(|k| i.op_kind(k) != iced_x86::OpKind::Memory) && !i.is_stack_instruction();
            let excluded = OWN_TESTS.contains(&i.mnemonic()) || NO_TWIN.contains(&i.mnemonic()) || i.is_string_instruction() || writes_rsp(&i);
            // A sequence goes on after every instruction, and only defined flags may be read.
            let stops = matches!(i.mnemonic(), Mnemonic::Div | Mnemonic::Idiv | Mnemonic::Cli | Mnemonic::Sti) || i.flow_control() != iced_x86::FlowControl::Next;
            let defined = !forms::is_makers_choice(&i);
            if plain && defined && !excluded && !stops && lift::x86::semantics(&i).is_some() && i.rflags_read() | i.rflags_modified() != 0 {
                pool.push(bytes);
            }
        }
    }
    let mut failures = Vec::new();
    for _ in 0..3000 {
        let mut bytes = Vec::new();
        let mut undefined = 0;
        for _ in 0..2 + random.below(4) {
            let next = &pool[random.below(pool.len() as u64) as usize];
            let i = support::decode(next)[0];
            if i.rflags_read() & undefined == 0 {
                undefined = support::still_undefined(undefined, &i);
                bytes.extend(next);
            }
        }
        failures.extend(compare(&bytes, &Options { rounds: 20, ..Options::default() }).err());
    }
    assert!(failures.is_empty(), "{} of 3000 differ:\n{}", failures.len(), failures.join("\n"));
}
