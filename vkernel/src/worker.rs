//! The guest side of a container: `syscalls::Host` over the signed objects, the loader's code and the supervisor's answers, and the first
//! program's start. Owns the glue only: no syscall is implemented here and no decision made.
//!
//! The fact a newcomer gets wrong: a worker holds no descriptor, not even of the image. Read-only segments are second mappings of the one
//! shared mapping of the image (mremap with old size 0), writable ones are private copies.

use crate::arguments::Rules;
use crate::container::GuestMain;
use crate::failure::Failure;
use crate::handover;
use crate::protocol::LIBRARY_MARK;
use crate::request::{ask, ask_with};
use crate::ring::{Note, Ring};
use crate::wasi;
use crate::zygote::Taken;
use loader::{Form, Kernel, Machine, Megabinary, Next, ShardId};
use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use syscalls::errno::Errno;
use syscalls::guest::Window;
use syscalls::process::Process;
use syscalls::signal::{self, Fault};
use syscalls::thread::{NewThread, Thread};
use syscalls::{Argument, Event, Granted, Host, Object, ObjectId, Refusal, Watch};

/// `vkernel.image`: the whole megabinary, mapped shared and read-only, inherited by every fork.
pub struct Image {
    base: *mut u8,
    len: usize,
}

impl Image {
    pub fn map(path: &Path) -> std::io::Result<Self> {
        let file = File::open(path)?;
        let len = file.metadata()?.len() as usize;
        // SAFETY: a new mapping of a file that only root can write; MAP_SHARED so that it can be duplicated without the descriptor.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), len, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        if base == libc::MAP_FAILED { Err(std::io::Error::last_os_error()) } else { Ok(Self { base: base.cast(), len }) }
    }

    fn contains(&self, offset: u64, len: usize) -> bool {
        usize::try_from(offset).is_ok_and(|o| o.checked_add(len).is_some_and(|end| end <= self.len.next_multiple_of(4096)))
    }
}

/// What the guests of one container share.
pub struct Worker {
    /// By entry number, from 1.
    pub objects: Vec<Object>,
    /// Lifted code of each object; a WASI program has none.
    pub shards: Vec<Option<ShardId>>,
    pub megabinary: &'static Megabinary,
    pub image: Image,
    pub ring: Option<&'static Ring>,
    /// The code form of all threads.
    pub form: Form,
    /// How allow-lists are kept.
    pub watch: Watch,
    /// What is told of arguments, and which variables programs do not get.
    pub rules: Rules,
    /// Entry number of the running program.
    program: AtomicU32,
}

// SAFETY: `image` is an immutable mapping that is never unmapped; `ring` is made for use by all.
unsafe impl Send for Worker {}
// SAFETY: as above.
unsafe impl Sync for Worker {}

impl Worker {
    pub fn new(objects: Vec<Object>, shards: Vec<Option<ShardId>>, megabinary: &'static Megabinary, image: Image, ring: Option<&'static Ring>) -> Self {
        Self { objects, shards, megabinary, image, ring, form: Form::Both, watch: Watch::default(), rules: Rules::default(), program: AtomicU32::new(0) }
    }

    fn note(&self, nr: u64, reason: u32, detail: u64) {
        if let Some(ring) = self.ring {
            let note = Note::new(nr as u32, self.program.load(Ordering::Relaxed), reason);
            ring.note(Note { detail, ..note });
        }
    }

    /// Image, file, offset and bytes of an instruction without semantics, on the guest's standard error.
    fn tell_gap(&self, rip: u64) {
        let inside = |o: &&Object| o.segments.iter().any(|s| (s.start..s.start + s.mem_len).contains(&rip));
        // Several objects can share addresses only as main programs; the running one is the one meant.
        let running = self.objects.get((self.program.load(Ordering::Relaxed) as usize).wrapping_sub(1)).filter(inside);
        let Some(object) = running.or_else(|| self.objects.iter().find(inside)) else { return };
        let Some(s) = object.segments.iter().find(|s| (s.start..s.start + s.mem_len).contains(&rip)) else { return };
        let at = s.image_offset + (rip - s.start);
        let mut bytes = String::new();
        for i in 0..8 {
            if self.image.contains(at + i, 1) {
                // SAFETY: inside the image's mapping.
                bytes.push_str(&format!(" {:02x}", unsafe { *self.image.base.add((at + i) as usize) }));
            }
        }
        let (path, offset) = (object.path.to_string_lossy(), s.file_offset + (rip - s.start));
        self.trace(&format!("vkernel: {path}: offset {offset:#x}: instruction without semantics:{bytes}: the guest gets SIGILL\n"));
    }
}

