//! Making, naming and joining sockets; send and receive without message headers.
//!
//! Owns the list of socket families. The fact a newcomer gets wrong: accept's new descriptor exists before the address is stored, so a bad
//! address pointer must close it again, as Linux does.

use super::address::{Returned, given};
use crate::errno::Errno;
use crate::pass::{at, at_mut, passes, quick, rows};
use crate::table::SysResult;
use crate::thread::Thread;

passes! {
    48 "shutdown" [Fd Int] "" |_, a| [a[0], a[1]];
    50 "listen" [Fd Int] "" |_, a| [a[0], a[1]];
}

rows! {
    41 "socket" [Int Int Int] Translate "AF_UNIX, AF_INET, AF_INET6, AF_NETLINK with NETLINK_ROUTE; others are EAFNOSUPPORT; no SOCK_PACKET" |t, a| { family(&a)?; t.host(libc::SYS_socket, &[a[0], a[1], a[2]]) };
    42 "connect" [Fd Ptr Len] Translate "" |t, a| named(t, libc::SYS_connect, a);
    43 "accept" [Fd Ptr Ptr] Translate "" |t, a| accept(t, libc::SYS_accept, a);
    44 "sendto" [Fd BufIn Len Flags Ptr Len] Translate "" sendto;
    45 "recvfrom" [Fd BufOut Len Flags Ptr Ptr] Translate "" recvfrom;
    49 "bind" [Fd Ptr Len] Translate "" |t, a| named(t, libc::SYS_bind, a);
    51 "getsockname" [Fd Ptr Ptr] Translate "" |t, a| name_of(t, libc::SYS_getsockname, a);
    52 "getpeername" [Fd Ptr Ptr] Translate "" |t, a| name_of(t, libc::SYS_getpeername, a);
    53 "socketpair" [Int Int Int Ptr] Translate "AF_UNIX; the other families have no pairs" socketpair;
    288 "accept4" [Fd Ptr Ptr Flags] Translate "" |t, a| accept(t, libc::SYS_accept4, a);
}

/// The type by which Linux makes a packet socket of an AF_INET one (net/socket.c, `__sock_create`).
pub const SOCK_PACKET: u64 = 10;

/// 07, S24. Packet sockets, AF_ALG, AF_VSOCK and the rest reach kernel code no container needs. Raw sockets are the kernel's to refuse.
fn family(a: &[u64; 6]) -> Result<(), Errno> {
    match a[0] as i32 {
        // Without CAP_NET_RAW Linux answers the same.
        libc::AF_INET if a[1] & 0xf == SOCK_PACKET => Err(Errno::EPERM),
        libc::AF_UNIX | libc::AF_INET | libc::AF_INET6 => Ok(()),
        libc::AF_NETLINK if a[2] as i32 == libc::NETLINK_ROUTE => Ok(()),
        libc::AF_NETLINK => Err(Errno::EPROTONOSUPPORT),
        _ => Err(Errno::EAFNOSUPPORT),
    }
}

/// Only UNIX sockets come in pairs, and the container's filter lets no other family through.
fn socketpair(t: &mut Thread, a: [u64; 6]) -> SysResult {
    family(&a)?;
    if a[0] as i32 != libc::AF_UNIX {
        return Err(Errno::ENOTSUP);
    }
    t.host(libc::SYS_socketpair, &[a[0], a[1], a[2], t.ptr(a[3], 8)])
}

fn named(t: &mut Thread, nr: i64, a: [u64; 6]) -> SysResult {
    is_socket(a[0])?;
    let name = given(t, a[1], a[2])?;
    t.host(nr, &[a[0], at(name.as_slice()), name.len() as u64])
}

/// EBADF and ENOTSOCK come before anything about the arguments.
pub(super) fn is_socket(fd: u64) -> SysResult {
    let (mut kind, mut len) = (0i32, size_of::<i32>() as u32);
    quick(libc::SYS_getsockopt, &[fd, libc::SOL_SOCKET as u64, libc::SO_TYPE as u64, at_mut(&mut kind), at_mut(&mut len)])
}

fn accept(t: &mut Thread, nr: i64, a: [u64; 6]) -> SysResult {
    let mut peer = Returned::new();
    let [p, n] = if a[1] == 0 { [0, 0] } else { peer.host() };
    let fd = t.host(nr, &[a[0], p, n, a[3]])?;
    if a[1] != 0
        && let Err(e) = peer.store(t, a[1], a[2])
    {
        let _ = quick(libc::SYS_close, &[fd]);
        return Err(e);
    }
    Ok(fd)
}

fn name_of(t: &mut Thread, nr: i64, a: [u64; 6]) -> SysResult {
    let mut name = Returned::new();
    let [p, n] = name.host();
    let r = t.host(nr, &[a[0], p, n])?;
    name.store(t, a[1], a[2])?;
    Ok(r)
}

fn sendto(t: &mut Thread, a: [u64; 6]) -> SysResult {
    is_socket(a[0])?;
    let name = if a[4] == 0 { Vec::new() } else { given(t, a[4], a[5])? };
    let (p, n) = t.buffer(a[1], a[2]);
    let (to, to_len) = if a[4] == 0 { (0, 0) } else { (at(name.as_slice()), name.len() as u64) };
    t.host(libc::SYS_sendto, &[a[0], p, n, a[3], to, to_len])
}

fn recvfrom(t: &mut Thread, a: [u64; 6]) -> SysResult {
    let mut from = Returned::new();
    // A stream socket has no sender to tell: Linux then stores length 0.
    let [from_addr, from_len] = if a[4] == 0 { [0, 0] } else { from.host() };
    let (p, n) = t.buffer(a[1], a[2]);
    let r = t.host(libc::SYS_recvfrom, &[a[0], p, n, a[3], from_addr, from_len])?;
    if a[4] != 0 {
        from.store(t, a[4], a[5])?;
    }
    Ok(r)
}
