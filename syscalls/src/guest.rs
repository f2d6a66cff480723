//! The guest's address space as the host sees it: one 4 GiB window. Owns the translation of guest pointers and nothing else.
//!
//! A guest pointer is an *allegation* until `Window::range` has checked it: 64 bits wide, possibly above 4 GiB, with a length that may run past
//! the end. Ranges are checked as `u64` before translation (07, S2). A checked range may still be unmapped or protected: copying in and
//! out goes through `process_vm_readv`-like kernel copies or direct access with the fault handler armed, see `copy_in`/`copy_out`.

use crate::errno::Errno;
use std::ffi::CString;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

/// Size of the window: 4 GiB.
pub const WINDOW_BYTES: u64 = 1 << 32;
/// Where the window shows a second time. Lifted code uses the low half of an address, so it reaches the same bytes there; GHC's runtime wants its heap at 8 GiB or above, to tell by one comparison what lies in it.
pub const ALIAS: u64 = 8 << 30;
/// Linux's PATH_MAX, including the terminating NUL.
pub const PATH_MAX: usize = 4096;

/// The window's own address of one in its alias; any other as it is.
pub(crate) fn low(addr: u64) -> u64 {
    if is_alias(addr) { addr - ALIAS } else { addr }
}

pub(crate) fn is_alias(addr: u64) -> bool {
    addr.wrapping_sub(ALIAS) < WINDOW_BYTES
}

/// Types that may be copied between guest memory and the host byte for byte.
///
/// # Safety
/// Every bit pattern must be valid and there must be no padding whose content matters.
pub unsafe trait Plain: Copy {}
macro_rules! plain { ($($t:ty),*) => { $(
    // SAFETY: integers and arrays of them have no invalid bit patterns.
    unsafe impl Plain for $t {}
)* } }
plain!(u8, i8, u16, i16, u32, i32, u64, i64, [u32; 2], [i32; 2], [u64; 2], [u64; 4], [i64; 2], [i64; 4]);

/// A typed guest address: an allegation, see the module text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestPtr<T>(pub u64, pub PhantomData<T>);

/// The window: base address of memory 0 in this process.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    base: *mut u8,
}

// SAFETY: a plain address; all access through it is raw and checked by callers, guest memory is shared between threads by design.
unsafe impl Send for Window {}
// SAFETY: as above.
unsafe impl Sync for Window {}

impl Window {
    /// # Safety
    /// `base` must point to a reservation of `WINDOW_BYTES` plus guard that stays mapped for the life of the process.
    pub unsafe fn new(base: *mut u8) -> Self {
        Self { base }
    }

    pub fn base(&self) -> *mut u8 {
        self.base
    }

    /// Host address of a checked range of guest memory. EFAULT if `addr..addr+len` is not inside the window or its alias.
    pub fn range(&self, addr: u64, len: u64) -> Result<*mut u8, Errno> {
        let addr = low(addr);
        match addr.checked_add(len) {
            Some(end) if end <= WINDOW_BYTES => Ok(self.base.wrapping_add(addr as usize)),
            _ => Err(Errno::EFAULT),
        }
    }

    /// Copies `out.len()` bytes in. EFAULT when any of them is not readable.
    pub fn copy_in(&self, addr: u64, out: &mut [u8]) -> Result<(), Errno> {
        let p = self.range(addr, out.len() as u64)?;
        kernel_copy(out.as_mut_ptr(), p, out.len(), false)
    }

    /// Copies `data` out. EFAULT when any byte is not writable.
    pub fn copy_out(&self, addr: u64, data: &[u8]) -> Result<(), Errno> {
        let p = self.range(addr, data.len() as u64)?;
        kernel_copy(data.as_ptr().cast_mut(), p, data.len(), true)
    }

    pub fn read<T: Plain>(&self, addr: u64) -> Result<T, Errno> {
        let mut v = std::mem::MaybeUninit::<T>::uninit();
        let p = self.range(addr, size_of::<T>() as u64)?;
        kernel_copy(v.as_mut_ptr().cast(), p, size_of::<T>(), false)?;
        // SAFETY: `kernel_copy` filled every byte and `Plain` has no invalid patterns.
        Ok(unsafe { v.assume_init() })
    }

