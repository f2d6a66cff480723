//! The memory family against the host kernel's behaviour, and the rules that are vkernel's own.

use super::*;
use crate::testing::{DATA, LIBRARY, OBJECT_BYTES, call, guest};
use crate::thread::Thread;
use std::os::fd::AsRawFd;

const RW: u64 = (libc::PROT_READ | libc::PROT_WRITE) as u64;
const ANON: u64 = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u64;
const NONE: u64 = u64::MAX;

fn map(t: &mut Thread, len: u64) -> u64 {
    call(t, libc::SYS_mmap, &[0, len, RW, ANON, NONE, 0]).unwrap()
}

/// Host VMAs cover the window without a hole (07 S1).
fn assert_no_hole(t: &Thread) {
    let base = t.window().base() as u64;
    let mut at = base;
    for line in std::fs::read_to_string("/proc/self/maps").unwrap().lines() {
        let range = line.split(' ').next().unwrap();
        let (a, b) = range.split_once('-').unwrap();
        let (a, b) = (u64::from_str_radix(a, 16).unwrap(), u64::from_str_radix(b, 16).unwrap());
        if b > at && a < base + crate::guest::WINDOW_BYTES {
            assert!(a <= at, "hole in the window at {:#x}", at - base);
            at = b;
        }
    }
    assert!(at >= base + crate::guest::WINDOW_BYTES);
}

#[test]
fn anonymous_memory_is_zero_writable_and_gone_after_munmap() {
    let (mut t, _) = guest();
    let a = map(&mut t, 8192);
    assert_eq!(t.window().read::<u64>(a + 4096), Ok(0));
    t.window().write(a, &7u64).unwrap();
    assert_eq!(call(&mut t, libc::SYS_munmap, &[a, 8192]), Ok(0));
    assert_eq!(t.window().read::<u64>(a), Err(Errno::EFAULT));
    assert_no_hole(&t);
}

#[test]
fn mappings_grow_down_compactly_below_the_stack() {
    let (mut t, _) = guest();
    let a = map(&mut t, 4096);
    let b = map(&mut t, 4096);
    assert_eq!(a, b + 4096);
    assert_eq!(a + 4096, t.process.memory().top());
}

#[test]
fn fixed_mappings_outside_the_window_are_refused() {
    let (mut t, _) = guest();
    let fixed = ANON | libc::MAP_FIXED as u64;
    let at = |t: &mut Thread, addr| call(t, libc::SYS_mmap, &[addr, 4096, RW, fixed, NONE, 0]);
    assert_eq!(at(&mut t, 0), Err(Errno::EPERM));
    assert_eq!(at(&mut t, 0xffff_0000), Err(Errno::ENOMEM));
    assert_eq!(at(&mut t, 1 << 40), Err(Errno::ENOMEM));
    assert_eq!(at(&mut t, 0x5000_0001), Err(Errno::EINVAL));
    assert_eq!(at(&mut t, 0x5000_0000), Ok(0x5000_0000));
    assert_eq!(call(&mut t, libc::SYS_munmap, &[u64::MAX - 4095, 8192]), Err(Errno::EINVAL));
    assert_eq!(call(&mut t, libc::SYS_mmap, &[0, 1 << 33, RW, ANON, NONE, 0]), Err(Errno::ENOMEM));
}

#[test]
fn executable_memory_is_refused_and_audited() {
    let (mut t, host) = guest();
    let rwx = RW | libc::PROT_EXEC as u64;
    assert_eq!(call(&mut t, libc::SYS_mmap, &[0, 4096, rwx, ANON, NONE, 0]), Err(Errno::EACCES));
    let a = map(&mut t, 4096);
    assert_eq!(call(&mut t, libc::SYS_mprotect, &[a, 4096, rwx]), Err(Errno::EACCES));
    assert_eq!(host.events.lock().unwrap().len(), 2);
}

#[test]
fn mprotect_needs_mapped_pages_and_takes_effect() {
    let (mut t, _) = guest();
    let a = map(&mut t, 8192);
    assert_eq!(call(&mut t, libc::SYS_mprotect, &[a, 4096, libc::PROT_READ as u64]), Ok(0));
    assert_eq!(t.window().write(a, &1u64), Err(Errno::EFAULT));
    assert_eq!(t.window().write(a + 4096, &1u64), Ok(()));
    assert_eq!(call(&mut t, libc::SYS_mprotect, &[a - 8192, 4096 * 4, RW]), Err(Errno::ENOMEM));
}

