//! Processes: fork, vfork as posix_spawn uses it, exec, exit of threads, exec from a thread.

use crate::errno::Errno;
use crate::guest::Plain;
use crate::host::Text;
use crate::signal::poll;
use crate::testing::{INTERPRETER, LIBRARY, PROGRAM, call, guest, in_child, instruction};
use crate::thread::{Next, Thread, reg};
use std::ffi::CString;
use std::os::fd::AsRawFd;

fn scratch(t: &mut Thread) -> u64 {
    t.cpu().gpr[reg::RSP] + 4096
}

/// Where a new program, whose stack ends soon above, has room.
fn below(t: &mut Thread) -> u64 {
    (t.cpu().gpr[reg::RSP] & !63) - 4096
}

fn put<T: Plain>(t: &mut Thread, at: u64, values: &[T]) {
    for (i, v) in values.iter().enumerate() {
        t.window().write(at + (i * size_of::<T>()) as u64, v).unwrap();
    }
}

fn wait(t: &mut Thread, pid: u64) -> i32 {
    let at = scratch(t) + 512;
    assert_eq!(call(t, libc::SYS_wait4, &[pid, at, 0, 0]), Ok(pid));
    t.window().read(at).unwrap()
}

#[test]
fn a_forked_child_has_its_own_memory_and_its_status_is_seen() {
    in_child(|| {
        let (mut t, _) = guest();
        let at = scratch(&mut t);
        put(&mut t, at, &[1u64]);
        let pid = instruction(&mut t, libc::SYS_fork, &[], 0x1000);
        if pid == 0 {
            put(&mut t, at, &[2u64]);
            // SAFETY: getpid has no preconditions.
            let own = unsafe { libc::getpid() };
            assert_eq!((t.tid, call(&mut t, libc::SYS_gettid, &[])), (own, Ok(own as u64)));
            let _ = call(&mut t, libc::SYS_exit_group, &[7]);
        }
        assert!(pid > 0);
        assert_eq!(libc::WEXITSTATUS(wait(&mut t, pid as u64)), 7);
        assert_eq!(t.window().read::<u64>(at), Ok(1));
    });
}

#[test]
fn a_child_with_a_descriptor_is_not_made_where_none_is_free() {
    in_child(|| {
        let (mut t, _) = guest();
        let at = scratch(&mut t);
        put(&mut t, at, &[77u32]);
        let flags = (libc::CLONE_PIDFD | libc::SIGCHLD) as u64;
        assert_eq!(instruction(&mut t, libc::SYS_clone, &[flags, 0, 0x1000], 0x1000), -i64::from(libc::EFAULT));
        // SAFETY: a live structure, plain numbers.
        let limit = |n| unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &libc::rlimit { rlim_cur: n, rlim_max: 4096 }) };
        // SAFETY: a descriptor of this process.
        let next = unsafe { libc::dup(1) } as u64;
        limit(next + 1);
        assert_eq!(instruction(&mut t, libc::SYS_clone, &[flags, 0, at], 0x1000), -i64::from(libc::EMFILE));
        assert_eq!(t.window().read::<u32>(at), Ok(77));
        assert_eq!(call(&mut t, libc::SYS_wait4, &[u64::MAX, 0, 0, 0]), Err(Errno::ECHILD), "there was no child");
        // One more is enough.
        limit(next + 2);
        let pid = instruction(&mut t, libc::SYS_clone, &[flags, 0, at], 0x1000);
        if pid == 0 {
            // SAFETY: a query: the descriptor is the parent's alone.
            let code = if unsafe { libc::fcntl(next as i32 + 1, libc::F_GETFD) } < 0 { 7 } else { 8 };
            let _ = call(&mut t, libc::SYS_exit_group, &[code]);
        }
        assert_eq!(t.window().read::<u32>(at), Ok(next as u32 + 1));
        assert_eq!(libc::WEXITSTATUS(wait(&mut t, pid as u64)), 7);
    });
}