    pub fn write<T: Plain>(&self, addr: u64, value: &T) -> Result<(), Errno> {
        let p = self.range(addr, size_of::<T>() as u64)?;
        kernel_copy(std::ptr::from_ref(value).cast_mut().cast(), p, size_of::<T>(), true)
    }

    /// Puts `new` in the place of `old` in an aligned word, in one piece, and gives what was there.
    pub(crate) fn compare_exchange(&self, addr: u64, old: u32, new: u32) -> Result<u32, Errno> {
        let p = self.range(addr, 4)?;
        if !addr.is_multiple_of(4) {
            return Err(Errno::EINVAL);
        }
        let mut was = old;
        // SAFETY: an aligned word of the window; a fault ends at the landing pad where a handler is armed.
        if unsafe { vkernel_guest_exchange(p, &raw mut was, new) } == 0 { Ok(was) } else { Err(Errno::EFAULT) }
    }

    pub fn read_vec<T: Plain>(&self, addr: u64, n: usize) -> Result<Vec<T>, Errno> {
        (0..n).map(|i| self.read(addr + (i * size_of::<T>()) as u64)).collect()
    }

    /// A NUL-terminated string of at most `max` bytes including the NUL; `too_long` otherwise (ENAMETOOLONG for paths, E2BIG for arguments).
    pub fn read_cstr(&self, addr: u64, max: usize, too_long: Errno) -> Result<CString, Errno> {
        let mut bytes = Vec::new();
        let mut at = addr;
        while bytes.len() < max {
            // Never cross a page in one copy: the next page may not exist. Most strings are short.
            let chunk = (4096 - (at & 4095) as usize).min(max - bytes.len()).min(256);
            let old = bytes.len();
            bytes.resize(old + chunk, 0);
            self.copy_in(at, &mut bytes[old..])?;
            if let Some(n) = bytes[old..].iter().position(|b| *b == 0) {
                bytes.truncate(old + n);
                return CString::new(bytes).map_err(|_| Errno::EFAULT);
            }
            at += chunk as u64;
        }
        Err(too_long)
    }

    /// A path argument.
    pub fn read_path(&self, addr: u64) -> Result<CString, Errno> {
        self.read_cstr(addr, PATH_MAX, Errno::ENAMETOOLONG)
    }
}

/// Copies between host and guest. An unmapped page is an errno, never a signal. `write`: host → guest.
fn kernel_copy(host: *mut u8, guest: *mut u8, len: usize, write: bool) -> Result<(), Errno> {
    if len == 0 {
        return Ok(());
    }
    if DIRECT.load(Ordering::Relaxed) {
        let (to, from) = if write { (guest, host) } else { (host, guest) };
        // SAFETY: the host range is owned by the caller, the guest range lies in the window; a fault ends at the landing pad (`arm`).
        return if unsafe { vkernel_guest_copy(to, from, len) } == 0 { Ok(()) } else { Err(Errno::EFAULT) };
    }
    let local = libc::iovec { iov_base: host.cast(), iov_len: len };
    let remote = libc::iovec { iov_base: guest.cast(), iov_len: len };
    // SAFETY: both vectors describe one range each; the kernel validates the remote range, the local one is owned by the caller.
    let n = unsafe {
        let me = libc::getpid();
        if write { libc::process_vm_writev(me, &local, 1, &remote, 1, 0) } else { libc::process_vm_readv(me, &local, 1, &remote, 1, 0) }
    };
    if n == len as isize { Ok(()) } else { Err(Errno::EFAULT) }
}

/// A fault handler sends faults in `copy_range` to the landing pad: copy directly instead of asking the kernel (20 times cheaper).
static DIRECT: AtomicBool = AtomicBool::new(false);

/// For the owner of the SIGSEGV and SIGBUS handlers: faults with a pc in the range must go on at the second value. From this call on copies rely on it.
pub fn arm() -> (Range<usize>, usize) {
    DIRECT.store(true, Ordering::Relaxed);
    let (start, end) = (&raw const vkernel_guest_copy_start, &raw const vkernel_guest_copy_end);
    (start as usize..end as usize, &raw const vkernel_guest_copy_failed as usize)
}

