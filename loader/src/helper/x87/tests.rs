//! x87 through the helper against the same instructions run natively in one piece.

use super::*;
use crate::helper::testing::{Random, call, guest, state};
use core::arch::asm;
use syscalls::abi::helper as op;

fn run(cpu: &mut CpuState, code: u16, operand: *mut u8) {
    call(cpu, op::X87, u64::from(code), operand as u64);
}

fn numbers(random: &mut Random) -> [f64; 2] {
    const EDGES: [f64; 8] = [0.0, -0.0, 1.0, f64::INFINITY, f64::NAN, f64::MIN_POSITIVE, 1e308, -3.5];
    std::array::from_fn(|_| match random.next() % 3 {
        0 => EDGES[(random.next() % 8) as usize],
        1 => f64::from_bits(random.next()),
        _ => (random.next() >> 40) as f64 / 1024.0,
    })
}

/// ST(0) as 80 bits after fld b, fld a, the instruction; and the status word.
macro_rules! native {
    ($a:expr, $b:expr, $($instruction:literal),+) => {{
        let mut out = [0u8; 10];
        let status: u16;
        // SAFETY: loads two doubles, runs the instruction, stores ST(0) and empties the stack.
        unsafe {
            asm!(
                "fninit", "fld qword ptr [{b}]", "fld qword ptr [{a}]", $($instruction,)+ "fnstsw ax", "fstp tbyte ptr [{o}]", "fninit",
                a = in(reg) $a, b = in(reg) $b, o = in(reg) out.as_mut_ptr(), out("ax") status,
                out("st(0)") _, out("st(1)") _, out("st(2)") _, out("st(3)") _, out("st(4)") _, out("st(5)") _, out("st(6)") _, out("st(7)") _,
            );
        }
        (out, status)
    }};
}

fn lifted(a: &mut f64, b: &mut f64, codes: &[u16]) -> ([u8; 10], u16) {
    let mut cpu = state();
    run(&mut cpu, 0xdbe3, std::ptr::null_mut());
    run(&mut cpu, 0xdd00, std::ptr::from_mut(b).cast());
    run(&mut cpu, 0xdd00, std::ptr::from_mut(a).cast());
    for code in codes {
        run(&mut cpu, *code, std::ptr::null_mut());
    }
    run(&mut cpu, 0xdfe0, std::ptr::null_mut());
    let mut out = [0u8; 10];
    run(&mut cpu, 0xdb38, out.as_mut_ptr());
    (out, cpu.gpr[0] as u16)
}

#[test]
fn register_instructions_give_the_hosts_bits_and_status() {
    let mut random = Random(2024);
    for _ in 0..2000 {
        let [mut a, mut b] = numbers(&mut random);
        macro_rules! same {
            ($($code:literal $text:literal;)*) => { $(
                let native = native!(&a, &b, $text);
                let ours = lifted(&mut a, &mut b, &[$code]);
                assert_eq!(ours, native, "{} with {a} {b}", $text);
            )* };
        }
        same! {
            0xd8c1 "fadd st, st(1)"; 0xd8c9 "fmul st, st(1)"; 0xd8e1 "fsub st, st(1)"; 0xd8e9 "fsubr st, st(1)"; 0xd8f1 "fdiv st, st(1)"; 0xd8f9 "fdivr st, st(1)";
            0xdec1 "faddp st(1), st"; 0xd9e0 "fchs"; 0xd9e1 "fabs"; 0xd9e4 "ftst"; 0xd9e5 "fxam"; 0xd9c9 "fxch st(1)"; 0xd9fa "fsqrt"; 0xd9fc "frndint";
            0xd9fd "fscale"; 0xd9fe "fsin"; 0xd9ff "fcos"; 0xd9f3 "fpatan"; 0xd9f1 "fyl2x"; 0xd9f8 "fprem"; 0xd9f5 "fprem1"; 0xd9f4 "fxtract"; 0xd9eb "fldpi";
            0xd9e8 "fld1"; 0xd9ee "fldz"; 0xd8d1 "fcom st(1)"; 0xdde1 "fucom st(1)"; 0xd9f0 "f2xm1"; 0xd9f2 "fptan"; 0xd9fb "fsincos"; 0xd9f9 "fyl2xp1"; 0xd9f6 "fdecstp"; 0xd9f7 "fincstp";
        }
    }
}

