//! From `linux.syscall` to a row and back. Owns argument registers, the allow-list check, unknown numbers and the result register.
//!
//! The fact a newcomer gets wrong: a row that replaced the registers (rt_sigreturn, execve) sets `Thread::replaced`; writing rax would corrupt them.

use crate::abi::CpuState;
use crate::errno::Errno;
use crate::host::Event;
use crate::strace;
use crate::table::{self, SysResult};
use crate::thread::{Thread, reg};
use std::sync::atomic::Ordering;

/// Runs the syscall the registers describe. `CpuState.rip` is the pc after the `syscall` instruction.
pub fn dispatch(thread: &mut Thread) {
    let cpu = thread.cpu();
    let nr = cpu.gpr[reg::RAX];
    let args = [reg::RDI, reg::RSI, reg::RDX, reg::R10, reg::R8, reg::R9].map(|r| cpu.gpr[r]);
    cpu.gpr[reg::RCX] = cpu.rip;
    cpu.gpr[reg::R11] = rflags(cpu);
    thread.replaced = false;
    thread.signals.suspended = None;
    let result = run(thread, nr, args);
    if !thread.replaced {
        thread.cpu().gpr[reg::RAX] = match result {
            Ok(value) => value,
            Err(errno) => thread.signals.result(nr, errno),
        };
    }
}

/// The row's answer. Unknown numbers are ENOSYS, refused ones EPERM.
pub fn run(thread: &mut Thread, nr: u64, args: [u64; 6]) -> SysResult {
    let Some(row) = table::row(nr) else {
        if thread.process.first_unknown(nr) {
            thread.process.host.audit(&Event::Unknown { nr });
        }
        if thread.process.strace.load(Ordering::Relaxed) {
            strace::unknown(thread, nr, args);
        }
        return Err(Errno::ENOSYS);
    };
    let allowed = thread.process.allows(nr) || table::BASE.contains(&row.nr);
    if !thread.process.strace.load(Ordering::Relaxed) {
        return if allowed { (row.run)(thread, args) } else { refuse(thread, row) };
    }
    let entry = strace::enter(thread, row, args);
    let result = if allowed { (row.run)(thread, args) } else { refuse(thread, row) };
    strace::leave(thread, row, args, &entry, result);
    result
}

fn refuse(thread: &Thread, row: &table::Row) -> SysResult {
    thread.process.host.audit(&Event::Refused { name: row.name, nr: u64::from(row.nr) });
    Err(Errno::EPERM)
}

/// RFLAGS as `pushf` would show it in user mode.
pub fn rflags(cpu: &CpuState) -> u64 {
    let bit = |flag: u32, n: u32| u64::from(flag & 1) << n;
    0x202 | bit(cpu.cf, 0) | bit(cpu.pf, 2) | bit(cpu.af, 4) | bit(cpu.zf, 6) | bit(cpu.sf, 7) | bit(cpu.df, 10) | bit(cpu.of, 11)
}

/// The reverse of `rflags`.
pub fn set_rflags(cpu: &mut CpuState, flags: u64) {
    let bit = |n: u32| (flags >> n & 1) as u32;
    (cpu.cf, cpu.pf, cpu.af, cpu.zf, cpu.sf, cpu.df, cpu.of) = (bit(0), bit(2), bit(4), bit(6), bit(7), bit(10), bit(11));
}