// vkernel_guest_copy(to, from, len) and vkernel_guest_exchange(at, old, new): 0, or 1 after a fault. Aligned words are copied in one piece: the guest's other threads may be looking.
std::arch::global_asm!(
    ".hidden vkernel_guest_copy",
    ".hidden vkernel_guest_copy_start",
    ".hidden vkernel_guest_copy_end",
    ".hidden vkernel_guest_copy_failed",
    ".globl vkernel_guest_copy",
    ".globl vkernel_guest_copy_start",
    ".globl vkernel_guest_copy_end",
    ".globl vkernel_guest_copy_failed",
    ".type vkernel_guest_copy, @function",
    ".hidden vkernel_guest_exchange",
    ".globl vkernel_guest_exchange",
    ".type vkernel_guest_exchange, @function",
    "vkernel_guest_copy:",
    "mov rcx, rdx",
    "cmp rdx, 8",
    "je 8f",
    "cmp rdx, 4",
    "je 4f",
    "vkernel_guest_copy_start:",
    "rep movsb",
    "xor eax, eax",
    "ret",
    "8:",
    "mov rax, [rsi]",
    "mov [rdi], rax",
    "xor eax, eax",
    "ret",
    "4:",
    "mov eax, [rsi]",
    "mov [rdi], eax",
    "xor eax, eax",
    "ret",
    "vkernel_guest_exchange:",
    "mov eax, [rsi]",
    "lock cmpxchg [rdi], edx",
    "mov [rsi], eax",
    "xor eax, eax",
    "ret",
    "vkernel_guest_copy_end:",
    "vkernel_guest_copy_failed:",
    "mov eax, 1",
    "ret",
);

unsafe extern "C" {
    fn vkernel_guest_copy(to: *mut u8, from: *const u8, len: usize) -> u32;
    fn vkernel_guest_exchange(at: *mut u8, old: *mut u32, new: u32) -> u32;
    static vkernel_guest_copy_start: u8;
    static vkernel_guest_copy_end: u8;
    static vkernel_guest_copy_failed: u8;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{guest, in_child};

    /// What the loader's handler does.
    unsafe extern "C" fn on_fault(_: i32, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
        let (range, landing) = arm();
        // SAFETY: the kernel's arguments of a handler.
        let registers = unsafe { &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
        assert!(range.contains(&(registers[libc::REG_RIP as usize] as usize)));
        registers[libc::REG_RIP as usize] = landing as i64;
    }

    #[test]
    fn a_range_may_end_with_the_window_and_not_one_byte_later() {
        let w = Window { base: std::ptr::null_mut() };
        assert!(w.range(WINDOW_BYTES - 8, 8).is_ok() && w.range(WINDOW_BYTES, 0).is_ok());
        for (addr, len) in [(WINDOW_BYTES - 8, 9), (WINDOW_BYTES, 1), (u64::MAX, 1), (8, u64::MAX)] {
            assert_eq!(w.range(addr, len), Err(Errno::EFAULT));
        }
    }

    #[test]
    fn direct_copies_answer_faults_with_efault_as_the_kernels_do() {
        in_child(|| {
            // SAFETY: a valid action; the handler above.
            unsafe {
                let mut action: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = on_fault as *const () as usize;
                action.sa_flags = libc::SA_SIGINFO;
                libc::sigaction(libc::SIGSEGV, &raw const action, std::ptr::null_mut());
            }
            let (t, _) = guest();
            let w = t.window();
            let top = t.process.memory().stack_high;
            for armed in [false, true] {
                DIRECT.store(armed, Ordering::Relaxed);
                assert_eq!(w.read::<u64>(0x1000), Err(Errno::EFAULT));
                assert_eq!(w.write(0x1000, &1u32), Err(Errno::EFAULT));
                assert_eq!(w.read::<[u64; 2]>(top - 8), Err(Errno::EFAULT));
                assert_eq!(w.read::<u64>(WINDOW_BYTES - 4), Err(Errno::EFAULT));
                assert_eq!(w.write(top - 16, &[1u64, 2]), Ok(()));
                assert_eq!((w.read::<u64>(top - 8), w.read::<u32>(top - 16)), (Ok(2), Ok(1)));
                w.copy_out(top - 4, b"abc\0").unwrap();
                assert_eq!(w.read_path(top - 4).unwrap().to_bytes(), b"abc");
                w.copy_out(top - 4, b"abcd").unwrap();
                assert_eq!(w.read_path(top - 4), Err(Errno::EFAULT));
            }
        });
    }
}
