//! x87: every instruction of D8..DF is executed by the host's own x87, on the guest's registers.
//!
//! Owns operand sizes and the order of commitment. The fact a newcomer gets wrong: unmasked exceptions do not trap here: the instruction leaves ES set, and the *next* waiting
//! instruction raises SIGFPE, exactly as on the processor.

use super::guarded::{Guest, GuestFault};
use super::save::Region;
use core::arch::{global_asm, naked_asm};
use syscalls::abi::CpuState;
use syscalls::signal::trap;

const STUB_BYTES: usize = 8;
const FNSTSW_AX: u16 = 0xdfe0;
/// Bytes of the environment with and without an operand-size prefix, and of the eight registers that fnsave and frstor have behind it.
const ENVIRONMENT: usize = 28;
const SHORT_ENVIRONMENT: usize = 14;
const REGISTERS: usize = 80;

/// How an instruction uses its memory operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operand {
    None,
    Read(usize),
    Write(usize),
}

/// `short`: with an operand-size prefix, which four instructions look at.
pub(super) fn execute(cpu: &mut CpuState, guest: Guest, code: u16, short: bool, addr: u64) -> Result<(), GuestFault> {
    // Not by ES, which is a summary: whoever loads a status word does not have to keep it true.
    let pending = cpu.fsw & !cpu.fcw & 0x3f;
    if waits(code) && pending != 0 {
        return Err(GuestFault::floating_point(trap::X87, pending));
    }
    let environment = if short { SHORT_ENVIRONMENT } else { ENVIRONMENT };
    let operand = operand(code, environment).ok_or(GuestFault::illegal())?;
    let mut buffer = [0; ENVIRONMENT + REGISTERS];
    match operand {
        Operand::None => {}
        // A store that an unmasked exception suppresses leaves memory as it was: so the old bytes go in first.
        Operand::Read(n) | Operand::Write(n) => guest.read(addr, &mut buffer[..n])?,
    }
    let mut region = Region::empty();
    region.put_x87(cpu);
    let flags = 2 | u64::from(cpu.cf & 1) | u64::from(cpu.pf & 1) << 2 | u64::from(cpu.zf & 1) << 6;
    // SAFETY: the stub is the one instruction `code` stands for, with its memory operand, if any, in `buffer`, which is larger than any operand.
    let packed = unsafe { on_host(&mut region, buffer.as_mut_ptr(), stub(code, short), flags) };
    if let Operand::Write(n) = operand {
        if n >= environment {
            // Instruction and operand pointers, behind three words, are host addresses. The last two bytes of the long layout are reserved and all ones.
            buffer[if short { 6..SHORT_ENVIRONMENT } else { 12..ENVIRONMENT - 2 }].fill(0);
        }
        guest.write(addr, &buffer[..n])?;
    }
    region.take_x87(cpu);
    if compares_into_flags(code) {
        let flags = (packed >> 32) as u32;
        (cpu.cf, cpu.pf, cpu.zf) = (flags & 1, flags >> 2 & 1, flags >> 6 & 1);
        (cpu.of, cpu.sf, cpu.af) = (0, 0, 0);
    }
    if code == FNSTSW_AX {
        cpu.gpr[0] = cpu.gpr[0] & !0xffff | packed & 0xffff;
    }
    Ok(())
}

/// fcomi, fcomip, fucomi, fucomip.
fn compares_into_flags(code: u16) -> bool {
    matches!(code & 0xfff0, 0xdbe0 | 0xdbf0 | 0xdfe0 | 0xdff0) && matches!(code & 0xfff8, 0xdbe8 | 0xdbf0 | 0xdfe8 | 0xdff0)
}

/// All but the fn* instructions check for pending exceptions first.
fn waits(code: u16) -> bool {
    if code & 0xff < 0xc0 {
        let reg = code >> 3 & 7;
        // fnstenv, fnstcw, fnsave, fnstsw
        return !matches!((code >> 8, reg), (0xd9, 6 | 7) | (0xdd, 6 | 7));
    }
    // fnclex, fninit, fnstsw ax
    !matches!(code, 0xdbe2 | 0xdbe3 | FNSTSW_AX)
}

