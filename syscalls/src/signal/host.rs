//! The host side of signals: the handler that records, the per-thread record, host masks and dispositions.
//! Refuses to own delivery; a handler here only stores and arms `poll`.
//!
//! The fact a newcomer gets wrong: the handler leaves *everything* blocked in the interrupted context, so the record needs one slot, not a queue.
//! What stays unblocked whatever the guest blocks has slots of its own, in which it waits as a pending signal does: `KICK` (the runtime uses it to interrupt threads at exec) and the `SYNCHRONOUS` ones, when somebody sends them.

use crate::abi::CpuState;
use crate::errno::Errno;
use std::cell::{Cell, UnsafeCell};
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

/// `siginfo_t` as bytes.
pub type Info = [u8; 128];

/// Signal the runtime interrupts its own threads with; glibc's SIGSETXID, which programs cannot use otherwise.
pub const KICK: i32 = 33;

/// Signals raised by faulting instructions: their host handlers belong to the loader, which turns faults of guest code into `signal::fault`.
pub const SYNCHRONOUS: u64 = bit(FAULTS[0]) | bit(FAULTS[1]) | bit(FAULTS[2]) | bit(FAULTS[3]);
/// The same by number.
const FAULTS: [i32; 4] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL];

/// A signal's bit in a kernel mask.
pub const fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

/// Whether the host's handler of this signal is the loader's.
pub(super) fn is_synchronous(signal: i32) -> bool {
    FAULTS.contains(&signal)
}

/// Where si_code stands in `Info`.
const CODE: std::ops::Range<usize> = 8..12;
/// The codes of signals that are sent are negative, but near zero: this bit is set in all of them, and in none that is marked.
const NEAR_ZERO: i32 = 1 << 30;

fn code(info: &Info) -> i32 {
    i32::from_le_bytes(info[CODE].try_into().expect("four bytes"))
}

/// Marks a code that the kernel alone gives, in a signal somebody sends to himself: the loader tells by its sign what is sent from what happened.
pub(super) fn mark_sent(info: &mut Info) {
    let code = code(info);
    if code > 0 {
        info[CODE].copy_from_slice(&(code & !NEAR_ZERO | i32::MIN).to_le_bytes());
    }
}

/// Undoes `mark_sent`.
pub(super) fn unmark(info: &mut Info) {
    let code = code(info);
    if code < 0 && code & NEAR_ZERO == 0 {
        info[CODE].copy_from_slice(&(code & i32::MAX).to_le_bytes());
    }
}

/// The host mask for a guest mask: faults and KICK stay deliverable.
pub fn host_mask(guest: u64) -> u64 {
    guest & !SYNCHRONOUS & !bit(KICK)
}

/// Room for one signal. Written by the handler, emptied by the dispatcher of the same thread; as with Linux's standard signals, a second one of a number that waits is lost.
struct Slot {
    signal: AtomicI32,
    info: UnsafeCell<Info>,
}

impl Slot {
    fn new() -> Self {
        Self { signal: AtomicI32::new(0), info: UnsafeCell::new([0; 128]) }
    }

    fn waits(&self) -> bool {
        self.signal.load(Ordering::SeqCst) != 0
    }

    /// False if it is full. From a handler.
    fn put(&self, signal: i32, info: &Info) -> bool {
        if self.waits() {
            return false;
        }
        // SAFETY: `take` reads only while `signal` is not 0, on the same thread.
        unsafe { *self.info.get() = *info };
        self.signal.store(signal, Ordering::SeqCst);
        true
    }

    fn take(&self) -> Option<(i32, Info)> {
        let signal = self.signal.load(Ordering::SeqCst);
        if signal == 0 {
            return None;
        }
        // SAFETY: the handler writes only while `signal` is 0.
        let info = unsafe { *self.info.get() };
        self.signal.store(0, Ordering::SeqCst);
        Some((signal, info))
    }
}

/// Where the handler of this host thread stores.
pub(crate) struct Record {
    pub(super) poll: *const AtomicU32,
    one: Slot,
    kick: Slot,
    /// In the order of `FAULTS`.
    sent: [Slot; 4],
}

