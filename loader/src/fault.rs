//! Host signals that lifted code raises itself: SIGSEGV, SIGBUS, SIGFPE, SIGILL.
//!
//! Owns the handlers. A fault whose pc lies in AOT code ends the native frames and becomes a `Fault` for the dispatcher; any other is the runtime's own
//! and kills the process (07 S8), never a guest signal. Signals *sent* by kill(2) are not ours: they are recorded for the guest. The fact
//! a newcomer gets wrong: the guest state delivered with a fault of structured code is the one last written to `CpuState` (the last syscall or tagged exit), not that of the
//! faulting instruction; that of resumable code is exact.

use crate::native::{Context, Fault, leave_after_fault};
use crate::reservation::RESERVED_BYTES;
use std::cell::Cell;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

thread_local! {
    /// The context whose lifted code this thread runs, for the handler.
    static CURRENT: Cell<*mut Context> = const { Cell::new(std::ptr::null_mut()) };
}

/// Small pieces of host code that touch guest memory directly: faulting range and where to go on.
pub(crate) type Fixup = (Range<usize>, usize);

/// What the handler needs to know. Replaced, never freed: a handler may be reading it.
struct Known {
    code: Vec<Range<usize>>,
    fixups: Vec<Fixup>,
    window: usize,
}
static KNOWN: AtomicPtr<Known> = AtomicPtr::new(std::ptr::null_mut());

const SIGNALS: [i32; 4] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL];

/// The handler that wasmer had installed for each, 0 for none: WASI programs run on a stack of wasmer's, and what faults there is a trap, which is wasmer's to end the call with.
static WASMERS: [AtomicUsize; 4] = [const { AtomicUsize::new(0) }; 4];

