//! A real container with a native program in the place of the guest: tries to escape and asks for execs, and reports through shared memory.
//! Needs root; without it the tests fail, they do not skip.

use policy::arguments::Arguments;
use policy::manifest::{Artifact, Binary, Elf, Form, GlobalPolicies, Inline, Library, Manifest, Networking, Overrides, Prot, Script, Scripts, Segment};
use policy::{Digest, PrivateKey, Revocations, TrustedKeys, Verified};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use vkernel::arguments::Rules;
use vkernel::audit::Audit;
use vkernel::cgroup::Cgroup;
use vkernel::container::{Container, Place, start};
use vkernel::decide::Decider;
use vkernel::journal::Journal;
use vkernel::listener::Listener;
use vkernel::namespaces::Network;
use vkernel::protocol::{EXEC_MARK, Grant, LIBRARY_MARK};
use vkernel::request::{ask, ask_with};
use vkernel::rootfs::Layout;
use vkernel::signals::Signals;
use vkernel::supervisor::{Served, Supervisor, Until};
use vkernel::{describe, filter, handover, sys};

const TOOL: &[u8] = b"\x7fELF a program that the manifest lists";
const LIBRARY: &[u8] = b"\x7fELF a library that the manifest lists too";
const SCRIPT: &[u8] = b"#!/bin/tool -x\nwhatever\n";

/// One container at a time: forks would otherwise inherit each other's descriptors.
static SERIAL: Mutex<()> = Mutex::new(());

fn verified() -> Verified {
    changed(|_| ())
}

/// Scripts have to be listed, and one is.
fn listed() -> Verified {
    changed(|m| {
        let script =
            Script { path: "/bin/script".into(), size: SCRIPT.len() as u64, sha256: None, entry: 0, interpreter: "/bin/tool".into(), interpreter_digest: None, argument: None };
        m.global_policies.scripts = Scripts::Listed;
        m.scripts.insert(Digest::blake3(SCRIPT), script);
    })
}

fn changed(change: impl FnOnce(&mut Manifest)) -> Verified {
    let shard = Digest::blake3(b"shard");
    let segment = |size: usize| Segment { vaddr: 0, memsz: 4096, filesz: size as u64, file_offset: 0, image_offset: 0, prot: Prot { read: true, write: false, execute: true } };
    let elf = |base, size| Elf { base, non_pie: false, entry: 0, phdr: 64, phnum: 1, interpreter: None, executable_stack: false, segments: vec![segment(size)] };
    let binary = Binary {
        path: "/bin/tool".into(),
        size: TOOL.len() as u64,
        sha256: None,
        entry: 0,
        entry_point: "tool".into(),
        shard: Some(shard),
        elf: Some(elf(0x10_0000, TOOL.len())),
        overrides: Overrides::default(),
        coverage: None,
        syscalls: None,
        arguments: Arguments::default(),
        directories: Vec::new(),
        polyfill: None,
    };
    let library = Library { path: "/lib/libx.so".into(), size: LIBRARY.len() as u64, sha256: None, entry: 0, shard, elf: elf(0x20_0000, LIBRARY.len()), coverage: None };
    let mut manifest = Manifest {
        container_id: Digest::blake3(b"container"),
        name: "test/lockdown".into(),
        serial: 1,
        version: "1".into(),
        vkernel_version: ">=0.1.0".into(),
        megabinary: "container.wasm".into(),
        megabinary_digest: Digest::blake3(b"megabinary"),
        artifacts: vec![Artifact {
            target: "x86_64-unknown-linux-gnu".into(),
            cpu_features: vec![],
            engine: "none".into(),
            shard,
            form: Form::Structured,
            file: "aot/x".into(),
            digest: Digest::blake3(b"artifact"),
        }],
        global_policies: GlobalPolicies {
            default_syscalls: BTreeSet::from(["read".into()]),
            networking: Networking::None,
            forbid_permissive: false,
            scripts: Scripts::Any,
            inline: Inline::Allow,
        },
        binaries: BTreeMap::from([(Digest::blake3(TOOL), binary)]),
        libraries: BTreeMap::from([(Digest::blake3(LIBRARY), library)]),
        scripts: BTreeMap::new(),
        omitted: vec![],
        agent_tools: BTreeMap::new(),
        signatures: None,
    };
    change(&mut manifest);
    manifest.number_entries();
    let mut value = serde_json::to_value(&manifest).unwrap();
    let key = PrivateKey::from_seed([7; 32]);
    policy::signature::sign(&mut value, &key, "test");
    let bytes = policy::canonical::to_bytes(&value);
    policy::verify(&bytes, &TrustedKeys::of([key.public("test")]), 1, &Revocations::default(), "0.1.0").unwrap()
}

