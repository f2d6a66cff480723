//! Becoming a program: execve and execveat, the exec image and the reset rules of execve(2). `resolve` finds and asks, `called` makes its arguments, `stack` builds the new
//! stack, `shown` tells the kernel what to show of it, this file is the point of no return.
//! Refuses to decide what may run: that is `Host::exec`'s answer.
//!
//! The fact a newcomer gets wrong: no ELF file is read here. Addresses, segments and program headers come from the signed object.

mod called;
mod files;
mod resolve;
mod shown;
mod stack;

use crate::abi::CpuState;
use crate::errno::Errno;
use crate::fs::scripts::Script;
use crate::host::ObjectId;
use crate::process::Exe;
use crate::table::{Arg, Row, Support, SysResult};
use crate::thread::{Thread, reg};
use std::ffi::{CStr, CString};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

pub(crate) use called::working_directory;
pub use shown::know_heap;

/// Everything an exec needs, collected before anything is torn down: from here on nothing that can fail for the guest's reasons is left.
pub struct Prepared {
    pub id: ObjectId,
    /// Device and inode of the file, for /proc/self/maps.
    pub identity: (u64, u64),
    /// The path as asked (AT_EXECFN, comm).
    pub path: CString,
    /// The absolute path of the object (/proc/self/exe).
    pub exe: CString,
    pub argv: Vec<CString>,
    pub envp: Vec<CString>,
    pub interpreter: Option<(ObjectId, (u64, u64))>,
    /// The scripts that the answer depended on.
    pub scripts: Vec<Script>,
}

/// The first program of a process: builds the image for an object the supervisor already approved. `path` is what the guest sees as AT_EXECFN.
pub fn start(thread: &mut Thread, id: ObjectId, path: &CStr, argv: &[CString], envp: &[CString]) -> Result<(), Errno> {
    let object = thread.process.host.object(id);
    let interpreter = resolve::interpreter(thread, &resolve::Room::default(), object)?;
    let exe = object.path.clone();
    let prepared = Prepared { id, identity: (0, 0), path: path.to_owned(), exe, argv: argv.to_vec(), envp: envp.to_vec(), interpreter, scripts: Vec::new() };
    become_program(thread, prepared)
}

/// As `start`, but with the whole way of an execve: open, permission, supervisor, scripts.
pub fn run(thread: &mut Thread, path: &CStr, argv: &[CString], envp: &[CString]) -> Result<(), Errno> {
    let prepared = resolve::by_path(thread, libc::AT_FDCWD, path, argv.to_vec(), envp.to_vec(), 0)?;
    become_program(thread, prepared)
}

pub const ROWS: &[Row] = &[
    Row {
        nr: libc::SYS_execve as u32,
        name: "execve",
        args: &[Arg::Path, Arg::Ptr, Arg::Ptr],
        support: Support::Emulate,
        note: "only what the manifest lists; set-id bits are ignored",
        run: |t, [path, argv, envp, ..]| exec(t, libc::AT_FDCWD, path, argv, envp, 0),
    },
    Row {
        nr: libc::SYS_execveat as u32,
        name: "execveat",
        args: &[Arg::DirFd, Arg::Path, Arg::Ptr, Arg::Ptr, Arg::Flags],
        support: Support::Emulate,
        note: "only what the manifest lists; set-id bits are ignored",
        run: |t, [dir, path, argv, envp, flags, _]| exec(t, dir as i32, path, argv, envp, flags as i32),
    },
];

fn exec(t: &mut Thread, dir: i32, path: u64, argv: u64, envp: u64, flags: i32) -> SysResult {
    let path = t.window().read_path(path)?;
    let (argv, envp) = resolve::arguments(t, argv, envp)?;
    let prepared = resolve::undisturbed(t, dir, &path, argv, envp, flags)?;
    crate::thread::exec_alone(t, prepared)
}

/// The point of no return: the calling thread is the only one. An errno here is fatal for the caller (Linux kills with SIGKILL/SIGSEGV).
pub(crate) fn become_program(t: &mut Thread, mut p: Prepared) -> Result<(), Errno> {
    let process = t.process.clone();
    let host = &*process.host;
    // Before the stack goes: the parent takes over what the child changed on it.
    crate::process::vfork_done(t);
    // Locks that the old program holds are given up, as at a thread's end.
    crate::thread::walk_robust_list(t);
    let object = host.object(p.id);
    // Of a WASI program alone may something become.
    let refused = match object.wasi.map(|_| called::arguments(host, p.id, p.argv.clone(), &mut p.scripts)) {
        None => None,
        Some(Ok(argv)) => {
            p.argv = argv;
            None
        }
        Some(Err(refusal)) => Some(refusal),
    };
    p.envp = host.environment(p.id, std::mem::take(&mut p.envp));
    host.becoming(p.id, &p.path, &p.argv);
    host.unbind_all();
    let limits = process.limits();
    let mut memory = process.memory();
    memory.reset()?;
    if object.wasi.is_none() {
        memory.place_object(host, p.id, p.identity)?;
    }
    let mut entry = object.entry;
    let mut base = 0;
    if let Some((id, identity)) = p.interpreter {
        memory.place_object(host, id, identity)?;
        (entry, base) = (host.object(id).entry, host.object(id).base);
    }
    memory.map_stack(limits.stack.0)?;
    let image = stack::Image::new(object, base, &p, memory.stack_high);
    process.window.copy_out(image.rsp, &image.bytes)?;
    shown::tell(process.window, object, &image);
    drop(memory);

    crate::process::exec_credentials()?;
    process.begin_list(&object.allow);
    let comm: Vec<u8> = p.path.to_bytes().rsplit(|b| *b == b'/').next().unwrap_or_default().iter().copied().take(15).collect();
    set_name(&comm);
    t.wasi = object.wasi.map(|module| crate::wasi::Start { module, argv: p.argv.clone(), envp: p.envp, directories: object.directories.clone(), refused });
    process.has_scripts.store(!p.scripts.is_empty(), Ordering::Relaxed);
    let exe = Exe { id: p.id, path: p.exe, argv: p.argv, comm, auxv: image.auxv, args: image.args, env: image.env, scripts: p.scripts };
    *process.exe.lock().unwrap_or_else(PoisonError::into_inner) = Some(exe);
    files::close_on_exec();
    crate::signal::exec_reset(t);
    crate::time::exec_reset();
    t.clear_child_tid = 0;
    t.robust_list = 0;
    reset_registers(t, image.rsp, entry);
    Ok(())
}

/// Registers of a new program: all zero but rsp, rip and the floating-point controls.
fn reset_registers(t: &mut Thread, rsp: u64, entry: u64) {
    let cpu = t.cpu();
    // SAFETY: `CpuState` is plain integers; all-zero is valid.
    *cpu = unsafe { std::mem::zeroed::<CpuState>() };
    cpu.gpr[reg::RSP] = rsp;
    cpu.rip = entry;
    cpu.mxcsr = 0x1f80;
    cpu.fcw = 0x37f;
    cpu.fempty = 0xff;
    t.replaced = true;
    t.request_poll();
}

fn set_name(comm: &[u8]) {
    let mut name = [0u8; 16];
    name[..comm.len()].copy_from_slice(comm);
    // SAFETY: reads 16 bytes of a live, terminated array.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
}
