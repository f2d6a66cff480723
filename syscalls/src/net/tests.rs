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
