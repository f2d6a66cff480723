//! What a row checks is copied once, and the copy is what the kernel gets (07, S6): another thread changes a message's nested pointers all the time.
//!
//! Owns the race. "Forbidden" is host memory behind the window, full of a pattern: a row that checked an address and let the kernel read it again would send it. The fact a newcomer gets wrong: a
//! mixture of two contents is allowed, as natively; what was not checked is not.

use super::{PATTERN, Trial, native};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const TRIES: u32 = 400_000;
const ALLOWED: u8 = 0x11;
const LEN: u64 = 64;

/// A word of guest memory that two threads use.
fn shared(t: &Trial, addr: u64) -> &'static AtomicU64 {
    // SAFETY: aligned guest memory that outlives the threads of the test; both sides use atomics or the kernel's copies.
    unsafe { AtomicU64::from_ptr((t.thread.window().base() as u64 + addr) as *mut u64) }
}

/// Sends `TRIES` times (three races: more than a million) while another thread writes `values` in turn to the word at `at`; how often each of: sent, refused.
fn race(t: &mut Trial, row: &str, args: [u64; 3], receiver: u64, at: u64, values: [u64; 2]) -> (u32, u32) {
    let (end, word) = (AtomicBool::new(false), shared(t, at));
    let (mut sent, mut refused) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !end.load(Ordering::Relaxed) {
                values.iter().for_each(|v| word.store(*v, Ordering::Relaxed));
            }
        });
        for _ in 0..TRIES {
            let mut got = [0u8; 256];
            match t.call(row, &args) {
                Ok(_) => {
                    let n = native(libc::SYS_recvfrom, &[receiver, got.as_mut_ptr() as u64, got.len() as u64, libc::MSG_DONTWAIT as u64, 0, 0]).unwrap_or(0);
                    let forbidden = got[..n as usize].contains(&PATTERN);
                    if forbidden {
                        end.store(true, Ordering::Relaxed);
                    }
                    assert!(!forbidden, "{row} sent host memory after {sent} messages");
                    sent += 1;
                }
                Err(_) => refused += 1,
            }
        }
        end.store(true, Ordering::Relaxed);
    });
    (sent, refused)
}

/// A pair of datagram sockets: the guest's, and where the test looks.
fn pair() -> [u64; 2] {
    let mut fds = [0i32; 2];
    native(libc::SYS_socketpair, &[libc::AF_UNIX as u64, (libc::SOCK_DGRAM | libc::SOCK_CLOEXEC) as u64, 0, fds.as_mut_ptr() as u64]).unwrap();
    fds.map(|fd| fd as u64)
}

fn close(fds: [u64; 2]) {
    fds.iter().for_each(|fd| assert_eq!(native(libc::SYS_close, &[*fd]), Ok(0)));
}

#[test]
fn a_pointer_that_changes_after_it_was_checked_never_reaches_host_memory() {
    let mut t = Trial::new();
    let [sender, receiver] = pair();
    let buffer = t.put(&[ALLOWED; LEN as usize]);
    // As a guest address it is beyond the window; unchecked, the kernel would read the canary.
    let [_, behind] = t.canaries();
    let base = t.thread.window().base() as u64;
    let vec = t.put_words(&[buffer, LEN]);
    let header = t.put_words(&[0, 0, vec, 1, 0, 0, 0]);
    for forbidden in [behind, behind - base] {
        let (sent, refused) = race(&mut t, "sendmsg", [sender, header, 0], receiver, vec, [buffer, forbidden]);
        assert!(sent > TRIES / 1000 && refused > TRIES / 1000, "no race took place: {sent} sent, {refused} refused");
    }
    close([sender, receiver]);
}

#[test]
fn a_vector_that_moves_after_it_was_checked_never_brings_host_addresses() {
    let mut t = Trial::new();
    let [sender, receiver] = pair();
    let buffer = t.put(&[ALLOWED; LEN as usize]);
    let [_, behind] = t.canaries();
    let good = t.put_words(&[buffer, LEN]);
    let bad = t.put_words(&[behind, LEN]);
    let header = t.put_words(&[0, 0, good, 1, 0, 0, 0]);
    let (sent, refused) = race(&mut t, "sendmsg", [sender, header, 0], receiver, header + 16, [good, bad]);
    assert!(sent > TRIES / 1000 && refused > TRIES / 1000, "no race took place: {sent} sent, {refused} refused");
    close([sender, receiver]);
}
