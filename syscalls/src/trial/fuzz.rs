//! Every row under hostile arguments (07, S2): host addresses, window edges and random words in all arguments and all over guest memory.
//! What is outside the window must not change.
//!
//! Owns the generator and the child processes. The calls are real, so each batch runs in a child that is nobody, in namespaces and a directory of
//! its own: run as root, an `fchmod` of a descriptor of `/` once took all bits from the machine's root directory. The fact a newcomer gets
//! wrong: a row is not at fault for an errno, only for a changed canary or a dead child.

use super::{CANARY, LEN, START, Trial};
use crate::guest::WINDOW_BYTES;
use crate::table::{self, Row, Support};
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// xorshift64*: reproducible, seeded per row.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// A hostile word.
    fn word(&mut self, t: &Trial) -> u64 {
        let base = t.thread.window().base() as u64;
        let canary = t.canaries()[self.below(2) as usize] + self.below(CANARY as u64 / 2);
        match self.below(16) {
            0 => 0,
            1 => u64::MAX - self.below(3),
            2..=4 => canary,
            5 => base + START + self.below(LEN),
            6 => base + WINDOW_BYTES - self.below(64),
            7 => WINDOW_BYTES - self.below(300),
            8 => WINDOW_BYTES + self.below(300),
            9 | 10 => START + self.below(LEN),
            // Descriptors, commands, small lengths and flags.
            11..=13 => self.below(64),
            14 => 1 << self.below(64),
            _ => self.next() >> self.below(64),
        }
    }
}

/// Rows whose effect on the test itself is the point of the row: they are left out.
const LEFT_OUT: &[&str] = &[
    // would wait for ever or end the child's watchdog
    "pause",
    "alarm",
    "setitimer",
    "timer_settime",
    "rt_sigsuspend",
    "rt_sigtimedwait",
    "restart_syscall",
    "futex",
    "futex_waitv",
    "wait4",
    "waitid",
    // slow, and their arguments are numbers
    "sync",
    "syncfs",
    "fsync",
    "fdatasync",
    "sync_file_range",
];

/// Families whose rows only talk to the kernel; the others change the process that runs the test.
const FAMILIES: [&str; 5] = ["files", "time", "polling", "sockets", "system information"];

const ROUNDS: u32 = 400;

#[test]
fn no_row_changes_memory_outside_the_window() {
    let place = Place::new();
    let mut failed = Vec::new();
    for (family, rows) in table::FAMILIES {
        if !FAMILIES.contains(family) {
            continue;
        }
        for row in rows.iter().filter(|r| r.support != Support::Refuse && !LEFT_OUT.contains(&r.name)) {
            let ended = batch(row, &place);
            if ended != Ended::Quietly {
                failed.push(format!("{}: {ended:?}", row.name));
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// The directory the children work in, removed at the end with all that hostile calls made there.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("vkernel-fuzz-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).unwrap();
        Self(path)
    }

    fn name(&self) -> CString {
        CString::new(self.0.as_os_str().as_bytes()).unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        open_up(&self.0);
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Directories made with hostile modes could not be removed by anyone but root.
fn open_up(dir: &Path) {
    let _ = std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700));
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            open_up(&entry.path());
        }
    }
}

#[derive(Debug, PartialEq)]
enum Ended {
    Quietly,
    CanaryChanged,
    Panicked,
    Signal(i32),
}

