//! Waiting rows: what they carry, and that timeouts and masks are read from the guest.

use crate::errno::Errno;
use crate::guest::WINDOW_BYTES;
use crate::trial::Trial;

const WILD: u64 = WINDOW_BYTES + 4096;

fn pipe(t: &mut Trial) -> [u64; 2] {
    let fds = t.room(8);
    assert_eq!(t.call("pipe2", &[fds, libc::O_CLOEXEC as u64]), Ok(0));
    let both = t.word(fds);
    [both & 0xffff_ffff, both >> 32]
}

#[test]
fn poll_forms_see_a_readable_pipe() {
    let mut t = Trial::new();
    let [r, w] = pipe(&mut t);
    let data = t.put(b"x");
    let fds = t.put_words(&[r | 1 << 32]);
    let zero = t.put_words(&[0, 0]);
    let mask = t.put_words(&[0]);
    assert_eq!(t.call("poll", &[fds, 1, 0]), Ok(0));
    assert_eq!(t.call("write", &[w, data, 1]), Ok(1));
    assert_eq!(t.call("poll", &[fds, 1, 0]), Ok(1));
    assert_eq!(t.word(fds) >> 48, 1);
    assert_eq!(t.call("ppoll", &[fds, 1, zero, mask, 8]), Ok(1));
    assert_eq!(t.call("ppoll", &[fds, 1, zero, mask, 4]), Err(Errno::EINVAL));
    assert_eq!(t.call("poll", &[WILD, 1, 0]), Err(Errno::EFAULT));
    assert_eq!(t.call("poll", &[WILD, 0, 0]), Ok(0));
    let set = t.put_words(&[0; 16]);
    t.thread.window().write(set + r / 64 * 8, &(1u64 << (r % 64))).unwrap();
    assert_eq!(t.call("select", &[r + 1, set, 0, 0, zero]), Ok(1));
    let sixth = t.put_words(&[mask, 8]);
    assert_eq!(t.call("pselect6", &[r + 1, set, 0, 0, zero, sixth]), Ok(1));
    let bad = t.put_words(&[WILD, 8]);
    assert_eq!(t.call("pselect6", &[r + 1, set, 0, 0, zero, bad]), Err(Errno::EFAULT));
    assert_eq!((t.call("close", &[r]), t.call("close", &[w])), (Ok(0), Ok(0)));
}

#[test]
fn epoll_carries_the_guests_data_untouched() {
    let mut t = Trial::new();
    let [r, w] = pipe(&mut t);
    let e = t.call("epoll_create1", &[0]).unwrap();
    let event = t.put(&[1u32.to_le_bytes().as_slice(), &0xdead_beef_1234_5678u64.to_le_bytes()].concat());
    assert_eq!(t.call("epoll_ctl", &[e, 1, r, event]), Ok(0));
    assert_eq!(t.call("epoll_ctl", &[e, 1, r, event]), Err(Errno::EEXIST));
    let (data, out) = (t.put(b"x"), t.room(64));
    assert_eq!(t.call("write", &[w, data, 1]), Ok(1));
    assert_eq!(t.call("epoll_wait", &[e, out, 4, 0]), Ok(1));
    assert_eq!(t.get(out, 13), [1u32.to_le_bytes().as_slice(), &0xdead_beef_1234_5678u64.to_le_bytes(), &[0xa5]].concat());
    assert_eq!(t.call("epoll_pwait", &[e, out, 4, 0, 0, 0]), Ok(1));
    let zero = t.put_words(&[0, 0]);
    assert_eq!(t.call("epoll_pwait2", &[e, out, 4, zero, 0, 0]), Ok(1));
    assert_eq!(t.call("epoll_wait", &[e, out, 0, 0]), Err(Errno::EINVAL));
    // As many as there are, not as many as there might be.
    assert_eq!(t.call("epoll_wait", &[e, WINDOW_BYTES - 12, 2, 0]), Ok(1));
    assert_eq!(t.call("epoll_wait", &[e, out, i32::MAX as u64 / 12, 0]), Ok(1));
    assert_eq!(t.call("epoll_wait", &[e, out, i32::MAX as u64, 0]), Err(Errno::EINVAL));
    assert_eq!(t.call("epoll_wait", &[e, WINDOW_BYTES - 8, 2, 0]), Err(Errno::EFAULT));
    for fd in [e, r, w] {
        assert_eq!(t.call("close", &[fd]), Ok(0));
    }
}

