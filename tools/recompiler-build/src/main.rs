//! The `recompiler-build` program: parses the command line, prints one line on failure. Everything else is in the library beside it.

use recompiler_build::{cli::Request, commands};
use std::process::ExitCode;

fn main() -> ExitCode {
    match commands::run(Request::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let line = error.chain().map(ToString::to_string).collect::<Vec<_>>().join(": ");
            eprintln!("recompiler-build: {}", line.replace('\n', " "));
            ExitCode::FAILURE
        }
    }
}
