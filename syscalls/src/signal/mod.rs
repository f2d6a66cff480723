//! Signals of a guest process. Owns dispositions, masks and delivery; `host` records, `frame` lays out frames, `rows` are the syscalls.
//! Refuses to own pending sets, default actions and wait statuses: those are the host kernel's own.
//!
//! The fact a newcomer gets wrong: the host mask equals the guest mask, except between the recording of a signal and its delivery, when
//! everything is blocked: so a thread never has more than one recorded signal. Except SIGSEGV, SIGBUS, SIGFPE and SIGILL, which the host never blocks, because faults raise them: those that are *sent* while the guest blocks them wait in the record.

pub mod frame;
pub mod host;
mod rows;

use crate::abi::{CpuState, StopKind};
use crate::errno::Errno;
use crate::host::Event;
use crate::mm::PAGE;
use crate::mm::ledger::Backing;
use crate::process::Process;
use crate::table::SysResult;
use crate::thread::{Next, Thread, reg};
use frame::{AltStack, Cause, Delivery};
use host::{Disposition, Info, Record, SYNCHRONOUS, bit};
use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};

pub(crate) use host::poll_word;
pub use host::{host_mask, record};
pub use rows::ROWS;

const SIG_DFL: u64 = 0;
const SIG_IGN: u64 = 1;
pub const SIGNALS: i32 = 64;

/// `struct sigaction` as the guest gave it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Action {
    pub handler: u64,
    pub flags: u64,
    pub restorer: u64,
    pub mask: u64,
}

// SAFETY: four integers.
unsafe impl crate::guest::Plain for Action {}

impl Action {
    fn has(&self, flag: i32) -> bool {
        self.flags & u64::from(flag as u32) != 0
    }
}

/// Guest signal actions, by signal number.
pub struct Actions([Action; SIGNALS as usize + 1]);

impl Default for Actions {
    fn default() -> Self {
        Self([Action::default(); SIGNALS as usize + 1])
    }
}

impl Actions {
    pub fn get(&self, signal: i32) -> Action {
        self.0[signal as usize]
    }

    /// Sets an action and the host disposition that goes with it.
    fn set(&mut self, signal: i32, action: Action) -> Result<(), Errno> {
        if bit(signal) & SYNCHRONOUS == 0 {
            let disposition = match action.handler {
                _ if signal == host::KICK => Disposition::Record,
                SIG_DFL => Disposition::Default,
                SIG_IGN => Disposition::Ignore,
                _ => Disposition::Record,
            };
            host::set_disposition(signal, disposition, action.flags)?;
        }
        self.0[signal as usize] = action;
        Ok(())
    }

    /// exec and CLONE_CLEAR_SIGHAND: caught signals go back to their default, and nothing stays of any signal's flags, mask and restorer (SA_NOCLDWAIT counts without a handler too).
    pub(crate) fn clear(&mut self) {
        for signal in 1..=SIGNALS {
            let now = self.get(signal);
            let handler = if now.handler == SIG_IGN { SIG_IGN } else { SIG_DFL };
            let cleared = Action { handler, ..Action::default() };
            if now != cleared {
                let _ = self.set(signal, cleared);
            }
        }
    }

    /// Takes over what the host ignores; SIGPIPE is the Rust runtime's doing and goes back to its default.
    fn inherit(&mut self) {
        let _ = host::set_disposition(libc::SIGPIPE, Disposition::Default, 0);
        for signal in 1..=SIGNALS {
            if bit(signal) & SYNCHRONOUS == 0 && host::is_ignored(signal) {
                self.0[signal as usize].handler = SIG_IGN;
            }
        }
    }
}

impl Process {
    pub(crate) fn actions(&self) -> MutexGuard<'_, Actions> {
        self.actions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A syscall that a signal cut short.
#[derive(Clone, Copy)]
struct Interrupted {
    nr: u64,
    /// Restart whatever SA_RESTART says: the call had not begun.
    always: bool,
}

/// Per-thread signal state.
pub struct ThreadSignals {
    record: Box<Record>,
    /// The guest's blocked set.
    pub mask: u64,
    /// The set rt_sigsuspend or ppoll put in place while waiting: handlers run under it, the frame restores `mask`.
    pub suspended: Option<u64>,
    pub altstack: AltStack,
    interrupted: Option<Interrupted>,
    /// Where the frame of the last fault went, see `fault_ceiling`.
    fault_floor: Option<u64>,
}

impl ThreadSignals {
    pub fn new(cpu: *mut CpuState, mask: u64) -> Self {
        let record = Record::new(cpu);
        host::attach(&raw const *record);
        Self { record, mask, suspended: None, altstack: AltStack::NONE, interrupted: None, fault_floor: None }
    }

