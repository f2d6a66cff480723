//! WASI preview 1 (`wasi_snapshot_preview1`): a second personality over the syscall table, for programs that are WebAssembly modules. Owns what such a program has instead of a Linux process's: descriptors with rights,
//! arguments, a linear memory; and one function for each of WASI's. Refuses to own any way to the kernel: every function is made of calls of rows, by `Call::row`, so allow-lists, `--strace` and audit see what they see of every program.
//!
//! The fact a newcomer gets wrong: pointers here are the *module's* addresses, in its own memory (`memory`); rows take guest addresses. What rows want in another shape (terminated paths, 64-bit vectors, `struct stat`)
//! is laid out on the stack of the guest window, below the arguments, which a module has no other use for.

mod call;
mod environment;
mod errno;
mod files;
mod functions;
mod links;
mod listing;
mod memory;
mod path;
mod paths;
mod poll;
mod socket;
mod table;
mod transfer;

#[cfg(test)]
mod tests;

pub use errno::Code;
pub use functions::{FUNCTIONS, Function, MODULE, by_name};
pub use memory::{BASE, LinearMemory, PAGE_BYTES};

use crate::host::Refusal;
use crate::thread::{Thread, reg};
use call::Call;
use std::ffi::CString;
use std::sync::Arc;
use table::Table;

/// A process has become a WASI program: what is left to be run. The kernel side of the exec is done.
#[derive(Clone, Debug)]
pub struct Start {
    /// Its number among the WASI programs (`Object::wasi`).
    pub module: usize,
    pub argv: Vec<CString>,
    pub envp: Vec<CString>,
    /// `Object::directories`.
    pub directories: Vec<CString>,
    /// It does not run: its arguments make it end.
    pub refused: Option<Refusal>,
}

/// A running WASI program.
pub struct Program {
    memory: Arc<LinearMemory>,
    table: Table,
    args: Vec<Vec<u8>>,
    env: Vec<Vec<u8>>,
    /// Top of what is free of the stack.
    stack_top: u64,
}

impl Program {
    /// The program with its standard streams, its root directory, where that is another its working directory, and those its row names, opened in advance. What its list does not let it open it does not have.
    ///
    /// WASI has no working directory: a C library takes relative paths for paths below the root. `PWD` says where the caller is, for programs that care.
    pub fn new(thread: &mut Thread, memory: Arc<LinearMemory>, start: &Start) -> Program {
        let bytes = |list: &[CString]| list.iter().map(|s| s.to_bytes().to_vec()).collect::<Vec<_>>();
        let stack_top = thread.cpu().gpr[reg::RSP] & !0xf;
        let mut program = Program { memory, table: Table::default(), args: bytes(&start.argv), env: bytes(&start.envp), stack_top };
        let mut call = Call::new(thread, &mut program, [0; 9]);
        call.give_streams();
        let cwd = crate::exec::working_directory();
        call.give_directory(c"/", b"/");
        if let Some(cwd) = cwd.as_deref().filter(|cwd| *cwd != b"/") {
            call.give_directory(c".", cwd);
        }
        let others = start.directories.iter().filter(|d| Some(d.to_bytes()) != cwd.as_deref());
        others.for_each(|directory| call.give_directory(directory, directory.to_bytes()));
        if let Some(cwd) = cwd {
            program.env.retain(|variable| !variable.starts_with(b"PWD="));
            program.env.push([b"PWD=", &cwd[..]].concat());
        }
        // What natively is a signal for who writes where nobody reads any more is an errno to a program without signals.
        crate::signal::ignore(libc::SIGPIPE);
        program
    }

    /// Runs a function with its arguments, each in the low bits of a word as its type says: the errno, 0 for success. Functions that end the program do not return.
    pub fn call(&mut self, thread: &mut Thread, function: &Function, arguments: &[u64]) -> u16 {
        let mut a = [0; 9];
        a[..arguments.len()].copy_from_slice(arguments);
        let result = (function.run)(&mut Call::new(thread, self, a));
        // Somebody may have sent what ends the program.
        if thread.cpu().poll != 0 {
            let _ = crate::signal::poll(thread);
        }
        result.map_or_else(|code| code.0, |()| 0)
    }
}
