//! A test double of the outside world, and a window. Tests only. There is no lifted code here: tests call rows and look at `CpuState`.

use crate::abi::CpuState;
use crate::errno::Errno;
use crate::guest::{WINDOW_BYTES, Window};
use crate::host::{Event, Granted, Host, Object, ObjectId, Segment, Text, Watch};
use crate::process::{AllowList, Process};
use crate::table::SysResult;
use crate::thread::{NewThread, Thread};
use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::{Arc, Mutex};

/// Objects: 0 = a program with an interpreter, 1 = its interpreter, 2 = a library. Each has text, rodata-less data and bss.
pub(crate) struct Double {
    image: OwnedFd,
    objects: Vec<Object>,
    /// The file that is taken for library 2: (device, inode).
    pub(crate) library: Mutex<Option<(u64, u64)>>,
    /// What `exec` answers.
    pub(crate) exec: Mutex<Result<ObjectId, Errno>>,
    /// The scripts that its next answer hands over.
    pub(crate) texts: Mutex<Vec<Text>>,
    pub(crate) bound: Mutex<Vec<ObjectId>>,
    pub(crate) events: Mutex<Vec<String>>,
    pub(crate) watch: Mutex<Watch>,
    /// The guest program of new threads.
    pub(crate) body: Mutex<Option<fn(Thread)>>,
}

pub(crate) const PROGRAM: ObjectId = ObjectId(0);
pub(crate) const INTERPRETER: ObjectId = ObjectId(1);
pub(crate) const LIBRARY: ObjectId = ObjectId(2);
/// Text (one page, starts with the bytes of `syscall`), a hole, then data (one image page + one bss page).
pub(crate) const OBJECT_BYTES: u64 = 4 * 4096;
/// Where data starts.
pub(crate) const DATA: u64 = 2 * 4096;

fn object(n: u64, start: u64, interpreter: Option<CString>) -> Object {
    let rx = libc::PROT_READ | libc::PROT_EXEC;
    let rw = libc::PROT_READ | libc::PROT_WRITE;
    Object {
        path: CString::new(format!("/obj{n}")).unwrap(),
        base: start,
        start,
        end: start + OBJECT_BYTES,
        entry: start + 0x10,
        phdr: start + 0x40,
        phent: 56,
        phnum: 4,
        interpreter,
        segments: vec![
            Segment { start, mem_len: 4096, image_len: 4096, image_offset: 8192 * n, file_offset: 0, prot: rx },
            Segment { start: start + DATA, mem_len: 8192, image_len: 100, image_offset: 8192 * n + 4096, file_offset: 4096, prot: rw },
        ],
        allow: AllowList::ALL,
        wasi: None,
        directories: Vec::new(),
    }
}

impl Double {
    fn new() -> Self {
        // SAFETY: a terminated name; a descriptor just made.
        let image = unsafe { OwnedFd::from_raw_fd(libc::memfd_create(c"image".as_ptr(), 0)) };
        let mut bytes = vec![0xaau8; 3 * 8192];
        for n in 0..3 {
            bytes[8192 * n] = 0x0f;
            bytes[8192 * n + 1] = 0x05;
            bytes[8192 * n + 4096..8192 * n + 4096 + 100].fill(n as u8 + 1);
        }
        // SAFETY: writes a live buffer.
        let n = unsafe { libc::write(image.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) };
        assert_eq!(n as usize, bytes.len());
        // Any file that exists will do: the double does not look at it.
        let interpreter = Some(c"/proc/self/status".to_owned());
        let objects = vec![object(0, 0x0200_0000, interpreter), object(1, 0x0300_0000, None), object(2, 0x0400_0000, None)];
        Self {
            image,
            objects,
            library: Mutex::default(),
            exec: Mutex::new(Err(Errno::EACCES)),
            texts: Mutex::default(),
            bound: Mutex::default(),
            events: Mutex::default(),
            watch: Mutex::default(),
            body: Mutex::default(),
        }
    }
}

