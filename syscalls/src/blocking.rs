//! Host syscalls that may block. Owns `host_call`: a syscall that a recorded signal cannot miss.
//!
//! The fact a newcomer gets wrong: "check poll, then call the kernel" loses a signal that arrives between the two. Here the check and the
//! `syscall` instruction form one assembly range; the host handler moves a pc found inside it to an abort label (02, "What review changed", 6).

use crate::errno::Errno;
use crate::pass::quick;
use crate::table::SysResult;
use libc::c_long;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// What the two values below are more than. The kernel's own errors end at 4095, and below that it has answers that are none: F_GETOWN of process group 512 is -512.
const OURS: i32 = 1 << 16;

impl Errno {
    /// ERESTARTSYS: a signal interrupted the call; restarted under SA_RESTART, else EINTR. Rows pass it on like any errno.
    pub const RESTART: Errno = Errno(OURS + 1);
    /// A signal arrived before the call began: nothing happened, always restarted.
    pub const NOT_STARTED: Errno = Errno(OURS + 2);
}

// vkernel_interruptible(nr, args, poll): the raw kernel result, or the negative of one of the two above, which no call answers: the kernel's errors are above them, sizes and addresses in no reach of them.
// r11 holds the poll pointer: it is no argument register and `syscall` destroys it only afterwards. rcx is not the address behind `syscall` before that has begun: `rewind` looks at it.
std::arch::global_asm!(
    ".hidden vkernel_interruptible",
    ".hidden vkernel_interruptible_check",
    ".hidden vkernel_interruptible_enter",
    ".hidden vkernel_interruptible_abort",
    ".hidden vkernel_interruptible_restart",
    ".globl vkernel_interruptible",
    ".globl vkernel_interruptible_check",
    ".globl vkernel_interruptible_enter",
    ".globl vkernel_interruptible_abort",
    ".globl vkernel_interruptible_restart",
    ".type vkernel_interruptible, @function",
    "vkernel_interruptible:",
    "mov rax, rdi",
    "mov r11, rdx",
    "mov rcx, rsi",
    "mov rdi, [rcx]",
    "mov rsi, [rcx + 8]",
    "mov rdx, [rcx + 16]",
    "mov r10, [rcx + 24]",
    "mov r8, [rcx + 32]",
    "mov r9, [rcx + 40]",
    "vkernel_interruptible_check:",
    "cmp dword ptr [r11], 0",
    "jne vkernel_interruptible_abort",
    "vkernel_interruptible_enter:",
    "syscall",
    "ret",
    "vkernel_interruptible_abort:",
    "mov rax, -{not_started}",
    "ret",
    "vkernel_interruptible_restart:",
    "mov rax, -{restart}",
    "ret",
    restart = const Errno::RESTART.0,
    not_started = const Errno::NOT_STARTED.0,
);

unsafe extern "C" {
    fn vkernel_interruptible(nr: c_long, args: *const u64, poll: *const AtomicU32) -> i64;
    fn vkernel_interruptible_check();
    fn vkernel_interruptible_enter();
    fn vkernel_interruptible_abort();
    fn vkernel_interruptible_restart();
}

/// Length of a `syscall` instruction.
const SYSCALL_BYTES: u64 = 2;

/// `syscall` leaves the address behind it in rcx, as processors do that have no FRED. Found out once, before any handler asks.
static LEAVES_RCX: AtomicBool = AtomicBool::new(false);

/// Finds out what `rewind` needs to know of this processor.
pub(crate) fn know_processor() {
    let after: u64;
    // SAFETY: getpid reads no memory and has no effect.
    unsafe {
        std::arch::asm!("xor ecx, ecx", "syscall", inlateout("rax") libc::SYS_getpid => _, lateout("rcx") after, lateout("r11") _, options(nostack));
    }
    LEAVES_RCX.store(after != 0, Ordering::Relaxed);
}

/// Where an interrupted pc has to go on: a label behind the range when it lies in that, else unchanged. `rcx` is the interrupted register. Async-signal-safe.
pub(crate) fn rewind(pc: u64, rcx: u64) -> u64 {
    let at = |f: unsafe extern "C" fn()| f as usize as u64;
    let enter = at(vkernel_interruptible_enter);
    // At the `syscall` instruction itself: the kernel set the pc back to restart the call (SA_RESTART on our handlers), or it had not begun. Where rcx does not tell, the former is more likely by far.
    if pc == enter {
        let begun = !LEAVES_RCX.load(Ordering::Relaxed) || rcx == enter + SYSCALL_BYTES;
        at(if begun { vkernel_interruptible_restart } else { vkernel_interruptible_abort })
    } else if (at(vkernel_interruptible_check)..at(vkernel_interruptible_enter)).contains(&pc) {
        at(vkernel_interruptible_abort)
    } else {
        pc
    }
}

