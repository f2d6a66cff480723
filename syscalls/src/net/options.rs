//! getsockopt and setsockopt. Owns the typed list of options.
//!
//! Refuses what attaches code, changes protocols or reaches packet filters (07, S24). The fact a newcomer gets wrong: an option's value may hold
//! pointers (SO_ATTACH_FILTER, TCP_ZEROCOPY_RECEIVE), so an option that is not listed is ENOPROTOOPT, also when the host kernel knows it.

use super::socket::is_socket;
use crate::errno::Errno;
use crate::pass::{at, at_mut, rows};
use crate::table::SysResult;
use crate::thread::Thread;

rows! {
    54 "setsockopt" [Fd Int Int BufIn Len] Translate "typed list of options; others are ENOPROTOOPT; SO_ATTACH_*, TCP_ULP, TCP_REPAIR, IPT_* are EPERM" setsockopt;
    55 "getsockopt" [Fd Int Int BufOut Ptr] Translate "typed list of options; others are ENOPROTOOPT" getsockopt;
}

/// Largest value copied: SO_PEERGROUPS, MCAST_MSFILTER and netlink membership lists are the long ones.
const VALUE_MAX: usize = 64 << 10;

#[derive(PartialEq)]
enum Verdict {
    Allowed,
    Refused,
    Unknown,
}

/// Option numbers are those of x86-64's <asm-generic/socket.h>, <linux/in.h>, <linux/in6.h>, <linux/tcp.h>, <linux/udp.h>, <linux/netlink.h>.
fn verdict(level: i32, name: i32) -> Verdict {
    const SOL_NETLINK: i32 = 270;
    const SOL_UDP: i32 = 17;
    const SOL_ICMPV6: i32 = 58;
    const SOL_RAW: i32 = 255;
    let (allowed, refused) = match level {
        libc::SOL_SOCKET => (socket(name), matches!(name, 26 | 27 | 50 | 51 | 52)),
        libc::IPPROTO_IP => (ip(name), (64..=95).contains(&name)),
        libc::IPPROTO_IPV6 => (ipv6(name), matches!(name, 64 | 65 | 68 | 69)),
        libc::IPPROTO_TCP => (tcp(name), matches!(name, 19..=22 | 29 | 31)),
        // UDP_CORK, UDP_NO_CHECK6_TX, UDP_NO_CHECK6_RX, UDP_SEGMENT, UDP_GRO
        SOL_UDP => (matches!(name, 1 | 101..=104), false),
        // NETLINK_ADD_MEMBERSHIP DROP_MEMBERSHIP PKTINFO BROADCAST_ERROR NO_ENOBUFS LIST_MEMBERSHIPS CAP_ACK EXT_ACK GET_STRICT_CHK
        SOL_NETLINK => (matches!(name, 1..=5 | 9..=12), false),
        // ICMP6_FILTER; ICMP_FILTER
        SOL_ICMPV6 | SOL_RAW => (name == 1, false),
        _ => (false, false),
    };
    match (allowed, refused) {
        (_, true) => Verdict::Refused,
        (true, _) => Verdict::Allowed,
        _ => Verdict::Unknown,
    }
}

/// SOL_SOCKET without SO_ATTACH_FILTER, ATTACH_BPF, ATTACH_REUSEPORT_CBPF/EBPF, SO_BINDTODEVICE's relatives that need privileges are the kernel's.
fn socket(name: i32) -> bool {
    // DEBUG .. REUSEPORT, PASSCRED, PEERCRED, RCVLOWAT .. SNDTIMEO_OLD, BINDTODEVICE
    matches!(name, 1..=13 | 15..=21 | 25
        // PEERNAME, TIMESTAMP, ACCEPTCONN, PEERSEC, SNDBUFFORCE, RCVBUFFORCE, PASSSEC, TIMESTAMPNS, MARK, TIMESTAMPING
        | 28..=37
        // PROTOCOL DOMAIN RXQ_OVFL WIFI_STATUS PEEK_OFF NOFCS, LOCK_FILTER (tightens only), BUSY_POLL, INCOMING_CPU, CNX_ADVICE
        | 38..=44 | 46 | 49 | 53
        // MEMINFO INCOMING_NAPI_ID COOKIE PEERGROUPS ZEROCOPY TXTIME is not listed: its flags take a clock id
        | 55..=60
        // BINDTOIFINDEX, TIMESTAMP_NEW family, RCVTIMEO_NEW, SNDTIMEO_NEW, PREFER_BUSY_POLL, NETNS_COOKIE, BUF_LOCK, RESERVE_MEM, PASSPIDFD, PEERPIDFD
        | 62..=67 | 69 | 71..=73 | 76 | 77)
}