impl Host for Double {
    fn exec(&self, _: BorrowedFd<'_>, _: &[CString], _: &[CString]) -> Result<Granted, Errno> {
        let texts = std::mem::take(&mut *self.texts.lock().unwrap());
        self.exec.lock().unwrap().map(|id| Granted { id, texts })
    }
    fn library(&self, fd: BorrowedFd<'_>) -> Result<Option<ObjectId>, Errno> {
        let identity = crate::mm::file_identity(fd.as_raw_fd());
        let own = std::fs::read_link(format!("/proc/thread-self/fd/{}", fd.as_raw_fd())).is_ok_and(|p| p.ends_with("status"));
        Ok(if own { Some(INTERPRETER) } else { (*self.library.lock().unwrap() == Some(identity)).then_some(LIBRARY) })
    }
    fn object(&self, id: ObjectId) -> &Object {
        &self.objects[id.0 as usize]
    }
    fn map_image(&self, at: *mut u8, len: usize, offset: u64, prot: i32) -> Result<(), Errno> {
        // SAFETY: the caller names guest pages.
        let p = unsafe { libc::mmap(at.cast(), len, prot, libc::MAP_PRIVATE | libc::MAP_FIXED, self.image.as_raw_fd(), offset as i64) };
        if p == libc::MAP_FAILED { Err(Errno::last()) } else { Ok(()) }
    }
    fn bind(&self, id: ObjectId) {
        self.bound.lock().unwrap().push(id);
    }
    fn unbind(&self, id: ObjectId) {
        self.bound.lock().unwrap().retain(|b| *b != id);
    }
    fn unbind_all(&self) {
        self.bound.lock().unwrap().clear();
    }
    fn spawn_thread(&self, start: NewThread) -> Result<(), Errno> {
        let body = self.body.lock().unwrap().expect("the test gave a body");
        std::thread::spawn(move || {
            let cpu = cpu();
            // SAFETY: leaked, this thread's alone.
            body(unsafe { start.begin(cpu) });
        });
        Ok(())
    }
    fn watch(&self) -> Watch {
        *self.watch.lock().unwrap()
    }
    fn audit(&self, event: &Event<'_>) {
        self.events.lock().unwrap().push(format!("{event:?}"));
    }
}

fn cpu() -> *mut CpuState {
    // SAFETY: integers only; all-zero is valid.
    Box::leak(Box::new(unsafe { std::mem::zeroed::<CpuState>() }))
}

/// An empty address space with a stack, and the double.
pub(crate) fn guest() -> (Thread, Arc<Double>) {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a fresh reservation, never unmapped.
    let window = unsafe {
        let base = libc::mmap(std::ptr::null_mut(), WINDOW_BYTES as usize, libc::PROT_NONE, flags, -1, 0);
        assert_ne!(base, libc::MAP_FAILED);
        Window::new(base.cast())
    };
    let host = Arc::new(Double::new());
    let process = Process::new(window, host.clone());
    process.set_allow(&AllowList::ALL);
    process.memory().map_stack(8 << 20).unwrap();
    // SAFETY: leaked, this thread's alone.
    let mut thread = unsafe { Thread::start(process, cpu()) };
    let top = thread.process.memory().stack_high;
    thread.cpu().gpr[crate::thread::reg::RSP] = top - 65536;
    (thread, host)
}

/// One syscall through the table.
pub(crate) fn call(t: &mut Thread, nr: i64, args: &[u64]) -> SysResult {
    let mut six = [0; 6];
    six[..args.len()].copy_from_slice(args);
    crate::dispatch::run(t, nr as u64, six)
}

/// One syscall through `dispatch`, with `rip` as the pc after the instruction: rax.
pub(crate) fn instruction(t: &mut Thread, nr: i64, args: &[u64], rip: u64) -> i64 {
    use crate::thread::reg;
    let cpu = t.cpu();
    cpu.rip = rip;
    cpu.gpr[reg::RAX] = nr as u64;
    for (r, v) in [reg::RDI, reg::RSI, reg::RDX, reg::R10, reg::R8, reg::R9].into_iter().zip(args) {
        cpu.gpr[r] = *v;
    }
    crate::dispatch(t);
    t.cpu().gpr[reg::RAX] as i64
}

/// Runs a test in a process of its own: signal dispositions and forks stay there. Panics become exit status 101.
pub(crate) fn in_child(test: fn()) {
    let status = child_status(test);
    assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0, "the child ended with {status:#x}");
}

thread_local! {
    static IN_CHILD: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Panics of children go to stderr: the harness keeps what a test prints in memory, which is lost with the child. Set before any fork, because a child cannot wait for a lock that a thread of its parent held.
fn print_panics_of_children() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let ordinary = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !IN_CHILD.get() {
                return ordinary(info);
            }
            let line = format!("{info}\n");
            // SAFETY: a plain write of live bytes.
            unsafe { libc::write(libc::STDERR_FILENO, line.as_ptr().cast(), line.len()) };
        }));
    });
}

/// The wait status of a child that runs `test`.
pub(crate) fn child_status(test: fn()) -> i32 {
    print_panics_of_children();
    // SAFETY: the child runs the test on this thread and exits without returning to the harness.
    unsafe {
        let pid = libc::fork();
        if pid == 0 {
            IN_CHILD.set(true);
            let ok = std::panic::catch_unwind(test).is_ok();
            libc::_exit(if ok { 0 } else { 101 });
        }
        let mut status = 0;
        assert_eq!(libc::waitpid(pid, &raw mut status, 0), pid);
        status
    }
}
