//! sendmsg, recvmsg and their multi-message forms.
//!
//! Owns the rebuilding of `struct msghdr`: name, vector and control data of an outgoing message are copied once; an incoming message's control
//! buffer is the guest's own memory, written by the kernel. The fact a newcomer gets wrong: control data holds descriptor numbers and ids,
//! never pointers, so SCM_RIGHTS needs no translation: guest descriptors are host descriptors.

use super::address::STORAGE;
use super::socket::open_fd;
use crate::errno::Errno;
use crate::guest::Plain;
use crate::pass::{IOV_MAX, at, at_mut, rows};
use crate::table::SysResult;
use crate::thread::Thread;

rows! {
    46 "sendmsg" [Fd Ptr Flags] Translate "" sendmsg;
    47 "recvmsg" [Fd Ptr Flags] Translate "" recvmsg;
    299 "recvmmsg" [Fd Ptr Int Flags Ptr] Translate "" recvmmsg;
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

/// More control data than any socket option memory limit allows.
const CONTROL_MAX: u64 = 1 << 20;

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
    fn from(t: &Thread, h: &Header) -> Result<Self, Errno> {
        let name_len = checked(h)?;
        if h.control_len > CONTROL_MAX {
            return Err(Errno::ENOBUFS);
        }
        Ok(Self { name: t.read_array(h.name, name_len)?, vec: t.iovec(h.vec, h.vec_len)?, control: t.read_array(h.control, h.control_len as usize)?, flags: h.flags })
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
    open_fd(a[0])?;
    let given = t.window().read::<Header>(a[1])?;
    let message = Outgoing::from(t, &given)?;
    t.host(libc::SYS_sendmsg, &[a[0], at(&message.header()), a[2]])
}

fn recvmsg(t: &mut Thread, a: [u64; 6]) -> SysResult {
    open_fd(a[0])?;
    let given = t.window().read::<Header>(a[1])?;
    let mut message = Incoming::from(t, given)?;
    let mut own = message.header(t);
    let r = t.host(libc::SYS_recvmsg, &[a[0], at_mut(&mut own), a[2]])?;
    message.store(t, a[1], &own)?;
    Ok(r)
}

fn recvmmsg(t: &mut Thread, a: [u64; 6]) -> SysResult {
    open_fd(a[0])?;
    let n = u64::from(a[2] as u32).min(IOV_MAX) as usize;
    let given = t.read_array::<Multi>(a[1], n)?;
    let mut messages = given.iter().map(|m| Incoming::from(t, m.header)).collect::<Result<Vec<_>, _>>()?;
    let mut own: Vec<Multi> = messages.iter_mut().map(|m| Multi { header: m.header(t), ..Multi::default() }).collect();
    let timeout = t.ptr(a[4], 16);
    let r = t.host(libc::SYS_recvmmsg, &[a[0], at_mut(own.as_mut_slice()), n as u64, a[3], timeout])?;
    for (i, (message, got)) in messages.iter().zip(&own).take(r as usize).enumerate() {
        let addr = a[1] + i as u64 * MULTI;
        message.store(t, addr, &got.header)?;
        t.window().write(addr + LEN, &got.len)?;
    }
    Ok(r)
}

fn sendmmsg(t: &mut Thread, a: [u64; 6]) -> SysResult {
    open_fd(a[0])?;
    let n = u64::from(a[2] as u32).min(IOV_MAX) as usize;
    let given = t.read_array::<Multi>(a[1], n)?;
    let messages = given.iter().map(|m| Outgoing::from(t, &m.header)).collect::<Result<Vec<_>, _>>()?;
    let mut own: Vec<Multi> = messages.iter().map(|m| Multi { header: m.header(), ..Multi::default() }).collect();
    let r = t.host(libc::SYS_sendmmsg, &[a[0], at_mut(own.as_mut_slice()), n as u64, a[3]])?;
    for (i, got) in own.iter().take(r as usize).enumerate() {
        t.window().write(a[1] + i as u64 * MULTI + LEN, &got.len)?;
    }
    Ok(r)
}
