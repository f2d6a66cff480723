//! `--strace`: one line per call in strace(1)'s format, from the argument kinds of the rows. Owns nothing but text.
//!
//! The fact a newcomer gets wrong: guest memory is read again for printing and may have changed since the row ran; this is for people, not for decisions.

use crate::errno::Errno;
use crate::table::{Arg, Row, SysResult};
use crate::thread::Thread;
use std::fmt::Write;

/// Bytes of a buffer that are printed, as strace's default.
const SHOWN: usize = 32;

/// Text of the arguments that are known before the call; calls that may not return are printed at once.
pub fn enter(thread: &Thread, row: &Row, args: [u64; 6]) -> String {
    let mut text = format!("{}(", row.name);
    for (i, kind) in row.args.iter().enumerate() {
        if *kind != Arg::BufOut {
            let _ = write!(text, "{}{}", if i == 0 { "" } else { ", " }, show(thread, *kind, args, i));
        } else {
            let _ = write!(text, "{}\0", if i == 0 { "" } else { ", " });
        }
    }
    text.push(')');
    if matches!(row.name, "exit" | "exit_group" | "rt_sigreturn") {
        thread.process.host.trace(&format!("{text} = ?\n"));
        text.clear();
    }
    text
}

/// Completes the line.
pub fn leave(thread: &Thread, row: &Row, args: [u64; 6], entry: &str, result: SysResult) {
    if entry.is_empty() {
        return;
    }
    let mut text = entry.to_owned();
    for (i, kind) in row.args.iter().enumerate() {
        if *kind == Arg::BufOut {
            let shown = match result {
                Ok(n) => buffer(thread, args[i], n),
                Err(_) => format!("{:#x}", args[i]),
            };
            text = text.replacen('\0', &shown, 1);
        }
    }
    thread.process.host.trace(&format!("{text} = {}\n", outcome(row, result)));
}

/// A number without a row.
pub fn unknown(thread: &Thread, nr: u64, args: [u64; 6]) {
    let args = args.map(|a| format!("{a:#x}")).join(", ");
    thread.process.host.trace(&format!("syscall_{nr:#x}({args}) = -1 ENOSYS (Function not implemented)\n"));
}

fn outcome(row: &Row, result: SysResult) -> String {
    match result {
        Ok(v) if matches!(row.name, "mmap" | "brk" | "mremap") => format!("{v:#x}"),
        Ok(v) => format!("{}", v as i64),
        Err(Errno::RESTART | Errno::NOT_STARTED) => "? ERESTARTSYS (To be restarted if SA_RESTART is set)".to_owned(),
        Err(e) => {
            let text = std::io::Error::from_raw_os_error(e.0).to_string();
            let text = text.split(" (os error").next().unwrap_or_default().to_owned();
            format!("-1 {} ({text})", e.name())
        }
    }
}

fn show(thread: &Thread, kind: Arg, args: [u64; 6], i: usize) -> String {
    let v = args[i];
    match kind {
        Arg::DirFd if v as i32 == libc::AT_FDCWD => "AT_FDCWD".to_owned(),
        Arg::Fd | Arg::DirFd | Arg::Int | Arg::Pid => format!("{}", v as i32),
        Arg::Len => format!("{v}"),
        Arg::Mode => format!("{:#05o}", v & 0o7777),
        Arg::Signal => signal_name(v as i32),
        Arg::Path => match thread.window().read_path(v) {
            Ok(path) => format!("\"{}\"", path.to_bytes().escape_ascii()),
            Err(_) if v == 0 => "NULL".to_owned(),
            Err(_) => format!("{v:#x}"),
        },
        Arg::BufIn => buffer(thread, v, args.get(i + 1).copied().unwrap_or(0)),
        Arg::Ptr if v == 0 => "NULL".to_owned(),
        Arg::Hex | Arg::Ptr | Arg::Flags | Arg::BufOut => format!("{v:#x}"),
    }
}

fn buffer(thread: &Thread, at: u64, len: u64) -> String {
    let n = usize::try_from(len).unwrap_or(usize::MAX);
    let mut bytes = vec![0; n.min(SHOWN)];
    match thread.window().copy_in(at, &mut bytes) {
        Ok(()) => format!("\"{}\"{}", bytes.escape_ascii(), if n > SHOWN { "..." } else { "" }),
        Err(_) => format!("{at:#x}"),
    }
}

/// SIGHUP etc.
pub fn signal_name(n: i32) -> String {
    const NAMES: [&str; 32] = [
        "0",
        "SIGHUP",
        "SIGINT",
        "SIGQUIT",
        "SIGILL",
        "SIGTRAP",
        "SIGABRT",
        "SIGBUS",
        "SIGFPE",
        "SIGKILL",
        "SIGUSR1",
        "SIGSEGV",
        "SIGUSR2",
        "SIGPIPE",
        "SIGALRM",
        "SIGTERM",
        "SIGSTKFLT",
        "SIGCHLD",
        "SIGCONT",
        "SIGSTOP",
        "SIGTSTP",
        "SIGTTIN",
        "SIGTTOU",
        "SIGURG",
        "SIGXCPU",
        "SIGXFSZ",
        "SIGVTALRM",
        "SIGPROF",
        "SIGWINCH",
        "SIGIO",
        "SIGPWR",
        "SIGSYS",
    ];
    match usize::try_from(n).ok().and_then(|i| NAMES.get(i)) {
        Some(name) => (*name).to_owned(),
        None => format!("SIGRT_{}", n - 32),
    }
}
