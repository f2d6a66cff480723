//! Guest memory as helpers touch it: copies and locked operations that may fault.
//!
//! Owns the range check (as `u64`, 07 S2) and the few host instructions that access guest memory directly. The fact a newcomer gets wrong: these instructions all lie
//! between two labels; the signal handler sends a fault there to the landing pad below them, which returns "failed". They use no stack.

use crate::fault::Fixup;
use crate::native::Fault;
use core::arch::global_asm;
use std::cell::Cell;
use syscalls::abi::{CpuState, helper as op};
use syscalls::guest::WINDOW_BYTES;
use syscalls::signal::{SEGV_MAPERR, SI_KERNEL, page_fault, trap};

const ILL_ILLOPN: i32 = 2;

/// What the native instruction would have raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GuestFault {
    signo: i32,
    code: i32,
    /// Guest address, for SIGSEGV and SIGBUS.
    addr: u64,
    trap: u64,
    error: u64,
}

impl GuestFault {
    /// #GP: misaligned operand, reserved bits.
    pub(super) fn protection() -> Self {
        Self { signo: libc::SIGSEGV, code: SI_KERNEL, addr: 0, trap: trap::PROTECTION, error: 0 }
    }
    pub(super) fn illegal() -> Self {
        Self { signo: libc::SIGILL, code: ILL_ILLOPN, addr: 0, trap: trap::UNDEFINED, error: 0 }
    }
    /// #MF or #XM with the si_code of the exception flags that are set and not masked: the x87 and MXCSR have them at the same places.
    pub(super) fn floating_point(trap: u64, flags: u16) -> Self {
        // FPE_FLTINV, FPE_FLTDIV, FPE_FLTOVF, FPE_FLTUND, FPE_FLTRES as Linux's fpu__exception_code picks them.
        let code = match flags {
            f if f & 1 != 0 => 7,
            f if f & 4 != 0 => 3,
            f if f & 8 != 0 => 4,
            f if f & 0x12 != 0 => 5,
            _ => 6,
        };
        Self { signo: libc::SIGFPE, code, addr: 0, trap, error: 0 }
    }
    fn outside(addr: u64) -> Self {
        Self { signo: libc::SIGSEGV, code: SEGV_MAPERR, addr, trap: trap::PAGE_FAULT, error: page_fault::USER }
    }
    /// The fault the handler saw, back to a guest address.
    fn seen(guest: Guest) -> Self {
        let f = LAST.get();
        Self { signo: f.signo, code: f.code, addr: (f.addr as u64).wrapping_sub(guest.base as u64), trap: f.trap, error: f.error }
    }
    /// As the dispatcher expects it: with a host address.
    pub(super) fn host(self, window: *mut u8) -> Fault {
        Fault { signo: self.signo, code: self.code, addr: (window as usize).wrapping_add(self.addr as usize), pc: 0, trap: self.trap, error: self.error }
    }
}

thread_local! {
    /// The last fault inside the guarded instructions of this thread.
    static LAST: Cell<Fault> = const { Cell::new(Fault { signo: 0, code: 0, addr: 0, pc: 0, trap: 0, error: 0 }) };
}

/// For the signal handler.
pub(crate) fn note_fault(fault: Fault) {
    LAST.set(fault);
}

/// Guest memory by its base.
#[derive(Clone, Copy)]
pub(crate) struct Guest {
    pub(super) base: *mut u8,
}

/// rax and rdx of a guarded routine.
#[repr(C)]
struct Outcome {
    value: u64,
    failed: u64,
}

impl Guest {
    fn range(self, addr: u64, len: usize) -> Result<*mut u8, GuestFault> {
        // A null base is a test on the process's own memory, which lies above 4 GiB.
        let limit = if cfg!(test) && self.base.is_null() { u64::MAX } else { WINDOW_BYTES };
        match addr.checked_add(len as u64) {
            Some(end) if end <= limit => Ok(self.base.wrapping_add(addr as usize)),
            _ => Err(GuestFault::outside(addr)),
        }
    }