/// Nobody waits for the children of a process that ignores SIGCHLD: they were gone before their descriptor was opened.
#[test]
fn a_child_that_ends_at_once_and_is_not_waited_for_has_a_descriptor() {
    in_child(|| {
        let (mut t, _) = guest();
        let at = scratch(&mut t);
        // SAFETY: SIG_IGN has no preconditions.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
        for _ in 0..50 {
            put(&mut t, at, &[u32::MAX]);
            if instruction(&mut t, libc::SYS_clone, &[(libc::CLONE_PIDFD | libc::SIGCHLD) as u64, 0, at], 0x1000) == 0 {
                let _ = call(&mut t, libc::SYS_exit_group, &[0]);
            }
            let fd = t.window().read::<i32>(at).unwrap();
            // SAFETY: a descriptor of ours.
            assert!(fd >= 0 && unsafe { libc::close(fd) } == 0);
        }
    });
}

/// clone(CLONE_VM | CLONE_VFORK) with a stack of its own, as glibc's posix_spawn.
fn spawn(t: &mut Thread) -> i64 {
    let stack = call(t, libc::SYS_mmap, &[0, 65536, 3, 0x22, u64::MAX, 0]).unwrap();
    let flags = (libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD) as u64;
    instruction(t, libc::SYS_clone, &[flags, stack + 65536], 0x1000)
}

#[test]
fn a_spawned_child_reports_its_error_through_the_parents_stack() {
    in_child(|| {
        let (mut t, _) = guest();
        let err = scratch(&mut t);
        put(&mut t, err, &[0u32, 5]);
        let global = call(&mut t, libc::SYS_mmap, &[0, 4096, 3, 0x22, u64::MAX, 0]).unwrap();
        let pid = spawn(&mut t);
        if pid == 0 {
            put(&mut t, global, &[9u64]);
            let path = err + 1024;
            t.window().copy_out(path, b"/does/not/exist\0").unwrap();
            let r = instruction(&mut t, libc::SYS_execve, &[path, 0, 0], 0x1000);
            put(&mut t, err, &[-r as u32]);
            instruction(&mut t, libc::SYS_exit_group, &[127], 0x1000);
        }
        // The parent was held until the child was done: no need to wait first.
        assert_eq!(t.window().read::<[u32; 2]>(err), Ok([libc::ENOENT as u32, 5]));
        assert_eq!(t.window().read::<u64>(global), Ok(0));
        assert_eq!(libc::WEXITSTATUS(wait(&mut t, pid as u64)), 127);
    });
}

#[test]
fn a_spawned_program_leaves_its_parents_stack_alone() {
    in_child(|| {
        let (mut t, host) = guest();
        *host.exec.lock().unwrap() = Ok(PROGRAM);
        let rsp = t.cpu().gpr[reg::RSP];
        t.window().copy_out(rsp, &[0x33; 60_000]).unwrap();
        let pid = instruction(&mut t, libc::SYS_vfork, &[], 0x1000);
        if pid == 0 {
            t.window().copy_out(rsp + 8, &[0x44; 8]).unwrap();
            execve(&mut t, "/bin/true");
            assert_eq!(poll(&mut t), Next::Continue);
            instruction(&mut t, libc::SYS_exit_group, &[5], 0x1000);
        }
        let mut now = vec![0; 60_000];
        t.window().copy_in(rsp, &mut now).unwrap();
        assert_eq!(now[8..16], [0x44; 8]);
        assert!(now[..8].iter().chain(&now[16..4000]).chain(&now[8000..]).all(|b| *b == 0x33));
        assert_eq!(libc::WEXITSTATUS(wait(&mut t, pid as u64)), 5);
    });
}

#[test]
fn a_killed_vfork_child_does_not_hang_its_parent() {
    in_child(|| {
        let (mut t, _) = guest();
        let pid = instruction(&mut t, libc::SYS_vfork, &[], 0x1000);
        if pid == 0 {
            // SAFETY: ends this process.
            unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
        }
        assert_eq!(libc::WTERMSIG(wait(&mut t, pid as u64)), libc::SIGKILL);
    });
}

