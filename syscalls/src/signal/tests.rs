//! Signals end to end inside one host process: recorded by the host handler, delivered by `poll`, undone by rt_sigreturn.

use super::*;
use crate::testing::{call, child_status, guest, in_child, instruction};
use std::time::{Duration, Instant};

const HANDLER: u64 = 0x0200_0100;
const RESTORER: u64 = 0x0200_0200;
/// An address whose bytes are a `syscall` instruction: start of the double's program.
const SYSCALL: u64 = 0x0200_0000;

fn program() -> Thread {
    let (mut t, host) = guest();
    let rsp = t.cpu().gpr[reg::RSP];
    t.process.memory().place_object(&*host, crate::testing::PROGRAM, (0, 0)).unwrap();
    t.cpu().gpr[reg::RSP] = rsp;
    t
}

/// A guest address for arguments.
fn scratch(t: &mut Thread) -> u64 {
    t.cpu().gpr[reg::RSP] + 4096
}

fn handle(t: &mut Thread, signal: i32, flags: i32) {
    let at = scratch(t);
    let flags = u64::from(flags as u32) | 0x0400_0000;
    t.window().write(at, &Action { handler: HANDLER, flags, restorer: RESTORER, mask: bit(libc::SIGUSR2) }).unwrap();
    assert_eq!(call(t, libc::SYS_rt_sigaction, &[signal as u64, at, 0, 8]), Ok(0));
}

fn kill_self(t: &mut Thread, signal: i32) -> i64 {
    // SAFETY: getpid has no preconditions.
    instruction(t, libc::SYS_kill, &[unsafe { libc::getpid() } as u64, signal as u64], SYSCALL + 2)
}

fn alarm_in(us: i64) {
    let value = libc::timeval { tv_sec: 0, tv_usec: us };
    let timer = libc::itimerval { it_interval: libc::timeval { tv_sec: 0, tv_usec: 0 }, it_value: value };
    // SAFETY: a live structure.
    unsafe { libc::syscall(libc::SYS_setitimer, libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut::<u8>()) };
}

/// What the guest's restorer does.
fn sigreturn(t: &mut Thread) {
    t.cpu().gpr[reg::RSP] += 8;
    instruction(t, libc::SYS_rt_sigreturn, &[], RESTORER + 9);
    assert_eq!(poll(t), Next::Continue);
}

fn pipe() -> (u64, u64) {
    let mut fds = [0; 2];
    // SAFETY: writes two descriptors.
    unsafe { libc::pipe(fds.as_mut_ptr()) };
    (fds[0] as u64, fds[1] as u64)
}

/// A read of address 0x28.
fn at_0x28(exact: bool) -> Fault {
    Fault { signal: libc::SIGSEGV, code: SEGV_MAPERR, address: 0x28, trap: trap::PAGE_FAULT, error: page_fault::USER, exact }
}

