//! Functions over a window of a test's own, without a module: pointers, rights, lists, ways out.

use super::*;
use crate::process::AllowList;
use crate::testing::{Double, guest};
use std::io::{Read, Write};
use std::os::fd::IntoRawFd;
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::PathBuf;

struct Guest {
    thread: Thread,
    double: Arc<Double>,
    program: Program,
    dir: PathBuf,
}

/// A program whose number 3 is a directory `in` beside a file `secret` and a directory `out`.
fn program(name: &str) -> Guest {
    let (mut thread, double) = guest();
    let dir = std::env::temp_dir().join(format!("vkernel-wasi-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(dir.join("in/sub")).unwrap();
    std::fs::create_dir_all(dir.join("out")).unwrap();
    std::fs::write(dir.join("secret"), "secret").unwrap();
    std::fs::write(dir.join("in/file"), "content").unwrap();
    let memory = Arc::new(LinearMemory::new(thread.process.clone()));
    memory.grow(2).unwrap();
    let start = Start { module: 0, argv: vec![c"p".into(), c"arg".into()], envp: vec![c"A=1".into()], directories: Vec::new(), refused: None };
    let mut program = Program::new(&mut thread, memory, &start);
    let path = CString::new(dir.join("in").to_str().unwrap()).unwrap();
    let mut call = Call::new(&mut thread, &mut program, [0; 9]);
    let host = call.program.table.remove(3).unwrap().host;
    // SAFETY: a descriptor that nothing else knows.
    unsafe { libc::close(host) };
    let path = call.lay(path.to_bytes_with_nul()).unwrap();
    let fd = call.row(libc::SYS_openat, &[libc::AT_FDCWD as u64, path, libc::O_DIRECTORY as u64, 0]).unwrap();
    program.table.put(3, table::Descriptor { preopen: Some(b"/".to_vec()), ..table::Descriptor::new(fd as i32, table::Kind::Directory) });
    Guest { thread, double, program, dir }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Where strings are put, and results.
const TEXT: u64 = 0x1000;
const OUT: u64 = 0x8000;

impl Guest {
    fn call(&mut self, name: &str, arguments: &[u64]) -> u16 {
        self.program.call(&mut self.thread, by_name(name).unwrap(), arguments)
    }

    fn text(&self, text: &str) -> [u64; 2] {
        self.at(TEXT, text)
    }

    fn at(&self, pointer: u64, text: &str) -> [u64; 2] {
        self.program.memory.put(pointer, text.as_bytes()).unwrap();
        [pointer, text.len() as u64]
    }

    /// Opens with every right and a flag: the errno, or the number.
    fn open(&mut self, path: &str, follow: u64, oflags: u64) -> Result<u64, u16> {
        let [p, n] = self.text(path);
        match self.call("path_open", &[3, follow, p, n, oflags, table::right::ALL, table::right::ALL, 0, OUT]) {
            0 => Ok(self.out()),
            code => Err(code),
        }
    }

    /// Gives the program what is usually there from the start: the number of a host descriptor.
    fn give(&mut self, host: impl IntoRawFd, kind: table::Kind) -> u64 {
        self.program.table.add(table::Descriptor::new(host.into_raw_fd(), kind)).unwrap().into()
    }

    /// A vector at `TEXT` of these ranges.
    fn ranges(&self, ranges: &[[u32; 2]]) {
        ranges.iter().zip((TEXT..).step_by(8)).for_each(|(range, at)| self.program.memory.store(at, *range).unwrap());
    }

    fn out(&self) -> u64 {
        self.program.memory.load::<u32>(OUT).unwrap().into()
    }
}

#[test]
fn there_is_a_function_for_each_of_wasi_and_a_row_for_each_that_it_names() {
    assert_eq!(FUNCTIONS.len(), 46);
    for f in FUNCTIONS {
        assert!(f.parameters.len() <= 9 && f.parameters.bytes().all(|p| matches!(p, b'i' | b'I')), "{}", f.name);
        f.rows.iter().for_each(|row| assert!(crate::table::by_name(row).is_some(), "{}: {row}", f.name));
        assert!(f.rows.is_sorted());
    }
}

#[test]
fn pointers_are_checked_before_anything_is_done() {
    let mut g = program("pointers");
    let end = g.program.memory.bytes();
    assert_eq!(g.call("random_get", &[end - 8, 8]), 0);
    for (pointer, length) in [(end - 8, 9), (end, 1), (u64::from(u32::MAX), 1), (0, end + 1), (u64::from(u32::MAX), u64::from(u32::MAX))] {
        assert_eq!(g.call("random_get", &[pointer, length]), Code::FAULT.0, "{pointer:#x}+{length:#x}");
    }
    assert_eq!(g.call("args_sizes_get", &[OUT, OUT + 4]), 0);
    assert_eq!(g.call("args_sizes_get", &[OUT, end]), Code::FAULT.0);
    assert_eq!(g.call("args_sizes_get", &[OUT + 1, OUT + 8]), Code::INVAL.0, "not aligned");
    // A vector whose second range is outside moves nothing.
    let fd = g.open("file", 0, 0).unwrap();
    g.program.memory.store(TEXT, [0x2000u32, 4]).unwrap();
    g.program.memory.store(TEXT + 8, [end as u32 - 1, 4]).unwrap();
    assert_eq!(g.call("fd_read", &[fd, TEXT, 2, OUT]), Code::FAULT.0);
    assert_eq!(g.call("fd_read", &[fd, TEXT, 1, OUT]), 0);
    assert_eq!((g.out(), g.program.memory.bytes_at(0x2000, 4).unwrap()), (4, b"cont".to_vec()));
    // Nor a number that was opened and could not be told.
    let [p, n] = g.text("file");
    assert_eq!(g.call("path_open", &[3, 0, p, n, 0, 2, 0, 0, end]), Code::FAULT.0);
    assert_eq!(g.open("file", 0, 0), Ok(fd + 1));
}

#[test]
fn no_way_leads_out_of_a_directory_and_its_twin_inside_works() {
    let mut g = program("escapes");
    symlink("../secret", g.dir.join("in/up")).unwrap();
    symlink(g.dir.join("secret"), g.dir.join("in/absolute")).unwrap();
    symlink("../out", g.dir.join("in/door")).unwrap();
    symlink("file", g.dir.join("in/inside")).unwrap();
    for path in ["../secret", "sub/../../secret", "up", "absolute", "door/../secret", "..", "door", "door/", "/etc/passwd", "sub/../.."] {
        assert_eq!(g.open(path, 1, 0), Err(Code::PERM.0), "{path}");
    }
    for path in ["sub/../file", "inside", "./file", ".", "sub/", "sub/.."] {
        g.open(path, 1, if path.ends_with("file") || path == "inside" { 0 } else { 2 }).unwrap_or_else(|e| panic!("{path}: {e}"));
    }
    let perm = Code::PERM.0;
    let mut both = |name: &str, path: &str| {
        let [p, n] = g.text(path);
        g.call(name, &[3, p, n])
    };
    for path in ["../new", "door/new", "sub/../../new"] {
        assert_eq!([both("path_create_directory", path), both("path_remove_directory", path), both("path_unlink_file", path)], [perm; 3], "{path}");
    }
    assert_eq!([both("path_create_directory", "sub/new"), both("path_remove_directory", "sub/new")], [0, 0]);
    assert_eq!(both("path_remove_directory", ".."), perm);
    let [p, n] = g.text("up");
    assert_eq!(g.call("path_filestat_get", &[3, 1, p, n, OUT]), perm);
    assert_eq!(g.call("path_filestat_get", &[3, 0, p, n, OUT]), 0, "the link itself lies inside");
    assert!(g.dir.join("secret").exists() && std::fs::read_dir(g.dir.join("out")).unwrap().next().is_none());
}

#[test]
fn names_are_moved_and_linked_within_the_directory_only() {
    let mut g = program("links");
    symlink("../out", g.dir.join("in/door")).unwrap();
    let perm = Code::PERM.0;
    for (old, new, expected) in
        [("file", "../out/stolen", perm), ("file", "door/stolen", perm), ("../secret", "taken", perm), ("door/../secret", "taken", perm), ("file", "sub/again", 0)]
    {
        let ([o, on], [p, n]) = (g.text(old), g.at(TEXT + 256, new));
        assert_eq!(g.call("path_link", &[3, 0, o, on, 3, p, n]), expected, "link {old} {new}");
    }
    for (old, new, expected) in [("file", "../out/stolen", perm), ("../secret", "taken", perm), ("sub", "..", perm), ("..", "sub/x", perm), ("file", "sub/moved", 0)] {
        let ([o, on], [p, n]) = (g.text(old), g.at(TEXT + 256, new));
        assert_eq!(g.call("path_rename", &[3, o, on, 3, p, n]), expected, "rename {old} {new}");
    }
    assert!(g.dir.join("in/sub/moved").exists() && g.dir.join("in/sub/again").exists() && g.dir.join("secret").exists());
    let ([o, on], [p, n]) = (g.text("/etc/passwd"), g.at(TEXT + 256, "absolute"));
    assert_eq!(g.call("path_symlink", &[o, on, 3, p, n]), perm);
    let ([o, on], [p, n]) = (g.text("sub/moved"), g.at(TEXT + 256, "relative"));
    assert_eq!(g.call("path_symlink", &[o, on, 3, p, n]), 0);
    let [p, n] = g.text("relative");
    assert_eq!(g.call("path_readlink", &[3, p, n, TEXT + 512, 64, OUT]), 0);
    assert_eq!(g.program.memory.bytes_at(TEXT + 512, g.out()).unwrap(), b"sub/moved");
}

#[test]
fn a_host_descriptor_that_nobody_gave_is_no_number() {
    let mut g = program("numbers");
    let host = std::fs::File::open(g.dir.join("secret")).unwrap();
    let number = std::os::fd::AsRawFd::as_raw_fd(&host) as u64;
    g.program.memory.store(TEXT, [0x2000u32, 4]).unwrap();
    assert_eq!(g.call("fd_read", &[number + 64, TEXT, 1, OUT]), Code::BADF.0);
    for (name, arguments) in [("fd_close", vec![number + 64]), ("fd_renumber", vec![number + 64, 3]), ("fd_renumber", vec![3, number + 64]), ("fd_tell", vec![number + 64, OUT])] {
        assert_eq!(g.call(name, &arguments), Code::BADF.0, "{name}");
    }
    assert_eq!(g.call("fd_prestat_get", &[3, OUT]), 0);
}

#[test]
fn rights_are_given_up_for_good_also_for_what_is_opened_afterwards() {
    let mut g = program("rights");
    let all = table::right::ALL;
    let fd = g.open("file", 0, 0).unwrap();
    let base = table::Kind::RegularFile.rights();
    assert_eq!(g.call("fd_fdstat_set_rights", &[fd, base & !table::right::FD_READ, 0]), 0);
    g.program.memory.store(TEXT, [0x2000u32, 4]).unwrap();
    assert_eq!(g.call("fd_read", &[fd, TEXT, 1, OUT]), Code::NOTCAPABLE.0);
    assert_eq!(g.call("fd_fdstat_set_rights", &[fd, base, 0]), Code::NOTCAPABLE.0, "nothing comes back");
    assert_eq!(g.call("fd_fdstat_set_rights", &[3, table::right::DIRECTORY, all & !table::right::FD_WRITE]), 0);
    let fd = g.open("file", 0, 0).unwrap();
    g.program.memory.store(TEXT, [0x2000u32, 4]).unwrap();
    assert_eq!((g.call("fd_write", &[fd, TEXT, 1, OUT]), g.call("fd_read", &[fd, TEXT, 1, OUT])), (Code::NOTCAPABLE.0, 0));
    assert_eq!(g.call("fd_fdstat_set_rights", &[3, table::right::DIRECTORY & !table::right::PATH_OPEN, all & !table::right::FD_WRITE]), 0);
    assert_eq!(g.open("file", 0, 0), Err(Code::NOTCAPABLE.0));
}

#[test]
fn the_programs_list_decides_and_openat_is_what_opening_is_called() {
    let mut g = program("lists");
    let only = |names: &[&str]| {
        let mut list = AllowList::NONE;
        names.iter().for_each(|n| list.insert(crate::table::by_name(n).unwrap().nr));
        list
    };
    g.thread.process.set_allow(&only(&["openat2", "readv"]));
    assert_eq!(g.open("file", 0, 0), Err(Code::PERM.0));
    assert!(g.double.events.lock().unwrap().pop().unwrap().contains("openat"));
    g.thread.process.set_allow(&only(&["openat", "readv"]));
    let fd = g.open("file", 0, 0).unwrap();
    g.program.memory.store(TEXT, [0x2000u32, 4]).unwrap();
    assert_eq!((g.call("fd_read", &[fd, TEXT, 1, OUT]), g.call("fd_write", &[fd, TEXT, 1, OUT])), (0, Code::PERM.0));
    g.thread.process.set_allow(&AllowList::ALL);
    let [p, n] = g.text("file");
    assert_eq!(g.call("path_open", &[3, 0, p, n, 0, table::right::FD_READ, 0, 0, OUT]), 0);
    let fd = g.out();
    assert_eq!(g.call("fd_write", &[fd, TEXT, 1, OUT]), Code::BADF.0, "not opened for it");
    g.thread.process.set_allow(&only(&["openat", "readv"]));
    assert_eq!(g.call("random_get", &[OUT, 8]), Code::PERM.0);
}

#[test]
fn memory_grows_up_to_the_stack_and_is_zero() {
    let g = program("grows");
    let memory = &g.program.memory;
    assert_eq!(memory.grow(1 << 16), Err(crate::errno::Errno::ENOMEM));
    let before = memory.bytes();
    memory.grow(3).unwrap();
    assert_eq!(memory.bytes(), before + 3 * PAGE_BYTES);
    assert_eq!(memory.load::<u64>(before + 3 * PAGE_BYTES - 8), Ok(0));
    assert_eq!(memory.load::<u64>(before + 3 * PAGE_BYTES - 4).err(), Some(Code::INVAL));
    assert_eq!(memory.load::<u64>(before + 3 * PAGE_BYTES).err(), Some(Code::FAULT));
}

/// Results of `sock_recv`: how much, and whether the rest of a message was thrown away.
const FLAGS: u64 = OUT + 8;

#[test]
fn a_socket_that_was_given_sends_and_receives_until_it_is_shut() {
    let mut g = program("sockets");
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let fd = g.give(ours, table::Kind::SocketStream);
    // Two ranges are one message, and what comes is spread over two.
    g.at(0x2000, "one, two");
    g.ranges(&[[0x2000, 5], [0x2005, 3]]);
    assert_eq!((g.call("sock_send", &[fd, TEXT, 2, 0, OUT]), g.out()), (0, 8));
    let mut bytes = [0; 8];
    theirs.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"one, two");
    theirs.write_all(b"answer").unwrap();
    g.ranges(&[[0x3000, 2], [0x3100, 16]]);
    let mut received = |flags: u64| {
        g.program.memory.put(0x3000, &[0; 0x110]).unwrap();
        assert_eq!(g.call("sock_recv", &[fd, TEXT, 2, flags, OUT, FLAGS]), 0);
        assert_eq!(g.program.memory.load::<u16>(FLAGS), Ok(0), "a stream cuts no message");
        let n = g.out();
        [g.program.memory.bytes_at(0x3000, n.min(2)).unwrap(), g.program.memory.bytes_at(0x3100, n.saturating_sub(2)).unwrap()]
    };
    let answer = [b"an".to_vec(), b"swer".to_vec()];
    assert_eq!(received(1), answer, "peeked at");
    assert_eq!(received(0), answer, "and still there");
    // Waits until both ranges are full, or nothing more can come.
    let slow = std::thread::spawn(move || {
        theirs.write_all(b"0123").unwrap();
        std::thread::sleep(std::time::Duration::from_millis(50));
        theirs.write_all(b"456789abcdefgh").unwrap();
        theirs
    });
    assert_eq!(received(2), [b"01".to_vec(), b"23456789abcdefgh".to_vec()]);
    let mut theirs = slow.join().unwrap();
    // Shut for writing: the other side sees the end, this one still receives.
    for how in [0, 4] {
        assert_eq!(g.call("sock_shutdown", &[fd, how]), Code::INVAL.0);
    }
    assert_eq!(g.call("sock_shutdown", &[fd, 2]), 0);
    assert_eq!(theirs.read(&mut bytes).unwrap(), 0);
    assert_eq!(g.call("sock_send", &[fd, TEXT, 1, 0, OUT]), Code::PIPE.0, "an errno and no signal");
    theirs.write_all(b"z").unwrap();
    assert_eq!((g.call("sock_recv", &[fd, TEXT, 2, 0, OUT, FLAGS]), g.out()), (0, 1));
    assert_eq!(g.call("sock_shutdown", &[fd, 1]), 0);
    assert_eq!((g.call("sock_recv", &[fd, TEXT, 2, 0, OUT, FLAGS]), g.out()), (0, 0), "the end");
}

#[test]
fn a_message_that_is_longer_than_its_ranges_is_said_to_be_cut() {
    let mut g = program("datagrams");
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    let fd = g.give(ours, table::Kind::SocketDgram);
    g.ranges(&[[0x3000, 4]]);
    for (message, cut) in [("four", 0), ("longer", 1)] {
        theirs.send(message.as_bytes()).unwrap();
        assert_eq!((g.call("sock_recv", &[fd, TEXT, 1, 0, OUT, FLAGS]), g.out(), g.program.memory.load::<u16>(FLAGS)), (0, 4, Ok(cut)), "{message}");
        assert_eq!(g.program.memory.bytes_at(0x3000, 4).unwrap(), message.as_bytes()[..4]);
    }
    // Flags that no function has.
    assert_eq!(g.call("sock_recv", &[fd, TEXT, 1, 4, OUT, FLAGS]), Code::INVAL.0);
    assert_eq!(g.call("sock_send", &[fd, TEXT, 1, 1, OUT]), Code::INVAL.0);
    // What is no socket, and what was never opened.
    let file = g.open("file", 0, 0).unwrap();
    for (number, expected) in [(file, Code::NOTSOCK.0), (99, Code::BADF.0)] {
        assert_eq!(g.call("sock_recv", &[number, TEXT, 1, 0, OUT, FLAGS]), expected);
        assert_eq!([g.call("sock_send", &[number, TEXT, 1, 0, OUT]), g.call("sock_shutdown", &[number, 1]), g.call("sock_accept", &[number, 0, OUT])], [expected; 3]);
    }
}

#[test]
fn a_listening_socket_gives_connections_numbers_of_their_own() {
    let mut g = program("accepts");
    let path = g.dir.join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    listener.set_nonblocking(true).unwrap();
    let fd = g.give(listener, table::Kind::SocketStream);
    assert_eq!(g.call("sock_accept", &[fd, 0, OUT]), Code::AGAIN.0, "nobody is there");
    let mut client = UnixStream::connect(&path).unwrap();
    // APPEND: a socket has no end to append to. The connection is lost neither by that nor by an address that is none.
    let end = g.program.memory.bytes();
    assert_eq!([g.call("sock_accept", &[fd, 1, OUT]), g.call("sock_accept", &[fd, 0, end])], [Code::INVAL.0, Code::FAULT.0]);
    assert_eq!(g.call("sock_accept", &[fd, 4, OUT]), 0);
    let accepted = g.out();
    assert!(accepted > fd, "{accepted}");
    g.ranges(&[[0x3000, 4]]);
    assert_eq!(g.call("sock_recv", &[accepted, TEXT, 1, 0, OUT, FLAGS]), Code::AGAIN.0, "it does not wait, as was asked");
    client.write_all(b"ping").unwrap();
    assert_eq!((g.call("sock_recv", &[accepted, TEXT, 1, 0, OUT, FLAGS]), g.out()), (0, 4));
    assert_eq!((g.call("sock_send", &[accepted, TEXT, 1, 0, OUT]), g.out()), (0, 4));
    let mut bytes = [0; 4];
    client.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"ping");
    assert_eq!([g.call("fd_close", &[accepted]), g.call("sock_shutdown", &[accepted, 3])], [0, Code::BADF.0]);
    assert_eq!(client.read(&mut bytes).unwrap(), 0);
}

#[test]
fn space_is_allocated_for_files_that_may_be_written() {
    let mut g = program("allocates");
    let path = g.dir.join("in/file");
    let size = || std::fs::metadata(&path).unwrap().len();
    let fd = g.open("file", 0, 0).unwrap();
    assert_eq!((g.call("fd_allocate", &[fd, 4, 3]), size()), (0, 7), "it had as much already");
    assert_eq!((g.call("fd_allocate", &[fd, 4096, 4096]), size()), (0, 8192));
    assert_eq!(&std::fs::read(&path).unwrap()[..8], b"content\0");
    assert_eq!((g.call("fd_allocate", &[fd, 0, 0]), size()), (Code::INVAL.0, 8192), "nothing, says the kernel");
    assert_eq!((g.call("fd_allocate", &[fd, u64::MAX, 1]), size()), (Code::INVAL.0, 8192));
    assert_eq!((g.call("fd_allocate", &[fd, i64::MAX as u64, 1]), size()), (Code::FBIG.0, 8192));
    // A directory's number has no such right, a file's may have given it up, and none is open.
    assert_eq!([g.call("fd_allocate", &[3, 0, 1]), g.call("fd_allocate", &[99, 0, 1])], [Code::BADF.0; 2]);
    let without = table::Kind::RegularFile.rights() & !table::right::FD_ALLOCATE;
    assert_eq!(g.call("fd_fdstat_set_rights", &[fd, without, 0]), 0);
    assert_eq!((g.call("fd_allocate", &[fd, 0, 10_000]), size()), (Code::NOTCAPABLE.0, 8192));
    let [p, n] = g.text("file");
    assert_eq!(g.call("path_open", &[3, 0, p, n, 0, table::right::FD_READ, 0, 0, OUT]), 0);
    let reader = g.out();
    assert_eq!((g.call("fd_allocate", &[reader, 0, 10_000]), size()), (Code::BADF.0, 8192), "not opened for it");
}