#[test]
fn mremap_grows_moves_and_shrinks_without_losing_bytes_or_leaving_holes() {
    let (mut t, _) = guest();
    let a = map(&mut t, 8192);
    t.window().write(a + 4096, &42u64).unwrap();
    assert_eq!(call(&mut t, libc::SYS_mremap, &[a, 8192, 16384, 0, 0]), Err(Errno::ENOMEM));
    let b = call(&mut t, libc::SYS_mremap, &[a, 8192, 16384, 1, 0]).unwrap();
    assert_ne!(a, b);
    assert_eq!(t.window().read::<u64>(b + 4096), Ok(42));
    assert_eq!(t.window().read::<u64>(b + 12288), Ok(0));
    assert_eq!(t.window().read::<u64>(a), Err(Errno::EFAULT));
    assert_eq!(call(&mut t, libc::SYS_mremap, &[b, 16384, 4096, 0, 0]), Ok(b));
    assert_eq!(t.window().read::<u64>(b + 4096), Err(Errno::EFAULT));
    assert_eq!(call(&mut t, libc::SYS_mremap, &[b, 4096, 8192, 0, 0]), Ok(b), "grows in place");
    assert_no_hole(&t);
}

#[test]
fn a_file_mapping_keeps_its_bytes_when_it_grows() {
    let (mut t, _) = guest();
    let file = tempfile();
    let shared = libc::MAP_SHARED as u64;
    let fd = file.as_raw_fd() as u64;
    let a = call(&mut t, libc::SYS_mmap, &[0, 4096, RW, shared, fd, 0]).unwrap();
    t.window().write(a, &9u64).unwrap();
    let b = call(&mut t, libc::SYS_mremap, &[a, 4096, 8192, 1, 0]).unwrap();
    assert_eq!(t.window().read::<u64>(b), Ok(9));
    t.window().write(b + 4096, &5u64).unwrap();
    assert_eq!(std::fs::read(format!("/proc/self/fd/{fd}")).unwrap()[4096], 5);
    assert_no_hole(&t);
    assert!(t.process.memory().render_maps().contains("rw-s 00000000"));
}

#[test]
fn a_failing_file_mapping_leaves_the_target_as_it_was() {
    let (mut t, _) = guest();
    let a = map(&mut t, 4096);
    t.window().write(a, &3u64).unwrap();
    let directory = std::fs::File::open("/").unwrap();
    let fixed = (libc::MAP_PRIVATE | libc::MAP_FIXED) as u64;
    let r = call(&mut t, libc::SYS_mmap, &[a, 4096, RW, fixed, directory.as_raw_fd() as u64, 0]);
    assert_eq!(r, Err(Errno::ENODEV));
    assert_eq!(t.window().read::<u64>(a), Ok(3));
}

#[test]
fn the_heap_grows_shrinks_and_stops_at_mappings() {
    let (mut t, _) = guest();
    let start = call(&mut t, libc::SYS_brk, &[0]).unwrap();
    assert_eq!(call(&mut t, libc::SYS_brk, &[start + 10_000]), Ok(start + 10_000));
    t.window().write(start + 9_990, &1u64).unwrap();
    assert_eq!(call(&mut t, libc::SYS_brk, &[start]), Ok(start));
    assert_eq!(t.window().read::<u64>(start), Err(Errno::EFAULT));
    let fixed = ANON | libc::MAP_FIXED as u64;
    call(&mut t, libc::SYS_mmap, &[start + 8192, 4096, RW, fixed, NONE, 0]).unwrap();
    assert_eq!(call(&mut t, libc::SYS_brk, &[start + 8192]), Ok(start));
    assert_eq!(call(&mut t, libc::SYS_brk, &[start + 4096]), Ok(start + 4096));
}

