//! Socket rows: messages, ancillary data, addresses, options.

use crate::errno::Errno;
use crate::guest::WINDOW_BYTES;
use crate::trial::Trial;

const WILD: u64 = WINDOW_BYTES + 4096;
const UNIX: u64 = libc::AF_UNIX as u64;
const DGRAM: u64 = libc::SOCK_DGRAM as u64;
const STREAM: u64 = libc::SOCK_STREAM as u64;

fn pair(t: &mut Trial, kind: u64) -> [u64; 2] {
    let fds = t.room(8);
    assert_eq!(t.call("socketpair", &[UNIX, kind, 0, fds]), Ok(0));
    let both = t.word(fds);
    [both & 0xffff_ffff, both >> 32]
}

fn close(t: &mut Trial, fds: &[u64]) {
    for fd in fds {
        assert_eq!(t.call("close", &[*fd]), Ok(0));
    }
}

#[test]
fn a_descriptor_travels_in_a_message() {
    let mut t = Trial::new();
    let [a, b] = pair(&mut t, DGRAM);
    let (data, out) = (t.put(b"hi"), t.room(8));
    let (vec, out_vec) = (t.put_words(&[data, 2]), t.put_words(&[out, 8]));
    // cmsghdr: len, level and type, then the descriptor.
    let control = t.put_words(&[20, u64::from(libc::SOL_SOCKET as u32) | (libc::SCM_RIGHTS as u64) << 32, a]);
    let message = t.put_words(&[0, 0, vec, 1, control, 20, 0]);
    assert_eq!(t.call("sendmsg", &[a, message, 0]), Ok(2));
    let room = t.room(64);
    let incoming = t.put_words(&[0, 0, out_vec, 1, room, 64, 0]);
    assert_eq!(t.call("recvmsg", &[b, incoming, 0]), Ok(2));
    assert_eq!(t.get(out, 3), b"hi\xa5");
    assert_eq!((t.word(incoming + 40), t.word(room)), (24, 20));
    let received = t.word(room + 16) & 0xffff_ffff;
    assert_eq!(t.word(incoming + 32), room, "the guest's own pointer stays");
    assert_eq!(t.call("fcntl", &[received, libc::F_GETFD as u64]), Ok(0));
    close(&mut t, &[a, b, received]);
}

#[test]
fn many_messages_report_their_lengths() {
    let mut t = Trial::new();
    let [a, b] = pair(&mut t, DGRAM);
    let (one, two) = (t.put(b"x"), t.put(b"yyy"));
    let (v1, v2) = (t.put_words(&[one, 1]), t.put_words(&[two, 3]));
    let messages = t.put_words(&[0, 0, v1, 1, 0, 0, 0, 0, 0, 0, v2, 1, 0, 0, 0, 0]);
    assert_eq!(t.call("sendmmsg", &[a, messages, 2, 0]), Ok(2));
    assert_eq!([t.word(messages + 56), t.word(messages + 120)], [1, 3]);
    let out = t.room(16);
    let (v1, v2) = (t.put_words(&[out, 8]), t.put_words(&[out + 8, 8]));
    let incoming = t.put_words(&[0, 0, v1, 1, 0, 0, 0, 0, 0, 0, v2, 1, 0, 0, 0, 0]);
    assert_eq!(t.call("recvmmsg", &[b, incoming, 2, 0, 0]), Ok(2));
    assert_eq!([t.word(incoming + 56), t.word(incoming + 120)], [1, 3]);
    assert_eq!(t.get(out + 8, 4), b"yyy\xa5");
    close(&mut t, &[a, b]);
}

/// Headers of `struct mmsghdr` with one vector each and this much control data.
fn multi(t: &mut Trial, parts: &[(u64, u64, u64)]) -> u64 {
    let words: Vec<u64> = parts.iter().flat_map(|(vec, control, len)| [0, 0, *vec, 1, *control, *len, 0, 0]).collect();
    t.put_words(&words)
}