    /// The first thread of a process: inherited dispositions, empty mask.
    pub(crate) fn start(&self, process: &Process) {
        crate::blocking::know_processor();
        process.actions().inherit();
        self.apply_mask();
    }

    /// Makes the host mask the guest mask, unless a recorded signal waits (the dispatcher does it then).
    pub(crate) fn apply_mask(&self) {
        let _ = host::apply_mask(&self.record, self.mask);
    }

    /// Where everything is blocked: lets faults through, which guest memory may raise.
    pub(crate) fn allow_faults(&self) {
        host::restore_mask(host_mask(!0));
    }

    pub fn request_poll(&self) {
        self.record.poll().store(1, Ordering::SeqCst);
    }

    /// What waits in the record because the thread blocks it, or until its next poll.
    fn waiting(&self) -> u64 {
        self.record.sent() | if self.record.kick_waits() { bit(host::KICK) } else { 0 }
    }

    /// Asks for a poll if the thread's mask lets through what waits.
    fn wake(&self) {
        if self.waiting() & !self.mask != 0 {
            self.request_poll();
        }
    }

    /// Whether a wait under `mask` has its signal already: one that the thread blocks and the wait does not. (One that the thread does not block is delivered before the wait begins.) Then asks for a poll.
    pub(crate) fn ends_wait(&self, mask: u64) -> bool {
        let ends = self.waiting() & self.mask & !mask != 0;
        if ends {
            self.request_poll();
        }
        ends
    }

    /// What a wait for a signal under `mask` answers: one that is recorded although the mask blocks it ended the host's call, but not the guest's.
    fn waited(&self, mask: u64, result: SysResult) -> SysResult {
        match result {
            Err(Errno::EINTR) if !self.record.waits() && self.waiting() & !mask == 0 => Err(Errno::NOT_STARTED),
            answer => answer,
        }
    }

    fn set_mask(&mut self, mask: u64) {
        self.mask = mask & !(bit(libc::SIGKILL) | bit(libc::SIGSTOP));
    }

    /// The result register for an errno; remembers a call that has to be restarted.
    pub(crate) fn result(&mut self, nr: u64, errno: Errno) -> u64 {
        let errno = match errno {
            Errno::RESTART | Errno::NOT_STARTED => {
                self.interrupted = Some(Interrupted { nr, always: errno == Errno::NOT_STARTED });
                self.request_poll();
                Errno::EINTR
            }
            e => e,
        };
        -i64::from(errno.0) as u64
    }

    /// In a forked child: no signal is pending, the record is this thread's still.
    pub(crate) fn forked(&mut self) {
        self.record.clear();
        self.interrupted = None;
        self.record.poll().store(0, Ordering::SeqCst);
        self.apply_mask();
    }

    /// What was recorded for a thread that ends, and was meant for its process, another thread gets.
    pub(crate) fn pass_on(&self) {
        while let Some((signal, info)) = self.record.take().or_else(|| self.record.take_sent(!0)) {
            host::queue_to_process(signal, &info);
        }
    }

    /// This host thread no longer runs a guest thread.
    pub(crate) fn detach(&self) {
        host::block_all();
        host::detach(&raw const *self.record);
    }
}

impl Drop for ThreadSignals {
    fn drop(&mut self) {
        host::detach(&raw const *self.record);
    }
}

/// A fault of guest code: address and signal number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    pub signal: i32,
    /// si_code.
    pub code: i32,
    /// si_addr, a guest address.
    pub address: u64,
    /// The number of the exception, and the error code of a page fault as the processor gave it (Intel SDM, "Page-Fault Exception"): what a handler reads in the frame.
    pub trap: u64,
    pub error: u64,
    /// `CpuState` is the state at the faulting instruction (or where that can be repeated from); if not, it is an older one.
    pub exact: bool,
}

