//! The border between the host's stack and lifted code: entering, host calls from inside, leaving after a fault.
//!
//! Owns the native stack lifted code runs on and the assembly that switches to it and back. It bypasses wasmer's own coroutine, trap and import machinery:
//! a call costs a few nanoseconds instead of fifty, the stack may be as large as we like (wasmer caps it at 100 MiB), and faults are
//! ours to turn into guest signals. The fact a newcomer gets wrong: imports run on the *host* stack of the same thread, so Rust code below a guest
//! that recursed deeply never meets the end of the native stack.

use crate::float;
use crate::owned::Owned;
use core::arch::naked_asm;
use std::ffi::c_void;
use std::io;
use syscalls::abi::{self, CpuState, offset, structured};

/// Native stack per guest thread, reserved, committed on use. Native frames are at most about ten times the guest's, and the guest's main stack is 8 MiB.
const STACK_BYTES: usize = 1 << 30;
/// Frames larger than a page are probed by generated code, so any guard of a page would do; 07 S8 asks for 1 MiB.
const GUARD_BYTES: usize = 1 << 20;

/// For signal handlers, above the native stack: whoever overflows that runs towards the guard below it.
const ALTERNATE_BYTES: usize = 64 << 10;

/// What lifted code wants from the kernel side. `syscalls::Thread` implements it; tests have a small one of their own.
pub trait Kernel {
    /// The row of `rax` with the arguments of `CpuState`; the result goes to rax.
    fn syscall(&mut self);
    /// Called by the dispatcher when `poll` is set.
    fn poll(&mut self) -> Next;
    /// Code stopped at `rip`.
    fn stop(&mut self, kind: abi::StopKind);
    /// A synchronous fault. `exact`: `CpuState` is the state at `rip`, and the fault is met again when the guest goes on from there.
    fn fault(&mut self, fault: syscalls::signal::Fault);
}

/// What the dispatcher does after a poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Go on at `CpuState.rip`.
    Run,
    /// The thread (or its process) has ended with this status.
    Exit(i32),
}

/// A fault in lifted code, as the signal handler saw it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fault {
    pub signo: i32,
    pub code: i32,
    /// Host address: data address for SIGSEGV and SIGBUS, pc otherwise.
    pub addr: usize,
    pub pc: usize,
    /// Number of the exception, and its error code.
    pub trap: u64,
    pub error: u64,
}

/// Per guest thread. The assembly below knows the offsets of the first two fields; lifted code gets a pointer to it as the environment of every import.
#[repr(C)]
pub struct Context {
    /// Host stack pointer inside `enter`; zero while no lifted code runs.
    pub host_rsp: usize,
    /// Top of the native stack, 16-byte aligned.
    native_top: usize,
    pub cpu: *mut CpuState,
    pub window: *mut u8,
    pub kernel: Option<*mut dyn Kernel>,
    pub fault: Fault,
    stack: *mut c_void,
    owned: Option<Owned>,
}

impl Context {
    pub fn new(cpu: *mut CpuState, window: *mut u8) -> io::Result<Box<Self>> {
        // SAFETY: a new private mapping; the guard below it is made inaccessible at once.
        let stack = unsafe {
            let p = libc::mmap(
                std::ptr::null_mut(),
                STACK_BYTES,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_STACK,
                -1,
                0,
            );
            if p == libc::MAP_FAILED || libc::mprotect(p, GUARD_BYTES, libc::PROT_NONE) != 0 {
                return Err(io::Error::last_os_error());
            }
            p
        };
        let native_top = stack as usize + STACK_BYTES - ALTERNATE_BYTES;
        Ok(Box::new(Self {
            host_rsp: 0,
            native_top,
            cpu,
            window,
            kernel: None,
            fault: Fault::default(),
            stack,
            owned: Some(Owned::new(stack as usize..stack as usize + STACK_BYTES)),
        }))
    }

    /// Start and length of the alternate signal stack.
    pub(crate) fn alternate_stack(&self) -> (*mut c_void, usize) {
        (self.native_top as *mut c_void, ALTERNATE_BYTES)
    }

    /// Is this host address in the guard of the native stack (the guest recursed too deeply)?
    pub fn in_stack_guard(&self, addr: usize) -> bool {
        (self.stack as usize..self.stack as usize + GUARD_BYTES).contains(&addr)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        self.owned = None;
        // SAFETY: our mapping; no lifted code runs on it any more, since `enter` borrows the context mutably.
        unsafe { libc::munmap(self.stack, STACK_BYTES) };
    }
}

/// Of structured code: `abi::structured::PARAMETERS` in, `RESULTS` out.
pub type Registers = [u64; structured::PARAMETERS.len()];

