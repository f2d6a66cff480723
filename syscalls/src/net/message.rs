//! sendmsg, recvmsg and their multi-message forms.
//!
//! Owns the rebuilding of `struct msghdr`: name, vector and control data of an outgoing message are copied once; an incoming message's control
//! buffer is the guest's own memory, written by the kernel. The fact a newcomer gets wrong: control data holds descriptor numbers and ids,
//! never pointers, so SCM_RIGHTS needs no translation: guest descriptors are host descriptors.

use super::address::STORAGE;
use super::socket::is_socket;
use crate::errno::Errno;
use crate::guest::Plain;
use crate::pass::{IOV_MAX, at, at_mut, rows};
use crate::table::SysResult;
use crate::thread::Thread;

rows! {
    46 "sendmsg" [Fd Ptr Flags] Translate "" sendmsg;
    47 "recvmsg" [Fd Ptr Flags] Translate "" recvmsg;
    299 "recvmmsg" [Fd Ptr Int Flags Ptr] Translate "a bad message behind good ones ends the count, and is not the next call's error" recvmmsg;
    307 "sendmmsg" [Fd Ptr Int Flags] Translate "" sendmmsg;
}

/// `struct msghdr` as the kernel has it on x86-64.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Header {
    name: u64,
    name_len: i32,
    pad: u32,
    vec: u64,
    vec_len: u64,
    control: u64,
    control_len: u64,
    flags: u32,
    pad2: u32,
}

/// `struct mmsghdr`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Multi {
    header: Header,
    len: u32,
    pad: u32,
}

// SAFETY: integers only, padding written out as fields.
unsafe impl Plain for Header {}
// SAFETY: as above.
unsafe impl Plain for Multi {}

const HEADER: u64 = size_of::<Header>() as u64;
const MULTI: u64 = size_of::<Multi>() as u64;
const _: () = assert!(HEADER == 56 && MULTI == 64);
/// Offsets of what recvmsg writes back.
const NAME_LEN: u64 = 8;
const CONTROL_LEN: u64 = 40;
const FLAGS: u64 = 48;
const LEN: u64 = 56;

/// Control data of one call, in bytes; Linux allows each message net.core.optmem_max, 128 KiB unless it was changed.
const CONTROL_MAX: u64 = 256 << 10;

/// Checks common to both directions: the kernel's rules for lengths.
fn checked(h: &Header) -> Result<usize, Errno> {
    if h.vec_len > IOV_MAX {
        return Err(Errno::EMSGSIZE);
    }
    if h.name_len < 0 {
        return Err(Errno::EINVAL);
    }
    Ok(if h.name == 0 { 0 } else { (h.name_len as usize).min(STORAGE) })
}

/// A message to send: everything the kernel reads to decide is ours.
struct Outgoing {
    name: Vec<u8>,
    vec: Vec<[u64; 2]>,
    control: Vec<u8>,
    flags: u32,
}

impl Outgoing {
    /// `budget`: bytes of control data that the call may yet copy.
    fn from(t: &Thread, h: &Header, budget: &mut u64) -> Result<Self, Errno> {
        let name_len = checked(h)?;
        let (name, vec) = (t.read_array(h.name, name_len)?, t.iovec(h.vec, h.vec_len)?);
        *budget = budget.checked_sub(h.control_len).ok_or(Errno::ENOBUFS)?;
        Ok(Self { name, vec, control: t.read_array(h.control, h.control_len as usize)?, flags: h.flags })
    }

    fn header(&self) -> Header {
        let some = |p: u64, n: usize| if n == 0 { 0 } else { p };
        Header {
            name: some(at(self.name.as_slice()), self.name.len()),
            name_len: self.name.len() as i32,
            vec: at(self.vec.as_slice()),
            vec_len: self.vec.len() as u64,
            control: some(at(self.control.as_slice()), self.control.len()),
            control_len: self.control.len() as u64,
            flags: self.flags,
            ..Header::default()
        }
    }
}

/// A message to receive.
struct Incoming {
    /// The guest's own header, as read once.
    given: Header,
    vec: Vec<[u64; 2]>,
    name: Box<[u8; STORAGE]>,
}

impl Incoming {
    fn from(t: &Thread, given: Header) -> Result<Self, Errno> {
        checked(&given)?;
        Ok(Self { given, vec: t.iovec(given.vec, given.vec_len)?, name: Box::new([0; STORAGE]) })
    }