fn result(r: i64) -> SysResult {
    let own = [Errno::RESTART, Errno::NOT_STARTED].into_iter().find(|e| r == -i64::from(e.0));
    if (-4095..0).contains(&r) { Err(Errno(-r as i32)) } else { own.map_or(Ok(r as u64), Err) }
}

/// A host syscall with host addresses. Calls that can block are interruptible by a signal for the guest and may answer `Errno::RESTART` or
/// `Errno::NOT_STARTED`, which rows pass on; a row that has already done something irrevocable uses `pass::quick`.
pub fn host_call(nr: c_long, args: [u64; 6]) -> SysResult {
    match crate::signal::poll_word() {
        Some(poll) if may_block(nr, &args) => interruptible(nr, args, poll),
        // Not through the routine above: a handler would take a call that is about to begin for one that has to be left.
        _ => quick(nr, &args),
    }
}

pub(crate) fn interruptible(nr: c_long, args: [u64; 6], poll: *const AtomicU32) -> SysResult {
    // SAFETY: the row checked and translated every pointer among the arguments; `poll` is the live word of this thread.
    result(unsafe { vkernel_interruptible(nr, args.as_ptr(), poll) })
}

/// Calls that can wait for something outside the kernel. What never waits is never EINTR, wherever the signal comes: a C library that wakes a futex does not look at the answer.
fn may_block(nr: c_long, args: &[u64; 6]) -> bool {
    match nr {
        libc::SYS_futex => !matches!(
            args[1] as i32 & libc::FUTEX_CMD_MASK,
            libc::FUTEX_WAKE
                | libc::FUTEX_REQUEUE
                | libc::FUTEX_CMP_REQUEUE
                | libc::FUTEX_WAKE_OP
                | libc::FUTEX_UNLOCK_PI
                | libc::FUTEX_TRYLOCK_PI
                | libc::FUTEX_WAKE_BITSET
                | libc::FUTEX_CMP_REQUEUE_PI
        ),
        libc::SYS_fcntl => matches!(args[1] as i32, libc::F_SETLKW | libc::F_OFD_SETLKW),
        libc::SYS_wait4 => args[2] as i32 & libc::WNOHANG == 0,
        libc::SYS_waitid => args[3] as i32 & libc::WNOHANG == 0,
        libc::SYS_flock => args[1] as i32 & libc::LOCK_NB == 0,
        _ => waits(nr),
    }
}