    pub(super) fn read(self, addr: u64, out: &mut [u8]) -> Result<(), GuestFault> {
        let source = self.range(addr, out.len())?;
        // SAFETY: `out` is ours, the source may fault and is guarded.
        self.check(unsafe { vkernel_guarded_copy(out.as_mut_ptr(), source, out.len()) }).map(drop)
    }

    pub(super) fn write(self, addr: u64, bytes: &[u8]) -> Result<(), GuestFault> {
        let target = self.range(addr, bytes.len())?;
        // SAFETY: the source is ours, the target may fault and is guarded; guest memory has no Rust references into it.
        self.check(unsafe { vkernel_guarded_copy(target, bytes.as_ptr(), bytes.len()) }).map(drop)
    }

    fn check(self, outcome: Outcome) -> Result<u64, GuestFault> {
        if outcome.failed == 0 { Ok(outcome.value) } else { Err(GuestFault::seen(self)) }
    }

    /// LOCK_ADD and its siblings: operation, comparand (cmpxchg only), address, operand.
    pub(super) fn locked(self, operation: u32, comparand: u64, addr: u64, operand: u64) -> Result<u64, GuestFault> {
        let width = operation & 3;
        let at = self.range(addr, 1 << width)?;
        let operand = if operation & !3 == op::LOCK_SUB { operand.wrapping_neg() } else { operand };
        let table: [Routine; 4] = match operation & !3 {
            op::LOCK_ADD | op::LOCK_SUB => [vkernel_guarded_add1, vkernel_guarded_add2, vkernel_guarded_add4, vkernel_guarded_add8],
            op::LOCK_AND => [vkernel_guarded_and1, vkernel_guarded_and2, vkernel_guarded_and4, vkernel_guarded_and8],
            op::LOCK_OR => [vkernel_guarded_or1, vkernel_guarded_or2, vkernel_guarded_or4, vkernel_guarded_or8],
            op::LOCK_XOR => [vkernel_guarded_xor1, vkernel_guarded_xor2, vkernel_guarded_xor4, vkernel_guarded_xor8],
            op::LOCK_XCHG => [vkernel_guarded_xchg1, vkernel_guarded_xchg2, vkernel_guarded_xchg4, vkernel_guarded_xchg8],
            _ => [vkernel_guarded_cas1, vkernel_guarded_cas2, vkernel_guarded_cas4, vkernel_guarded_cas8],
        };
        // SAFETY: the access is guarded; atomics are how guest threads share this memory.
        let old = self.check(unsafe { table[width as usize](at, operand, comparand) })?;
        Ok(if width == 3 { old } else { old & ((1 << (8 << width)) - 1) })
    }

    /// cmpxchg16b; returns ZF.
    pub(super) fn cmpxchg16b(self, cpu: &mut CpuState, addr: u64) -> Result<u64, GuestFault> {
        let at = self.range(addr, 16)?;
        if !addr.is_multiple_of(16) {
            return Err(GuestFault::protection());
        }
        // rax, rdx, rbx, rcx
        let mut registers = [cpu.gpr[0], cpu.gpr[2], cpu.gpr[3], cpu.gpr[1]];
        // SAFETY: as in `locked`.
        let equal = self.check(unsafe { vkernel_guarded_cas16(at, &mut registers) })?;
        if equal == 0 {
            (cpu.gpr[0], cpu.gpr[2]) = (registers[0], registers[1]);
        }
        Ok(equal)
    }
}

/// Address, operand, comparand.
type Routine = unsafe extern "C" fn(*mut u8, u64, u64) -> Outcome;

pub(super) fn fixups() -> Vec<Fixup> {
    let range = |from: &u8, to: &u8| std::ptr::from_ref(from) as usize..std::ptr::from_ref(to) as usize;
    // SAFETY: labels of the assembly below; only their addresses are used.
    unsafe {
        vec![
            (range(&vkernel_guarded_start, &vkernel_guarded_end), &raw const vkernel_guarded_failed as usize),
            (range(&vkernel_guarded_start16, &vkernel_guarded_end16), &raw const vkernel_guarded_failed16 as usize),
        ]
    }
}

