//! The table of attacks: a row here and a program of that name in `integration-tests/programs/adversary` are a case.

use super::outside::{self, Outside};
use super::{Natively, Side};

pub struct Case {
    /// The program's file.
    pub name: &'static str,
    /// What was published, or which rule it tries.
    pub from: &'static str,
    /// For `vkernel run` and `podman run` alike.
    pub options: &'static [&'static str],
    /// How often a race is tried; in `cargo xtask test` a part of it. 0: there is none.
    pub tries: u32,
    pub natively: Natively,
    /// What somebody outside does as soon as the program says it is ready; gives back what was won.
    pub outside: Option<fn(&mut Outside<'_>, Side) -> Result<Vec<String>, String>>,
    /// Part of `cargo xtask test`.
    pub quick: bool,
}

const PLAIN: Case = Case { name: "", from: "", options: &[], tries: 0, natively: Natively::Wins, outside: None, quick: false };
use Natively::No;

pub const CASES: &[Case] = &[
    // What is executed is what was decided.
    Case { name: "exec_path_rewritten", from: "07 S6; any supervisor that answers CONTINUE", tries: 10_000, quick: true, ..PLAIN },
    Case { name: "exec_name_swapped", from: "symlink and rename races", tries: 10_000, quick: true, ..PLAIN },
    Case { name: "exec_file_rewritten", from: "truncated and changed while hashed", tries: 10_000, natively: No("files that are written are busy"), ..PLAIN },
    Case { name: "exec_descriptor_swapped", from: "threads share the runtime's descriptors", tries: 2_000, natively: No("the kernel needs none"), ..PLAIN },
    Case { name: "memfd_exec", from: "fileless malware", quick: true, ..PLAIN },
    Case { name: "passed_descriptors", from: "SCM_RIGHTS of odd descriptors", quick: true, ..PLAIN },
    Case { name: "forged_request", from: "the runtime's own protocol", natively: No("there is no such protocol"), quick: true, ..PLAIN },
    Case { name: "loader_as_program", from: "ld.so PROGRAM", ..PLAIN },
    Case { name: "shebangs", from: "chains, loops, CVE-2019-5736's #!/proc/self/exe", quick: true, ..PLAIN },
    Case { name: "preload", from: "LD_PRELOAD, LD_AUDIT, ld.so.preload, dlopen", quick: true, ..PLAIN },
    Case { name: "odd_targets", from: "pipes, devices, procfs, sparse and growing files", natively: No("nothing of it runs there either"), quick: true, ..PLAIN },
    Case { name: "huge_arguments", from: "argv and envp without end", natively: No("the kernel refuses the same"), ..PLAIN },
    Case { name: "killed_in_exec", from: "numbers that are used again", tries: 1_000, natively: No("nobody is asked there"), ..PLAIN },
    // No code but signed code.
    Case { name: "executable_memory", from: "code made at run time", quick: true, ..PLAIN },
    Case { name: "rewritten_text", from: "07 S5, S10", quick: true, ..PLAIN },
    // Memory and files of the runtime.
    Case { name: "own_memory_file", from: "/proc/self/mem", quick: true, ..PLAIN },
    Case { name: "memory_file_of_ending_thread", from: "procfs names of what has ended", tries: 5_000, quick: true, ..PLAIN },
    Case { name: "memory_file_caught", from: "descriptors before they are judged", tries: 1_000, quick: true, ..PLAIN },
    Case { name: "runtime_overwritten", from: "CVE-2019-5736", natively: No("there is no runtime there"), quick: true, ..PLAIN },
    Case { name: "leaked_descriptors", from: "CVE-2024-21626", quick: true, ..PLAIN },
    Case { name: "stream_reopened", from: "magic links of streams", quick: true, ..PLAIN },
    Case {
        name: "entered_processes",
        from: "CVE-2016-9962",
        options: &["--cap-add", "SYS_PTRACE"],
        natively: No("the suite's nsenter would be the runtime"),
        outside: Some(outside::enter),
        quick: true,
        ..PLAIN
    },
    Case { name: "runtime_sockets", from: "CVE-2020-15257", natively: No("no runtime's socket is there"), ..PLAIN },
    Case { name: "listener_theft", from: "seccomp listeners", natively: No("filters are free there, listeners nobody's"), ..PLAIN },
    // Ways around the filters, and into the kernel.
    Case { name: "other_abis", from: "x32, int 0x80", quick: true, ..PLAIN },
    Case { name: "forbidden_calls", from: "07 S24; shocker, io_uring, ptrace, pidfd_getfd", quick: true, ..PLAIN },
    Case { name: "namespaces", from: "CVE-2022-0185, CVE-2022-0492, CVE-2023-0386", quick: true, ..PLAIN },
    Case { name: "kernel_files", from: "core_pattern, release_agent, device nodes", natively: No("it would be the host's files"), quick: true, ..PLAIN },
    Case { name: "terminal_input", from: "CVE-2016-2568, CVE-2017-5226", natively: No("newer kernels ask for a capability of the host"), quick: true, ..PLAIN },
    Case { name: "signals_to_init", from: "signals at init and supervisor", quick: true, ..PLAIN },
    Case { name: "signal_group", from: "the process group of the caller's", quick: true, ..PLAIN },
    Case { name: "first_in_anothers_group", from: "a pid namespace that never ends", natively: No("the kernel itself would wait for ever"), quick: true, ..PLAIN },
    // Too much of everything.
    Case { name: "fork_bomb", from: "processes without end", options: &["--pids-limit", "64"], ..PLAIN },
    Case { name: "descriptor_flood", from: "no descriptor is free", options: &["--ulimit", "nofile=400:400"], ..PLAIN },
    Case { name: "call_flood", from: "more refused calls than the ring holds", tries: 5_000, natively: No("nobody counts there"), ..PLAIN },
    Case { name: "exec_storm", from: "audit log on a full disk", natively: No("no log there"), outside: Some(outside::fill_the_log), quick: true, ..PLAIN },
    // From outside.
    Case { name: "waits", from: "a native put into the container by nsenter", outside: Some(outside::nsenter), quick: true, ..PLAIN },
    Case { name: "waits", from: "manifest and store swapped while it runs", natively: No("there is no manifest"), outside: Some(outside::swap_the_release), quick: true, ..PLAIN },
    Case {
        name: "waits",
        from: "CVE-2021-30465: a volume's directory becomes a link",
        natively: No("the suite's mount(8) would be the runtime"),
        outside: Some(outside::swap_mount_points),
        ..PLAIN
    },
];