#[test]
fn a_handler_runs_at_the_poll_and_sigreturn_restores_everything() {
    in_child(|| {
        let mut t = program();
        handle(&mut t, libc::SIGUSR1, libc::SA_SIGINFO);
        let before = {
            let cpu = t.cpu();
            cpu.gpr[reg::RBX] = 0x1234;
            cpu.xmm[3] = [7, 8];
            (cpu.zf, cpu.of, cpu.df) = (1, 1, 1);
            cpu.ftop = 6;
            cpu.fempty = 0x3f;
            cpu.st[6] = [9; 16];
            *cpu
        };
        assert_eq!(kill_self(&mut t, libc::SIGUSR1), 0);
        assert_eq!(t.cpu().poll, 1);
        assert_eq!(poll(&mut t), Next::Continue);
        let rsp = t.cpu().gpr[reg::RSP];
        assert_eq!((t.cpu().rip, t.cpu().gpr[reg::RDI], rsp % 16), (HANDLER, libc::SIGUSR1 as u64, 8));
        assert_eq!(t.window().read::<u64>(rsp), Ok(RESTORER));
        let info = t.cpu().gpr[reg::RSI];
        assert_eq!(t.window().read::<i32>(info), Ok(libc::SIGUSR1));
        // SAFETY: getpid has no preconditions.
        assert_eq!(t.window().read::<i32>(info + 16), Ok(unsafe { libc::getpid() }));
        assert_eq!(t.signals.mask, bit(libc::SIGUSR1) | bit(libc::SIGUSR2));
        assert_eq!((t.cpu().df, t.cpu().xmm[3]), (0, [0, 0]));
        sigreturn(&mut t);
        let cpu = *t.cpu();
        assert_eq!((cpu.rip, cpu.gpr[reg::RBX], cpu.gpr[reg::RAX]), (SYSCALL + 2, 0x1234, 0));
        assert_eq!(cpu.gpr[reg::RSP], before.gpr[reg::RSP]);
        assert_eq!((cpu.zf, cpu.of, cpu.df, cpu.ftop, cpu.fempty), (1, 1, 1, 6, 0x3f));
        assert_eq!((cpu.xmm[3], &cpu.st[6][..10]), ([7, 8], &[9u8; 10][..]));
        assert_eq!(t.signals.mask, 0);
    });
}

#[test]
fn a_blocked_signal_is_pending_until_it_is_unblocked() {
    in_child(|| {
        let mut t = program();
        handle(&mut t, libc::SIGUSR1, 0);
        let at = scratch(&mut t);
        t.window().write(at, &bit(libc::SIGUSR1)).unwrap();
        assert_eq!(call(&mut t, libc::SYS_rt_sigprocmask, &[libc::SIG_BLOCK as u64, at, 0, 8]), Ok(0));
        kill_self(&mut t, libc::SIGUSR1);
        assert_eq!(t.cpu().poll, 0);
        assert_eq!(call(&mut t, libc::SYS_rt_sigpending, &[at + 8, 8]), Ok(0));
        assert_eq!(t.window().read::<u64>(at + 8), Ok(bit(libc::SIGUSR1)));
        assert_eq!(call(&mut t, libc::SYS_rt_sigprocmask, &[libc::SIG_UNBLOCK as u64, at, at + 8, 8]), Ok(0));
        assert_eq!(t.window().read::<u64>(at + 8), Ok(bit(libc::SIGUSR1)));
        assert_eq!(t.cpu().poll, 1);
        poll(&mut t);
        assert_eq!(t.cpu().rip, HANDLER);
    });
}

#[test]
fn two_signals_stack_two_frames_and_none_is_lost() {
    in_child(|| {
        let mut t = program();
        handle(&mut t, libc::SIGUSR1, 0);
        handle(&mut t, libc::SIGTERM, 0);
        kill_self(&mut t, libc::SIGUSR1);
        kill_self(&mut t, libc::SIGTERM);
        poll(&mut t);
        let inner = t.cpu().gpr[reg::RDI];
        sigreturn(&mut t);
        assert_eq!(t.cpu().rip, HANDLER);
        let outer = t.cpu().gpr[reg::RDI];
        assert_eq!(inner + outer, (libc::SIGUSR1 + libc::SIGTERM) as u64);
        sigreturn(&mut t);
        assert_eq!(t.cpu().rip, SYSCALL + 2);
    });
}

#[test]
fn a_blocking_read_is_eintr_without_sa_restart() {
    in_child(|| {
        let mut t = program();
        handle(&mut t, libc::SIGALRM, 0);
        let (r, _w) = pipe();
        let at = scratch(&mut t);
        alarm_in(20_000);
        instruction(&mut t, libc::SYS_read, &[r, at, 1], SYSCALL + 2);
        poll(&mut t);
        assert_eq!(t.cpu().rip, HANDLER);
        sigreturn(&mut t);
        assert_eq!((t.cpu().rip, t.cpu().gpr[reg::RAX] as i64), (SYSCALL + 2, -4));
    });
}