/// `CpuState.poll` is set: delivers signals, performs exec and exit, restarts syscalls. Full state in `CpuState`.
pub fn poll(t: &mut Thread) -> Next {
    loop {
        t.signals.record.poll().store(0, Ordering::SeqCst);
        if let Some(next) = crate::thread::ending(t) {
            return next;
        }
        if let Some((signal, info)) = t.signals.record.take() {
            deliver(t, signal, &info);
        }
        if t.signals.record.kick_waits()
            && t.signals.suspended.unwrap_or(t.signals.mask) & bit(host::KICK) == 0
            && let Some((signal, info)) = t.signals.record.take_kick()
        {
            deliver(t, signal, &info);
        }
        while let Some((signal, info)) = t.signals.record.take_sent(!t.signals.suspended.unwrap_or(t.signals.mask)) {
            deliver(t, signal, &info);
        }
        t.signals.suspended = None;
        t.signals.apply_mask();
        if t.signals.record.poll().load(Ordering::SeqCst) != 0 {
            continue;
        }
        if !restart(t) {
            return Next::Continue;
        }
    }
}

/// A syscall to run again: one that no handler came between, or one that rt_sigreturn went back to. The code forms have no entry at a `syscall`
/// instruction, so it is run here.
fn restart(t: &mut Thread) -> bool {
    if let Some(i) = t.signals.interrupted.take() {
        t.cpu().rip -= 2;
        t.cpu().gpr[reg::RAX] = i.nr;
    } else if !t.replaced {
        return false;
    }
    t.replaced = false;
    let rip = t.cpu().rip;
    let in_text = matches!(t.process.memory().areas.at(rip), Some((_, a)) if a.prot & libc::PROT_EXEC != 0 && matches!(a.backing, Backing::Object { .. }));
    let mut instruction = [0; 2];
    if !in_text || t.window().copy_in(rip, &mut instruction).is_err() || instruction != [0x0f, 0x05] {
        return false;
    }
    t.cpu().rip = rip + 2;
    crate::dispatch(t);
    true
}

/// `CpuState.stop` is set: turns it into a guest signal or ends the process.
pub fn stop(t: &mut Thread) -> Next {
    let (rip, kind) = (t.cpu().rip, t.cpu().stop);
    t.cpu().stop = 0;
    if kind == StopKind::Gap as u32 {
        t.process.host.audit(&Event::Gap { rip });
    }
    let (signal, code, address, trap) = match kind {
        k if k == StopKind::Breakpoint as u32 => (libc::SIGTRAP, SI_KERNEL, 0, trap::BREAKPOINT),
        k if k == StopKind::Divide as u32 => (libc::SIGFPE, 1, rip, trap::DIVIDE),
        k if k == StopKind::Protection as u32 => (libc::SIGSEGV, SI_KERNEL, 0, trap::PROTECTION),
        _ => (libc::SIGILL, 2, rip, trap::UNDEFINED),
    };
    fault(t, Fault { signal, code, address, trap, error: 0, exact: true })
}

/// si_code of a signal the kernel sends without an address.
pub const SI_KERNEL: i32 = 0x80;
/// Nothing is mapped there.
pub const SEGV_MAPERR: i32 = 1;
const SEGV_ACCERR: i32 = 2;

/// Exceptions by number (Intel SDM, "Exceptions and Interrupts").
pub mod trap {
    pub const DIVIDE: u64 = 0;
    pub const BREAKPOINT: u64 = 3;
    pub const UNDEFINED: u64 = 6;
    pub const PROTECTION: u64 = 13;
    pub const PAGE_FAULT: u64 = 14;
    /// #MF.
    pub const X87: u64 = 16;
    /// #XM.
    pub const SIMD: u64 = 19;
}

/// Bits of a page fault's error code.
pub mod page_fault {
    /// The page is there, and protected.
    pub const PRESENT: u64 = 1;
    pub const USER: u64 = 4;
    /// An instruction was to be read.
    pub const FETCH: u64 = 16;
}