impl Host for Worker {
    fn exec(&self, fd: BorrowedFd<'_>, argv: &[CString], envp: &[CString]) -> Result<Granted, Errno> {
        // A number for copies of scripts, which the guest has nothing under.
        let place = if self.rules.judge_scripts() { Some(fd.try_clone_to_owned().map_err(|e| Errno(e.raw_os_error().unwrap_or(libc::EMFILE)))?) } else { None };
        let told = self.rules.tell(argv, envp, place.as_ref().map(AsFd::as_fd));
        let grant = ask_with(fd, told.as_deref()).map_err(Errno)?;
        if self.objects.get(grant.entry as usize - 1).is_none() {
            return Err(Errno::EACCES);
        }
        let texts = match place {
            Some(place) if grant.texts => handover::read(place).map_err(|_| Errno::EACCES)?,
            _ => Vec::new(),
        };
        Ok(Granted { id: if grant.scripts == 0 { ObjectId(grant.entry) } else { ObjectId::SCRIPT }, texts })
    }

    fn arguments(&self, id: ObjectId, argv: Vec<CString>, on_terminal: bool) -> Result<Vec<Argument>, Refusal> {
        self.rules.arguments(id.0, argv, on_terminal)
    }

    fn environment(&self, id: ObjectId, envp: Vec<CString>) -> Vec<CString> {
        self.rules.environment(id.0, envp)
    }

    fn library(&self, fd: BorrowedFd<'_>) -> Result<Option<ObjectId>, Errno> {
        match ask(fd, LIBRARY_MARK, None) {
            Ok(grant) if (grant.entry as usize) <= self.objects.len() => Ok(Some(ObjectId(grant.entry))),
            Ok(_) | Err(libc::EACCES | libc::ENOEXEC) => Ok(None),
            Err(e) => Err(Errno(e)),
        }
    }

    fn object(&self, id: ObjectId) -> &Object {
        &self.objects[id.0 as usize - 1]
    }

    #[expect(clippy::not_unsafe_ptr_arg_deref, reason = "the trait's contract: `syscalls::mm` passes a range that its ledger has checked")]
    fn map_image(&self, at: *mut u8, len: usize, offset: u64, prot: i32) -> Result<(), Errno> {
        if !self.image.contains(offset, len) {
            return Err(Errno::EIO);
        }
        // SAFETY: `at` is a checked range of the guest's window (the caller's duty); the source is inside the image's mapping.
        unsafe {
            let source = self.image.base.add(offset as usize);
            if prot & libc::PROT_WRITE == 0 {
                let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
                let p = libc::mremap(source.cast(), 0, len, flags, at.cast::<libc::c_void>());
                return match p {
                    libc::MAP_FAILED => Err(Errno::last()),
                    _ if prot == libc::PROT_READ || libc::mprotect(at.cast(), len, prot) == 0 => Ok(()),
                    _ => Err(Errno::last()),
                };
            }
            // All pages are about to be written.
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_POPULATE;
            if libc::mmap(at.cast(), len, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) == libc::MAP_FAILED {
                return Err(Errno::last());
            }
            // The file may end inside the last page, which reads as zero.
            let there = len.min(self.image.len.saturating_sub(offset as usize));
            std::ptr::copy_nonoverlapping(source, at, there);
            if prot & libc::PROT_READ == 0 && libc::mprotect(at.cast(), len, prot) != 0 {
                return Err(Errno::last());
            }
        }
        Ok(())
    }

    fn bind(&self, id: ObjectId) {
        if let Some(shard) = self.shards[id.0 as usize - 1]
            && let Err(e) = self.megabinary.bind(shard)
        {
            self.trace(&format!("vkernel: bind {}: {e}\n", self.object(id).path.to_string_lossy()));
        }
    }

    fn unbind(&self, id: ObjectId) {
        if let Some(shard) = self.shards[id.0 as usize - 1] {
            let _ = self.megabinary.unbind(shard);
        }
    }