#[test]
fn many_messages_end_at_the_first_bad_one() {
    let mut t = Trial::new();
    let [a, b] = pair(&mut t, DGRAM);
    let data = t.put(b"x");
    let vec = t.put_words(&[data, 1]);
    let good_bad_good = multi(&mut t, &[(vec, 0, 0), (WILD, 0, 0), (vec, 0, 0)]);
    assert_eq!(t.call("sendmmsg", &[a, good_bad_good, 3, 0]), Ok(1));
    assert_eq!(t.call("sendmmsg", &[a, good_bad_good + 64, 2, 0]), Err(Errno::EFAULT));
    assert_eq!(t.call("sendmmsg", &[a, WINDOW_BYTES - 64, 9, 0]).err(), t.call("sendmsg", &[a, WINDOW_BYTES - 64, 0]).err());
    assert_eq!(t.call("sendmmsg", &[a, good_bad_good, 1, 0]), Ok(1));
    let out = t.room(8);
    let vec = t.put_words(&[out, 8]);
    let incoming = multi(&mut t, &[(vec, 0, 0), (WILD, 0, 0), (vec, 0, 0)]);
    assert_eq!(t.call("recvmmsg", &[b, incoming, 3, libc::MSG_DONTWAIT as u64, 0]), Ok(1));
    assert_eq!(t.call("recvmmsg", &[b, incoming + 64, 2, libc::MSG_DONTWAIT as u64, 0]), Err(Errno::EFAULT));
    close(&mut t, &[a, b]);
}

#[test]
fn control_data_of_one_call_has_a_limit() {
    let mut t = Trial::new();
    let [a, b] = pair(&mut t, DGRAM);
    let data = t.put(b"x");
    let (vec, control) = (t.put_words(&[data, 1]), t.put_words(&[16, 0]));
    // What the kernel itself does not copy: no message goes.
    let large = multi(&mut t, &[(vec, control, (256 << 10) + 8)]);
    assert_eq!(t.call("sendmmsg", &[a, large, 1, 0]), Err(Errno::ENOBUFS));
    assert_eq!(t.call("sendmsg", &[a, large, 0]), Err(Errno::ENOBUFS));
    // Of two that are together too long, one goes.
    let two = multi(&mut t, &[(vec, control, 16), (vec, control, 256 << 10)]);
    assert_eq!(t.call("sendmmsg", &[a, two, 2, 0]), Ok(1));
    close(&mut t, &[a, b]);
}

#[test]
fn what_is_no_socket_is_told_before_what_the_arguments_are() {
    let mut t = Trial::new();
    let path = t.put_str("/etc/passwd");
    let fd = t.call("open", &[path, 0]).unwrap();
    for (name, args) in
        [("bind", [fd, WILD, 999, 0]), ("connect", [fd, WILD, 999, 0]), ("sendmsg", [fd, WILD, 0, 0]), ("recvmsg", [fd, WILD, 0, 0]), ("sendmmsg", [fd, WILD, 1, 0])]
    {
        assert_eq!(t.call(name, &args), Err(Errno::ENOTSOCK), "{name}");
    }
    assert_eq!(t.call("setsockopt", &[fd, 0xdead, 1, WILD, 4]), Err(Errno::ENOTSOCK));
    assert_eq!(t.call("getsockopt", &[fd, 0xdead, 1, WILD, WILD]), Err(Errno::ENOTSOCK));
    assert_eq!(t.call("close", &[fd]), Ok(0));
    let path_only = t.call("open", &[path, libc::O_PATH as u64]).unwrap();
    assert_eq!(t.call("setsockopt", &[path_only, 0xdead, 1, WILD, 4]), Err(Errno::EBADF));
    assert_eq!(t.call("close", &[path_only]), Ok(0));
}

#[test]
fn an_option_is_read_only_where_it_is_asked_with_a_value() {
    let mut t = Trial::new();
    let s = t.call("socket", &[libc::AF_INET as u64, DGRAM, 0]).unwrap();
    // Room of 64 KiB is claimed; what is mapped holds the answer.
    let (value, len) = (WINDOW_BYTES - 8, t.put(&65536u32.to_le_bytes()));
    assert_eq!(t.call("getsockopt", &[s, libc::SOL_SOCKET as u64, libc::SO_RCVBUF as u64, value, len]), Ok(0));
    assert_eq!(t.get(len, 4), 4u32.to_le_bytes());
    // `struct ip_msfilter`: group, interface, mode, count.
    let (filter, len) = (t.put(&[224, 0, 0, 251, 127, 0, 0, 1, 0, 0, 0, 0, 9, 0, 0, 0]), t.put(&16u32.to_le_bytes()));
    let asked = [s, libc::IPPROTO_IP as u64, libc::IP_MSFILTER as u64, filter, len];
    assert_eq!(t.call("getsockopt", &asked), Err(Errno::EADDRNOTAVAIL), "the group is read: nobody joined it");
    close(&mut t, &[s]);
}