unsafe extern "C" {
    static vkernel_guarded_start: u8;
    static vkernel_guarded_end: u8;
    static vkernel_guarded_failed: u8;
    static vkernel_guarded_start16: u8;
    static vkernel_guarded_end16: u8;
    static vkernel_guarded_failed16: u8;
    fn vkernel_guarded_copy(to: *mut u8, from: *const u8, len: usize) -> Outcome;
    fn vkernel_guarded_cas16(at: *mut u8, registers: &mut [u64; 4]) -> Outcome;
}

macro_rules! routines {
    ($($name:ident)*) => { unsafe extern "C" { $(fn $name(at: *mut u8, operand: u64, comparand: u64) -> Outcome;)* } };
}
routines! {
    vkernel_guarded_add1 vkernel_guarded_add2 vkernel_guarded_add4 vkernel_guarded_add8
    vkernel_guarded_and1 vkernel_guarded_and2 vkernel_guarded_and4 vkernel_guarded_and8
    vkernel_guarded_or1 vkernel_guarded_or2 vkernel_guarded_or4 vkernel_guarded_or8
    vkernel_guarded_xor1 vkernel_guarded_xor2 vkernel_guarded_xor4 vkernel_guarded_xor8
    vkernel_guarded_xchg1 vkernel_guarded_xchg2 vkernel_guarded_xchg4 vkernel_guarded_xchg8
    vkernel_guarded_cas1 vkernel_guarded_cas2 vkernel_guarded_cas4 vkernel_guarded_cas8
}

