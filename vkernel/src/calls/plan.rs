//! What a `syscall` request asks for, checked before anything is done: which rows can be asked for, what becomes of each argument, and how much of everything there may be. Pure; the daemon
//! checks with it, the command checks again, the fuzzer feeds it.
//!
//! The fact a newcomer gets wrong: this is not the policy. Which calls the container may make is its list's to say, row by row, when they are made; what is refused here has no meaning in a process that runs no program.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use syscalls::table::{self, Arg, Row, Support};
use vkernel_client::{Argument, Invocation, Output};

pub(crate) const MOST_CALLS: usize = 64;
/// Of one buffer to write to, and of all of a request: a reply that holds them, each byte escaped, is still one line.
pub(crate) const MOST_OUT_BYTES: usize = 64 << 10;
pub(crate) const MOST_OUT_BYTES_TOGETHER: usize = 256 << 10;
/// How long calls may take.
pub(crate) const MOST_SECONDS: u32 = 60;
pub(crate) const USUAL_SECONDS: u32 = 10;

/// Families whose rows can all be asked for, but for those that are refused to everybody.
const FAMILIES: &[&str] = &["files", "polling", "sockets", "system information"];

/// Rows of the other families that can be asked for: they say something, or do something to another process. Not here, because a process without a program has no use for them, or would get out of its owner's hands:
/// what makes or ends processes and threads, waits for them or for signals, changes handlers, masks, timers, credentials or options of the process (`prctl` takes away the tie to the parent), or its memory.
const ROWS: &[&str] = &[
    "getpid",
    "getppid",
    "gettid",
    "getuid",
    "geteuid",
    "getgid",
    "getegid",
    "getgroups",
    "getresuid",
    "getresgid",
    "getpgrp",
    "getpgid",
    "getsid",
    "capget",
    "getpriority",
    "setpriority",
    "ioprio_get",
    "ioprio_set",
    "getrlimit",
    "prlimit64",
    "sched_getaffinity",
    "sched_getattr",
    "sched_getparam",
    "sched_getscheduler",
    "sched_get_priority_max",
    "sched_get_priority_min",
    "kill",
    "tkill",
    "tgkill",
    "pidfd_open",
    "pidfd_send_signal",
    "time",
    "gettimeofday",
    "clock_gettime",
    "clock_getres",
    "times",
];

/// Of the families above, what is for signals that would come to this process.
const NOT_THESE: &[&str] = &["signalfd", "signalfd4", "mq_notify"];

/// What an argument is when its call is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Given {
    Word(u64),
    /// Bytes whose address it is.
    Bytes(Vec<u8>),
    /// So many bytes to write to, whose address it is.
    Room(usize),
    /// What this call answered.
    ResultOf(usize),
}

/// One call.
pub(crate) struct Step {
    pub(crate) row: &'static Row,
    pub(crate) args: Vec<Given>,
}

impl Step {
    /// How many bytes of a buffer to write to are of interest after this answer: rows that fill one say how far.
    pub(crate) fn written(&self, argument: usize, room: usize, answer: u64) -> usize {
        match self.row.args.get(argument) {
            Some(Arg::BufOut) if self.row.name != "getsockopt" => usize::try_from(answer).map_or(room, |n| n.min(room)),
            _ => room,
        }
    }
}

/// Everything a request asks for.
pub(crate) struct Plan {
    pub(crate) steps: Vec<Step>,
}

impl Plan {
    /// What is wrong with it otherwise, as a sentence about the calls.
    pub(crate) fn of(calls: &[Invocation]) -> Result<Self, String> {
        if calls.is_empty() {
            return Err("names no call".into());
        }
        if calls.len() > MOST_CALLS {
            return Err(format!("has {} calls; {MOST_CALLS} are the most", calls.len()));
        }
        let one = |(n, call): (usize, &Invocation)| step(n, call).map_err(|why| format!("call {n} ({}) {why}", shown(&call.name)));
        let steps = calls.iter().enumerate().map(one).collect::<Result<Vec<Step>, _>>()?;
        let room: usize = steps.iter().flat_map(|s| &s.args).map(|a| if let Given::Room(n) = a { *n } else { 0 }).sum();
        if room > MOST_OUT_BYTES_TOGETHER {
            return Err(format!("wants {room} bytes to write to; {MOST_OUT_BYTES_TOGETHER} are the most"));
        }
        Ok(Self { steps })
    }
}

/// Whether a row can be asked for.
fn askable(row: &Row) -> bool {
    let whole = || table::FAMILIES.iter().any(|(family, rows)| FAMILIES.contains(family) && rows.iter().any(|r| r.nr == row.nr));
    // A row that is refused to everybody may be asked for: its answer is the same as anywhere.
    row.support == Support::Refuse || ROWS.contains(&row.name) || (whole() && !NOT_THESE.contains(&row.name))
}