#[test]
fn clone_refuses_namespaces_and_shared_memory_without_vfork() {
    let (mut t, _) = guest();
    let chld = libc::SIGCHLD as u64;
    assert_eq!(call(&mut t, libc::SYS_clone, &[libc::CLONE_NEWUSER as u64 | chld, 0]), Err(Errno::EPERM));
    assert_eq!(call(&mut t, libc::SYS_clone, &[libc::CLONE_VM as u64 | chld, 0]), Err(Errno::EINVAL));
}

/// Writes argv or envp at `at`; the strings follow.
fn strings(t: &mut Thread, at: u64, list: &[&str]) {
    let mut to = at + 8 * (list.len() as u64 + 1);
    for (i, s) in list.iter().enumerate() {
        put(t, at + 8 * i as u64, &[to]);
        let s = CString::new(*s).unwrap();
        t.window().copy_out(to, s.to_bytes_with_nul()).unwrap();
        to += s.to_bytes_with_nul().len() as u64;
    }
    put(t, at + 8 * list.len() as u64, &[0u64]);
}

fn execve(t: &mut Thread, path: &str) -> i64 {
    let at = scratch(t);
    t.window().copy_out(at, CString::new(path).unwrap().to_bytes_with_nul()).unwrap();
    strings(t, at + 256, &["prog", "one"]);
    strings(t, at + 512, &["A=b"]);
    instruction(t, libc::SYS_execve, &[at, at + 256, at + 512], 0x1000)
}

#[test]
fn a_program_has_the_scripts_that_were_judged_for_it_and_the_next_one_has_not() {
    in_child(|| {
        let (mut t, host) = guest();
        *host.exec.lock().unwrap() = Ok(PROGRAM);
        let place = std::env::temp_dir().join(format!("vkernel-judged-{}", std::process::id()));
        std::fs::write(&place, "judged").unwrap();
        let name = CString::new(place.to_str().unwrap()).unwrap();
        let file = std::fs::File::open(&place).unwrap();
        let text = Text { name: name.clone(), identity: crate::mm::file_identity(std::os::fd::AsRawFd::as_raw_fd(&file)), bytes: b"judged".as_slice().into() };
        host.texts.lock().unwrap().push(text);
        execve(&mut t, "/bin/true");
        assert_eq!(poll(&mut t), Next::Continue);
        std::fs::write(&place, "later").unwrap();
        let opened = |t: &mut Thread| {
            let at = below(t);
            t.window().copy_out(at, name.to_bytes_with_nul()).unwrap();
            let fd = call(t, libc::SYS_open, &[at, 0]).unwrap();
            // SAFETY: a descriptor just made.
            std::io::read_to_string(unsafe { <std::fs::File as std::os::fd::FromRawFd>::from_raw_fd(fd as i32) }).unwrap()
        };
        assert_eq!(opened(&mut t), "judged");
        t.cpu().gpr[reg::RSP] -= 65536;
        execve(&mut t, "/bin/true");
        assert_eq!(poll(&mut t), Next::Continue);
        assert_eq!(opened(&mut t), "later");
        std::fs::remove_file(&place).unwrap();
    });
}

