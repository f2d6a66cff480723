//! Sockets that a program was given as streams: `sock_accept`, `sock_recv`, `sock_send`, `sock_shutdown`. WASI makes none.

use super::call::Call;
use super::errno::Code;
use super::files::open_flags;
use super::functions::Answer;
use super::table::{Descriptor, right};

/// The host descriptor of a socket.
fn socket(c: &mut Call<'_>, number: u64, rights: u64) -> Result<u64, Code> {
    let d = c.program.table.get(number, 0)?;
    if !d.kind.is_socket() {
        return Err(Code::NOTSOCK);
    }
    c.host(number, rights)
}

pub(super) fn accept(c: &mut Call<'_>) -> Answer {
    let [number, fdflags, out, ..] = c.a;
    let host = socket(c, number, right::SOCK_ACCEPT)?;
    c.program.memory.load::<u32>(out)?;
    let flags = open_flags(fdflags)?;
    if flags & !libc::O_NONBLOCK != 0 {
        return Err(Code::INVAL);
    }
    let fd = c.row(libc::SYS_accept4, &[host, 0, 0, (flags | libc::SOCK_CLOEXEC) as u64])?;
    let kind = c.kind_of(fd as i32)?;
    let accepted = c.program.table.add(Descriptor::new(fd as i32, kind))?;
    c.answer(out, accepted)
}

/// Lays out a `struct msghdr` without address and control data.
fn message(c: &mut Call<'_>, vector: u64, n: u64) -> Result<u64, Code> {
    let [vector, n] = c.vector(vector, n)?;
    c.lay_words(&[0, 0, vector, n, 0, 0, 0])
}

/// Where `msg_flags` stands in it.
const MESSAGE_FLAGS: u64 = 48;

pub(super) fn recv(c: &mut Call<'_>) -> Answer {
    let [number, vector, n, riflags, length_out, flags_out, ..] = c.a;
    let host = socket(c, number, right::FD_READ)?;
    if riflags >> 2 != 0 {
        return Err(Code::INVAL);
    }
    let one = |bit: u64, linux: i32| if riflags & bit == 0 { 0 } else { linux };
    let message = message(c, vector, n)?;
    let done = c.row(libc::SYS_recvmsg, &[host, message, (one(1, libc::MSG_PEEK) | one(2, libc::MSG_WAITALL)) as u64])?;
    let cut = c.peek::<u32>(message + MESSAGE_FLAGS)? & libc::MSG_TRUNC as u32 != 0;
    c.answer(length_out, done as u32)?;
    c.answer(flags_out, u16::from(cut))
}

pub(super) fn send(c: &mut Call<'_>) -> Answer {
    let [number, vector, n, siflags, out, ..] = c.a;
    let host = socket(c, number, right::FD_WRITE)?;
    if siflags != 0 {
        return Err(Code::INVAL);
    }
    let message = message(c, vector, n)?;
    // A program without handlers learns of a closed socket by its errno.
    let done = c.row(libc::SYS_sendmsg, &[host, message, libc::MSG_NOSIGNAL as u64])?;
    c.answer(out, done as u32)
}

/// `sdflags`: 1 reading, 2 writing.
pub(super) fn shutdown(c: &mut Call<'_>) -> Answer {
    let how = match c.a[1] {
        1 => libc::SHUT_RD,
        2 => libc::SHUT_WR,
        3 => libc::SHUT_RDWR,
        _ => return Err(Code::INVAL),
    };
    let host = socket(c, c.a[0], right::SOCK_SHUTDOWN)?;
    c.row(libc::SYS_shutdown, &[host, how as u64]).map(drop)
}