#[test]
fn a_library_is_mapped_at_its_slot_from_the_image_and_unbound_by_munmap() {
    let (mut t, host) = guest();
    let file = tempfile();
    *host.library.lock().unwrap() = Some(file_identity(file.as_raw_fd()));
    let fd = file.as_raw_fd() as u64;
    let slot = host.as_ref().object_start();
    let first = (libc::MAP_PRIVATE | libc::MAP_DENYWRITE) as u64;
    let read = libc::PROT_READ as u64;
    // What any reader of ELF files does is a plain mapping.
    let plain = call(&mut t, libc::SYS_mmap, &[0, OBJECT_BYTES, read, libc::MAP_PRIVATE as u64, fd, 0]).unwrap();
    assert_ne!(plain, slot);
    assert_eq!(call(&mut t, libc::SYS_mmap, &[0, OBJECT_BYTES, read, first, fd, 0]), Ok(slot));
    assert_eq!(*host.bound.lock().unwrap(), [LIBRARY]);
    assert_eq!(t.window().read::<u8>(slot), Ok(0x0f));
    assert_eq!(t.window().read::<u8>(slot + DATA + 99), Ok(3));
    // All of it is mapped as it was asked for, the data too: to be read.
    let maps = t.process.memory().render_maps();
    assert!(maps.contains("04000000-04001000 r--p 00000000") && !maps.contains("rw-p 00001000"), "{maps}");
    assert!(maps.contains("/obj2"));
    assert_eq!(t.window().write(slot + DATA, &1u8), Err(Errno::EFAULT));

    // ld.so closes the hole between the first and the last segment.
    assert_eq!(call(&mut t, libc::SYS_mprotect, &[slot + 4096, DATA - 4096, 0]), Ok(0));
    // ld.so's later fixed mappings of the same file come from the image too; the text is not writable data of the file.
    let fixed = first | libc::MAP_FIXED as u64;
    let rx = read | libc::PROT_EXEC as u64;
    assert_eq!(call(&mut t, libc::SYS_mmap, &[slot, 4096, rx, fixed, fd, 0]), Ok(slot));
    assert_eq!(call(&mut t, libc::SYS_mmap, &[slot + DATA, 4096, RW, fixed, fd, 4096]), Ok(slot + DATA));
    assert_eq!(t.window().read::<u8>(slot + DATA), Ok(3));
    assert_eq!(t.window().read::<u8>(slot + DATA + 100), Ok(0), "bytes after the file part are zero");
    let maps = t.process.memory().render_maps();
    assert!(maps.contains("04000000-04001000 r-xp 00000000") && maps.contains("rw-p 00001000"), "{maps}");
    // Text anywhere else is refused.
    assert_eq!(call(&mut t, libc::SYS_mmap, &[0, 4096, rx, first, fd, 4096]), Err(Errno::EACCES));
    // A second copy finds the slot occupied.
    assert_eq!(call(&mut t, libc::SYS_mmap, &[0, OBJECT_BYTES, read, first, fd, 0]), Err(Errno::ENOMEM));
    assert_eq!(call(&mut t, libc::SYS_munmap, &[slot, OBJECT_BYTES]), Ok(0));
    assert!(host.bound.lock().unwrap().is_empty());
    assert_no_hole(&t);
}

impl crate::testing::Double {
    fn object_start(&self) -> u64 {
        crate::host::Host::object(self, LIBRARY).start
    }
}

/// A file of two pages without a name.
fn tempfile() -> std::fs::File {
    use std::io::Write;
    use std::os::fd::FromRawFd;
    // SAFETY: a terminated name; a descriptor just made.
    let mut file = unsafe { std::fs::File::from_raw_fd(libc::memfd_create(c"file".as_ptr(), 0)) };
    file.write_all(&[1; 12288]).unwrap();
    file
}

#[test]
fn advice_beyond_the_window_is_enomem() {
    let (mut t, _) = guest();
    assert_eq!(call(&mut t, libc::SYS_madvise, &[0x7f00_0000_0000, 4096, libc::MADV_DONTNEED as u64]), Err(Errno::ENOMEM));
    assert_eq!(call(&mut t, libc::SYS_madvise, &[u64::MAX - 4095, 4096, libc::MADV_DONTNEED as u64]), Err(Errno::ENOMEM));
}