#[test]
fn exec_builds_the_stack_maps_program_and_interpreter_and_resets() {
    in_child(|| {
        let (mut t, host) = guest();
        *host.exec.lock().unwrap() = Ok(PROGRAM);
        // SAFETY: plain descriptors.
        let (kept, closed) = unsafe { (libc::dup(1), libc::fcntl(1, libc::F_DUPFD_CLOEXEC, 0)) };
        let old = call(&mut t, libc::SYS_mmap, &[0, 4096, 3, 0x22, u64::MAX, 0]).unwrap();
        execve(&mut t, "/bin/true");
        assert_eq!(t.cpu().poll, 1);
        assert_eq!(poll(&mut t), Next::Continue);
        assert_eq!(*host.bound.lock().unwrap(), [PROGRAM, INTERPRETER]);
        assert_eq!(t.cpu().rip, 0x0300_0010);
        assert_eq!((t.cpu().mxcsr, t.cpu().fcw, t.cpu().gpr[reg::RAX]), (0x1f80, 0x37f, 0));
        assert_eq!(t.window().read::<u64>(old), Err(Errno::EFAULT));
        // SAFETY: queries.
        unsafe {
            assert!(libc::fcntl(kept, libc::F_GETFD) >= 0);
            assert_eq!(libc::fcntl(closed, libc::F_GETFD), -1);
        }
        check_stack(&mut t);
        assert_eq!(std::fs::read("/proc/self/cmdline").unwrap(), b"prog\0one\0", "as other processes see it");
        // The C library's heap goes on growing where it was.
        let rooms: Vec<Vec<u8>> = (0..200).map(|i| vec![i as u8; 10_000]).collect();
        assert!(rooms.iter().enumerate().all(|(i, room)| room.iter().all(|b| *b == i as u8)));
    });
}

fn check_stack(t: &mut Thread) {
    let rsp = t.cpu().gpr[reg::RSP];
    let w = t.window();
    let word = |i: u64| w.read::<u64>(rsp + 8 * i).unwrap();
    let text = |at: u64| w.read_cstr(at, 100, Errno::E2BIG).unwrap().into_string().unwrap();
    assert_eq!(rsp % 16, 0);
    assert_eq!((word(0), text(word(1)), text(word(2)), word(3)), (2, "prog".into(), "one".into(), 0));
    assert_eq!((text(word(4)), word(5)), ("A=b".into(), 0));
    let auxv: Vec<(u64, u64)> = (0..).map(|i| (word(6 + 2 * i), word(7 + 2 * i))).take_while(|a| a.0 != 0).collect();
    let get = |key: u64| auxv.iter().find(|a| a.0 == key).unwrap().1;
    assert_eq!((get(libc::AT_PHDR), get(libc::AT_PHNUM), get(libc::AT_BASE)), (0x0200_0040, 4, 0x0300_0000));
    assert_eq!((get(libc::AT_ENTRY), text(get(libc::AT_EXECFN))), (0x0200_0010, "/bin/true".into()));
    assert_eq!(text(get(libc::AT_PLATFORM)), "x86_64");
    assert_ne!(w.read::<[u64; 2]>(get(libc::AT_RANDOM)), Ok([0, 0]));
    let exe = t.process.exe.lock().unwrap();
    assert_eq!(exe.as_ref().unwrap().comm, b"true");
}

#[test]
fn exec_is_refused_with_the_supervisors_errno_and_the_old_program_goes_on() {
    in_child(|| {
        let (mut t, host) = guest();
        *host.exec.lock().unwrap() = Err(Errno::EACCES);
        assert_eq!(execve(&mut t, "/bin/true"), -i64::from(libc::EACCES));
        assert_eq!(execve(&mut t, "/"), -i64::from(libc::EACCES));
        assert_eq!(execve(&mut t, "/etc/passwd"), -i64::from(libc::EACCES));
        assert_eq!(execve(&mut t, "/nonexistent"), -i64::from(libc::ENOENT));
        assert_eq!(t.cpu().poll, 0);
    });
}

const THREAD_FLAGS: i32 = libc::CLONE_VM
    | libc::CLONE_FS
    | libc::CLONE_FILES
    | libc::CLONE_SIGHAND
    | libc::CLONE_THREAD
    | libc::CLONE_SYSVSEM
    | libc::CLONE_SETTLS
    | libc::CLONE_PARENT_SETTID
    | libc::CLONE_CHILD_CLEARTID;

fn new_thread(t: &mut Thread, tid_at: u64) -> i64 {
    let stack = call(t, libc::SYS_mmap, &[0, 65536, 3, 0x22, u64::MAX, 0]).unwrap();
    instruction(t, libc::SYS_clone, &[THREAD_FLAGS as u64, stack + 65536, tid_at, tid_at, 0xabc0], 0x1000)
}