    /// The name goes to our buffer, control data straight to the guest's.
    fn header(&mut self, t: &Thread) -> Header {
        let (control, control_len) = match self.given.control_len.min(CONTROL_MAX) {
            0 => (0, 0),
            n => (t.ptr(self.given.control, n), n),
        };
        let name = if self.given.name == 0 { 0 } else { at_mut(self.name.as_mut_slice()) };
        Header {
            name,
            name_len: if name == 0 { 0 } else { STORAGE as i32 },
            vec: at(self.vec.as_slice()),
            vec_len: self.vec.len() as u64,
            control,
            control_len,
            ..Header::default()
        }
    }

    /// Writes back what Linux writes back to the header at `addr`.
    fn store(&self, t: &Thread, addr: u64, got: &Header) -> Result<(), Errno> {
        let w = t.window();
        if self.given.name != 0 {
            let n = (got.name_len as usize).min(self.given.name_len as usize).min(STORAGE);
            w.copy_out(self.given.name, &self.name[..n])?;
            w.write(addr + NAME_LEN, &got.name_len)?;
        }
        w.write(addr + FLAGS, &got.flags)?;
        w.write(addr + CONTROL_LEN, &got.control_len)
    }
}

fn sendmsg(t: &mut Thread, a: [u64; 6]) -> SysResult {
    is_socket(a[0])?;
    let given = t.window().read::<Header>(a[1])?;
    let message = Outgoing::from(t, &given, &mut CONTROL_MAX.clone())?;
    t.host(libc::SYS_sendmsg, &[a[0], at(&message.header()), a[2]])
}

fn recvmsg(t: &mut Thread, a: [u64; 6]) -> SysResult {
    is_socket(a[0])?;
    let given = t.window().read::<Header>(a[1])?;
    let mut message = Incoming::from(t, given)?;
    let mut own = message.header(t);
    let r = t.host(libc::SYS_recvmsg, &[a[0], at_mut(&mut own), a[2]])?;
    message.store(t, a[1], &own)?;
    Ok(r)
}

/// The messages of a multi-message call as far as they are good, the first bad one's error if there is none before it. Linux takes one after the other and answers how many it has done; so no message behind a bad one is looked at.
fn good<T>(t: &Thread, a: &[u64; 6], mut rebuild: impl FnMut(Header) -> Result<T, Errno>) -> Result<Vec<T>, Errno> {
    let mut all = Vec::new();
    for i in 0..u64::from(a[2] as u32).min(IOV_MAX) {
        match t.window().read::<Multi>(a[1].wrapping_add(i * MULTI)).and_then(|m| rebuild(m.header)) {
            Ok(message) => all.push(message),
            Err(e) if i == 0 => return Err(e),
            Err(_) => break,
        }
    }
    Ok(all)
}

/// Tells the guest of each of `n` messages that went; as Linux, one that cannot be told of ends the count.
fn told(n: u64, mut tell: impl FnMut(usize, u64) -> Result<(), Errno>, array: u64) -> SysResult {
    for i in 0..n {
        match tell(i as usize, array + i * MULTI) {
            Err(e) if i == 0 => return Err(e),
            Err(_) => return Ok(i),
            Ok(()) => {}
        }
    }
    Ok(n)
}

fn recvmmsg(t: &mut Thread, a: [u64; 6]) -> SysResult {
    is_socket(a[0])?;
    let mut messages = good(t, &a, |header| Incoming::from(t, header))?;
    let mut own: Vec<Multi> = messages.iter_mut().map(|m| Multi { header: m.header(t), ..Multi::default() }).collect();
    let timeout = t.ptr(a[4], 16);
    let r = t.host(libc::SYS_recvmmsg, &[a[0], at_mut(own.as_mut_slice()), own.len() as u64, a[3], timeout])?;
    let tell = |i: usize, addr| {
        messages[i].store(t, addr, &own[i].header)?;
        t.window().write(addr + LEN, &own[i].len)
    };
    told(r, tell, a[1])
}

fn sendmmsg(t: &mut Thread, a: [u64; 6]) -> SysResult {
    is_socket(a[0])?;
    let mut budget = CONTROL_MAX;
    let messages = good(t, &a, |header| Outgoing::from(t, &header, &mut budget))?;
    let mut own: Vec<Multi> = messages.iter().map(|m| Multi { header: m.header(), ..Multi::default() }).collect();
    let r = t.host(libc::SYS_sendmmsg, &[a[0], at_mut(own.as_mut_slice()), own.len() as u64, a[3]])?;
    told(r, |i, addr| t.window().write(addr + LEN, &own[i].len), a[1])
}