#[test]
fn a_blocking_read_is_restarted_with_sa_restart_after_the_handler() {
    in_child(|| {
        let mut t = program();
        handle(&mut t, libc::SIGALRM, libc::SA_RESTART);
        let (r, w) = pipe();
        let at = scratch(&mut t);
        alarm_in(20_000);
        instruction(&mut t, libc::SYS_read, &[r, at, 1], SYSCALL + 2);
        poll(&mut t);
        assert_eq!(t.cpu().rip, HANDLER);
        // SAFETY: writes one live byte.
        unsafe { libc::write(w as i32, b"x".as_ptr().cast(), 1) };
        sigreturn(&mut t);
        assert_eq!((t.cpu().rip, t.cpu().gpr[reg::RAX]), (SYSCALL + 2, 1));
        assert_eq!(t.window().read::<u8>(at), Ok(b'x'));
    });
}

#[test]
fn a_call_begun_with_a_recorded_signal_waits_for_nothing() {
    in_child(|| {
        let mut t = program();
        handle(&mut t, libc::SIGUSR1, 0);
        let (r, _w) = pipe();
        let at = scratch(&mut t);
        // Recorded before the read begins, as if it came between the guest's last poll and its syscall.
        kill_self(&mut t, libc::SIGUSR1);
        let started = Instant::now();
        instruction(&mut t, libc::SYS_read, &[r, at, 1], SYSCALL + 2);
        assert!(started.elapsed() < Duration::from_secs(1));
        poll(&mut t);
        assert_eq!(t.cpu().rip, HANDLER);
    });
}

#[test]
fn sigsuspend_never_misses_an_alarm() {
    in_child(|| {
        let mut t = program();
        handle(&mut t, libc::SIGALRM, 0);
        let at = scratch(&mut t);
        t.window().write(at, &bit(libc::SIGALRM)).unwrap();
        t.window().write(at + 8, &0u64).unwrap();
        for i in 0..3000 {
            call(&mut t, libc::SYS_rt_sigprocmask, &[libc::SIG_BLOCK as u64, at, 0, 8]).unwrap();
            alarm_in(1 + i % 40);
            let r = instruction(&mut t, libc::SYS_rt_sigsuspend, &[at + 8, 8], SYSCALL + 2);
            assert_eq!(r, -4);
            poll(&mut t);
            assert_eq!(t.cpu().rip, HANDLER);
            assert_eq!(t.signals.mask, bit(libc::SIGALRM) | bit(libc::SIGUSR2));
            sigreturn(&mut t);
            assert_eq!(t.signals.mask, bit(libc::SIGALRM));
            t.signals.mask = 0;
            t.signals.apply_mask();
        }
    });
}

#[test]
fn an_alarm_before_or_in_a_read_always_interrupts_it() {
    in_child(|| {
        let mut t = program();
        handle(&mut t, libc::SIGALRM, 0);
        let (r, _w) = pipe();
        let at = scratch(&mut t);
        for i in 0..3000 {
            alarm_in(1 + i % 40);
            loop {
                // A timer that fires before the instruction interrupts nothing; the guest would loop, but never hang.
                instruction(&mut t, libc::SYS_read, &[r, at, 1], SYSCALL + 2);
                poll(&mut t);
                if t.cpu().rip == HANDLER {
                    break;
                }
            }
            // The return goes to the result (EINTR) or, when the read had not begun, to the instruction: make that one return too.
            t.window().write(t.process.memory().stack_high - 16, &0u8).unwrap();
            let frame = t.cpu().gpr[reg::RSP];
            let rip = t.window().read::<u64>(frame + 8 + 40 + 128).unwrap();
            assert!(rip == SYSCALL + 2 || rip == SYSCALL);
            t.window().write(frame + 8 + 40 + 128, &(SYSCALL + 2)).unwrap();
            sigreturn(&mut t);
        }
    });
}