    fn unbind_all(&self) {
        let _ = self.megabinary.unbind_all();
    }

    fn spawn_thread(&self, start: NewThread) -> Result<(), Errno> {
        let (megabinary, form) = (self.megabinary, self.form);
        let run = move || {
            let machine = Machine::new(megabinary);
            match machine {
                // SAFETY: the CPU state lives in the machine, which this host thread owns until it ends.
                Ok(mut machine) => finish(run_guest(&mut machine, form, |cpu| unsafe { start.begin(cpu) })),
                Err(e) => complain(&e),
            }
        };
        std::thread::Builder::new().stack_size(256 << 10).spawn(run).map(drop).map_err(|_| Errno::EAGAIN)
    }

    fn watch(&self) -> Watch {
        self.watch
    }

    fn forked(&self) {
        loader::forked();
    }

    fn audit(&self, event: &Event<'_>) {
        match event {
            Event::Refused { nr, .. } => self.note(*nr, Note::NOT_LISTED, 0),
            Event::WouldRefuse { nr } => self.note(*nr, Note::WOULD_REFUSE, 0),
            Event::Used { nr } => self.note(*nr, Note::USED, 0),
            Event::Unknown { nr } => self.note(*nr, Note::NOT_IMPLEMENTED, 0),
            Event::ExecutableMapping { .. } => self.note(0, Note::EXECUTABLE_MAPPING, 0),
            Event::Gap { rip } => {
                self.note(0, Note::GAP, *rip);
                self.tell_gap(*rip);
            }
            Event::Trap => self.note(0, Note::TRAP, 0),
            Event::Irreparable { address } => {
                self.note(0, Note::IRREPARABLE_FAULT, *address);
                self.trace(&format!("vkernel: a handler returned to repeat the access to {address:#x}, which optimised code cannot: run this program with --form resumable\n"));
            }
        }
    }

    fn becoming(&self, id: ObjectId, _path: &CStr, _argv: &[CString]) {
        self.program.store(id.0, Ordering::Relaxed);
    }
}

/// The kernel side of one guest thread, as the dispatcher calls it.
struct Guest {
    thread: Thread,
    /// A fault or stop that ended the thread before the next poll.
    ended: Option<i32>,
}

impl Guest {
    fn keep(&mut self, next: syscalls::Next) {
        if let syscalls::Next::ThreadExit(status) = next {
            self.ended = Some(status);
        }
        self.thread.request_poll();
    }
}

impl Kernel for Guest {
    fn syscall(&mut self) {
        syscalls::dispatch(&mut self.thread);
    }

    fn poll(&mut self) -> Next {
        if let Some(status) = self.ended {
            return Next::Exit(status);
        }
        match signal::poll(&mut self.thread) {
            // The process has become a program that no dispatcher runs.
            syscalls::Next::Continue if self.thread.wasi.is_some() => Next::Exit(0),
            syscalls::Next::Continue => Next::Run,
            syscalls::Next::ThreadExit(status) => Next::Exit(status),
        }
    }

    fn stop(&mut self, kind: syscalls::abi::StopKind) {
        self.thread.cpu().stop = kind as u32;
        let next = signal::stop(&mut self.thread);
        self.keep(next);
    }

    fn fault(&mut self, fault: Fault) {
        if self.thread.process.strace.load(Ordering::Relaxed) {
            let rip = self.thread.cpu().rip;
            let Fault { signal, code, address, .. } = fault;
            self.thread.process.host.trace(&format!("--- signal {signal} code {code} address {address:#x} after rip {rip:#x} ---\n"));
        }
        let next = signal::fault(&mut self.thread, fault);
        self.keep(next);
    }
}

fn complain(e: &dyn std::error::Error) {
    let mut text = format!("vkernel: guest thread: {e}");
    let mut cause = e.source();
    while let Some(c) = cause {
        text.push_str(&format!(": {c}"));
        cause = c.source();
    }
    eprintln!("{text}");
}