/// A synchronous fault at `CpuState.rip`: the guest's handler runs, or the process dies of the signal.
pub fn fault(t: &mut Thread, f: Fault) -> Next {
    let action = t.process.actions().get(f.signal);
    if t.process.strace.load(Ordering::Relaxed) {
        let (name, rip) = (crate::strace::signal_name(f.signal), t.cpu().rip);
        t.process.host.trace(&format!("--- {name} {{si_code={}, si_addr={:#x}}} [last exact rip {rip:#x}] ---\n", f.code, f.address));
    }
    if action.handler <= SIG_IGN || t.signals.mask & bit(f.signal) != 0 {
        die(f.signal);
    }
    let mut info: Info = [0; 128];
    info[0..4].copy_from_slice(&f.signal.to_le_bytes());
    let (code, error) = page_fault_as_seen(t, &f);
    info[8..12].copy_from_slice(&code.to_le_bytes());
    info[16..24].copy_from_slice(&f.address.to_le_bytes());
    let cr2 = if f.trap == trap::PAGE_FAULT { f.address } else { 0 };
    let ceiling = if f.exact { u64::MAX } else { fault_ceiling(t) };
    let cause = Cause { trap: f.trap, error, cr2, exact: f.exact };
    run_handler(t, f.signal, &info, &action, cause, ceiling);
    t.signals.apply_mask();
    Next::Continue
}

/// si_code and error code of a fault. Every page of the window is mapped on the host: whether the guest mapped it is the ledger's to say; and the host knows nothing of jumps to what is no code.
fn page_fault_as_seen(t: &Thread, f: &Fault) -> (i32, u64) {
    if f.signal != libc::SIGSEGV || f.trap != trap::PAGE_FAULT {
        return (f.code, f.error);
    }
    let memory = t.process.memory();
    match memory.areas.at(f.address) {
        None => (SEGV_MAPERR, f.error & !page_fault::PRESENT),
        Some((_, area)) if f.error & page_fault::FETCH != 0 => {
            let readable = area.prot & (libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC) != 0;
            (SEGV_ACCERR, f.error | if readable { page_fault::PRESENT } else { 0 })
        }
        Some(_) => (f.code, f.error),
    }
}

/// Highest address for the frame of a fault. Structured code keeps rsp in wasm locals: at a fault `CpuState` has that of the last syscall or
/// tagged exit, and live frames may lie below it, among them the one the handler will siglongjmp to. Stack that was never touched holds none, so the
/// frame goes below the pages that are resident from rsp down, whatever lies below those (other stacks may, in the same mapping); later faults of the same stack reuse the place. A stack that was touched to its end
/// leaves nothing but the place below rsp.
fn fault_ceiling(t: &mut Thread) -> u64 {
    let rsp = t.cpu().gpr[reg::RSP];
    let Some(low) = t.process.memory().areas.at(rsp).map(|(s, _)| s) else { return u64::MAX };
    let Some(untouched) = untouched_below(t, low, rsp) else { return u64::MAX };
    if let Some(floor) = t.signals.fault_floor
        && (untouched..=rsp).contains(&floor)
    {
        return floor;
    }
    t.signals.fault_floor = Some(untouched);
    untouched
}

/// End of the first page below `rsp`, and not below `low`, that is not resident.
fn untouched_below(t: &Thread, low: u64, rsp: u64) -> Option<u64> {
    /// Pages asked for at a time.
    const STEP: u64 = 64;
    // What lies right below rsp counts: rsp may be the end of its page, and that page another's.
    let mut end = crate::mm::page_up(rsp)?;
    while end > low {
        let start = end.saturating_sub(STEP * PAGE).max(low);
        let mut resident = [0u8; STEP as usize];
        let at = t.window().range(start, end - start).ok()?;
        crate::pass::quick(libc::SYS_mincore, &[at as u64, end - start, resident.as_mut_ptr() as u64]).ok()?;
        let pages = ((end - start) / PAGE) as usize;
        if let Some(page) = resident[..pages].iter().rposition(|page| page & 1 == 0) {
            return Some(start + (page as u64 + 1) * PAGE);
        }
        end = start;
    }
    None
}

/// One recorded signal: handler, default or nothing, as the actions say now.
fn deliver(t: &mut Thread, signal: i32, info: &Info) {
    let action = t.process.actions().get(signal);
    if t.process.strace.load(Ordering::Relaxed) {
        t.process.host.trace(&format!("--- {} ---\n", crate::strace::signal_name(signal)));
    }
    match action.handler {
        SIG_IGN => {}
        // The disposition changed after the recording, or it is a fault signal somebody sent: the kernel's default is the right end.
        SIG_DFL if bit(signal) & SYNCHRONOUS != 0 => die(signal),
        SIG_DFL if signal == host::KICK => {}
        SIG_DFL => host::resend(signal, info),
        _ => run_handler(t, signal, info, &action, Cause::ELSEWHERE, u64::MAX),
    }
}

