//! Functions over a window of a test's own, without a module: pointers, rights, lists, ways out.

use super::*;
use crate::process::AllowList;
use crate::testing::{Double, guest};
use std::os::unix::fs::symlink;
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
    let start = Start { module: 0, argv: vec![c"p".into(), c"arg".into()], envp: vec![c"A=1".into()], directories: Vec::new() };
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