fn run_guest(machine: &mut Machine, form: Form, begin: impl FnOnce(*mut syscalls::abi::CpuState) -> Thread) -> i32 {
    let mut guest = Guest { thread: begin(machine.cpu()), ended: None };
    let ended = match machine.run(&mut guest, form) {
        Ok(status) => guest.thread.wasi.take().map_or(Ok(status), |start| wasi::run(machine, &mut guest.thread, &start)),
        Err(e) => Err(e),
    };
    match ended {
        Ok(status) => status,
        Err(e) => {
            complain(&e);
            // SAFETY: a guest that lost its code cannot go on, nor can its siblings rely on it.
            unsafe { libc::_exit(125) }
        }
    }
}

/// The end of a guest thread: the leader's status is the process's, and only the leader's host thread may end by `exit(2)` itself (a thread that
/// forked is the leader of its child).
fn finish(status: i32) {
    // SAFETY: plain system calls; exit ends this thread only.
    unsafe {
        if libc::gettid() == libc::getpid() {
            libc::syscall(libc::SYS_exit, status);
        }
    }
}

/// The guest's first program.
pub struct Program {
    pub argv: Vec<CString>,
    /// `NAME=value`.
    pub env: Vec<CString>,
    pub strace: bool,
    /// The guest's own limits of memory.
    pub limits: syscalls::process::Limits,
}

/// Makes the machine of the first thread while everything is still allowed; the result starts the program.
pub fn prepare(worker: Worker, mut program: Program) -> Result<GuestMain, Failure> {
    let failure = |e: loader::LoadError| Failure::new("load container", chain(&e), "rebuild it, or see `vkernel verify`");
    let (megabinary, form) = (worker.megabinary, worker.form);
    syscalls::fs::know_executable().map_err(|e| Failure::new("find this program's file", format!("{e:?}"), "mount /proc"))?;
    syscalls::exec::know_heap();
    let mut machine = Machine::new(megabinary).map_err(failure)?;
    Ok(Box::new(move |taken| {
        if let Some(taken) = taken {
            (program.argv, program.env) = (Taken::words(&taken.args), Taken::words(&taken.env));
        }
        // SAFETY: the window belongs to the megabinary, which lives for ever.
        let window = unsafe { Window::new(megabinary.window()) };
        let process = Process::new(window, Arc::new(worker));
        // SAFETY: the CPU state lives in `machine`, used by this thread alone.
        let mut thread = unsafe { Thread::start(process, machine.cpu()) };
        if let Err(failure) = start(&mut thread, program) {
            eprintln!("vkernel: {failure}");
            return i32::from(failure.code);
        }
        let status = run_guest(&mut machine, form, |_| thread);
        finish(status);
        status
    }))
}

/// The text of an error and its causes.
pub fn chain(e: &dyn std::error::Error) -> String {
    std::iter::successors(Some(e), |e| e.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Looks the program up as execvp does and becomes it.
fn start(thread: &mut Thread, program: Program) -> Result<(), Failure> {
    let Program { argv, env, strace, limits } = program;
    *thread.process.limits.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = limits;
    thread.process.strace.store(strace, Ordering::Relaxed);
    let variable = |env: &[CString], name: &str| {
        let prefix = format!("{name}=");
        env.iter().find_map(|e| e.to_bytes().strip_prefix(prefix.as_bytes()).map(<[u8]>::to_vec))
    };
    let name = argv.first().expect("the command line requires a program").clone();
    let candidates: Vec<CString> = if name.to_bytes().contains(&b'/') {
        vec![name.clone()]
    } else {
        let path = variable(&env, "PATH").unwrap_or_default();
        let join = |dir: &[u8]| CString::new([dir, b"/".as_slice(), name.to_bytes()].concat()).expect("parts of C strings");
        path.split(|b| *b == b':').map(|dir| join(if dir.is_empty() { b"." } else { dir })).collect()
    };
    let mut last = Errno::ENOENT;
    for path in &candidates {
        match syscalls::exec::run(thread, path, &argv, &env) {
            Ok(()) => return Ok(()),
            Err(Errno::ENOENT | Errno::ENOTDIR) => {}
            Err(e) => last = e,
        }
    }
    let what = name.to_string_lossy().into_owned();
    Err(match last {
        Errno::ENOENT => Failure::new(what, "not found in the container", "name a program of the image").with_code(127),
        Errno::EACCES => Failure::new(what, "refused (EACCES)", "only unchanged programs of the manifest run; --audit FILE says why").with_code(126),
        e => Failure::new(what, format!("cannot be executed ({e:?})"), "").with_code(126),
    })
}
