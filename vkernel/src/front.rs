//! `vkernel` as it is installed: asks for a ready container, if the command line may be one that runs something, and executes the whole program otherwise. Owns finding that program.
//!
//! The fact a newcomer gets wrong: most of what a start in a ready container costs its caller is the start of the process that asks for it. The whole program is relocated in 120 pages and reads its command line by a tree of all commands; this one
//! does not even have the standard library begin, which looks at its own memory map first.

#![no_main]

use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use vkernel::{own_file, zygote};

/// What the whole program is called beside this one: installed, and where both were built.
const WHOLE: [&str; 2] = ["vkernel-runtime", "vkernel"];
/// Where packages put this one.
const INSTALLED: &str = "/usr/bin/vkernel";

/// # Safety
/// Called by the C library alone, once.
#[unsafe(no_mangle)]
pub extern "C" fn main(_count: i32, _words: *const *const libc::c_char) -> i32 {
    let Some(program) = whole() else { return failed("the rest of this program is not beside it: install it again") };
    let words: Vec<OsString> = std::env::args_os().collect();
    let text = || words.iter().skip(1).map(|word| word.clone().into_string().ok()).collect::<Option<Vec<_>>>();
    // What goes wrong may have to be logged, and where is for the whole program to read.
    let logged = words.iter().any(|word| word.to_string_lossy().starts_with("--log"));
    if let Some(result) = (!logged && !own_file::is_second_execution()).then(text).flatten().and_then(|words| zygote::ask(words, &program)) {
        return result.unwrap_or_else(|failure| failed(&failure.to_string()));
    }
    // Where that fails, the whole program says why.
    if !logged && own_file::may_start(words.iter().cloned()) && !own_file::is_second_execution() {
        let _ = own_file::protected(&program);
    }
    let c = |text: OsString| CString::new(text.into_vec()).ok();
    let Some((program, words)) = c(program.into()).zip(words.into_iter().map(c).collect::<Option<Vec<_>>>()) else { return failed("its name holds a NUL byte") };
    // Signals stay blocked and ignored as the caller has them.
    let Err(e) = nix::unistd::execv(&program, &words);
    failed(&format!("{}: {e}", program.to_string_lossy()))
}

fn failed(why: &str) -> i32 {
    eprintln!("vkernel: {why}");
    125
}

/// Without /proc, where this one lies is not known, and it is believed to be installed: `--version` and the like need no /proc.
fn whole() -> Option<PathBuf> {
    let own = std::fs::read_link(own_file::LINK).unwrap_or_else(|_| INSTALLED.into());
    WHOLE.iter().map(|name| own.with_file_name(name)).find(|program| *program != own && program.is_file())
}