// rdi = address, rsi = operand, rdx = comparand; rax = old value, rdx = 0.
global_asm!(
    ".macro vkernel_widths name",
    "  \\name 1, al, sil, cl, dl",
    "  \\name 2, ax, si, cx, dx",
    "  \\name 4, eax, esi, ecx, edx",
    "  \\name 8, rax, rsi, rcx, rdx",
    ".endm",
    ".macro vkernel_add width, a, s, c, d",
    "  vkernel_guarded_add\\width:",
    "  mov rax, rsi",
    "  lock xadd [rdi], \\a",
    "  xor edx, edx",
    "  ret",
    ".endm",
    ".macro vkernel_xchg width, a, s, c, d",
    "  vkernel_guarded_xchg\\width:",
    "  mov rax, rsi",
    "  xchg [rdi], \\a",
    "  xor edx, edx",
    "  ret",
    ".endm",
    ".macro vkernel_cas width, a, s, c, d",
    "  vkernel_guarded_cas\\width:",
    "  mov rax, rdx",
    "  lock cmpxchg [rdi], \\s",
    "  xor edx, edx",
    "  ret",
    ".endm",
    ".macro vkernel_loop op, width, a, s, c",
    "  vkernel_guarded_\\op\\width:",
    "  mov \\a, [rdi]",
    "  2: mov rcx, rax",
    "  \\op rcx, rsi",
    "  lock cmpxchg [rdi], \\c",
    "  jne 2b",
    "  xor edx, edx",
    "  ret",
    ".endm",
    ".macro vkernel_bitwise width, a, s, c, d",
    "  vkernel_loop and, \\width, \\a, \\s, \\c",
    "  vkernel_loop or, \\width, \\a, \\s, \\c",
    "  vkernel_loop xor, \\width, \\a, \\s, \\c",
    ".endm",
    ".text",
    ".p2align 4",
    "vkernel_guarded_start:",
    "vkernel_guarded_copy:",
    "mov rcx, rdx",
    "rep movsb",
    "xor eax, eax",
    "xor edx, edx",
    "ret",
    "vkernel_widths vkernel_add",
    "vkernel_widths vkernel_xchg",
    "vkernel_widths vkernel_cas",
    "vkernel_widths vkernel_bitwise",
    "vkernel_guarded_end:",
    "vkernel_guarded_failed:",
    "mov edx, 1",
    "ret",
    // rsi = [rax, rdx, rbx, rcx]; rbx waits in r9.
    "vkernel_guarded_start16:",
    "vkernel_guarded_cas16:",
    "mov r9, rbx",
    "mov rax, [rsi]",
    "mov rdx, [rsi + 8]",
    "mov rbx, [rsi + 16]",
    "mov rcx, [rsi + 24]",
    "lock cmpxchg16b [rdi]",
    "mov [rsi], rax",
    "mov [rsi + 8], rdx",
    "mov rbx, r9",
    "sete al",
    "movzx eax, al",
    "mov edx, 0",
    "ret",
    "vkernel_guarded_end16:",
    "vkernel_guarded_failed16:",
    "mov rbx, r9",
    "mov edx, 1",
    "ret",
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::helper::testing::{Random, call, guest, state};

    /// Eight bytes at an odd address inside a larger buffer.
    fn misaligned(buffer: &mut [u8; 32], value: u64) -> u64 {
        let at = buffer.as_mut_ptr() as u64 + 13;
        buffer[13..21].copy_from_slice(&value.to_le_bytes());
        at
    }

    #[test]
    fn locked_operations_return_the_old_value_and_store_the_new_at_any_alignment_and_width() {
        let mut random = Random(99);
        let f: [(u32, fn(u64, u64) -> u64); 6] = [
            (op::LOCK_ADD, |a, b| a.wrapping_add(b)),
            (op::LOCK_SUB, |a, b| a.wrapping_sub(b)),
            (op::LOCK_AND, |a, b| a & b),
            (op::LOCK_OR, |a, b| a | b),
            (op::LOCK_XOR, |a, b| a ^ b),
            (op::LOCK_XCHG, |_, b| b),
        ];
        for _ in 0..1000 {
            for (operation, expected) in f {
                for width in 0..4 {
                    let mask = if width == 3 { !0 } else { (1 << (8 << width)) - 1 };
                    let (old, operand) = (random.next(), random.next());
                    let mut buffer = [0; 32];
                    let at = misaligned(&mut buffer, old);
                    assert_eq!(call(&mut state(), operation + width, at, operand), old & mask, "{operation} {width}");
                    let now = u64::from_le_bytes(buffer[13..21].try_into().unwrap());
                    assert_eq!(now, old & !mask | expected(old, operand) & mask, "{operation} {width}");
                }
            }
        }
    }

    #[test]
    fn locked_compare_exchange_stores_only_when_equal() {
        for width in 0..4 {
            let mut buffer = [0; 32];
            let at = misaligned(&mut buffer, 0x1122_3344_5566_7788);
            let mask = if width == 3 { !0 } else { (1 << (8 << width)) - 1 };
            let mut cpu = state();
            cpu.scratch[0][0] = 0x1122_3344_5566_7700 & mask;
            assert_eq!(call(&mut cpu, op::LOCK_CMPXCHG + width, at, 5), 0x1122_3344_5566_7788 & mask);
            assert_eq!(buffer[13], 0x88);
            cpu.scratch[0][0] = 0x1122_3344_5566_7788 & mask;
            call(&mut cpu, op::LOCK_CMPXCHG + width, at, 5);
            assert_eq!(buffer[13], 5);
        }
    }

    #[test]
    fn cmpxchg16b_swaps_on_equality_and_loads_otherwise() {
        #[repr(align(16))]
        struct Cell([u64; 2]);
        let mut cell = Cell([1, 2]);
        let at = std::ptr::from_mut(&mut cell) as u64;
        let mut cpu = state();
        (cpu.gpr[0], cpu.gpr[2], cpu.gpr[3], cpu.gpr[1]) = (1, 3, 7, 8);
        assert_eq!(call(&mut cpu, op::CMPXCHG16B, at, 0), 0);
        assert_eq!((cpu.gpr[0], cpu.gpr[2], cell.0), (1, 2, [1, 2]));
        assert_eq!(call(&mut cpu, op::CMPXCHG16B, at, 0), 1);
        assert_eq!(cell.0, [7, 8]);
        assert_eq!(guest().cmpxchg16b(&mut cpu, at + 8), Err(GuestFault::protection()));
    }

    #[test]
    fn ranges_past_the_window_are_refused_before_they_wrap() {
        let guest = Guest { base: 0x1000 as *mut u8 };
        for (addr, len) in [(WINDOW_BYTES, 1), (WINDOW_BYTES - 1, 2), (u64::MAX, 1), (u64::MAX - 3, 8)] {
            assert_eq!(guest.range(addr, len), Err(GuestFault::outside(addr)));
        }
        assert!(guest.range(WINDOW_BYTES - 1, 1).is_ok());
    }
}