#[test]
fn handlers_run_on_the_alternate_stack_and_resethand_resets() {
    in_child(|| {
        let mut t = program();
        let at = scratch(&mut t);
        let stack = call(&mut t, libc::SYS_mmap, &[0, 16384, 3, 0x22, u64::MAX, 0]).unwrap();
        t.window().write(at, &AltStack { sp: stack, flags: 0, size: 16384 }).unwrap();
        assert_eq!(call(&mut t, libc::SYS_sigaltstack, &[at, 0]), Ok(0));
        handle(&mut t, libc::SIGUSR1, libc::SA_ONSTACK | libc::SA_RESETHAND);
        kill_self(&mut t, libc::SIGUSR1);
        poll(&mut t);
        let rsp = t.cpu().gpr[reg::RSP];
        assert!(rsp > stack && rsp < stack + 16384);
        assert_eq!(call(&mut t, libc::SYS_sigaltstack, &[at, 0]), Err(Errno::EPERM));
        assert_eq!(t.process.actions().get(libc::SIGUSR1).handler, SIG_DFL);
    });
}

#[test]
fn a_fault_reaches_the_guest_handler_with_its_address() {
    in_child(|| {
        let mut t = program();
        handle(&mut t, libc::SIGSEGV, libc::SA_SIGINFO);
        t.cpu().rip = 0x0200_0050;
        assert_eq!(fault(&mut t, at_0x28(false)), Next::Continue);
        assert_eq!(t.cpu().rip, HANDLER);
        let info = t.cpu().gpr[reg::RSI];
        assert_eq!(t.window().read::<u64>(info + 16), Ok(0x28));
    });
}

#[test]
fn the_frame_of_a_fault_spares_stack_below_a_stale_rsp() {
    in_child(|| {
        let mut t = program();
        handle(&mut t, libc::SIGSEGV, libc::SA_SIGINFO | libc::SA_NODEFER);
        let rsp = t.cpu().gpr[reg::RSP];
        let live = rsp - 20_000;
        t.window().copy_out(live, &[0x5a; 20_000]).unwrap();
        for _ in 0..3 {
            fault(&mut t, at_0x28(false));
            assert!(t.cpu().gpr[reg::RSP] < live);
            let mut now = vec![0; 20_000];
            t.window().copy_in(live, &mut now).unwrap();
            assert!(now.iter().all(|b| *b == 0x5a));
            // As siglongjmp does.
            t.cpu().gpr[reg::RSP] = rsp;
        }
    });
}

/// Coroutines have their stacks in one mapping, whose lowest page was touched: the frame went below that, or where another one's frames are.
#[test]
fn the_frame_of_a_fault_goes_on_the_stack_that_faulted() {
    const STACK: u64 = 16 * PAGE;
    in_child(|| {
        let mut t = program();
        handle(&mut t, libc::SIGSEGV, libc::SA_SIGINFO | libc::SA_NODEFER);
        let stacks = call(&mut t, libc::SYS_mmap, &[0, 2 * STACK, 3, 0x22, u64::MAX, 0]).unwrap();
        t.window().write(stacks, &1u8).unwrap();
        for round in 0..3 {
            for n in [1, 0] {
                let top = stacks + (n + 1) * STACK - 64;
                let live = top - 6000;
                t.window().copy_out(live, &[0x5a; 6000]).unwrap();
                t.cpu().gpr[reg::RSP] = top;
                fault(&mut t, at_0x28(false));
                let rsp = t.cpu().gpr[reg::RSP];
                assert!(rsp < live && rsp > live - 3 * PAGE, "round {round}, stack {n}: {:#x} below", top - rsp);
            }
        }
    });
}

#[test]
fn a_stack_that_was_touched_to_its_end_takes_the_frame_below_rsp() {
    in_child(|| {
        let mut t = program();
        handle(&mut t, libc::SIGSEGV, libc::SA_SIGINFO);
        let stack = call(&mut t, libc::SYS_mmap, &[0, 4 * PAGE, 3, 0x22, u64::MAX, 0]).unwrap();
        t.window().copy_out(stack, &[1; 4 * PAGE as usize]).unwrap();
        t.cpu().gpr[reg::RSP] = stack + 4 * PAGE - 64;
        fault(&mut t, at_0x28(false));
        let rsp = t.cpu().gpr[reg::RSP];
        assert!((stack + 2 * PAGE..stack + 4 * PAGE - 64).contains(&rsp), "{rsp:#x}");
    });
}

