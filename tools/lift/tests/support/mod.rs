//! Runs a few instructions natively and lifted, from the same random states, and compares everything. Owns the comparison; the two executions are in
//! `native.rs` (this CPU) and `lifted.rs` (the rows of `lift::x86`, as WASM). Knows no instruction by name: that is what the tests say.
//!
//! The fact a newcomer gets wrong: guest addresses are the same numbers on both sides (`DATA` is mapped there natively), so a wild address in a register is a
//! wild access of the test process. Base registers of memory operands are therefore placed into `DATA`, and hooks place what they use implicitly (rsi, rdi).

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]

pub mod double;
pub mod forms;
pub mod lifted;
pub mod native;
pub mod random;
pub mod state;

use iced_x86::{Decoder, DecoderOptions, Formatter, Instruction, Mnemonic, NasmFormatter, OpKind, Register, RflagsBits, code_asm::CodeAssembler};
use lift::emit::Form;
pub(crate) use random::Random;
pub use state::{DATA, State};

/// The six arithmetic flags and DF: what is compared.
pub const COMPARED_FLAGS: u32 = RflagsBits::CF | RflagsBits::PF | RflagsBits::AF | RflagsBits::ZF | RflagsBits::SF | RflagsBits::OF | RflagsBits::DF;

/// How a test runs.
pub struct Options<'a> {
    pub rounds: u32,
    /// Changes each random start state (registers the instruction uses implicitly, special values).
    pub setup: &'a dyn Fn(&mut State, &mut Random),
    /// Flags not compared, besides those iced calls undefined.
    pub ignored_flags: u32,
    /// Compare `mxcsr` (exception flags) too.
    pub mxcsr: bool,
    /// Structured: with a static stack.
    pub form: Form,
    /// Compare x87 registers.
    pub x87: bool,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Options { rounds: 100, setup: &|_, _| {}, ignored_flags: 0, mxcsr: false, form: Form::Resumable, x87: false }
    }
}

/// Assembles and checks with the default options; panics with the first difference.
pub fn check(build: impl FnOnce(&mut CodeAssembler)) {
    check_with(build, &Options::default());
}

pub fn check_with(build: impl FnOnce(&mut CodeAssembler), options: &Options<'_>) {
    let mut a = CodeAssembler::new(64).expect("64-bit assembler");
    build(&mut a);
    let bytes = a.assemble(native::GUEST_CODE).expect("test assembles");
    check_bytes(&bytes, options);
}

pub fn check_bytes(bytes: &[u8], options: &Options<'_>) {
    if let Err(difference) = compare(bytes, options) {
        panic!("{difference}");
    }
}

pub fn decode(bytes: &[u8]) -> Vec<Instruction> {
    Decoder::with_ip(64, bytes, native::GUEST_CODE, DecoderOptions::NONE).into_iter().collect()
}

pub fn text(program: &[Instruction]) -> String {
    let mut formatter = NasmFormatter::new();
    let one = |i: &Instruction| {
        let mut s = String::new();
        formatter.format(i, &mut s);
        s
    };
    program.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// Runs `bytes` on both sides from `rounds` states. Err says what differed.
pub fn compare(bytes: &[u8], options: &Options<'_>) -> Result<(), String> {
    let program = decode(bytes);
    let mut lifted = lifted::Lifted::new(&program, options.form).map_err(|e| format!("{}: {e}", text(&program)))?;
    let mut random = Random::new(seed(bytes));
    let flags = COMPARED_FLAGS & !options.ignored_flags & !undefined(&program);
    for round in 0..options.rounds {
        let mut start = State::random(&mut random);
        place_operands(&mut start, &program, &mut random);
        (options.setup)(&mut start, &mut random);
        let native = native::run(bytes, &start);
        let ours = lifted.run(&start).map_err(|e| format!("{} (round {round}): {e}", text(&program)))?;
        if let Some(difference) = native.difference(&ours, flags, options) {
            return Err(format!("{} ({bytes:02x?}, round {round}): native, lifted\n{difference}\nstart: {start:?}", text(&program)));
        }
    }
    Ok(())
}

/// FNV-1a: equal code gives equal states on every run.
fn seed(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3))
}

/// Flags undefined after the whole program.
fn undefined(program: &[Instruction]) -> u32 {
    program.iter().fold(0, still_undefined)
}

/// Flags undefined after `i`, from those before. A variable shift count may be 0, which changes none.
pub fn still_undefined(before: u32, i: &Instruction) -> u32 {
    before & !lift::emit::Flags::killed_by(i).0 | i.rflags_undefined() & !lift::emit::Flags::left_by(i).0
}

/// Points base registers of memory operands into `DATA`, with small indices.
pub fn place_operands(s: &mut State, program: &[Instruction], random: &mut Random) {
    for i in program {
        if !(0..i.op_count()).any(|k| i.op_kind(k) == OpKind::Memory) {
            continue;
        }
        let wide = i.memory_size().size() >= 16;
        let locked = i.has_lock_prefix();
        let (base, index) = (i.memory_base(), i.memory_index());
        let shift = if wide { 16 } else { 1 };
        if matches!(i.mnemonic(), Mnemonic::Bt | Mnemonic::Bts | Mnemonic::Btr | Mnemonic::Btc) && i.op1_kind() == OpKind::Register {
            // A bit offset moves the address: up to 512 bytes either way.
            s.gpr[i.op1_register().full_register().number()] = random.below(8192).wrapping_sub(4096);
        }
        if index != Register::None {
            s.gpr[index.full_register().number()] = shift * random.below(8);
        }
        if base != Register::None && base.full_register() != Register::RSP {
            // A locked access stays within a cache line: some kernels punish split locks.
            let jitter = if locked { random.below(8) } else { random.below(64) };
            let address = DATA + 0x1000 + shift * jitter;
            s.gpr[base.full_register().number()] = address.wrapping_sub(i.memory_displacement64());
        }
    }
}