/// Calls resumable code: the next pc, or `None` if it faulted: `context.fault` says how, and nothing of it is left on the native stack.
///
/// # Safety
/// `function` is the address of a resumable function, and `vmctx` is laid out as its module expects, with imports that carry `context`.
pub unsafe fn enter(context: &mut Context, vmctx: *const usize, function: usize, block: u32) -> Option<u64> {
    let mut next = 0;
    // SAFETY: as the caller promises; the assembly keeps the System V calling convention.
    let returned = unsafe {
        float::to_guest(&*context.cpu);
        let returned = enter_raw(context, vmctx, function, block, &mut next) == 0;
        float::to_host(&mut *context.cpu);
        returned
    };
    returned.then_some(next)
}

#[unsafe(naked)]
unsafe extern "C" fn enter_raw(context: *mut Context, vmctx: *const usize, function: usize, block: u32, next: *mut u64) -> u32 {
    naked_asm!(
        "push rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "push rdi", // keeps rsp 16-byte aligned, and the fault path finds the context here
        "mov [rdi], rsp",
        "mov rsp, [rdi + 8]",
        "push rdi",
        "push r8",
        "mov rax, rdx",
        "mov rdi, rsi",
        "mov esi, ecx",
        "call rax",
        "pop r8",
        "pop rbx",
        "mov [r8], rax",
        "mov rsp, [rbx]",
        "xor eax, eax",
        "jmp {out}",
        out = sym leave_raw,
    )
}

/// Calls structured code. False: as for `enter`.
///
/// # Safety
/// `code` is the address of a structured function, and this thread's GS leads to the CPU state and the links of `context`.
pub unsafe fn enter_structured(context: &mut Context, code: usize, registers: &mut Registers) -> bool {
    // SAFETY: as the caller promises; the assembly keeps the System V calling convention.
    unsafe {
        float::to_guest(&*context.cpu);
        let returned = enter_structured_raw(context, code, registers) == 0;
        float::to_host(&mut *context.cpu);
        returned
    }
}

/// The calling convention of structured code is LLVM's `x86_regcallcc`: integers in rax, rcx, rdx, rdi, rsi, r8, r9, r12..r15 both ways. Nothing else survives.
#[unsafe(naked)]
unsafe extern "C" fn enter_structured_raw(context: *mut Context, code: usize, registers: *mut Registers) -> u32 {
    naked_asm!(
        "push rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "push rdi", // as in `enter_raw`
        "mov [rdi], rsp",
        "mov rsp, [rdi + 8]",
        "push rdi",
        "push rdx",
        "mov rbx, rdx",
        "mov r11, rsi",
        "mov rax, [rbx]",
        "mov rcx, [rbx + 8]",
        "mov rdx, [rbx + 16]",
        "mov rdi, [rbx + 24]",
        "mov rsi, [rbx + 32]",
        "mov r8, [rbx + 40]",
        "mov r9, [rbx + 48]",
        "mov r12, [rbx + 56]",
        "mov r13, [rbx + 64]",
        "mov r14, [rbx + 72]",
        "mov r15, [rbx + 80]",
        "call r11",
        "pop rbx",
        "pop rbp",
        "mov [rbx], rax",
        "mov [rbx + 8], rcx",
        "mov [rbx + 16], rdx",
        "mov [rbx + 24], rdi",
        "mov [rbx + 32], rsi",
        "mov [rbx + 40], r8",
        "mov [rbx + 48], r9",
        "mov [rbx + 56], r12",
        "mov [rbx + 64], r13",
        "mov [rbx + 72], r14",
        "mov rsp, [rbp]",
        "xor eax, eax",
        "jmp {out}",
        out = sym leave_raw,
    )
}

// The miss stub: where structured code jumps that has no entry for its target. Makes the state exact and returns `TAG | rip`. Code files have a copy, because they know no address of this program.
core::arch::global_asm!(
    ".globl vkernel_miss",
    ".hidden vkernel_miss",
    ".globl vkernel_miss_end",
    ".hidden vkernel_miss_end",
    "vkernel_miss:",
    "mov gs:[{rdi}], rax",
    "mov gs:[{rsi}], rcx",
    "mov gs:[{rdx}], rdx",
    "mov edi, edi", // rsp has 32 bits; what stands above is anything
    "mov gs:[{rsp}], rdi",
    "mov gs:[{rbx}], rsi",
    "mov gs:[{rbp}], r8",
    "mov gs:[{r12}], r9",
    "mov gs:[{r13}], r12",
    "mov gs:[{r14}], r13",
    "mov gs:[{r15}], r14",
    "mov gs:[{rcx}], r15",
    "mov rcx, gs:[{rip}]",
    "bts rcx, 63",
    "ret",
    "vkernel_miss_end:",
    rdi = const offset::gpr(7),
    rsi = const offset::gpr(6),
    rdx = const offset::gpr(2),
    rsp = const offset::gpr(structured::RSP),
    rbx = const offset::gpr(3),
    rbp = const offset::gpr(5),
    r12 = const offset::gpr(12),
    r13 = const offset::gpr(13),
    r14 = const offset::gpr(14),
    r15 = const offset::gpr(15),
    rcx = const offset::gpr(1),
    rip = const offset::RIP,
);