#[test]
fn a_thread_starts_with_its_stack_and_tls_and_its_exit_wakes_the_joiner() {
    in_child(|| {
        let (mut t, host) = guest();
        *host.body.lock().unwrap() = Some(|mut t: Thread| {
            assert_eq!((t.cpu().gpr[reg::RAX], t.cpu().fs_base), (0, 0xabc0));
            assert_eq!(call(&mut t, libc::SYS_gettid, &[]), Ok(t.tid as u64));
            std::thread::sleep(std::time::Duration::from_millis(20));
            instruction(&mut t, libc::SYS_exit, &[0], 0x1000);
            assert_eq!(poll(&mut t), Next::ThreadExit(0));
        });
        let at = scratch(&mut t);
        let tid = new_thread(&mut t, at);
        assert!(tid > 0);
        // pthread_join.
        loop {
            let now = t.window().read::<u32>(at).unwrap();
            if now == 0 {
                break;
            }
            assert_eq!(i64::from(now), tid);
            let _ = call(&mut t, libc::SYS_futex, &[at, libc::FUTEX_WAIT as u64, u64::from(now), 0]);
        }
        // The list forgets the thread last.
        while t.process.threads().tids != [t.tid] {
            std::thread::yield_now();
        }
    });
}

/// A guest thread that waits in the kernel until something ends it.
fn sleeper(mut t: Thread) {
    let at = t.cpu().gpr[reg::RSP] - 64;
    loop {
        instruction(&mut t, libc::SYS_futex, &[at, libc::FUTEX_WAIT as u64, 0, 0], 0x1000);
        if t.cpu().poll != 0
            && let Next::ThreadExit(_) = poll(&mut t)
        {
            return;
        }
    }
}

#[test]
fn exec_ends_the_other_threads() {
    in_child(|| {
        let (mut t, host) = guest();
        *host.body.lock().unwrap() = Some(sleeper);
        *host.exec.lock().unwrap() = Ok(PROGRAM);
        let at = scratch(&mut t) + 2048;
        for _ in 0..5 {
            assert!(new_thread(&mut t, at) > 0);
        }
        execve(&mut t, "/bin/true");
        poll(&mut t);
        assert_eq!((t.cpu().rip, t.process.threads().tids.len()), (0x0300_0010, 1));
    });
}

#[test]
fn exec_from_another_thread_moves_the_program_to_the_leader() {
    in_child(|| {
        let (mut t, host) = guest();
        *host.exec.lock().unwrap() = Ok(PROGRAM);
        *host.body.lock().unwrap() = Some(sleeper);
        let at = scratch(&mut t) + 2048;
        assert!(new_thread(&mut t, at) > 0);
        *host.body.lock().unwrap() = Some(|mut t: Thread| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            execve(&mut t, "/bin/true");
            assert_eq!(poll(&mut t), Next::ThreadExit(0));
        });
        let flags = THREAD_FLAGS as u64;
        let stack = call(&mut t, libc::SYS_mmap, &[0, 65536, 3, 0x22, u64::MAX, 0]).unwrap();
        instruction(&mut t, libc::SYS_clone, &[flags, stack + 32768, at, at, 0], 0x1000);
        // The leader sleeps in the kernel as well.
        while t.cpu().poll == 0 {
            instruction(&mut t, libc::SYS_futex, &[at + 64, libc::FUTEX_WAIT as u64, 0, 0], 0x1000);
        }
        assert_eq!(poll(&mut t), Next::Continue);
        // SAFETY: getpid has no preconditions.
        assert_eq!((t.cpu().rip, t.tid), (0x0300_0010, unsafe { libc::getpid() }));
        assert_eq!(t.process.threads().tids, [t.tid]);
    });
}