#[test]
fn a_signal_whose_frame_has_no_room_is_a_segv_that_may_be_caught() {
    in_child(|| {
        let mut t = program();
        let at = scratch(&mut t);
        let other = call(&mut t, libc::SYS_mmap, &[0, 16384, 3, 0x22, u64::MAX, 0]).unwrap();
        t.window().write(at, &AltStack { sp: other, flags: 0, size: 16384 }).unwrap();
        assert_eq!(call(&mut t, libc::SYS_sigaltstack, &[at, 0]), Ok(0));
        handle(&mut t, libc::SIGSEGV, libc::SA_SIGINFO | libc::SA_ONSTACK);
        handle(&mut t, libc::SIGUSR1, 0);
        for sigreturn in [false, true] {
            t.signals.set_mask(0);
            t.cpu().gpr[reg::RSP] = 0x11000;
            if sigreturn {
                instruction(&mut t, libc::SYS_rt_sigreturn, &[], SYSCALL + 2);
            } else {
                kill_self(&mut t, libc::SIGUSR1);
            }
            assert_eq!(poll(&mut t), Next::Continue);
            assert_eq!((t.cpu().rip, t.cpu().gpr[reg::RDI]), (HANDLER, libc::SIGSEGV as u64));
            let info = t.cpu().gpr[reg::RSI];
            assert_eq!((t.window().read::<i32>(info + 8), t.window().read::<u64>(info + 16)), (Ok(SI_KERNEL), Ok(0)));
            assert!((other..other + 16384).contains(&t.cpu().gpr[reg::RSP]));
        }
    });
    let status = child_status(|| {
        let mut t = program();
        handle(&mut t, libc::SIGSEGV, libc::SA_SIGINFO);
        handle(&mut t, libc::SIGUSR1, 0);
        t.cpu().gpr[reg::RSP] = 0x11000;
        kill_self(&mut t, libc::SIGUSR1);
        poll(&mut t);
    });
    assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGSEGV);
}

/// What a frame says of a fault: si_code and error code.
fn seen(t: &mut Thread, f: Fault) -> (i32, u64) {
    let rsp = t.cpu().gpr[reg::RSP];
    t.signals.set_mask(0);
    fault(t, f);
    let (info, context) = (t.cpu().gpr[reg::RSI], t.cpu().gpr[reg::RDX]);
    t.cpu().gpr[reg::RSP] = rsp;
    // uc_mcontext.gregs[REG_ERR].
    (t.window().read(info + 8).unwrap(), t.window().read(context + 40 + 8 * libc::REG_ERR as u64).unwrap())
}

#[test]
fn a_frame_says_whether_it_was_a_write_and_whether_the_page_is_there() {
    in_child(|| {
        let mut t = program();
        handle(&mut t, libc::SIGSEGV, libc::SA_SIGINFO);
        let page = call(&mut t, libc::SYS_mmap, &[0, PAGE, 1, 0x22, u64::MAX, 0]).unwrap();
        let f = |address, error| Fault { code: SEGV_ACCERR, address, error, ..at_0x28(true) };
        assert_eq!(seen(&mut t, f(page, 7)), (SEGV_ACCERR, 7));
        assert_eq!(seen(&mut t, f(page + PAGE, 6)), (SEGV_MAPERR, 6), "the host has pages where the guest has none");
        // Jumps.
        assert_eq!(seen(&mut t, f(page, 0x14)), (SEGV_ACCERR, 0x15));
        assert_eq!(seen(&mut t, f(page + PAGE, 0x14)), (SEGV_MAPERR, 0x14));
    });
}