/// Runs one row many times in a child and says how the child ended. A child that hangs in a wait is ended: waiting is what such rows do.
fn batch(row: &'static Row, place: &Place) -> Ended {
    // SAFETY: the child only runs rows and leaves with _exit; no lock of another thread is needed by it but the allocator's, which glibc's fork keeps usable.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let code = std::panic::catch_unwind(|| rounds(row, place)).map_or(3, |alive| if alive { 0 } else { 2 });
        // SAFETY: ends the child without running the test harness's cleanup.
        unsafe { libc::_exit(code) };
    }
    let limit = Instant::now() + Duration::from_secs(2);
    let mut status = 0;
    // SAFETY: waits for and, when late, kills the child made above.
    unsafe {
        while libc::waitpid(child, &raw mut status, libc::WNOHANG) == 0 {
            if Instant::now() > limit {
                libc::kill(child, libc::SIGKILL);
                libc::waitpid(child, &raw mut status, 0);
                return Ended::Quietly;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }
    match (libc::WIFSIGNALED(status), libc::WEXITSTATUS(status)) {
        (true, _) => Ended::Signal(libc::WTERMSIG(status)),
        (_, 0) => Ended::Quietly,
        (_, 2) => Ended::CanaryChanged,
        _ => Ended::Panicked,
    }
}

/// In the child: true when the canaries are unchanged.
fn rounds(row: &'static Row, place: &Place) -> bool {
    isolate(place);
    let mut t = Trial::new();
    let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ u64::from(row.nr) << 32);
    for round in 0..ROUNDS {
        if round % 16 == 0 {
            descriptors(place);
            scatter(&t, &mut random);
        }
        let mut args = [0; 6];
        for (i, a) in args.iter_mut().enumerate() {
            // Often a sensible descriptor first, so that calls get past EBADF.
            *a = if i == 0 && random.below(2) == 0 { 3 + random.below(12) } else { random.word(&t) };
        }
        let _ = (row.run)(&mut t.thread, args);
    }
    t.canaries_alive()
}

/// Hostile words over all guest memory, so that nested pointers are hostile too.
fn scatter(t: &Trial, random: &mut Random) {
    for region in [START, WINDOW_BYTES - LEN] {
        let bytes: Vec<u8> = (0..LEN / 8).flat_map(|_| random.word(t).to_le_bytes()).collect();
        t.thread.window().copy_out(region, &bytes).unwrap();
    }
}

/// Nobody's ids, own namespaces where the machine allows it, no signals, small files, waits cut short by a ticking timer.
fn isolate(place: &Place) {
    const NOBODY: u32 = 65534;
    // SAFETY: settings of this child only.
    unsafe {
        if libc::geteuid() == 0 {
            libc::setgroups(0, std::ptr::null());
            assert_eq!((libc::setresgid(NOBODY, NOBODY, NOBODY), libc::setresuid(NOBODY, NOBODY, NOBODY)), (0, 0));
            libc::prctl(libc::PR_SET_DUMPABLE, 1);
        }
        assert_eq!(libc::chdir(place.name().as_ptr()), 0);
        // The standard descriptors are the test run's own: rows would write to them and truncate them.
        let nothing = libc::memfd_create(c"standard".as_ptr(), 0);
        (0..3).for_each(|fd| assert_eq!(libc::dup2(nothing, fd), fd));
        libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::CLONE_NEWNET);
        let limit = libc::rlimit { rlim_cur: 1 << 20, rlim_max: 1 << 20 };
        libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit);
        for signal in (1..65).filter(|s| ![libc::SIGKILL, libc::SIGSTOP, libc::SIGSEGV, libc::SIGBUS, 32, 33].contains(s)) {
            libc::signal(signal, libc::SIG_IGN);
        }
        extern "C" fn tick(_: i32) {}
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = tick as *const () as usize;
        libc::sigaction(libc::SIGALRM, &raw const action, std::ptr::null_mut());
        let every = libc::timeval { tv_sec: 0, tv_usec: 1000 };
        let timer = libc::itimerval { it_interval: every, it_value: every };
        libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut());
    }
}

/// Descriptors 3..15 of many kinds: files, pipes, sockets, epoll, timers, a terminal, procfs.
fn descriptors(place: &Place) {
    // SAFETY: makes descriptors in this child; results are checked by nobody on purpose, a missing kind is only less coverage.
    unsafe {
        libc::close_range(3, u32::MAX, 0);
        // Rows change the directory too.
        libc::chdir(place.name().as_ptr());
        let mut two = [0i32; 2];
        libc::pipe2(two.as_mut_ptr(), libc::O_NONBLOCK);
        libc::socketpair(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_NONBLOCK, 0, two.as_mut_ptr());
        libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_NONBLOCK, 0);
        libc::memfd_create(c"fuzz".as_ptr(), 0);
        libc::open(c".".as_ptr(), libc::O_RDONLY);
        libc::epoll_create1(0);
        libc::eventfd(1, libc::EFD_NONBLOCK);
        libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK);
        libc::open(c"/dev/ptmx".as_ptr(), libc::O_RDWR | libc::O_NOCTTY | libc::O_NONBLOCK);
        libc::open(c"/proc/self/status".as_ptr(), libc::O_RDONLY);
        libc::inotify_init1(libc::IN_NONBLOCK);
    }
}
