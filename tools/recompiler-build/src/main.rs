//! The `recompiler-build` program: parses the command line, prints one line on failure. Everything else is in the library beside it.

use recompiler_build::cli::Request;
use recompiler_build::commands;
use recompiler_build::fetching::Told;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

/// LLVM recurses along the blocks of large functions, on threads that wasmer makes with the default stack size: this variable is the only say in it.
const STACK_VARIABLE: &str = "RUST_MIN_STACK";
const STACK_BYTES: &str = "536870912";

/// Starts this program anew with large thread stacks, once. Returns only when that is done or cannot be.
fn enlarge_stacks() {
    if std::env::var_os(STACK_VARIABLE).is_none()
        && let Ok(own) = std::env::current_exe()
    {
        // Comes back only on failure; then the build goes on with what there is.
        let _ = Command::new(own).args(std::env::args_os().skip(1)).env(STACK_VARIABLE, STACK_BYTES).exec();
    }
}

/// A reader that has seen enough (`| head`) ends this program quietly, as it ends others; Rust starts programs with the signal ignored.
fn end_with_the_reader() {
    // SAFETY: SIG_DFL has no preconditions, and no other thread runs yet.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}

fn main() -> ExitCode {
    enlarge_stacks();
    end_with_the_reader();
    match commands::run(Request::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<Told>() => ExitCode::FAILURE,
        Err(error) => {
            let line = error.chain().map(ToString::to_string).collect::<Vec<_>>().join(": ");
            eprintln!("recompiler-build: {}", line.replace('\n', " "));
            ExitCode::FAILURE
        }
    }
}
