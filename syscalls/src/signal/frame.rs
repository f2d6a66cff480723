//! The signal frame of x86-64 Linux (`struct rt_sigframe`, arch/x86/include/asm/sigframe.h): written at delivery, read by rt_sigreturn.
//!
//! The fact a newcomer gets wrong: the frame is guest memory and the guest may rewrite all of it (that is how it switches context); nothing read
//! back is trusted beyond what user mode could set by itself.

use super::host::Info;
use crate::abi::CpuState;
use crate::dispatch::{rflags, set_rflags};
use crate::errno::Errno;
use crate::guest::{Plain, Window};
use crate::thread::reg;

/// Offsets in the frame: pretcode, ucontext, siginfo.
const UCONTEXT: u64 = 8;
const SIGINFO: u64 = 8 + 304;
const FRAME_BYTES: u64 = 8 + 304 + 128;
const FXSAVE_BYTES: u64 = 512;
const RED_ZONE: u64 = 128;
/// UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS.
const UC_FLAGS: u64 = 6;
/// cs 0x33, gs 0, fs 0, ss 0x2b in one word.
const SELECTORS: u64 = 0x002b_0000_0000_0033;

/// `stack_t`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AltStack {
    pub sp: u64,
    pub flags: u64,
    pub size: u64,
}

// SAFETY: three integers; the upper half of `flags` is the kernel's padding after the 32-bit ss_flags.
unsafe impl Plain for AltStack {}

impl AltStack {
    pub const NONE: AltStack = AltStack { sp: 0, flags: libc::SS_DISABLE as u64, size: 0 };

    pub fn contains(&self, sp: u64) -> bool {
        self.flags & libc::SS_DISABLE as u64 == 0 && sp > self.sp && sp - self.sp <= self.size
    }
}

/// `struct ucontext` without its floating-point part.
#[repr(C)]
#[derive(Clone, Copy)]
struct Context {
    flags: u64,
    link: u64,
    stack: AltStack,
    /// r8..r15 rdi rsi rbp rbx rdx rax rcx rsp
    registers: [u64; 16],
    rip: u64,
    eflags: u64,
    selectors: u64,
    error: u64,
    trap: u64,
    old_mask: u64,
    cr2: u64,
    fpstate: u64,
    reserved: [u64; 8],
    mask: u64,
}

// SAFETY: integers only, no padding (304 bytes, checked below).
unsafe impl Plain for Context {}
const _: () = assert!(size_of::<Context>() == 304);

/// `CpuState.gpr` indices in the order of `Context.registers`.
const ORDER: [usize; 16] = [reg::R8, reg::R9, reg::R10, reg::R11, 12, 13, 14, 15, reg::RDI, reg::RSI, reg::RBP, reg::RBX, reg::RDX, reg::RAX, reg::RCX, reg::RSP];

/// In the kernel's reserved words of a frame whose registers are older than the fault.
const INEXACT: u64 = u64::from_le_bytes(*b"inexact\0");

/// What a fault adds to a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cause {
    pub trap: u64,
    pub error: u64,
    pub cr2: u64,
    pub exact: bool,
}

impl Cause {
    /// The signal was sent.
    pub(super) const ELSEWHERE: Cause = Cause { trap: 0, error: 0, cr2: 0, exact: true };
}

/// What goes into a frame besides the registers.
pub(super) struct Delivery<'a> {
    pub signal: i32,
    pub info: &'a Info,
    pub handler: u64,
    pub restorer: u64,
    pub on_alternate: bool,
    /// Mask to restore at rt_sigreturn.
    pub mask: u64,
    pub altstack: AltStack,
    pub cause: Cause,
    /// The frame lies below this address unless it goes on the alternate stack.
    pub ceiling: u64,
}

/// Pushes the frame and makes `cpu` enter the handler. EFAULT: the stack cannot hold the frame.
pub(super) fn push(window: Window, cpu: &mut CpuState, d: &Delivery<'_>) -> Result<(), Errno> {
    let mut sp = cpu.gpr[reg::RSP].wrapping_sub(RED_ZONE).min(d.ceiling);
    let inside = d.altstack.contains(cpu.gpr[reg::RSP]);
    if d.on_alternate && !inside && d.altstack.flags & libc::SS_DISABLE as u64 == 0 {
        sp = d.altstack.sp.wrapping_add(d.altstack.size);
    }
    let fpstate = sp.wrapping_sub(FXSAVE_BYTES) & !63;
    let frame = (fpstate.wrapping_sub(FRAME_BYTES) & !15).wrapping_sub(8);
    // A frame that runs off the alternate stack is a fault, not a write below it.
    if (inside || (d.on_alternate && d.altstack.contains(sp))) && !d.altstack.contains(frame) {
        return Err(Errno::EFAULT);
    }
    let context = Context {
        flags: UC_FLAGS,
        link: 0,
        stack: d.altstack,
        registers: ORDER.map(|r| cpu.gpr[r]),
        rip: cpu.rip,
        eflags: rflags(cpu),
        selectors: SELECTORS,
        error: d.cause.error,
        trap: d.cause.trap,
        old_mask: d.mask,
        cr2: d.cause.cr2,
        fpstate,
        reserved: if d.cause.exact { [0; 8] } else { [INEXACT, 0, 0, 0, 0, 0, 0, 0] },
        mask: d.mask,
    };
    window.copy_out(fpstate, &fxsave(cpu))?;
    window.write(frame + UCONTEXT, &context)?;
    window.copy_out(frame + SIGINFO, d.info)?;
    window.write(frame, &d.restorer)?;
    enter(cpu, d, frame);
    Ok(())
}