/// Makes the guest enter its handler; the frame lies below `ceiling` when on the ordinary stack. Where there is no room for it, the guest gets SIGSEGV instead.
fn run_handler(t: &mut Thread, signal: i32, info: &Info, action: &Action, cause: Cause, ceiling: u64) {
    if enter_handler(t, signal, info, action, cause, ceiling).is_err() {
        if signal == libc::SIGSEGV {
            die(libc::SIGSEGV);
        }
        force_segv(t, cause, ceiling);
    }
}

/// SIGSEGV because of a signal's frame (kernel/signal.c, `force_sigsegv`): a handler that can run, on an alternate stack perhaps, is told; otherwise the process dies of it.
fn force_segv(t: &mut Thread, cause: Cause, ceiling: u64) {
    let action = t.process.actions().get(libc::SIGSEGV);
    let blocked = t.signals.suspended.unwrap_or(t.signals.mask) & bit(libc::SIGSEGV) != 0;
    let mut info: Info = [0; 128];
    info[0..4].copy_from_slice(&libc::SIGSEGV.to_le_bytes());
    info[8..12].copy_from_slice(&SI_KERNEL.to_le_bytes());
    if action.handler <= SIG_IGN || blocked || enter_handler(t, libc::SIGSEGV, &info, &action, cause, ceiling).is_err() {
        die(libc::SIGSEGV);
    }
}

/// EFAULT: the stack has no room for the frame, and nothing has changed but that a call which starts again has been set back.
fn enter_handler(t: &mut Thread, signal: i32, info: &Info, action: &Action, cause: Cause, ceiling: u64) -> Result<(), Errno> {
    if let Some(i) = t.signals.interrupted.take()
        && (i.always || action.has(libc::SA_RESTART))
    {
        t.cpu().rip -= 2;
        t.cpu().gpr[reg::RAX] = i.nr;
    }
    let blocked = t.signals.suspended.unwrap_or(t.signals.mask);
    let delivery = Delivery {
        signal,
        info,
        handler: action.handler,
        restorer: action.restorer,
        on_alternate: action.has(libc::SA_ONSTACK),
        mask: t.signals.mask,
        altstack: t.signals.altstack,
        cause,
        ceiling,
    };
    let window = t.window();
    frame::push(window, t.cpu(), &delivery)?;
    t.signals.suspended = None;
    if t.signals.altstack.flags & rows::SS_AUTODISARM != 0 {
        t.signals.altstack = AltStack::NONE;
    }
    if action.has(libc::SA_RESETHAND) {
        let _ = t.process.actions().set(signal, Action { handler: SIG_DFL, ..*action });
    }
    let own = if action.has(libc::SA_NODEFER) { 0 } else { bit(signal) };
    t.signals.set_mask(blocked | action.mask | own);
    t.replaced = false;
    Ok(())
}

/// What exec resets: caught signals to their default, the alternate stack to none. Ignored signals, mask and pending signals stay.
pub(crate) fn exec_reset(t: &mut Thread) {
    let recorded = t.signals.record.take();
    t.process.actions().clear();
    t.signals.altstack = AltStack::NONE;
    t.signals.interrupted = None;
    t.signals.fault_floor = None;
    // A signal recorded but not delivered is pending for the new program.
    if let Some((signal, info)) = recorded {
        host::resend(signal, &info);
    }
}

/// For a program that knows no signals: `signal` does nothing to it, and the call that raised it says why.
pub(crate) fn ignore(signal: i32) {
    let _ = host::set_disposition(signal, Disposition::Ignore, 0);
}

/// Ends the process by the default action of `signal`.
pub fn die(signal: i32) -> ! {
    let _ = host::set_disposition(signal, Disposition::Default, 0);
    host::restore_mask(!bit(signal));
    // SAFETY: plain numbers; the process ends here in any case.
    unsafe {
        libc::syscall(libc::SYS_tgkill, libc::getpid(), libc::gettid(), signal);
        libc::_exit(128 + signal)
    }
}

#[cfg(test)]
mod tests;