/// The kernel's own codes are allowed to oneself; the loader would take them for faults.
#[test]
fn a_code_of_the_kernels_is_marked_on_its_way_and_seen_by_nobody() {
    for code in [1, 0x80, 0, -1, -6, -60] {
        let mut info: Info = [7; 128];
        info[8..12].copy_from_slice(&i32::to_le_bytes(code));
        let before = info;
        host::mark_sent(&mut info);
        assert!(i32::from_le_bytes(info[8..12].try_into().unwrap()) <= 0);
        host::unmark(&mut info);
        assert_eq!(info, before);
    }
}

#[test]
fn exec_leaves_no_flags_of_any_signal() {
    in_child(|| {
        let mut t = program();
        let mut actions = t.process.actions();
        actions.set(libc::SIGCHLD, Action { handler: SIG_DFL, flags: libc::SA_NOCLDWAIT as u64, restorer: RESTORER, mask: 1 }).unwrap();
        actions.set(libc::SIGUSR1, Action { handler: SIG_IGN, flags: libc::SA_NODEFER as u64, restorer: RESTORER, mask: 1 }).unwrap();
        actions.clear();
        assert_eq!(actions.get(libc::SIGCHLD), Action::default());
        assert_eq!(actions.get(libc::SIGUSR1), Action { handler: SIG_IGN, ..Action::default() });
        drop(actions);
        let pid = instruction(&mut t, libc::SYS_fork, &[], SYSCALL + 2);
        if pid == 0 {
            let _ = call(&mut t, libc::SYS_exit_group, &[0]);
        }
        assert_eq!(call(&mut t, libc::SYS_wait4, &[pid as u64, 0, 0, 0]), Ok(pid as u64), "the host does not reap it either");
    });
}

/// A handler that returns from a fault at once.
fn return_from_fault(exact: bool) {
    let mut t = program();
    handle(&mut t, libc::SIGSEGV, libc::SA_SIGINFO);
    t.cpu().rip = 0x0200_0050;
    let before = t.cpu().gpr;
    fault(&mut t, at_0x28(exact));
    sigreturn(&mut t);
    assert_eq!((t.cpu().rip, t.cpu().gpr), (0x0200_0050, before));
}

#[test]
fn a_handler_returns_to_an_exact_fault_but_not_to_an_older_state() {
    in_child(|| return_from_fault(true));
    let status = child_status(|| return_from_fault(false));
    assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGSEGV);
}

#[test]
fn a_fault_without_a_handler_ends_the_process_by_its_signal() {
    let status = child_status(|| {
        let mut t = program();
        fault(&mut t, at_0x28(false));
    });
    assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGSEGV);
}

#[test]
fn default_actions_are_the_kernels_own() {
    let status = child_status(|| {
        let mut t = program();
        kill_self(&mut t, libc::SIGTERM);
    });
    assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGTERM);
}

#[test]
fn sigtimedwait_takes_a_blocked_signal() {
    in_child(|| {
        let mut t = program();
        let at = scratch(&mut t);
        t.window().write(at, &bit(libc::SIGUSR1)).unwrap();
        call(&mut t, libc::SYS_rt_sigprocmask, &[libc::SIG_BLOCK as u64, at, 0, 8]).unwrap();
        kill_self(&mut t, libc::SIGUSR1);
        assert_eq!(call(&mut t, libc::SYS_rt_sigtimedwait, &[at, at + 16, 0, 8]), Ok(libc::SIGUSR1 as u64));
        assert_eq!(t.window().read::<i32>(at + 16), Ok(libc::SIGUSR1));
        t.window().write(at + 200, &[0u64, 1000]).unwrap();
        assert_eq!(call(&mut t, libc::SYS_rt_sigtimedwait, &[at, 0, at + 200, 8]), Err(Errno::EAGAIN));
    });
}

/// What the loader's handler does with a signal that somebody sent.
unsafe extern "C" fn sent(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the arguments of this handler.
    unsafe { record(signal, info, context) };
}