fn waits(nr: c_long) -> bool {
    matches!(
        nr,
        libc::SYS_read
            | libc::SYS_write
            | libc::SYS_open
            | libc::SYS_poll
            | libc::SYS_ioctl
            | libc::SYS_pread64
            | libc::SYS_pwrite64
            | libc::SYS_readv
            | libc::SYS_writev
            | libc::SYS_select
            | libc::SYS_pause
            | libc::SYS_nanosleep
            | libc::SYS_sendfile
            | libc::SYS_connect
            | libc::SYS_accept
            | libc::SYS_sendto
            | libc::SYS_recvfrom
            | libc::SYS_sendmsg
            | libc::SYS_recvmsg
            | libc::SYS_semop
            | libc::SYS_semtimedop
            | libc::SYS_msgsnd
            | libc::SYS_msgrcv
            | libc::SYS_creat
            | libc::SYS_rt_sigtimedwait
            | libc::SYS_rt_sigsuspend
            | libc::SYS_rt_sigprocmask
            | libc::SYS_io_getevents
            | libc::SYS_clock_nanosleep
            | libc::SYS_epoll_wait
            | libc::SYS_mq_timedsend
            | libc::SYS_mq_timedreceive
            | libc::SYS_openat
            | libc::SYS_pselect6
            | libc::SYS_ppoll
            | libc::SYS_splice
            | libc::SYS_tee
            | libc::SYS_epoll_pwait
            | libc::SYS_accept4
            | libc::SYS_preadv
            | libc::SYS_pwritev
            | libc::SYS_recvmmsg
            | libc::SYS_sendmmsg
            | libc::SYS_getrandom
            | libc::SYS_preadv2
            | libc::SYS_pwritev2
            | libc::SYS_openat2
            | libc::SYS_epoll_pwait2
            | libc::SYS_futex_waitv
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{in_child, instruction};

    fn at(f: unsafe extern "C" fn()) -> u64 {
        f as usize as u64
    }

    #[test]
    fn a_call_that_had_not_begun_is_told_from_one_that_was_interrupted() {
        know_processor();
        let enter = at(vkernel_interruptible_enter);
        assert_eq!(rewind(enter - 1, 0), at(vkernel_interruptible_abort));
        assert_eq!(rewind(enter, enter + 2), at(vkernel_interruptible_restart));
        assert_eq!(rewind(enter + 2, enter + 2), enter + 2);
        for (leaves, label) in [(true, at(vkernel_interruptible_abort)), (false, at(vkernel_interruptible_restart))] {
            LEAVES_RCX.store(leaves, Ordering::Relaxed);
            assert_eq!(rewind(enter, 0x1000), label);
        }
        know_processor();
    }

    #[test]
    fn what_never_waits_is_not_interrupted() {
        let futex = |op: i32| may_block(libc::SYS_futex, &[0, op as u64, 0, 0, 0, 0]);
        assert!(futex(libc::FUTEX_WAIT) && futex(libc::FUTEX_LOCK_PI | libc::FUTEX_PRIVATE_FLAG) && futex(libc::FUTEX_WAIT_BITSET | libc::FUTEX_CLOCK_REALTIME));
        assert!(!futex(libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG) && !futex(libc::FUTEX_UNLOCK_PI) && !futex(libc::FUTEX_CMP_REQUEUE));
        assert!(!may_block(libc::SYS_fcntl, &[0, libc::F_GETFL as u64, 0, 0, 0, 0]) && may_block(libc::SYS_fcntl, &[0, libc::F_SETLKW as u64, 0, 0, 0, 0]));
        assert!(!may_block(libc::SYS_wait4, &[0, 0, libc::WNOHANG as u64, 0, 0, 0]) && may_block(libc::SYS_wait4, &[0; 6]));
    }

    /// A handler ran, without SA_RESTART, while the thread waited for a PI futex of another one.
    #[test]
    fn a_pi_futex_is_locked_whatever_handlers_run() {
        in_child(|| {
            let (mut t, _) = crate::testing::guest();
            let rsp = t.cpu().gpr[crate::thread::reg::RSP];
            let (action, word) = (rsp + 4096, rsp + 8192);
            t.window().write(action, &crate::signal::Action { handler: 0x1000, flags: 0x0400_0000, restorer: 0x1000, mask: 0 }).unwrap();
            assert_eq!(crate::testing::call(&mut t, libc::SYS_rt_sigaction, &[libc::SIGALRM as u64, action, 0, 8]), Ok(0));
            let host = t.window().range(word, 4).unwrap() as u64;
            let owner = std::thread::spawn(move || {
                let futex = |op: i32| quick(libc::SYS_futex, &[host, op as u64, 0, 0, 0, 0]);
                crate::signal::host::block_all();
                futex(libc::FUTEX_LOCK_PI).unwrap();
                std::thread::sleep(std::time::Duration::from_millis(150));
                futex(libc::FUTEX_UNLOCK_PI).unwrap();
            });
            while t.window().read::<u32>(word) == Ok(0) {
                std::thread::yield_now();
            }
            // SAFETY: a live structure.
            unsafe {
                let timer = libc::itimerval { it_interval: std::mem::zeroed(), it_value: libc::timeval { tv_sec: 0, tv_usec: 30_000 } };
                libc::syscall(libc::SYS_setitimer, libc::ITIMER_REAL, &raw const timer, 0);
            }
            instruction(&mut t, libc::SYS_futex, &[word, libc::FUTEX_LOCK_PI as u64, 0, 0, 0, 0], 0x2002);
            crate::signal::poll(&mut t);
            assert_eq!(t.cpu().rip, 0x1000, "in the handler");
            let frame = t.cpu().gpr[crate::thread::reg::RDX];
            // uc_mcontext.gregs: back at the instruction.
            let register = |n: i32| t.window().read::<u64>(frame + 40 + 8 * n as u64).unwrap();
            assert_eq!((register(libc::REG_RIP), register(libc::REG_RAX)), (0x2000, libc::SYS_futex as u64));
            owner.join().unwrap();
        });
    }
}