/// Installs the handlers for `code`. After the last artifact of a load is mapped and a wasmer store exists: wasmer installs its own handlers at the first one.
pub fn install(code: Vec<Range<usize>>, fixups: Vec<Fixup>, window: *mut u8) -> io::Result<()> {
    KNOWN.store(Box::into_raw(Box::new(Known { code, fixups, window: window as usize })), Ordering::Release);
    for (signo, wasmers) in SIGNALS.into_iter().zip(&WASMERS) {
        // SAFETY: the handler touches only the context of its own thread and `KNOWN`.
        let failed = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_fault as *const () as usize;
            // SA_RESTART for those that are sent, as of every other signal's handler.
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER | libc::SA_RESTART;
            // A signal that is recorded while this handler runs would leave its mask to the handler, not to what is interrupted.
            (&raw mut action.sa_mask).cast::<u64>().write(syscalls::signal::host_mask(!0));
            let mut before: libc::sigaction = std::mem::zeroed();
            let failed = libc::sigaction(signo, &action, &mut before) != 0;
            // Of a second call, what it finds is our own.
            if !failed && before.sa_flags & libc::SA_SIGINFO != 0 && before.sa_sigaction != action.sa_sigaction {
                wasmers.store(before.sa_sigaction, Ordering::Release);
            }
            failed
        };
        if failed {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

fn known() -> Option<&'static Known> {
    // SAFETY: null or a leaked box.
    unsafe { KNOWN.load(Ordering::Acquire).as_ref() }
}

/// arch_prctl(2)'s ARCH_SET_GS (`asm/prctl.h`; libc has no name for it): the lock-down must allow it.
pub const SET_GS: libc::c_int = 0x1001;

/// Marks `context` as the one this thread runs, makes its alternate signal stack the thread's, and its CPU state the base of GS, where structured code expects it.
///
/// # Safety
/// `context` lives until `leave_thread`.
pub unsafe fn enter_thread(context: *mut Context) -> io::Result<()> {
    CURRENT.set(context);
    // SAFETY: the context lives (the caller's duty) and owns its alternate stack, and `leave_thread` takes it out of use before the context goes.
    unsafe {
        let (start, bytes) = (*context).alternate_stack();
        let stack = libc::stack_t { ss_sp: start, ss_flags: 0, ss_size: bytes };
        if libc::sigaltstack(&stack, std::ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
        // Nothing else in the process uses GS: x86-64's thread-local storage is based at FS.
        if libc::syscall(libc::SYS_arch_prctl, SET_GS, (*context).cpu) != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// This thread runs no lifted code any more.
pub fn leave_thread() {
    CURRENT.set(std::ptr::null_mut());
    let none = libc::stack_t { ss_sp: std::ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 };
    // SAFETY: we are not on the alternate stack: this is no handler.
    unsafe { libc::sigaltstack(&none, std::ptr::null_mut()) };
}

/// Host pc inside AOT code?
pub fn is_lifted(pc: usize) -> bool {
    known().is_some_and(|k| k.code.iter().any(|r| r.contains(&pc)))
}

unsafe extern "C" fn on_fault(signo: i32, info: *mut libc::siginfo_t, ucontext: *mut libc::c_void) {
    // SAFETY: the kernel hands valid structures to a SA_SIGINFO handler.
    let (code, registers) = unsafe { ((*info).si_code, &mut (*ucontext.cast::<libc::ucontext_t>()).uc_mcontext.gregs) };
    let context = CURRENT.get();
    if code <= 0 && !context.is_null() {
        // Somebody called kill: an asynchronous signal like any other.
        // SAFETY: the arguments of this handler.
        if unsafe { syscalls::signal::record(signo, info, ucontext) } {
            return;
        }
    }
    let pc = registers[libc::REG_RIP as usize] as usize;
    // SAFETY: these four signals carry an address when the kernel raises them.
    let addr = if code > 0 { unsafe { (*info).si_addr() as usize } } else { 0 };
    let [trap, error] = [libc::REG_TRAPNO, libc::REG_ERR].map(|r| registers[r as usize] as u64);
    let fault = Fault { signo, code, addr, pc, trap, error };
    // SAFETY: set by `enter_thread` of this thread to a live context, or null.
    let inside = !context.is_null() && unsafe { (*context).host_rsp } != 0;
    if inside && is_lifted(pc) {
        // SAFETY: as above; the thread is suspended in lifted code, so nobody holds the context.
        unsafe {
            (*context).fault = fault;
            registers[libc::REG_RSP as usize] = (*context).host_rsp as i64;
        }
        registers[libc::REG_RIP as usize] = leave_after_fault as *const () as i64;
        return;
    }
    if code > 0 && !context.is_null() && is_lifted(pc) {
        let wasmers = SIGNALS.iter().position(|s| *s == signo).map_or(0, |i| WASMERS[i].load(Ordering::Acquire));
        if wasmers != 0 {
            type Handler = unsafe extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void);
            // SAFETY: what was installed with SA_SIGINFO is a function of this type, and these are a handler's arguments.
            unsafe { std::mem::transmute::<usize, Handler>(wasmers)(signo, info, ucontext) };
            return;
        }
    }
    // Copies by syscalls happen outside lifted code too, e.g. when the first program's stack is built.
    let guarded = known().filter(|k| addr.wrapping_sub(k.window) < RESERVED_BYTES).and_then(|k| k.fixups.iter().find(|(range, _)| range.contains(&pc)));
    if let Some((_, target)) = guarded {
        crate::helper::note_fault(fault);
        registers[libc::REG_RIP as usize] = *target as i64;
        return;
    }
    die(fault);
}

/// Not the guest's doing: say so and end the process by the default action, here and now. A handler that returned would be met again by an instruction that faulted, but by none if the signal was sent.
fn die(fault: Fault) -> ! {
    let mut text = [0u8; 96];
    let len = describe(&mut text, fault);
    // SAFETY: plain system calls, all async-signal-safe.
    unsafe {
        libc::write(2, text.as_ptr().cast(), len);
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = libc::SIG_DFL;
        libc::sigaction(fault.signo, &action, std::ptr::null_mut());
        // The handlers' mask leaves these signals deliverable, but what was interrupted need not.
        let mut own: libc::sigset_t = std::mem::zeroed();
        libc::sigaddset(&mut own, fault.signo);
        libc::sigprocmask(libc::SIG_UNBLOCK, &own, std::ptr::null_mut());
        libc::syscall(libc::SYS_tgkill, libc::getpid(), libc::gettid(), fault.signo);
        libc::_exit(128 + fault.signo)
    }
}

fn describe(text: &mut [u8], fault: Fault) -> usize {
    use std::io::Write;
    let Fault { signo, pc, addr, .. } = fault;
    let room = text.len();
    let mut rest = &mut *text;
    // A slice writer does not allocate; a text that does not fit is cut.
    let _ = writeln!(rest, "vkernel: signal {signo} outside lifted code, pc {pc:#x}, address {addr:#x}");
    room - rest.len()
}