#[test]
fn waitable_descriptors_count_and_expire() {
    let mut t = Trial::new();
    let out = t.room(128);
    let e = t.call("eventfd2", &[7, 0]).unwrap();
    assert_eq!(t.call("read", &[e, out, 8]), Ok(8));
    assert_eq!(t.word(out), 7);
    let timer = t.call("timerfd_create", &[1, 0]).unwrap();
    let spec = t.put_words(&[0, 0, 0, 1]);
    assert_eq!(t.call("timerfd_settime", &[timer, 0, spec, 0]), Ok(0));
    assert_eq!(t.call("read", &[timer, out, 8]), Ok(8));
    assert_eq!(t.word(out), 1);
    let mask = t.put_words(&[1 << (libc::SIGUSR1 - 1)]);
    let s = t.call("signalfd4", &[u64::MAX, mask, 8, libc::SFD_NONBLOCK as u64]).unwrap();
    assert_eq!(t.call("signalfd4", &[u64::MAX, mask, 4, 0]), Err(Errno::EINVAL));
    assert_eq!(t.call("read", &[s, out, 128]), Err(Errno::EAGAIN));
    let i = t.call("inotify_init1", &[0]).unwrap();
    let dir = t.put_str("/etc");
    assert_eq!(t.call("inotify_add_watch", &[i, dir, 2]), Ok(1));
    assert_eq!(t.call("inotify_rm_watch", &[i, 1]), Ok(0));
    for fd in [e, timer, s, i] {
        assert_eq!(t.call("close", &[fd]), Ok(0));
    }
}

#[test]
fn timers_are_made_without_what_the_guest_hid_in_the_padding() {
    let mut t = Trial::new();
    let id = t.room(4);
    // SIGEV_NONE = 1
    let event = t.put_words(&[0x1234, 1 << 32, u64::MAX, u64::MAX, u64::MAX, u64::MAX, u64::MAX, u64::MAX]);
    assert_eq!(t.call("timer_create", &[1, event, id]), Ok(0));
    let number = t.thread.window().read::<i32>(id).unwrap() as u64;
    let (spec, old) = (t.put_words(&[0, 0, 100, 0]), t.room(32));
    assert_eq!(t.call("timer_settime", &[number, 0, spec, old]), Ok(0));
    assert_eq!(t.call("timer_gettime", &[number, old]), Ok(0));
    assert_eq!(t.call("timer_delete", &[number]), Ok(0));
    assert_eq!(t.call("timer_delete", &[number]), Err(Errno::EINVAL));
    // SIGEV_THREAD is glibc's, not the kernel's.
    let thread = t.put_words(&[0, 2 << 32, 0, 0, 0, 0, 0, 0]);
    assert_eq!(t.call("timer_create", &[1, thread, id]), Err(Errno::EINVAL));
    assert_eq!(t.call("timer_create", &[1, event, WILD]), Err(Errno::EFAULT));
    assert_eq!(t.call("clock_settime", &[0, spec]), Err(Errno::EPERM));
    let timex = t.put_words(&[0; 26]);
    assert!(t.call("adjtimex", &[timex]).is_ok());
    t.thread.window().write(timex, &0xa001u32).unwrap();
    assert!(t.call("adjtimex", &[timex]).is_ok(), "what is left of an adjustment");
    t.thread.window().write(timex, &1u32).unwrap();
    assert_eq!(t.call("adjtimex", &[timex]), Err(Errno::EPERM));
}

#[test]
fn sleeping_and_clocks_take_guest_times() {
    let mut t = Trial::new();
    let (short, out) = (t.put_words(&[0, 1000]), t.room(16));
    assert_eq!(t.call("nanosleep", &[short, 0]), Ok(0));
    assert_eq!(t.call("clock_nanosleep", &[1, 0, short, out]), Ok(0));
    assert_eq!(t.call("clock_gettime", &[1, out]), Ok(0));
    assert_eq!(t.call("clock_gettime", &[1, WILD]), Err(Errno::EFAULT));
    assert_eq!(t.call("clock_gettime", &[99, out]), Err(Errno::EINVAL));
    assert_eq!(t.call("nanosleep", &[0, 0]), Err(Errno::EFAULT));
}

#[test]
fn at_most_two_cpus_are_shown() {
    let mut t = Trial::new();
    let out = t.room(128);
    let n = t.call("sched_getaffinity", &[0, 128, out]).unwrap() as usize;
    let cpus: u32 = t.get(out, n).iter().map(|b| b.count_ones()).sum();
    assert!((1..=2).contains(&cpus));
    assert_eq!(t.call("sched_getaffinity", &[0, 128, WILD]), Err(Errno::EFAULT));
    let name = t.room(400);
    assert_eq!(t.call("uname", &[name]), Ok(0));
    assert_eq!((t.get(name, 6), t.get(name + 390, 2)), (b"Linux\0".to_vec(), vec![0xa5; 2]));
}