impl Record {
    pub(super) fn new(cpu: *mut CpuState) -> Box<Self> {
        // SAFETY: computes the address of a field; `Thread::start` promises `cpu` is valid.
        let poll = unsafe { &raw const (*cpu).poll }.cast();
        Box::new(Self { poll, one: Slot::new(), kick: Slot::new(), sent: std::array::from_fn(|_| Slot::new()) })
    }

    pub(super) fn poll(&self) -> &AtomicU32 {
        // SAFETY: points into the thread's CpuState, which outlives the thread.
        unsafe { &*self.poll }
    }

    fn slot(&self, signal: i32) -> &Slot {
        match FAULTS.iter().position(|s| *s == signal) {
            Some(i) => &self.sent[i],
            None if signal == KICK => &self.kick,
            None => &self.one,
        }
    }

    /// The recorded signal, if any: it was not blocked when it came.
    pub(super) fn take(&self) -> Option<(i32, Info)> {
        self.one.take()
    }

    pub(super) fn waits(&self) -> bool {
        self.one.waits()
    }

    pub(super) fn take_kick(&self) -> Option<(i32, Info)> {
        self.kick.take()
    }

    pub(super) fn kick_waits(&self) -> bool {
        self.kick.waits()
    }

    /// `SYNCHRONOUS` signals that were sent and wait, as a set.
    pub(super) fn sent(&self) -> u64 {
        FAULTS.iter().filter(|s| self.slot(**s).waits()).map(|s| bit(*s)).sum()
    }

    /// One of them that is in `set`.
    pub(super) fn take_sent(&self, set: u64) -> Option<(i32, Info)> {
        FAULTS.iter().filter(|s| bit(**s) & set != 0).find_map(|s| self.slot(*s).take())
    }

    /// Forgets everything: a forked child inherits no pending signal.
    pub(super) fn clear(&self) {
        [&self.one, &self.kick].into_iter().chain(&self.sent).for_each(|slot| slot.signal.store(0, Ordering::SeqCst));
    }
}

thread_local! {
    static CURRENT: Cell<*const Record> = const { Cell::new(std::ptr::null()) };
}

/// Makes `record` the one the handler of this host thread writes to.
pub(super) fn attach(record: *const Record) {
    CURRENT.set(record);
}

pub(super) fn detach(record: *const Record) {
    if CURRENT.get() == record {
        CURRENT.set(std::ptr::null());
    }
}

/// The poll word of the guest thread on this host thread.
pub(crate) fn poll_word() -> Option<*const AtomicU32> {
    let record = CURRENT.get();
    // SAFETY: attached records live until they are detached on the same host thread.
    (!record.is_null()).then(|| unsafe { (*record).poll })
}

unsafe extern "C" fn on_signal(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: a running handler's own arguments. Host threads without a guest thread keep everything blocked; nothing is lost.
    unsafe { record(signal, info, context) };
}

/// Records an asynchronous signal for the guest thread on this host thread; false when there is none. Also for the loader's own handlers of
/// `SYNCHRONOUS` signals when `si_code <= 0` (somebody called kill). Async-signal-safe.
///
/// # Safety
/// The arguments must be those of a running SA_SIGINFO handler.
pub unsafe fn record(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) -> bool {
    let record = CURRENT.get();
    if record.is_null() {
        return false;
    }
    // SAFETY: the kernel's arguments of a handler; the record is attached and thus alive.
    unsafe {
        let record = &*record;
        let context = &mut *context.cast::<libc::ucontext_t>();
        let mut bytes = *info.cast::<Info>();
        unmark(&mut bytes);
        let slot = record.slot(signal);
        if slot.put(signal, &bytes) && std::ptr::eq(slot, &record.one) {
            // Everything stays blocked until the dispatcher has delivered this one.
            (&raw mut context.uc_sigmask).cast::<u64>().write(host_mask(!0));
        }
        (*record.poll).store(1, Ordering::SeqCst);
        let registers = &mut context.uc_mcontext.gregs;
        registers[libc::REG_RIP as usize] = crate::blocking::rewind(registers[libc::REG_RIP as usize] as u64, registers[libc::REG_RCX as usize] as u64) as i64;
    }
    true
}

/// `struct sigaction` of the kernel.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct KernelAction {
    handler: u64,
    flags: u64,
    restorer: u64,
    mask: u64,
}