#[test]
fn a_robust_mutex_of_a_dead_thread_is_marked() {
    in_child(|| {
        let (mut t, _) = guest();
        let head = scratch(&mut t);
        let entry = head + 64;
        let tid = t.tid as u32;
        put(&mut t, head, &[entry, 16, 0u64]);
        put(&mut t, entry, &[head]);
        put(&mut t, entry + 16, &[tid | 0x8000_0000]);
        assert_eq!(call(&mut t, libc::SYS_set_robust_list, &[head, 24]), Ok(0));
        instruction(&mut t, libc::SYS_exit, &[3], 0x1000);
        assert_eq!(poll(&mut t), Next::ThreadExit(3));
        assert_eq!(t.window().read::<u32>(entry + 16), Ok(0xc000_0000));
    });
}

#[test]
fn emulated_limits_bound_the_guest_and_not_the_host() {
    let (mut t, _) = guest();
    let at = scratch(&mut t);
    let mapped = t.process.memory().areas.mapped();
    put(&mut t, at, &[mapped + 8192, u64::MAX]);
    assert_eq!(call(&mut t, libc::SYS_setrlimit, &[u64::from(libc::RLIMIT_AS), at]), Ok(0));
    assert!(call(&mut t, libc::SYS_mmap, &[0, 8192, 3, 0x22, u64::MAX, 0]).is_ok());
    assert_eq!(call(&mut t, libc::SYS_mmap, &[0, 4096, 3, 0x22, u64::MAX, 0]), Err(Errno::ENOMEM));
    assert_eq!(call(&mut t, libc::SYS_prlimit64, &[0, u64::from(libc::RLIMIT_STACK), 0, at]), Ok(0));
    assert_eq!(t.window().read::<u64>(at), Ok(8 << 20));
    assert_eq!(call(&mut t, libc::SYS_getrlimit, &[u64::from(libc::RLIMIT_STACK), 0]), Err(Errno::EFAULT));
    assert_eq!(call(&mut t, libc::SYS_getrlimit, &[99, 0]), Err(Errno::EINVAL));
}

/// `ulimit -c 1000` of bash's tests: the host's limit is 0, for good, and the guest's was too.
#[test]
fn a_guest_sets_the_size_of_core_files_that_are_never_written() {
    let (mut t, _) = guest();
    let at = scratch(&mut t);
    put(&mut t, at, &[1000u64, 5000]);
    assert_eq!(call(&mut t, libc::SYS_setrlimit, &[u64::from(libc::RLIMIT_CORE), at]), Ok(0));
    put(&mut t, at, &[0u64, 0]);
    assert_eq!(call(&mut t, libc::SYS_getrlimit, &[u64::from(libc::RLIMIT_CORE), at]), Ok(0));
    assert_eq!(t.window().read::<[u64; 2]>(at), Ok([1000u64, 5000]));
}

#[test]
fn a_call_outside_the_allow_list_is_eperm_and_audited() {
    let (mut t, host) = guest();
    t.process.set_allow(&crate::process::AllowList::NONE);
    assert_eq!(call(&mut t, libc::SYS_getpid, &[]), Err(Errno::EPERM));
    assert_eq!(call(&mut t, 9999, &[]), Err(Errno::ENOSYS));
    assert_eq!(call(&mut t, 9999, &[]), Err(Errno::ENOSYS));
    let events = host.events.lock().unwrap();
    assert!(events[0].contains("getpid"), "{events:?}");
}

#[test]
fn every_number_has_at_most_one_row_and_rows_fit_the_bitmaps() {
    let mut seen = std::collections::BTreeMap::new();
    for row in crate::table::rows() {
        assert!((row.nr as usize) < crate::table::MAX_NR);
        assert_eq!(seen.insert(row.nr, row.name), None, "{} twice", row.name);
    }
}