#[test]
fn an_address_is_cut_to_the_room_and_tells_its_true_length() {
    let mut t = Trial::new();
    let s = t.call("socket", &[UNIX, STREAM, 0]).unwrap();
    let name = format!("\0vkernel-{}", std::process::id());
    let bytes = [&1u16.to_le_bytes(), name.as_bytes()].concat();
    let addr = t.put(&bytes);
    assert_eq!(t.call("bind", &[s, addr, bytes.len() as u64]), Ok(0));
    let (out, len) = (t.room(128), t.put(&4u32.to_le_bytes()));
    assert_eq!(t.call("getsockname", &[s, out, len]), Ok(0));
    assert_eq!(t.get(len, 4), (bytes.len() as u32).to_le_bytes());
    assert_eq!(t.get(out, 5), [&bytes[..4], &[0xa5]].concat());
    assert_eq!(t.call("listen", &[s, 1]), Ok(0));
    let c = t.call("socket", &[UNIX, STREAM, 0]).unwrap();
    assert_eq!(t.call("connect", &[c, addr, bytes.len() as u64]), Ok(0));
    assert_eq!(t.call("connect", &[c, addr, 129]), Err(Errno::EINVAL));
    // As in Linux the connection is taken and lost when its address cannot be stored.
    let negative = t.put(&(-1i32).to_le_bytes());
    assert_eq!(t.call("accept4", &[s, out, negative, 0]), Err(Errno::EINVAL));
    close(&mut t, &[c]);
    let c = t.call("socket", &[UNIX, STREAM, 0]).unwrap();
    assert_eq!(t.call("connect", &[c, addr, bytes.len() as u64]), Ok(0));
    let peer = t.call("accept4", &[s, 0, 0, libc::SOCK_CLOEXEC as u64]).unwrap();
    let (from, from_len) = (t.room(16), t.put(&16u32.to_le_bytes()));
    let data = t.put(b"abc");
    assert_eq!(t.call("sendto", &[c, data, 3, 0, 0, 0]), Ok(3));
    assert_eq!(t.call("recvfrom", &[peer, out, 8, 0, from, from_len]), Ok(3));
    assert_eq!(t.get(from_len, 4), [0; 4], "a stream has no sender");
    close(&mut t, &[s, c, peer]);
}

#[test]
fn only_listed_families_and_options_exist() {
    let mut t = Trial::new();
    for family in [libc::AF_PACKET, libc::AF_ALG, libc::AF_VSOCK, libc::AF_BLUETOOTH] {
        assert_eq!(t.call("socket", &[family as u64, DGRAM, 0]), Err(Errno::EAFNOSUPPORT));
    }
    assert_eq!(t.call("socket", &[libc::AF_NETLINK as u64, DGRAM, libc::NETLINK_KOBJECT_UEVENT as u64]), Err(Errno::EPROTONOSUPPORT));
    assert_eq!(t.call("socket", &[libc::AF_INET as u64, super::SOCK_PACKET | libc::SOCK_CLOEXEC as u64, 3]), Err(Errno::EPERM));
    let [a, b] = pair(&mut t, STREAM);
    let (value, len) = (t.room(64), t.put(&64u32.to_le_bytes()));
    let sol = libc::SOL_SOCKET as u64;
    assert_eq!(t.call("getsockopt", &[a, sol, libc::SO_TYPE as u64, value, len]), Ok(0));
    assert_eq!((t.get(value, 5), t.get(len, 4)), (vec![1, 0, 0, 0, 0xa5], 4u32.to_le_bytes().to_vec()));
    // A filter program with a pointer to host memory.
    let program = t.put_words(&[1, 0x7fff_0000_0000]);
    assert_eq!(t.call("setsockopt", &[a, sol, libc::SO_ATTACH_FILTER as u64, program, 16]), Err(Errno::EPERM));
    assert_eq!(t.call("setsockopt", &[a, 0xdead, 1, value, 4]), Err(Errno::ENOPROTOOPT));
    assert_eq!(t.call("setsockopt", &[9999, sol, 1, value, 4]), Err(Errno::EBADF));
    assert_eq!(t.call("setsockopt", &[a, sol, libc::SO_PASSCRED as u64, WILD, 4]), Err(Errno::EFAULT));
    assert_eq!(t.call("setsockopt", &[a, sol, libc::SO_PASSCRED as u64, value, 4]), Ok(0));
    close(&mut t, &[a, b]);
}