/// A guest with the handlers of the loader, which blocks SIGSEGV; the set is at the scratch address.
fn blocking_sigsegv() -> Thread {
    for signal in [libc::SIGSEGV, libc::SIGBUS] {
        // SAFETY: a valid action.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = sent as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_NODEFER | libc::SA_RESTART;
            libc::sigaction(signal, &raw const action, std::ptr::null_mut());
        }
    }
    let mut t = program();
    handle(&mut t, libc::SIGSEGV, libc::SA_SIGINFO);
    let at = scratch(&mut t);
    t.window().write(at, &bit(libc::SIGSEGV)).unwrap();
    assert_eq!(call(&mut t, libc::SYS_rt_sigprocmask, &[libc::SIG_BLOCK as u64, at, 0, 8]), Ok(0));
    t
}

#[test]
fn a_fault_signal_that_is_sent_waits_while_it_is_blocked() {
    in_child(|| {
        let mut t = blocking_sigsegv();
        let at = scratch(&mut t);
        for _ in 0..3 {
            kill_self(&mut t, libc::SIGSEGV);
            assert_eq!(poll(&mut t), Next::Continue);
        }
        assert_eq!(t.cpu().rip, SYSCALL + 2, "no handler ran");
        assert_eq!(call(&mut t, libc::SYS_rt_sigpending, &[at + 8, 8]), Ok(0));
        assert_eq!(t.window().read::<u64>(at + 8), Ok(bit(libc::SIGSEGV)));
        instruction(&mut t, libc::SYS_rt_sigprocmask, &[libc::SIG_UNBLOCK as u64, at, 0, 8], SYSCALL + 2);
        assert_eq!(t.cpu().poll, 1);
        poll(&mut t);
        assert_eq!((t.cpu().rip, t.cpu().gpr[reg::RDI]), (HANDLER, libc::SIGSEGV as u64));
        sigreturn(&mut t);
        assert_eq!(t.cpu().rip, SYSCALL + 2, "once");
    });
}

#[test]
fn a_fault_signal_that_is_sent_can_be_waited_for() {
    in_child(|| {
        let mut t = blocking_sigsegv();
        let at = scratch(&mut t);
        kill_self(&mut t, libc::SIGSEGV);
        poll(&mut t);
        assert_eq!(call(&mut t, libc::SYS_rt_sigtimedwait, &[at, at + 16, 0, 8]), Ok(libc::SIGSEGV as u64));
        assert_eq!(t.window().read::<i32>(at + 16), Ok(libc::SIGSEGV));
        t.window().write(at + 200, &[0u64, 1000]).unwrap();
        assert_eq!(call(&mut t, libc::SYS_rt_sigtimedwait, &[at, 0, at + 200, 8]), Err(Errno::EAGAIN));
        // Sent while the guest waits.
        // SAFETY: getpid and gettid have no preconditions.
        let (pid, tid) = unsafe { (libc::getpid(), libc::gettid()) };
        let sender = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(30));
            // SAFETY: plain numbers.
            unsafe { libc::syscall(libc::SYS_tgkill, pid, tid, libc::SIGSEGV) };
        });
        assert_eq!(call(&mut t, libc::SYS_rt_sigtimedwait, &[at, 0, 0, 8]), Ok(libc::SIGSEGV as u64));
        sender.join().unwrap();
    });
}