#[test]
fn what_shrinks_may_be_several_mappings_and_what_grows_may_not() {
    let (mut t, host) = guest();
    let a = map(&mut t, 4 * 4096);
    t.window().write(a, &7u64).unwrap();
    assert_eq!(call(&mut t, libc::SYS_mprotect, &[a + 4096, 4096, 1]), Ok(0));
    assert_eq!(call(&mut t, libc::SYS_mremap, &[a, 2 * 4096, 8 * 4096, 1, 0]), Err(Errno::EFAULT));
    assert_eq!(call(&mut t, libc::SYS_mremap, &[a, 4 * 4096, 4096, 0, 0]), Ok(a));
    assert_eq!((t.window().read::<u64>(a), t.window().read::<u64>(a + 4096), t.window().read::<u64>(a + 3 * 4096)), (Ok(7), Err(Errno::EFAULT), Err(Errno::EFAULT)));
    let object = host.object_start();
    t.process.memory().place_object(&*host, LIBRARY, (0, 0)).unwrap();
    assert_eq!(call(&mut t, libc::SYS_mremap, &[object + DATA, 4096, 4 * 4096, 1, 0]), Err(Errno::EINVAL), "objects do not move");
    assert_no_hole(&t);
}

#[test]
fn data_is_limited_however_it_comes_to_be() {
    let (mut t, _) = guest();
    const MB: u64 = 1 << 20;
    let small = map(&mut t, MB);
    t.process.limits.lock().unwrap().data = (8 * MB, 8 * MB);
    let mmap = |t: &mut Thread, addr, len, prot, flags| call(t, libc::SYS_mmap, &[addr, len, prot, flags, NONE, 0]);
    assert_eq!(mmap(&mut t, 0, 8 * MB, RW, ANON), Err(Errno::ENOMEM));
    assert!(mmap(&mut t, 0, 16 * MB, RW, (libc::MAP_SHARED | libc::MAP_ANONYMOUS) as u64).is_ok());
    let read = mmap(&mut t, 0, 16 * MB, libc::PROT_READ as u64, ANON).unwrap();
    assert_eq!(call(&mut t, libc::SYS_mprotect, &[read, 16 * MB, RW]), Err(Errno::ENOMEM));
    assert_eq!(call(&mut t, libc::SYS_mprotect, &[read, 5 * MB, RW]), Ok(0));
    assert_eq!(call(&mut t, libc::SYS_mprotect, &[read, 5 * MB, RW]), Ok(0), "is data already");
    assert_eq!(call(&mut t, libc::SYS_mremap, &[small, MB, 4 * MB, 1, 0]), Err(Errno::ENOMEM));
    let fixed = ANON | libc::MAP_FIXED as u64;
    assert_eq!(mmap(&mut t, read, 5 * MB, RW, fixed), Ok(read), "takes the place of as much");
    assert_eq!(mmap(&mut t, 0, 3 * MB, RW, ANON), Err(Errno::ENOMEM));
    assert!(mmap(&mut t, 0, 2 * MB, RW, ANON).is_ok());
}

#[test]
fn pages_of_an_object_that_nobody_can_write_are_copied_when_somebody_wants_to() {
    let (mut t, host) = guest();
    t.process.memory().place_object(&*host, LIBRARY, (0, 0)).unwrap();
    let text = host.object_start();
    // As the image is where it cannot be written: shared, of a descriptor for reading.
    let file = std::fs::File::open("/proc/self/exe").unwrap();
    let at = t.window().range(text, 4096).unwrap();
    // SAFETY: over pages of the test's own window.
    let p = unsafe { libc::mmap(at.cast(), 4096, libc::PROT_READ, libc::MAP_SHARED | libc::MAP_FIXED, file.as_raw_fd(), 0) };
    assert_ne!(p, libc::MAP_FAILED);
    t.window().write(text + DATA, &9u64).unwrap();
    assert_eq!(call(&mut t, libc::SYS_mprotect, &[text, 4096, RW]), Ok(0));
    assert_eq!(t.window().read::<u32>(text), Ok(u32::from_le_bytes(*b"\x7fELF")));
    t.window().write(text, &3u8).unwrap();
    assert_eq!((t.window().read::<u8>(text), t.window().read::<u64>(text + DATA)), (Ok(3), Ok(9)));
    assert_no_hole(&t);
}