#[test]
fn comparisons_into_flags_set_cf_pf_zf_and_clear_the_others() {
    for (a, b, expected) in [(1.0, 2.0, (1, 0, 0)), (2.0, 2.0, (0, 0, 1)), (3.0, 2.0, (0, 0, 0)), (f64::NAN, 2.0, (1, 1, 1))] {
        for code in [0xdbf1, 0xdbe9, 0xdff1, 0xdfe9] {
            let (mut a, mut b) = (a, b);
            let mut cpu = state();
            run(&mut cpu, 0xdd00, std::ptr::from_mut(&mut b).cast());
            run(&mut cpu, 0xdd00, std::ptr::from_mut(&mut a).cast());
            (cpu.of, cpu.sf, cpu.af) = (1, 1, 1);
            run(&mut cpu, code, std::ptr::null_mut());
            assert_eq!((cpu.cf, cpu.pf, cpu.zf), expected, "{code:x} {a} {b}");
            assert_eq!((cpu.of, cpu.sf, cpu.af), (0, 0, 0));
        }
    }
}

#[test]
fn conditional_moves_read_the_guests_flags() {
    // fcmovb st, st(1); fcmove; fcmovu
    for (code, flags) in [(0xdac1, (1, 0, 0)), (0xdac9, (0, 0, 1)), (0xdad9, (0, 1, 0))] {
        for set in [false, true] {
            let mut cpu = state();
            let (mut a, mut b) = (1.0f64, 2.0f64);
            run(&mut cpu, 0xdd00, std::ptr::from_mut(&mut b).cast());
            run(&mut cpu, 0xdd00, std::ptr::from_mut(&mut a).cast());
            if set {
                (cpu.cf, cpu.pf, cpu.zf) = flags;
            }
            run(&mut cpu, code, std::ptr::null_mut());
            let mut out = 0.0f64;
            run(&mut cpu, 0xdd18, std::ptr::from_mut(&mut out).cast());
            assert_eq!(out, if set { 2.0 } else { 1.0 }, "{code:x}");
        }
    }
}

#[test]
fn integers_and_decimals_go_through_memory_with_their_sizes() {
    let mut cpu = state();
    let mut buffer = [0xaau8; 16];
    for (load, store, bytes) in [(0xdf00, 0xdf18, 2), (0xdb00, 0xdb18, 4), (0xdf28, 0xdf38, 8)] {
        let mut value = (-12345i64).to_le_bytes();
        run(&mut cpu, load, value.as_mut_ptr());
        buffer.fill(0xaa);
        run(&mut cpu, store, buffer.as_mut_ptr());
        assert_eq!(buffer[..bytes], value[..bytes]);
        assert!(buffer[bytes..].iter().all(|b| *b == 0xaa), "{store:x} writes {bytes} bytes");
    }
    let mut value = (-120_985i32).to_le_bytes();
    run(&mut cpu, 0xdb00, value.as_mut_ptr());
    run(&mut cpu, 0xdf30, buffer.as_mut_ptr());
    assert_eq!(buffer[..10], [0x85, 0x09, 0x12, 0, 0, 0, 0, 0, 0, 0x80]);
    run(&mut cpu, 0xdf20, buffer.as_mut_ptr());
    run(&mut cpu, 0xdb18, buffer.as_mut_ptr());
    assert_eq!(buffer[..4], value);
}

#[test]
fn control_word_and_environment_go_round_without_host_addresses() {
    let mut cpu = state();
    let mut word = 0x0c7fu16;
    run(&mut cpu, 0xd928, std::ptr::from_mut(&mut word).cast());
    assert_eq!(cpu.fcw, 0x0c7f);
    let mut value = 2.7f64;
    run(&mut cpu, 0xdd00, std::ptr::from_mut(&mut value).cast());
    run(&mut cpu, 0xd9fc, std::ptr::null_mut());
    let mut environment = [0xffu8; 108];
    run(&mut cpu, 0xd930, environment.as_mut_ptr());
    assert!(environment[12..26].iter().all(|b| *b == 0));
    assert_eq!(environment[26..28], [0xff; 2]);
    assert!(environment[28..].iter().all(|b| *b == 0xff));
    run(&mut cpu, 0xdd30, environment.as_mut_ptr());
    assert_eq!((cpu.fcw, cpu.fempty), (0x37f, 0xff), "fnsave initialises");
    run(&mut cpu, 0xdd20, environment.as_mut_ptr());
    let mut out = 0.0f64;
    run(&mut cpu, 0xdd18, std::ptr::from_mut(&mut out).cast());
    assert_eq!((out, cpu.fcw), (2.0, 0x0c7f), "rounded toward zero");
}