fn step(n: usize, call: &Invocation) -> Result<Step, String> {
    let row = table::by_name(&call.name).ok_or("is no system call that containers have: see vkernel-syscalls(7)")?;
    if !askable(row) {
        return Err("cannot be asked for: it makes no sense without a program".into());
    }
    // Refused ones say nothing of their arguments.
    let most = if row.support == Support::Refuse { 6 } else { row.args.len() };
    if call.args.len() > most {
        return Err(format!("has {} arguments; it takes {most}", call.args.len()));
    }
    let one = |(i, argument): (usize, &Argument)| given(n, argument).map_err(|why| format!("argument {i} {why}"));
    let args = call.args.iter().enumerate().map(one).collect::<Result<Vec<Given>, _>>()?;
    fits(row, &args)?;
    Ok(Step { row, args })
}

fn given(n: usize, argument: &Argument) -> Result<Given, String> {
    Ok(match argument {
        Argument::Number(number) => Given::Word(*number as u64),
        Argument::Large(number) => Given::Word(*number),
        Argument::Name(name) if name.contains('\0') => return Err("holds a zero byte: write {\"text\": …} for bytes".into()),
        Argument::Name(name) => Given::Bytes([name.as_bytes(), b"\0"].concat()),
        Argument::Text { text } => Given::Bytes(text.clone().into_bytes()),
        Argument::Base64 { base64 } => Given::Bytes(STANDARD.decode(base64).map_err(|e| format!("is no Base64: {e}"))?),
        Argument::Out { out } => match usize::try_from(*out) {
            Ok(room) if room <= MOST_OUT_BYTES => Given::Room(room),
            _ => return Err(format!("wants {out} bytes to write to; {MOST_OUT_BYTES} are the most")),
        },
        Argument::Result { result } => match usize::try_from(*result) {
            Ok(earlier) if earlier < n => Given::ResultOf(earlier),
            _ => return Err(format!("is the result of call {result}, which comes no earlier")),
        },
    })
}

/// A length says no more than its buffer has: the rest would be what happens to lie there.
fn fits(row: &Row, args: &[Given]) -> Result<(), String> {
    for (i, pair) in args.windows(2).enumerate() {
        let buffer = matches!(row.args.get(i), Some(Arg::BufIn | Arg::BufOut)) && row.args.get(i + 1) == Some(&Arg::Len);
        let has = match &pair[0] {
            Given::Bytes(bytes) => bytes.len(),
            Given::Room(room) => *room,
            Given::Word(_) | Given::ResultOf(_) => continue,
        };
        if let (true, Given::Word(says)) = (buffer, &pair[1])
            && *says > has as u64
        {
            return Err(format!("argument {} says {says} bytes, and argument {i} has {has}", i + 1));
        }
    }
    Ok(())
}

/// What a call wrote, in the reply's words.
pub(crate) fn output(bytes: Vec<u8>) -> Output {
    let plain = |c: char| !c.is_control() || matches!(c, '\t' | '\n' | '\r');
    match String::from_utf8(bytes) {
        Ok(text) if text.chars().all(plain) => Output::Text { text },
        Ok(text) => Output::Base64 { base64: STANDARD.encode(text) },
        Err(e) => Output::Base64 { base64: STANDARD.encode(e.as_bytes()) },
    }
}