std::arch::global_asm!(".hidden vkernel_restorer", ".globl vkernel_restorer", "vkernel_restorer:", "mov eax, 15", "syscall");
unsafe extern "C" {
    fn vkernel_restorer();
}

const SA_RESTORER: u64 = 0x0400_0000;

/// What the host kernel shall do with a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Disposition {
    Default,
    Ignore,
    Record,
}

/// Sets the host disposition. `flags`: SA_NOCLDSTOP and SA_NOCLDWAIT of the guest.
pub(super) fn set_disposition(signal: i32, disposition: Disposition, flags: u64) -> Result<(), Errno> {
    let handler = match disposition {
        Disposition::Default => 0,
        Disposition::Ignore => 1,
        Disposition::Record => on_signal as *const () as u64,
    };
    let passed = flags & (libc::SA_NOCLDSTOP | libc::SA_NOCLDWAIT) as u64;
    let flags = passed | (libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART) as u64 | SA_RESTORER;
    let action = KernelAction { handler, flags, restorer: vkernel_restorer as *const () as u64, mask: host_mask(!0) };
    crate::pass::quick(libc::SYS_rt_sigaction, &[signal as u64, (&raw const action) as u64, 0, 8, 0, 0]).map(|_| ())
}

/// Whether the host ignores a signal now (inherited dispositions).
pub(super) fn is_ignored(signal: i32) -> bool {
    let mut action = KernelAction::default();
    let asked = crate::pass::quick(libc::SYS_rt_sigaction, &[signal as u64, 0, (&raw mut action) as u64, 8, 0, 0]);
    asked.is_ok() && action.handler == 1
}

/// Sets this host thread's mask, unless a signal is recorded or arrives first: then the dispatcher does it at delivery.
pub(super) fn apply_mask(record: &Record, guest: u64) -> Result<(), Errno> {
    let mask = host_mask(guest);
    let args = [libc::SIG_SETMASK as u64, (&raw const mask) as u64, 0, 8, 0, 0];
    crate::blocking::interruptible(libc::SYS_rt_sigprocmask, args, record.poll).map(|_| ())
}

/// Blocks everything on this host thread and returns the old host mask.
pub(crate) fn block_all() -> u64 {
    let (all, mut old) = (!0u64, 0u64);
    let args = [libc::SIG_SETMASK as u64, (&raw const all) as u64, (&raw mut old) as u64, 8, 0, 0];
    let _ = crate::pass::quick(libc::SYS_rt_sigprocmask, &args);
    old
}

/// Undoes `block_all`.
pub(crate) fn restore_mask(old: u64) {
    let args = [libc::SIG_SETMASK as u64, (&raw const old) as u64, 0, 8, 0, 0];
    let _ = crate::pass::quick(libc::SYS_rt_sigprocmask, &args);
}

/// Sends a recorded signal to this process again, unless it was meant for the calling thread alone.
pub(super) fn queue_to_process(signal: i32, info: &Info) {
    if code(info) == libc::SI_TKILL {
        return;
    }
    // SAFETY: plain numbers and a live siginfo. Other threads than the leader may not send what only the kernel says; then its number has to do.
    unsafe {
        let pid = libc::getpid();
        if libc::syscall(libc::SYS_rt_sigqueueinfo, pid, signal, info.as_ptr()) != 0 {
            libc::kill(pid, signal);
        }
    }
}

/// Sends a recorded signal to this thread again, for the kernel to act on.
pub(super) fn resend(signal: i32, info: &Info) {
    // SAFETY: plain numbers and a live siginfo; to oneself any si_code may be sent.
    unsafe {
        let (pid, tid) = (libc::getpid(), libc::gettid());
        libc::syscall(libc::SYS_rt_tgsigqueueinfo, pid, tid, signal, info.as_ptr());
    }
}

/// Interrupts a thread of this process so that it looks at its `poll`.
pub(crate) fn kick(tid: libc::pid_t) {
    // SAFETY: plain numbers.
    unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), tid, KICK) };
}

/// Makes KICK a recording signal.
pub(crate) fn install_kick() {
    let _ = set_disposition(KICK, Disposition::Record, 0);
}