fn put(root: &Path, path: &str, content: &[u8]) {
    let at = root.join(path);
    std::fs::create_dir_all(at.parent().unwrap()).unwrap();
    std::fs::write(&at, content).unwrap();
    std::fs::set_permissions(&at, std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn image(name: &str) -> PathBuf {
    let root = std::env::temp_dir().join(format!("vkernel-test-{name}-{}", std::process::id()));
    for dir in ["proc", "dev", "sys", "tmp"] {
        std::fs::create_dir_all(root.join(dir)).unwrap();
    }
    put(&root, "etc/passwd", b"root:x:0:0::/root:/bin/sh\nmail:x:8:12::/var/mail:/bin/sh\n");
    put(&root, "bin/tool", TOOL);
    put(&root, "lib/libx.so", LIBRARY);
    let mut changed = TOOL.to_vec();
    changed[10] ^= 1;
    put(&root, "bin/changed", &changed);
    put(&root, "bin/static", b"\x7fELF of a size that nobody listed.............");
    put(&root, "bin/text", b"echo a text file\n");
    put(&root, "bin/script", SCRIPT);
    put(&root, "bin/nested", b"#!/bin/script\n");
    put(&root, "bin/foreign", b"#!/bin/static\n");
    put(&root, "bin/lost", b"#!/bin/nowhere\n");
    std::os::unix::fs::symlink("self", root.join("bin/loop")).unwrap();
    root
}

/// What the guest found out: shared with it because it has no other way to talk.
struct Board(*mut [i64; 64]);

impl Board {
    fn new() -> Self {
        // SAFETY: a fresh shared mapping, zero is a valid value.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), 4096, 3, libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1, 0) };
        assert_ne!(at, libc::MAP_FAILED);
        Self(at.cast())
    }
    fn set(&self, i: usize, value: i64) {
        // SAFETY: inside the mapping; the guest is the only writer.
        unsafe { (*self.0)[i] = value }
    }
    fn get(&self, i: usize) -> i64 {
        // SAFETY: inside the mapping; the guest has ended.
        unsafe { (*self.0)[i] }
    }
}

/// Runs `guest` in a container made of `root`; exit code and audit lines.
fn run(name: &str, change: impl FnOnce(&mut Container), guest: impl FnOnce() -> i32 + 'static) -> (i32, Vec<serde_json::Value>) {
    run_under(verified(), name, change, guest)
}

fn run_under(verified: Verified, name: &str, change: impl FnOnce(&mut Container), guest: impl FnOnce() -> i32 + 'static) -> (i32, Vec<serde_json::Value>) {
    let _serial = SERIAL.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let root = image(name);
    let log = root.with_extension("jsonl");
    let signals = Signals::take_over().unwrap();
    let mut spec = describe::plain(&root).unwrap();
    spec.set_hostname(Some("testhost".into()));
    // What a generous manifest would list.
    let allow = filter::allow_list(&GENEROUS.iter().copied().collect()).unwrap();
    let place = Place::New(Layout { root: root.clone(), writable: false });
    let mut container = Container::new(spec, place, Network::None, allow, signals.inherited).unwrap();
    change(&mut container);
    let mut audit = Audit::open(name, Some(&log.clone().into())).unwrap();
    let started = start(&container, |_| Ok(Box::new(move |_| guest()))).unwrap();
    let begun = started.go().unwrap();
    let mut decider = Decider::new(Arc::new(verified), begun.root, std::time::SystemTime::now());
    let supervisor = Supervisor {
        pidfd: begun.pidfd,
        listener: Listener::new(begun.listener),
        decider: &mut decider,
        audit: &mut audit,
        attention: &signals,
        journal: &Journal::new("/".as_ref(), name, Until::End).unwrap(),
        ring: None,
        cgroup: &Cgroup::default(),
        until: Until::End,
        syscall_name: &|_| None,
    };
    let Served::Ended(Some(code)) = supervisor.serve().unwrap() else { panic!("it was our child") };
    let lines = std::fs::read_to_string(&log).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    std::fs::remove_file(&log).unwrap();
    std::fs::remove_dir_all(&root).unwrap();
    (code, lines)
}

const GENEROUS: &[i64] = &[
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_mkdir,
    libc::SYS_unlink,
    libc::SYS_seccomp,
    libc::SYS_ptrace,
    libc::SYS_io_uring_setup,
    libc::SYS_personality,
    libc::SYS_shmat,
    libc::SYS_mknod,
    libc::SYS_unshare,
    libc::SYS_mount,
    libc::SYS_bpf,
    libc::SYS_socket,
    libc::SYS_fork,
    libc::SYS_vfork,
];

fn open(path: &CStr, flags: i32) -> OwnedFd {
    // SAFETY: a terminated path; the result is checked and ours.
    unsafe {
        let fd = libc::open(path.as_ptr(), flags | libc::O_CLOEXEC);
        assert!(fd >= 0);
        std::os::fd::FromRawFd::from_raw_fd(fd)
    }
}

/// A raw syscall's result with errno as a negative number.
fn raw(nr: i64, args: [u64; 6]) -> i64 {
    // SAFETY: the tests pass valid or deliberately harmless arguments.
    let r = unsafe { libc::syscall(nr, args[0], args[1], args[2], args[3], args[4], args[5]) };
    if r < 0 { -i64::from(std::io::Error::last_os_error().raw_os_error().unwrap()) } else { r }
}

fn answer(r: Result<Grant, i32>) -> i64 {
    r.map_or_else(|e| -i64::from(e), |g| i64::from(g.entry) | i64::from(g.scripts) << 32)
}

/// Asks for `/bin/script` with a place for copies, or none; what came of it, and what the place holds.
fn ask_for_script(rules: &Rules, with_place: bool) -> (i64, Option<(bool, Vec<u8>)>) {
    let place = open(c"/etc/passwd", libc::O_RDONLY);
    let file = open(c"/bin/script", libc::O_PATH);
    let told = rules.tell(&[c"script".into()], &[], with_place.then_some(place.as_fd()));
    let grant = ask_with(file.as_fd(), told.as_deref());
    let texts = grant.is_ok_and(|g| g.texts).then(|| handover::read(place).unwrap());
    let identity = sys::fstat(file.as_fd()).map(|st| (st.st_dev, st.st_ino)).unwrap();
    (answer(grant), texts.map(|texts| (texts[0].identity == identity, texts[0].bytes.to_vec())))
}

#[test]
fn a_listed_script_is_handed_over_as_it_was_hashed_to_the_thread_that_asks() {
    let board = Board::new();
    let shared = Board(board.0);
    let (code, lines) = run_under(
        listed(),
        "handover",
        |_| {},
        move || {
            let rules = Rules::of(&listed());
            let good = |(grant, texts): (i64, Option<(bool, Vec<u8>)>)| i64::from(grant > 0 && texts == Some((true, SCRIPT.to_vec())));
            shared.set(0, good(ask_for_script(&rules, true)));
            shared.set(1, i64::from(ask_for_script(&rules, false).1.is_none()));
            let apart = || {
                // A table of its own, where numbers mean other files than in the first thread's.
                let last = u64::from(u32::MAX);
                assert_eq!(raw(libc::SYS_close_range, [last, last, u64::from(libc::CLOSE_RANGE_UNSHARE), 0, 0, 0]), 0);
                let _more = [open(c"/bin/tool", libc::O_RDONLY), open(c"/bin/tool", libc::O_RDONLY)];
                good(ask_for_script(&rules, true))
            };
            shared.set(2, std::thread::scope(|s| s.spawn(apart).join().unwrap_or(-1)));
            // No descriptor has that number, and none may have.
            let far = rules.tell(&[c"script".into()], &[], Some(open(c"/etc/passwd", libc::O_RDONLY).as_fd())).map(|mut told| {
                told[8..12].copy_from_slice(&(u32::MAX - 1).to_le_bytes());
                told
            });
            shared.set(3, answer(ask_with(open(c"/bin/script", libc::O_PATH).as_fd(), far.as_deref())));
            std::fs::write("/bin/script", [SCRIPT, b"more"].concat()).unwrap();
            shared.set(4, ask_for_script(&rules, true).0);
            0
        },
    );
    assert_eq!((code, (0..5).map(|i| board.get(i)).collect::<Vec<_>>()), (0, vec![1, 1, 1, E(libc::EACCES), E(libc::EACCES)]));
    let reasons: Vec<&str> = lines.iter().map(|l| l["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons, ["listed", "listed", "listed", "script-not-handed-over", "script-not-listed"]);
}

const E: fn(i32) -> i64 = |e| -i64::from(e);

#[test]
fn listed_programs_get_their_entry_and_everything_else_an_errno() {
    let board = Board::new();
    let shared = Board(board.0);
    let verified = verified();
    let entry = |d: &[u8]| verified.manifest().entry_order().iter().position(|x| *x == Digest::blake3(d)).unwrap() as i64 + 1;
    let (code, lines) = run(
        "exec",
        |_| {},
        move || {
            let paths = [c"/bin/tool", c"/bin/changed", c"/bin/static", c"/bin/text", c"/bin/script", c"/bin/nested", c"/bin/foreign", c"/bin/lost"];
            for (i, path) in paths.into_iter().enumerate() {
                shared.set(i, answer(ask(open(path, libc::O_PATH).as_fd(), EXEC_MARK, Some(path))));
            }
            shared.set(10, answer(ask(open(c"/lib/libx.so", libc::O_RDONLY).as_fd(), LIBRARY_MARK, None)));
            shared.set(11, answer(ask(open(c"/lib/libx.so", libc::O_RDONLY).as_fd(), EXEC_MARK, None)));
            shared.set(12, answer(ask(open(c"/bin/tool", libc::O_RDONLY).as_fd(), LIBRARY_MARK, None)));
            shared.set(13, answer(ask(open(c"/bin", libc::O_RDONLY).as_fd(), EXEC_MARK, None)));
            shared.set(14, answer(ask(open(c"/dev/zero", libc::O_RDONLY).as_fd(), EXEC_MARK, None)));
            // A copy has the same digest; one byte more or less has not.
            std::fs::write("/tmp/copy", std::fs::read("/bin/tool").unwrap()).unwrap();
            shared.set(15, answer(ask(open(c"/tmp/copy", libc::O_RDONLY).as_fd(), EXEC_MARK, None)));
            let mut bytes = std::fs::read("/bin/tool").unwrap();
            bytes[12] ^= 0x20;
            std::fs::write("/bin/tool", bytes).unwrap();
            shared.set(16, answer(ask(open(c"/bin/tool", libc::O_RDONLY).as_fd(), EXEC_MARK, None)));
            // SAFETY: a descriptor that is not open.
            shared.set(17, answer(ask(unsafe { std::os::fd::BorrowedFd::borrow_raw(77) }, EXEC_MARK, None)));
            42
        },
    );
    assert_eq!(code, 42);
    let (tool, library) = (entry(TOOL), entry(LIBRARY));
    let want = [tool, E(libc::EACCES), E(libc::EACCES), E(libc::ENOEXEC), tool | 1 << 32, tool | 2 << 32, E(libc::EACCES), E(libc::ENOENT)];
    assert_eq!((0..8).map(|i| board.get(i)).collect::<Vec<_>>(), want);
    let more = [library, E(libc::EACCES), E(libc::EACCES), E(libc::EACCES), E(libc::EACCES), tool, E(libc::EACCES), E(libc::EACCES)];
    assert_eq!((10..18).map(|i| board.get(i)).collect::<Vec<_>>(), more);
    let reasons: Vec<&str> = lines.iter().map(|l| l["reason"].as_str().unwrap()).collect();
    assert_eq!(
        reasons,
        [
            "listed",
            "unknown-hash",
            "unknown-size",
            "not-a-program",
            "listed",
            "listed",
            "unknown-size",
            "interpreter-not-found",
            "listed",
            "not-a-program",
            "not-a-library",
            "not-a-regular-file",
            "not-a-regular-file",
            "listed",
            "unknown-hash",
            "bad-descriptor"
        ]
    );
    assert_eq!(lines[0]["path"], "/bin/tool");
    assert_eq!(lines[0]["hash"], Digest::blake3(TOOL).to_string());
    assert!(lines[0]["latency_us"].as_f64().unwrap() > 0.0);
}

#[test]
fn a_locked_down_worker_cannot_escape() {
    let board = Board::new();
    let shared = Board(board.0);
    let (code, lines) = run(
        "escape",
        |_| {},
        move || {
            let tries: &[(i64, [u64; 6])] = &[
                // Native exec by path, by descriptor with a real argv, and with the wrong flags.
                (libc::SYS_execve, [c"/bin/tool".as_ptr() as u64, 0, 0, 0, 0, 0]),
                (libc::SYS_execveat, [libc::AT_FDCWD as u64, c"/bin/tool".as_ptr() as u64, 0, 0, 0, 0]),
                (libc::SYS_execveat, [0, c"".as_ptr() as u64, EXEC_MARK, 0, 0, 0]),
                // Executable memory.
                (libc::SYS_mmap, [0, 4096, 7, 0x22, u64::MAX, 0]),
                (libc::SYS_mmap, [0, 4096, 5, 0x22, u64::MAX, 0]),
                (libc::SYS_mprotect, [board_page(&shared), 4096, 5, 0, 0, 0]),
                (libc::SYS_pkey_mprotect, [board_page(&shared), 4096, 5, u64::MAX, 0, 0]),
                (libc::SYS_shmat, [0, 0, libc::SHM_EXEC as u64, 0, 0, 0]),
                // A listener of its own, and other filters.
                (libc::SYS_seccomp, [1, 8, 0, 0, 0, 0]),
                (libc::SYS_prctl, [libc::PR_SET_SECCOMP as u64, 2, 0, 0, 0, 0]),
                (libc::SYS_prctl, [libc::PR_SET_DUMPABLE as u64, 1, 0, 0, 0, 0]),
                (libc::SYS_ptrace, [u64::from(libc::PTRACE_TRACEME), 0, 0, 0, 0, 0]),
                (libc::SYS_io_uring_setup, [1, 0, 0, 0, 0, 0]),
                (libc::SYS_personality, [0x040_0000, 0, 0, 0, 0, 0]),
                (libc::SYS_unshare, [libc::CLONE_NEWUSER as u64, 0, 0, 0, 0, 0]),
                (libc::SYS_clone, [libc::CLONE_NEWUSER as u64 | libc::SIGCHLD as u64, 0, 0, 0, 0, 0]),
                (libc::SYS_mount, [0; 6]),
                (libc::SYS_bpf, [0; 6]),
                (libc::SYS_socket, [libc::AF_PACKET as u64, libc::SOCK_RAW as u64, 0, 0, 0, 0]),
                (libc::SYS_socket, [libc::AF_ALG as u64, 5, 0, 0, 0, 0]),
                // SOCK_PACKET makes a packet socket of it.
                (libc::SYS_socket, [libc::AF_INET as u64, 10 | libc::SOCK_CLOEXEC as u64, 0x300, 0, 0, 0]),
                (libc::SYS_mknod, [c"/tmp/null".as_ptr() as u64, u64::from(libc::S_IFCHR | 0o600), libc::makedev(1, 3), 0, 0, 0]),
                (libc::SYS_ioctl, [0, libc::TIOCSTI, 0, 0, 0, 0]),
                (libc::SYS_pidfd_getfd, [0; 6]),
                (libc::SYS_kexec_load, [0; 6]),
                (libc::SYS_keyctl, [0; 6]),
                // ARCH_GET_FS: of arch_prctl(2) the runtime may set GS, and that is all.
                (libc::SYS_arch_prctl, [0x1003, board_page(&shared), 0, 0, 0, 0]),
            ];
            for (i, (nr, args)) in tries.iter().enumerate() {
                shared.set(i, raw(*nr, *args));
            }
            shared.set(30, raw(libc::SYS_clone3, [0; 6]));
            shared.set(31, raw(0x4000_0000 | 39, [0; 6]));
            // There is no segment 0: what is asked without SHM_EXEC reaches the kernel.
            shared.set(29, raw(libc::SYS_shmat, [0; 6]));
            // Writing to executable memory through procfs.
            shared.set(32, raw(libc::SYS_open, [c"/proc/self/mem".as_ptr() as u64, libc::O_RDWR as u64, 0, 0, 0, 0]));
            shared.set(33, raw(libc::SYS_open, [c"/proc/sys/kernel/core_pattern".as_ptr() as u64, libc::O_WRONLY as u64, 0, 0, 0, 0]));
            shared.set(34, raw(libc::SYS_open, [c"/proc/sysrq-trigger".as_ptr() as u64, libc::O_WRONLY as u64, 0, 0, 0, 0]));
            // What must still work.
            shared.set(40, raw(libc::SYS_getpid, [0; 6]));
            shared.set(41, std::thread::spawn(|| 5).join().unwrap());
            shared.set(42, raw(libc::SYS_socket, [libc::AF_UNIX as u64, 1, 0, 0, 0, 0]).min(99));
            shared.set(43, std::fs::read_dir("/proc/self/fd").unwrap().count() as i64);
            shared.set(44, std::fs::write("/tmp/x", "y").is_ok().into());
            shared.set(45, (std::env::vars_os().count() == 0).into());
            shared.set(46, std::fs::read_to_string("/proc/self/environ").unwrap_or_default().bytes().any(|b| b.is_ascii_alphabetic()).into());
            0
        },
    );
    assert_eq!(code, 0);
    let refused: Vec<i64> = (0..27).map(|i| board.get(i)).collect();
    let mut want = vec![E(libc::EPERM); 27];
    want[..3].fill(E(libc::EACCES));
    assert_eq!(refused, want);
    assert_eq!(board.get(29), E(libc::EINVAL));
    assert_eq!(board.get(30), E(libc::ENOSYS));
    assert_eq!(board.get(31), E(libc::ENOSYS));
    assert!(matches!(-board.get(32) as i32, libc::EROFS | libc::EACCES | libc::EPERM), "{}", board.get(32));
    assert!(board.get(33) < 0);
    assert!(board.get(34) >= 0 || matches!(-board.get(34) as i32, libc::ENOENT | libc::EACCES), "not there, or masked by /dev/null");
    assert_eq!((40..47).map(|i| board.get(i)).collect::<Vec<_>>(), [1, 5, board.get(42), 5, 1, 1, 0], "standard streams, the socket and the directory");
    assert!(board.get(42) >= 0);
    assert_eq!(lines.iter().filter(|l| l["event"] == "native-exec" && l["decision"] == "denied").count(), 3);
    assert_eq!(lines[0]["path"], "/bin/tool");
    assert!(!image_left("escape"));
}

fn board_page(board: &Board) -> u64 {
    board.0 as u64
}

fn image_left(name: &str) -> bool {
    std::env::temp_dir().join(format!("vkernel-test-{name}-{}", std::process::id())).exists()
}

#[test]
fn the_container_is_a_small_world_of_its_own() {
    let board = Board::new();
    let shared = Board(board.0);
    let (code, _) = run(
        "world",
        |c| {
            let process = c.spec.process_mut().as_mut().unwrap();
            process.user_mut().set_uid(8).set_gid(12);
            process.set_capabilities(serde_json::from_value(describe::capabilities(&describe::KEPT, &[], &[], 8).unwrap()).ok());
        },
        move || {
            let read = |p: &str| std::fs::read_to_string(p).unwrap_or_default();
            shared.set(0, (read("/proc/sys/kernel/hostname").trim() == "testhost").into());
            shared.set(1, read("/proc/net/dev").lines().count() as i64);
            shared.set(2, std::fs::read_dir("/proc").unwrap().filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().parse::<u32>().is_ok()).count() as i64);
            shared.set(3, raw(libc::SYS_getuid, [0; 6]));
            shared.set(4, raw(libc::SYS_getgid, [0; 6]));
            shared.set(5, read("/proc/self/status").lines().any(|l| l == "CapEff:\t0000000000000000").into());
            shared.set(6, read("/proc/self/mounts").lines().filter(|l| !l.split(' ').nth(3).unwrap().contains("nosuid")).count() as i64);
            shared.set(7, std::fs::write("/dev/null", "x").is_ok().into());
            shared.set(8, std::fs::write("/etc/passwd", "x").is_ok().into());
            shared.set(9, std::fs::exists("/work").unwrap().into());
            7
        },
    );
    assert_eq!(code, 7);
    assert_eq!((0..10).map(|i| board.get(i)).collect::<Vec<_>>(), [1, 3, 1, 8, 12, 1, 0, 1, 0, 0]);
}

/// 07, S17: such a file costs nothing to make, and would take hours to hash.
#[test]
fn a_file_of_eight_tebibytes_is_refused_before_a_byte_of_it_is_read() {
    let board = Board::new();
    let shared = Board(board.0);
    let (_, lines) = run(
        "huge",
        |_| {},
        move || {
            let mut huge = std::fs::File::create("/tmp/huge").unwrap();
            std::io::Write::write_all(&mut huge, TOOL).unwrap();
            huge.set_len(8 << 40).unwrap();
            shared.set(0, answer(ask(open(c"/tmp/huge", libc::O_RDONLY).as_fd(), EXEC_MARK, None)));
            shared.set(1, answer(ask(open(c"/tmp/huge", libc::O_RDONLY).as_fd(), LIBRARY_MARK, None)));
            huge.set_len(TOOL.len() as u64).unwrap();
            shared.set(2, answer(ask(open(c"/tmp/huge", libc::O_RDONLY).as_fd(), EXEC_MARK, None)));
            0
        },
    );
    assert_eq!((board.get(0), board.get(1)), (E(libc::EACCES), E(libc::EACCES)));
    assert!(board.get(2) > 0, "the same file at its right size is the program");
    assert_eq!(lines[0]["reason"], "unknown-size");
    assert!(lines[0]["latency_us"].as_f64().unwrap() < 100_000.0, "{}", lines[0]);
}

#[test]
fn a_guest_killed_by_a_signal_ends_with_128_plus_its_number() {
    let (code, _) = run(
        "killed",
        |_| {},
        || {
            // SAFETY: a fault on purpose: pid 1 does not die of signals it sends itself.
            unsafe { std::ptr::without_provenance_mut::<u8>(8).write_volatile(0) };
            0
        },
    );
    assert_eq!(code, 128 + libc::SIGSEGV);
}

#[test]
fn a_missing_working_directory_is_a_failure_with_advice() {
    let _serial = SERIAL.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let root = image("cwd");
    let signals = Signals::take_over().unwrap();
    let mut spec = describe::plain(&root).unwrap();
    spec.process_mut().as_mut().unwrap().set_cwd("/nowhere".into());
    let place = Place::New(Layout { root: root.clone(), writable: false });
    let container = Container::new(spec, place, Network::Loopback, filter::allow_list(&BTreeSet::new()).unwrap(), signals.inherited).unwrap();
    let failure = start(&container, |_| Ok(Box::new(|_| 0))).and_then(|s| s.go()).map(|_| ()).unwrap_err();
    std::fs::remove_dir_all(&root).unwrap();
    assert_eq!(failure.code, 127);
    assert!(failure.to_string().contains("/nowhere") && failure.to_string().contains("--workdir"), "{failure}");
    let _ = sys::prctl(libc::PR_GET_DUMPABLE, 0, 0);
}
