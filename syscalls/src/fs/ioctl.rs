//! ioctl(2). Owns the typed table of requests: what the third argument is and how many bytes the kernel moves.
//!
//! Refuses to guess: a request that is not in the table is ENOTTY (07, S2: a passed-through SIOCGIFCONF wrote through a nested host pointer).
//! The fact a newcomer gets wrong: the size encoded in a request number is not always what the kernel copies (FS_IOC_GETFLAGS says 8, moves 4).

use super::fcntl::open_fd;
use crate::errno::Errno;
use crate::pass::rows;
use crate::table::SysResult;
use crate::thread::Thread;

rows! {
    16 "ioctl" [Fd Hex Hex] Translate "typed list of requests; others are ENOTTY; TIOCSTI, TIOCLINUX, TIOCSETD, TIOCCONS are EPERM, FICLONE family EOPNOTSUPP" ioctl;
}

/// What the third argument is.
enum Argument {
    /// A number, or ignored.
    Number,
    /// A structure of this many bytes without pointers.
    Struct(u64),
    /// `struct ifconf`: a length and a pointer to that many bytes.
    Ifconf,
    Refused(Errno),
}
use Argument::{Ifconf, Number, Refused, Struct};

/// `struct ifreq`; in the requests below its union holds no pointer.
const IFREQ: u64 = 40;
/// The kernel's `struct termios`, `termios2` and `termio`.
const TERMIOS: u64 = 36;
const TERMIOS2: u64 = 44;
const TERMIO: u64 = 18;

fn argument(request: u32) -> Option<Argument> {
    terminal(request).or_else(|| file(request)).or_else(|| interface(request))
}

/// asm-generic/ioctls.h
fn terminal(request: u32) -> Option<Argument> {
    Some(match request {
        // TCGETS TCSETS TCSETSW TCSETSF, TCGETA TCSETA TCSETAW TCSETAF
        0x5401..=0x5404 => Struct(TERMIOS),
        0x5405..=0x5408 => Struct(TERMIO),
        // TCSBRK TCXONC TCFLSH TIOCEXCL TIOCNXCL TIOCSCTTY
        0x5409..=0x540e => Number,
        // TIOCGPGRP TIOCSPGRP TIOCOUTQ
        0x540f..=0x5411 => Struct(4),
        // TIOCGWINSZ TIOCSWINSZ
        0x5413 | 0x5414 => Struct(8),
        // TIOCMGET TIOCMBIS TIOCMBIC TIOCMSET, TIOCGSOFTCAR TIOCSSOFTCAR, FIONREAD
        0x5415..=0x541b => Struct(4),
        // TIOCSTI TIOCLINUX TIOCCONS TIOCSETD: into another's terminal or line discipline (S25)
        0x5412 | 0x541c | 0x541d | 0x5423 => Refused(Errno::EPERM),
        // TIOCPKT FIONBIO TIOCGETD
        0x5420 | 0x5421 | 0x5424 => Struct(4),
        // TIOCNOTTY TCSBRKP TIOCSBRK TIOCCBRK
        0x5422 | 0x5425 | 0x5427 | 0x5428 => Number,
        // TIOCGSID
        0x5429 => Struct(4),
        // TCGETS2 TCSETS2 TCSETSW2 TCSETSF2
        0x802c_542a | 0x402c_542b..=0x402c_542d => Struct(TERMIOS2),
        // TIOCGPTN TIOCGDEV TIOCGPKT TIOCGPTLCK TIOCGEXCL, TIOCSPTLCK TIOCSIG(a number)
        0x8004_5430 | 0x8004_5432 | 0x8004_5438 | 0x8004_5439 | 0x8004_5440 | 0x4004_5431 => Struct(4),
        0x4004_5436 => Number,
        // TIOCVHANGUP TIOCGPTPEER
        0x5437 | 0x5441 => Number,
        _ => return None,
    })
}

/// Requests every file knows.
fn file(request: u32) -> Option<Argument> {
    Some(match request {
        // FIONCLEX FIOCLEX
        0x5450 | 0x5451 => Number,
        // FIOASYNC, FIGETBSZ
        0x5452 | 0x0002 => Struct(4),
        // FIOQSIZE
        0x5460 => Struct(8),
        // FICLONE FICLONERANGE FIDEDUPERANGE
        0x4004_9409 | 0x4020_940d | 0xc018_9436 => Refused(Errno::ENOTSUP),
        // FS_IOC_GETFLAGS FS_IOC_SETFLAGS FS_IOC_GETVERSION
        0x8008_6601 | 0x4008_6602 | 0x8008_7601 => Struct(8),
        // FS_IOC_FSGETXATTR FS_IOC_FSSETXATTR
        0x801c_581f | 0x401c_5820 => Struct(28),
        // FIFREEZE FITHAW
        0xc004_5877 | 0xc004_5878 => Refused(Errno::EPERM),
        // BLKROGET BLKGETSIZE BLKSSZGET BLKBSZGET BLKGETSIZE64
        0x125e | 0x1268 => Struct(4),
        0x1260 | 0x8008_1270 | 0x8008_1272 => Struct(8),
        // RNDGETENTCNT
        0x8004_5200 => Struct(4),
        _ => return None,
    })
}

/// netdevice(7) queries and socket state.
fn interface(request: u32) -> Option<Argument> {
    Some(match request {
        // FIOSETOWN SIOCSPGRP FIOGETOWN SIOCGPGRP SIOCATMARK
        0x8901..=0x8905 => Struct(4),
        // SIOCGSTAMP SIOCGSTAMPNS and their 64-bit forms
        0x8906 | 0x8907 | 0x8010_8906 | 0x8010_8907 => Struct(16),
        // SIOCGIFNAME
        0x8910 => Struct(IFREQ),
        0x8912 => Ifconf,
        // SIOCGIFFLAGS GIFADDR GIFDSTADDR GIFBRDADDR GIFNETMASK GIFMETRIC GIFMTU GIFHWADDR GIFINDEX GIFTXQLEN
        0x8913 | 0x8915 | 0x8917 | 0x8919 | 0x891b | 0x891d | 0x8921 | 0x8927 | 0x8933 | 0x8942 => Struct(IFREQ),
        _ => return None,
    })
}

fn ioctl(t: &mut Thread, a: [u64; 6]) -> SysResult {
    // The kernel takes `unsigned int cmd`.
    let request = a[1] as u32;
    match argument(request) {
        Some(Number) => t.host(libc::SYS_ioctl, &[a[0], u64::from(request), a[2]]),
        Some(Struct(len)) => t.host(libc::SYS_ioctl, &[a[0], u64::from(request), t.ptr(a[2], len)]),
        Some(Ifconf) => ifconf(t, a[0], a[2]),
        Some(Refused(e)) => open_fd(a[0]).and(Err(e)),
        None => open_fd(a[0]).and(Err(Errno::ENOTTY)),
    }
}

/// SIOCGIFCONF: `{int len; pointer}`; NULL asks for the length.
fn ifconf(t: &mut Thread, fd: u64, addr: u64) -> SysResult {
    let [len, pointer] = t.window().read::<[u64; 2]>(addr)?;
    let len = len as u32 as i32;
    let checked = if len < 0 { crate::pass::NEVER } else { t.ptr(pointer, len as u64) };
    let mut own = [u64::from(len as u32), checked];
    let r = t.host(libc::SYS_ioctl, &[fd, 0x8912, crate::pass::at_mut(&mut own)])?;
    t.window().write(addr, &(own[0] as u32))?;
    Ok(r)
}