#[test]
fn a_library_shown_by_descriptor_is_not_confused_with_another_file() {
    let (mut t, host) = guest();
    let file = std::fs::File::open("/proc/self/maps").unwrap();
    let flags = (libc::MAP_PRIVATE | libc::MAP_DENYWRITE) as u64;
    let rx = (libc::PROT_READ | libc::PROT_EXEC) as u64;
    let r = call(&mut t, libc::SYS_mmap, &[0, 4096, rx, flags, file.as_raw_fd() as u64, 0]);
    assert_eq!(r, Err(Errno::EACCES));
    assert!(!host.bound.lock().unwrap().contains(&LIBRARY));
}

/// A user 0 that was left with PR_SET_KEEPCAPS came back in the next program.
#[test]
fn exec_makes_saved_ids_the_effective_ones_and_takes_capabilities() {
    in_child(|| {
        // SAFETY: plain numbers.
        if unsafe { libc::geteuid() } != 0 {
            eprintln!("SKIPPED: needs root");
            return;
        }
        let (mut t, host) = guest();
        *host.exec.lock().unwrap() = Ok(PROGRAM);
        assert_eq!(call(&mut t, libc::SYS_prctl, &[libc::PR_SET_KEEPCAPS as u64, 1]), Ok(0));
        assert_eq!(call(&mut t, libc::SYS_setresgid, &[1000, 1000, 0]), Ok(0));
        assert_eq!(call(&mut t, libc::SYS_setresuid, &[1000, 1000, 0]), Ok(0));
        execve(&mut t, "/bin/true");
        poll(&mut t);
        let at = below(&mut t);
        assert_eq!(call(&mut t, libc::SYS_getresuid, &[at, at + 4, at + 8]), Ok(0));
        assert_eq!(call(&mut t, libc::SYS_getresgid, &[at + 12, at + 16, at + 20]), Ok(0));
        let ids: Vec<u32> = (0..6).map(|i| t.window().read(at + 4 * i).unwrap()).collect();
        assert_eq!(ids, [1000; 6]);
        put(&mut t, at, &[0x2008_0522u32, 0]);
        assert_eq!(call(&mut t, libc::SYS_capget, &[at, at + 8]), Ok(0));
        let capabilities: Vec<u32> = (0..6).map(|i| t.window().read(at + 8 + 4 * i).unwrap()).collect();
        assert_eq!(capabilities, [0; 6]);
        assert_eq!(call(&mut t, libc::SYS_prctl, &[libc::PR_GET_KEEPCAPS as u64]), Ok(0));
        assert_eq!(call(&mut t, libc::SYS_setresuid, &[0, 0, 0]), Err(Errno::EPERM));
    });
}

#[test]
fn exec_takes_no_descriptor_of_the_guest_s() {
    in_child(|| {
        let (mut t, host) = guest();
        *host.exec.lock().unwrap() = Ok(PROGRAM);
        let at = scratch(&mut t);
        // SAFETY: a descriptor of this process.
        let next = unsafe { libc::dup(1) } as u64;
        put(&mut t, at, &[next + 1, next + 1]);
        assert_eq!(call(&mut t, libc::SYS_setrlimit, &[u64::from(libc::RLIMIT_NOFILE), at]), Ok(0));
        assert_eq!(call(&mut t, libc::SYS_dup, &[1]), Err(Errno::EMFILE));
        execve(&mut t, "/bin/true");
        poll(&mut t);
        assert_eq!(t.cpu().rip, 0x0300_0010);
        let at = below(&mut t);
        assert_eq!(call(&mut t, libc::SYS_getrlimit, &[u64::from(libc::RLIMIT_NOFILE), at]), Ok(0));
        assert_eq!(t.window().read::<[u64; 2]>(at), Ok([next + 1; 2]));
        assert_eq!(call(&mut t, libc::SYS_dup, &[1]), Err(Errno::EMFILE), "the limit is what it was");
        put(&mut t, at, &[next + 2, next + 1]);
        assert_eq!(call(&mut t, libc::SYS_setrlimit, &[u64::from(libc::RLIMIT_NOFILE), at]), Err(Errno::EINVAL));
    });
}