/// Enough of a name that somebody sent.
pub(crate) fn shown(name: &str) -> String {
    name.chars().take(64).flat_map(char::escape_default).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(calls: serde_json::Value) -> Result<Plan, String> {
        Plan::of(&serde_json::from_value::<Vec<Invocation>>(calls).unwrap())
    }

    #[test]
    fn arguments_become_words_and_bytes() {
        let calls = serde_json::json!([
            {"name": "openat", "args": [-100, "/a", 0]},
            {"name": "read", "args": [{"result": 0}, {"out": 5}, 5]},
            {"name": "write", "args": [{"result": 0}, {"text": "ab"}, 2]},
            {"name": "write", "args": [{"result": 0}, {"base64": "AP8="}, 1]},
        ]);
        let steps = plan(calls).unwrap().steps;
        let args: Vec<_> = steps.into_iter().map(|s| s.args).collect();
        use Given::{Bytes, ResultOf, Room, Word};
        let fd = ResultOf(0);
        assert_eq!(args[0], [Word(-100i64 as u64), Bytes(b"/a\0".to_vec()), Word(0)]);
        assert_eq!(args[1], [fd.clone(), Room(5), Word(5)]);
        assert_eq!(args[2], [fd.clone(), Bytes(b"ab".to_vec()), Word(2)]);
        assert_eq!(args[3], [fd, Bytes(vec![0, 255]), Word(1)]);
    }

    #[test]
    fn what_is_wrong_is_said_with_the_call_and_the_argument() {
        let one = |name: &str, args: serde_json::Value| plan(serde_json::json!([{"name": name, "args": args}])).err().unwrap_or_default();
        let cases = [
            ("no_such", serde_json::json!([]), "call 0 (no_such) is no system call"),
            ("fork", serde_json::json!([]), "cannot be asked for"),
            ("open", serde_json::json!(["/a", 0, 0, 0]), "has 4 arguments; it takes 3"),
            ("open", serde_json::json!(["/a\u{0}b"]), "argument 0 holds a zero byte"),
            ("write", serde_json::json!([1, {"base64": "?"}, 1]), "argument 1 is no Base64"),
            ("write", serde_json::json!([1, {"text": "ab"}, 3]), "argument 2 says 3 bytes, and argument 1 has 2"),
            ("read", serde_json::json!([0, {"out": 4}, 5]), "argument 2 says 5 bytes"),
            ("read", serde_json::json!([0, {"out": 65537}, 5]), "65536 are the most"),
            ("close", serde_json::json!([{"result": 0}]), "result of call 0, which comes no earlier"),
        ];
        for (name, args, says) in cases {
            let why = one(name, args);
            assert!(why.contains(says), "{name}: {why}");
        }
        assert_eq!(one("read", serde_json::json!([0, {"out": 65536}, 65536])), "");
        let many = |n: usize, call: serde_json::Value| plan(vec![call; n].into()).err().unwrap_or_default();
        assert!(many(MOST_CALLS, serde_json::json!({"name": "getpid"})).is_empty() && many(MOST_CALLS + 1, serde_json::json!({"name": "getpid"})).contains("65 calls"));
        let large = serde_json::json!({"name": "read", "args": [0, {"out": 65536}, 9]});
        assert!(many(4, large.clone()).is_empty() && many(5, large).contains("327680 bytes"));
        assert!(plan(serde_json::json!([])).is_err());
    }

    #[test]
    fn nothing_can_be_asked_for_that_makes_a_process_never_returns_or_loosens_the_tie_to_its_owner() {
        let never = "exit exit_group execve execveat fork vfork clone wait4 waitid pause nanosleep clock_nanosleep rt_sigreturn rt_sigaction rt_sigprocmask rt_sigsuspend \
            rt_sigtimedwait sigaltstack alarm setitimer timer_create prctl arch_prctl setuid setresuid setgroups capset setsid setpgid mmap mprotect munmap brk \
            futex set_tid_address signalfd4 mq_notify personality";
        for name in never.split_whitespace() {
            assert!(!askable(table::by_name(name).unwrap_or_else(|| panic!("{name} is a row"))), "{name}");
        }
        for name in ["openat", "read", "getdents64", "mkdir", "rename", "kill", "connect", "uname", "ioctl", "poll", "clock_gettime", "ptrace", "mount"] {
            assert!(askable(table::by_name(name).unwrap()), "{name}");
        }
        assert!(ROWS.iter().chain(NOT_THESE).all(|name| table::by_name(name).is_some()));
        assert!(FAMILIES.iter().all(|f| table::FAMILIES.iter().any(|(family, _)| family == f)));
    }

    #[test]
    fn text_is_given_as_text_and_everything_else_as_base64() {
        let text = |t: &str| Output::Text { text: t.into() };
        assert_eq!(output(b"a\n\tb\r\n".to_vec()), text("a\n\tb\r\n"));
        assert_eq!(output("größe".into()), text("größe"));
        assert_eq!(output(Vec::new()), text(""));
        for bytes in [&b"a\0"[..], b"\x1b[2J", b"\xff", b"\x7f"] {
            let Output::Base64 { base64 } = output(bytes.to_vec()) else { panic!("{bytes:?} is no text") };
            assert_eq!(STANDARD.decode(base64).unwrap(), bytes);
        }
    }

    #[test]
    fn the_longest_reply_is_one_line() {
        let worst = |c: u8| serde_json::to_string(&output(vec![c; MOST_OUT_BYTES])).unwrap().len() * (MOST_OUT_BYTES_TOGETHER / MOST_OUT_BYTES);
        let most = (0..=255).map(worst).max().unwrap();
        assert!(most + MOST_CALLS * 256 < vkernel_client::LARGEST_LINE_BYTES, "{most}");
    }
}