fn ip(name: i32) -> bool {
    // TOS TTL HDRINCL OPTIONS ROUTER_ALERT RECVOPTS RETOPTS PKTINFO PKTOPTIONS MTU_DISCOVER RECVERR RECVTTL RECVTOS MTU FREEBIND
    matches!(name, 1..=15
        // IPSEC_POLICY and XFRM_POLICY are not listed; PASSSEC TRANSPARENT ORIGDSTADDR MINTTL NODEFRAG CHECKSUM BIND_ADDRESS_NO_PORT RECVFRAGSIZE RECVERR_RFC4884
        | 18..=26
        // MULTICAST_IF .. DROP_SOURCE_MEMBERSHIP, MSFILTER, MCAST_*, MULTICAST_ALL, UNICAST_IF, LOCAL_PORT_RANGE, PROTOCOL
        | 32..=52)
}

fn ipv6(name: i32) -> bool {
    // ADDRFORM changes the family of a live socket and is not listed; 2292* .. MULTICAST_ALL
    matches!(name, 2..=11 | 14 | 16..=31 | 33 | 36 | 37 | 42..=63 | 66 | 67 | 70 | 72..=78)
}

fn tcp(name: i32) -> bool {
    // NODELAY MAXSEG CORK KEEPIDLE KEEPINTVL KEEPCNT SYNCNT LINGER2 DEFER_ACCEPT WINDOW_CLAMP INFO QUICKACK CONGESTION
    matches!(name, 1..=13
        // THIN_LINEAR_TIMEOUTS THIN_DUPACK USER_TIMEOUT, FASTOPEN TIMESTAMP NOTSENT_LOWAT CC_INFO SAVE_SYN SAVED_SYN, FASTOPEN_CONNECT FASTOPEN_KEY FASTOPEN_NO_COOKIE, INQ TX_DELAY
        | 16..=18 | 23..=28 | 30 | 33 | 34 | 36 | 37)
}

fn decide(a: &[u64; 6]) -> Result<(), Errno> {
    is_socket(a[0])?;
    match verdict(a[1] as i32, a[2] as i32) {
        Verdict::Allowed => Ok(()),
        Verdict::Refused => Err(Errno::EPERM),
        Verdict::Unknown => Err(Errno::ENOPROTOOPT),
    }
}

fn setsockopt(t: &mut Thread, a: [u64; 6]) -> SysResult {
    decide(&a)?;
    // The kernel takes `int optlen`.
    let len = usize::try_from(a[4] as i32).map_err(|_| Errno::EINVAL)?;
    if len > VALUE_MAX {
        return Err(Errno::EINVAL);
    }
    if a[3] == 0 {
        return t.host(libc::SYS_setsockopt, &[a[0], a[1], a[2], 0, len as u64]);
    }
    let value = t.read_array::<u8>(a[3], len)?;
    t.host(libc::SYS_setsockopt, &[a[0], a[1], a[2], at(value.as_slice()), len as u64])
}

/// Where the value of an option that names sources has their count, where the sources begin, and the size of one (`struct ip_msfilter`, `struct group_filter`). Of all options listed here, these
/// alone are asked with a value: which group and interface.
fn sources(a: &[u64; 6]) -> Option<(usize, usize, usize)> {
    const MCAST_MSFILTER: i32 = 48;
    match (a[1] as i32, a[2] as i32) {
        (libc::IPPROTO_IP, libc::IP_MSFILTER) => Some((12, 16, 4)),
        (libc::IPPROTO_IP | libc::IPPROTO_IPV6, MCAST_MSFILTER) => Some((140, 144, 128)),
        _ => None,
    }
}

/// Takes over what the guest asks for. The kernel writes as many sources as the value's own count says, whatever the length. So the count is made to fit.
fn ask(t: &Thread, a: &[u64; 6], value: &mut [u8]) -> Result<(), Errno> {
    let Some((count, first, each)) = sources(a) else { return Ok(()) };
    let room = value.len().checked_sub(first).ok_or(Errno::EINVAL)? / each;
    t.window().copy_in(a[3], &mut value[..first])?;
    let field = &mut value[count..count + 4];
    let asked = u32::from_ne_bytes([field[0], field[1], field[2], field[3]]);
    field.copy_from_slice(&asked.min(room as u32).to_ne_bytes());
    Ok(())
}

fn getsockopt(t: &mut Thread, a: [u64; 6]) -> SysResult {
    decide(&a)?;
    let len = t.window().read::<i32>(a[4])?;
    if len < 0 {
        return Err(Errno::EINVAL);
    }
    let given = (len as usize).min(VALUE_MAX);
    let mut value = vec![0; given];
    ask(t, &a, &mut value)?;
    let mut own_len = given as i32;
    let r = t.host(libc::SYS_getsockopt, &[a[0], a[1], a[2], at_mut(value.as_mut_slice()), at_mut(&mut own_len)]);
    // ERANGE (SO_PEERGROUPS, SO_PEERSEC) also tells the length needed.
    if r.is_ok() || r == Err(Errno::ERANGE) {
        let n = usize::try_from(own_len).unwrap_or(0).min(given);
        if r.is_ok() && n != 0 {
            t.window().copy_out(a[3], &value[..n])?;
        }
        t.window().write(a[4], &own_len)?;
    }
    r
}