/// Through both layouts, of which this processor's own instructions know where everything is.
#[test]
fn an_operand_size_prefix_means_the_16_bit_layouts() {
    let mut cpu = state();
    let mut random = Random(77);
    for value in &mut [2.5f64, -3.0, 1e300] {
        run(&mut cpu, 0xdd00, std::ptr::from_mut(value).cast());
    }
    let short = |cpu: &mut CpuState, code: u64, area: &mut [u8]| call(cpu, op::X87, op::X87_SHORT | code, area.as_mut_ptr() as u64);
    let mut native = [0xeeu8; 96];
    // SAFETY: the same three values; fnsave stores 94 bytes and empties the stack.
    unsafe {
        asm!(
            "fninit", "fld qword ptr [{v}]", "fld qword ptr [{v} + 8]", "fld qword ptr [{v} + 16]", ".byte 0x66, 0xdd, 0x30",
            v = in(reg) &[2.5f64, -3.0, 1e300], in("rax") native.as_mut_ptr(),
            out("st(0)") _, out("st(1)") _, out("st(2)") _, out("st(3)") _, out("st(4)") _, out("st(5)") _, out("st(6)") _, out("st(7)") _,
        );
    }
    native[6..14].fill(0);
    let mut area = [0xeeu8; 96];
    short(&mut cpu, 0xd930, &mut area);
    assert_eq!((&area[..14], &area[14..]), (&native[..14], &[0xee; 82][..]), "fnstenv");
    let before = (cpu.st, cpu.fempty, cpu.ftop, cpu.fsw);
    cpu.fcw = 0x37f;
    short(&mut cpu, 0xdd30, &mut area);
    assert_eq!(area, native, "fnsave");
    assert_eq!((cpu.fcw, cpu.fempty), (0x37f, 0xff), "fnsave initialises");
    short(&mut cpu, 0xdd20, &mut area);
    assert_eq!((cpu.st, cpu.fempty, cpu.ftop, cpu.fsw), before, "frstor");
    area[..6].copy_from_slice(&[0x7f, 0x0c, 0x00, 0x28, 0xff, 0xff]);
    area[6..].fill_with(|| random.next() as u8);
    short(&mut cpu, 0xd920, &mut area);
    assert_eq!((cpu.fcw, cpu.fsw, cpu.ftop, cpu.fempty), (0x0c7f, 0, 5, 0xff), "fldenv");
}

#[test]
fn an_unmasked_exception_waits_for_the_next_waiting_instruction() {
    let mut cpu = state();
    cpu.fcw = 0x37b;
    run(&mut cpu, 0xd9e8, std::ptr::null_mut());
    run(&mut cpu, 0xd9ee, std::ptr::null_mut());
    run(&mut cpu, 0xdef9, std::ptr::null_mut());
    assert_ne!(cpu.fsw & 0x80, 0);
    run(&mut cpu, FNSTSW_AX, std::ptr::null_mut());
    assert_eq!(execute(&mut cpu, guest(), 0xd9e8, false, 0), Err(GuestFault::floating_point(trap::X87, 4)));
    run(&mut cpu, 0xdbe2, std::ptr::null_mut());
    assert!(execute(&mut cpu, guest(), 0xd9e8, false, 0).is_ok());
}

#[test]
fn undefined_encodings_are_illegal_instructions() {
    for code in [0xd908, 0xdb20, 0xdb30, 0xdd28, 0xd7c0] {
        assert_eq!(execute(&mut state(), guest(), code, false, 0), Err(GuestFault::illegal()), "{code:x}");
    }
}