unsafe extern "C" {
    static vkernel_miss: u8;
    static vkernel_miss_end: u8;
}

/// The miss stub's instructions, which run at any address.
pub(crate) fn miss_code() -> &'static [u8] {
    let (start, end) = (&raw const vkernel_miss, &raw const vkernel_miss_end);
    // SAFETY: both label the assembly above, one after the other.
    unsafe { std::slice::from_raw_parts(start, end.offset_from_unsigned(start)) }
}

/// Pops the frame of `enter_raw` and returns eax from it.
#[unsafe(naked)]
unsafe extern "C" fn leave_raw() {
    naked_asm!("pop rdi", "mov qword ptr [rdi], 0", "pop r15", "pop r14", "pop r13", "pop r12", "pop rbx", "pop rbp", "ret",)
}

/// Where the signal handler sends a thread whose lifted code faulted, with rsp = `host_rsp`.
///
/// # Safety
/// Never called: only jumped to, with rsp as `enter` left it.
#[unsafe(naked)]
pub unsafe extern "C" fn leave_after_fault() {
    naked_asm!("mov eax, 1", "cld", "jmp {out}", out = sym leave_raw)
}

/// Leaves every frame above `enter`, as after a fault in lifted code.
///
/// # Safety
/// Inside `enter` only, with nothing on the stack in between that must be dropped.
#[unsafe(naked)]
unsafe extern "C" fn abandon(context: *mut Context) -> ! {
    naked_asm!("mov rsp, [rdi]", "jmp {out}", out = sym leave_after_fault)
}

/// `linux.syscall`.
///
/// # Safety
/// Only called by lifted code, inside `enter` with this `context`.
#[unsafe(naked)]
pub unsafe extern "C" fn syscall_import(context: *mut Context) {
    naked_asm!(
        "push rbp",
        "mov rbp, rsp",
        "mov rsp, [rdi]",
        "call {f}",
        "mov rsp, rbp",
        "pop rbp",
        "ret",
        f = sym syscall_on_host,
    )
}

/// `x86.helper`.
///
/// # Safety
/// As `syscall_import`.
#[unsafe(naked)]
pub unsafe extern "C" fn helper_import(context: *mut Context, op: u32, a: u64, b: u64) -> u64 {
    naked_asm!(
        "push rbp",
        "mov rbp, rsp",
        "mov rsp, [rdi]",
        "call {f}",
        "mov rsp, rbp",
        "pop rbp",
        "ret",
        f = sym helper_on_host,
    )
}

/// # Safety
/// Only called by `syscall_import`, inside `enter`.
unsafe extern "C" fn syscall_on_host(context: *mut Context) {
    // SAFETY: the environment of the import is the context `enter` runs with; `run` set the kernel and is suspended in `enter`, so nobody else uses it.
    unsafe {
        let kernel = (*context).kernel.expect("lifted code runs inside Machine::run only");
        float::to_host(&mut *(*context).cpu);
        (*kernel).syscall();
        float::to_guest(&*(*context).cpu);
    }
}

/// # Safety
/// Only called by `helper_import`, inside `enter`.
unsafe extern "C" fn helper_on_host(context: *mut Context, op: u32, a: u64, b: u64) -> u64 {
    // SAFETY: as in `syscall_on_host`; `cpu` and `window` are mapped for the life of the context. On a fault nothing below `enter` needs dropping.
    unsafe {
        if float::concerns(op) {
            float::to_host(&mut *(*context).cpu);
        }
        let answer = crate::helper::run(&mut *context, op, a, b);
        if float::concerns(op) {
            float::to_guest(&*(*context).cpu);
        }
        match answer {
            Some(value) => value,
            None => abandon(context),
        }
    }
}

// What `miss` stores where, and the bit it sets.
const _: () = assert!(matches!(structured::PARAMETERS, [7, 6, 2, structured::RSP, 3, 5, 12, 13, 14, 15, 1]));
const _: () = assert!(structured::RESULTS[1] == structured::NEXT_PC && abi::TAG == 1 << 63);
const _: () = assert!(core::mem::offset_of!(Context, host_rsp) == 0 && core::mem::offset_of!(Context, native_top) == 8);