/// Registers at a handler's first instruction: arguments, clean flags and floating point.
fn enter(cpu: &mut CpuState, d: &Delivery<'_>, frame: u64) {
    cpu.gpr[reg::RDI] = d.signal as u64;
    cpu.gpr[reg::RSI] = frame + SIGINFO;
    cpu.gpr[reg::RDX] = frame + UCONTEXT;
    cpu.gpr[reg::RAX] = 0;
    cpu.gpr[reg::RSP] = frame;
    cpu.rip = d.handler;
    cpu.df = 0;
    init_floating_point(cpu);
}

fn init_floating_point(cpu: &mut CpuState) {
    (cpu.fcw, cpu.fsw, cpu.fempty, cpu.ftop, cpu.mxcsr) = (0x37f, 0, 0xff, 0, 0x1f80);
    cpu.xmm = [[0; 2]; 16];
    cpu.st = [[0; 16]; 8];
}

/// What rt_sigreturn gives back besides the registers.
pub(super) struct Restored {
    pub mask: u64,
    pub altstack: AltStack,
    /// The registers are older than the fault at this address: nothing can go on from them.
    pub inexact: Option<u64>,
}

/// Restores `cpu` from the frame below rsp (the handler's `ret` popped pretcode).
pub(super) fn pop(window: Window, cpu: &mut CpuState) -> Result<Restored, Errno> {
    let frame = cpu.gpr[reg::RSP].wrapping_sub(8);
    let context: Context = window.read(frame.wrapping_add(UCONTEXT))?;
    if context.fpstate == 0 {
        init_floating_point(cpu);
    } else {
        let mut area = [0; FXSAVE_BYTES as usize];
        window.copy_in(context.fpstate, &mut area)?;
        fxrstor(cpu, &area);
    }
    for (r, value) in ORDER.into_iter().zip(context.registers) {
        cpu.gpr[r] = value;
    }
    cpu.rip = context.rip;
    set_rflags(cpu, context.eflags);
    Ok(Restored { mask: context.mask, altstack: context.stack, inexact: (context.reserved[0] == INEXACT).then_some(context.cr2) })
}

/// The FXSAVE image of the floating-point state (Intel SDM, FXSAVE): ST registers in stack order, tags abridged.
fn fxsave(cpu: &CpuState) -> [u8; FXSAVE_BYTES as usize] {
    let mut area = [0u8; FXSAVE_BYTES as usize];
    area[0..2].copy_from_slice(&cpu.fcw.to_le_bytes());
    area[2..4].copy_from_slice(&(cpu.fsw & !0x3800 | (cpu.ftop & 7) << 11).to_le_bytes());
    area[4] = !(cpu.fempty as u8);
    area[24..28].copy_from_slice(&cpu.mxcsr.to_le_bytes());
    area[28..32].copy_from_slice(&0xffffu32.to_le_bytes());
    for i in 0..8 {
        let physical = (usize::from(cpu.ftop) + i) & 7;
        area[32 + 16 * i..42 + 16 * i].copy_from_slice(&cpu.st[physical][..10]);
    }
    for (i, xmm) in cpu.xmm.iter().enumerate() {
        area[160 + 16 * i..168 + 16 * i].copy_from_slice(&xmm[0].to_le_bytes());
        area[168 + 16 * i..176 + 16 * i].copy_from_slice(&xmm[1].to_le_bytes());
    }
    area
}

fn fxrstor(cpu: &mut CpuState, area: &[u8; FXSAVE_BYTES as usize]) {
    let u16_at = |i: usize| u16::from_le_bytes([area[i], area[i + 1]]);
    let u64_at = |i: usize| u64::from_le_bytes(area[i..i + 8].try_into().expect("eight bytes"));
    cpu.fcw = u16_at(0);
    cpu.ftop = u16_at(2) >> 11 & 7;
    cpu.fsw = CpuState::summarised(u16_at(2), cpu.fcw);
    cpu.fempty = u16::from(!area[4]);
    // Reserved bits would be #GP at fxrstor; the kernel masks them off.
    cpu.mxcsr = (u64_at(24) as u32) & 0xffff;
    for i in 0..8 {
        let physical = (usize::from(cpu.ftop) + i) & 7;
        cpu.st[physical][..10].copy_from_slice(&area[32 + 16 * i..42 + 16 * i]);
    }
    for (i, xmm) in cpu.xmm.iter_mut().enumerate() {
        *xmm = [u64_at(160 + 16 * i), u64_at(168 + 16 * i)];
    }
}