#[test]
fn a_blocked_fault_signal_neither_ends_a_read_nor_misses_the_mask_of_a_wait() {
    in_child(|| {
        let mut t = blocking_sigsegv();
        let at = scratch(&mut t);
        let (r, w) = pipe();
        kill_self(&mut t, libc::SIGSEGV);
        // The call is left at once, and made again because no handler ran.
        instruction(&mut t, libc::SYS_read, &[r, at + 8, 1], SYSCALL + 2);
        // SAFETY: writes one live byte.
        unsafe { libc::write(w as i32, b"x".as_ptr().cast(), 1) };
        poll(&mut t);
        assert_eq!((t.cpu().rip, t.cpu().gpr[reg::RAX]), (SYSCALL + 2, 1));
        t.window().write(at + 8, &0u64).unwrap();
        assert_eq!(instruction(&mut t, libc::SYS_rt_sigsuspend, &[at + 8, 8], SYSCALL + 2), -4);
        poll(&mut t);
        assert_eq!(t.cpu().rip, HANDLER);
        sigreturn(&mut t);
        assert_eq!(t.signals.mask, bit(libc::SIGSEGV));
        kill_self(&mut t, libc::SIGSEGV);
        poll(&mut t);
        assert_eq!(instruction(&mut t, libc::SYS_ppoll, &[0, 0, 0, at + 8, 8], SYSCALL + 2), -4);
        poll(&mut t);
        assert_eq!(t.cpu().rip, HANDLER);
    });
}

#[test]
fn a_blocked_fault_signal_does_not_end_a_wait_for_others() {
    in_child(|| {
        let mut t = blocking_sigsegv();
        handle(&mut t, libc::SIGUSR1, 0);
        let at = scratch(&mut t);
        // SAFETY: getpid and gettid have no preconditions.
        let (pid, tid) = unsafe { (libc::getpid(), libc::gettid()) };
        for (nr, args) in [(libc::SYS_rt_sigsuspend, vec![at, 8]), (libc::SYS_pause, vec![])] {
            let sender = std::thread::spawn(move || {
                for signal in [libc::SIGSEGV, libc::SIGUSR1] {
                    std::thread::sleep(Duration::from_millis(30));
                    // SAFETY: plain numbers.
                    unsafe { libc::syscall(libc::SYS_tgkill, pid, tid, signal) };
                }
            });
            // What `handle` leaves there.
            t.window().write(at, &bit(libc::SIGSEGV)).unwrap();
            let started = Instant::now();
            instruction(&mut t, nr, &args, SYSCALL + 2);
            poll(&mut t);
            assert!(started.elapsed() >= Duration::from_millis(55));
            assert_eq!((t.cpu().rip, t.cpu().gpr[reg::RDI]), (HANDLER, libc::SIGUSR1 as u64));
            sender.join().unwrap();
            sigreturn(&mut t);
            assert_eq!((t.cpu().rip, t.cpu().gpr[reg::RAX] as i64), (SYSCALL + 2, -4));
        }
    });
}

#[test]
fn a_pending_fault_signal_is_forgotten_by_a_forked_child_and_when_it_becomes_ignored() {
    in_child(|| {
        let mut t = blocking_sigsegv();
        let at = scratch(&mut t);
        let pending = |t: &mut Thread| {
            call(t, libc::SYS_rt_sigpending, &[at + 8, 8]).unwrap();
            t.window().read::<u64>(at + 8).unwrap()
        };
        kill_self(&mut t, libc::SIGSEGV);
        poll(&mut t);
        let pid = instruction(&mut t, libc::SYS_fork, &[], SYSCALL + 2);
        if pid == 0 {
            let code = u64::from(pending(&mut t) != 0);
            let _ = call(&mut t, libc::SYS_exit_group, &[code]);
        }
        assert_eq!(call(&mut t, libc::SYS_wait4, &[pid as u64, at + 16, 0, 0]), Ok(pid as u64));
        assert_eq!(t.window().read::<u32>(at + 16), Ok(0));
        assert_eq!(pending(&mut t), bit(libc::SIGSEGV));
        t.window().write(at + 32, &Action { handler: SIG_IGN, ..Action::default() }).unwrap();
        assert_eq!(call(&mut t, libc::SYS_rt_sigaction, &[libc::SIGSEGV as u64, at + 32, 0, 8]), Ok(0));
        assert_eq!(pending(&mut t), 0);
    });
}

#[test]
fn a_fault_while_its_signal_is_blocked_ends_the_process() {
    let status = child_status(|| {
        let mut t = blocking_sigsegv();
        fault(&mut t, at_0x28(true));
    });
    assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGSEGV);
}