fn operand(code: u16, environment: usize) -> Option<Operand> {
    use Operand::{None as Registers, Read, Write};
    let (opcode, modrm) = (code >> 8, code & 0xff);
    if !(0xd8..=0xdf).contains(&opcode) {
        return None;
    }
    if modrm >= 0xc0 {
        return Some(Registers);
    }
    Some(match (opcode, modrm >> 3 & 7) {
        (0xd8 | 0xda, _) | (0xd9 | 0xdb, 0) => Read(4),
        (0xdc, _) | (0xdd, 0) | (0xdf, 5) => Read(8),
        (0xde, _) | (0xdf, 0) | (0xd9, 5) => Read(2),
        (0xd9, 2 | 3) | (0xdb, 1..=3) => Write(4),
        (0xdd, 1..=3) | (0xdf, 7) => Write(8),
        (0xdf, 1..=3) | (0xd9, 7) | (0xdd, 7) => Write(2),
        (0xdb, 5) | (0xdf, 4) => Read(10),
        (0xdb, 7) | (0xdf, 6) => Write(10),
        (0xd9, 4) => Read(environment),
        (0xd9, 6) => Write(environment),
        (0xdd, 4) => Read(environment + REGISTERS),
        (0xdd, 6) => Write(environment + REGISTERS),
        _ => return None,
    })
}

fn stub(code: u16, short: bool) -> *const u8 {
    let (opcode, modrm) = (usize::from(code >> 8) - 0xd8, usize::from(code & 0xff));
    // SAFETY: the tables have 8 * 64, 8 * 8 and 8 * 8 stubs.
    unsafe {
        if short && modrm < 0xc0 {
            (&raw const vkernel_x87_short_stubs).add((opcode * 8 + (modrm >> 3 & 7)) * STUB_BYTES)
        } else if modrm >= 0xc0 {
            (&raw const vkernel_x87_register_stubs).add((opcode * 64 + modrm - 0xc0) * STUB_BYTES)
        } else {
            (&raw const vkernel_x87_memory_stubs).add((opcode * 8 + (modrm >> 3 & 7)) * STUB_BYTES)
        }
    }
}

/// Loads the region, runs the stub with its operand at [rdi], saves the region: RFLAGS in the high half, ax in the low one. Leaves the x87 as the ABI wants it: empty, default control.
#[unsafe(naked)]
unsafe extern "C" fn on_host(region: *mut Region, buffer: *mut u8, stub: *const u8, flags: u64) -> u64 {
    naked_asm!(
        "push rbx",
        "mov rbx, rdi",
        "mov rdi, rsi",
        "fxrstor64 [rbx]",
        "xor eax, eax",
        "push rcx",
        "popfq",
        "call rdx",
        "pushfq",
        "pop rcx",
        "fxsave64 [rbx]",
        "fninit",
        "movzx eax, ax",
        "shl rcx, 32",
        "or rax, rcx",
        "pop rbx",
        "ret",
    )
}

unsafe extern "C" {
    static vkernel_x87_register_stubs: u8;
    static vkernel_x87_memory_stubs: u8;
    static vkernel_x87_short_stubs: u8;
}

// The instruction, ret, padding to eight bytes; the short ones begin with an operand-size prefix. Memory forms have mod = 0, rm = 7: [rdi].
global_asm!(
    ".p2align 4",
    "vkernel_x87_register_stubs:",
    ".irp opcode, 0xd8, 0xd9, 0xda, 0xdb, 0xdc, 0xdd, 0xde, 0xdf",
    "  .set vkernel_modrm, 0xc0",
    "  .rept 64",
    "    .byte \\opcode, vkernel_modrm, 0xc3, 0x90, 0x90, 0x90, 0x90, 0x90",
    "    .set vkernel_modrm, vkernel_modrm + 1",
    "  .endr",
    ".endr",
    "vkernel_x87_memory_stubs:",
    ".irp opcode, 0xd8, 0xd9, 0xda, 0xdb, 0xdc, 0xdd, 0xde, 0xdf",
    "  .set vkernel_modrm, 7",
    "  .rept 8",
    "    .byte \\opcode, vkernel_modrm, 0xc3, 0x90, 0x90, 0x90, 0x90, 0x90",
    "    .set vkernel_modrm, vkernel_modrm + 8",
    "  .endr",
    ".endr",
    "vkernel_x87_short_stubs:",
    ".irp opcode, 0xd8, 0xd9, 0xda, 0xdb, 0xdc, 0xdd, 0xde, 0xdf",
    "  .set vkernel_modrm, 7",
    "  .rept 8",
    "    .byte 0x66, \\opcode, vkernel_modrm, 0xc3, 0x90, 0x90, 0x90, 0x90",
    "    .set vkernel_modrm, vkernel_modrm + 8",
    "  .endr",
    ".endr",
);

#[cfg(test)]
mod tests;
