//! The mutations: one broken rule each, and the test that must turn red.
//!
//! Pure data. The fact a newcomer gets wrong: `from` occurs exactly once in its file (checked by every `cargo xtask test`), so a rule that is rewritten takes its mutation along.

/// Where the test is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Target {
    /// `#[cfg(test)]` modules of the product's crates.
    Lib,
    /// A test target of the product's crates.
    Test(&'static str),
    /// A test target of the lifter.
    Lift(&'static str),
    /// Integration tests, through a rebuilt image: minutes each, only with `--all`.
    Twin,
    /// `cargo xtask suite blocks --smoke`: as `Twin`.
    Blocks,
}

impl Target {
    /// Needs programs and an image built anew.
    pub(crate) fn rebuilds(self) -> bool {
        matches!(self, Target::Twin | Target::Blocks)
    }
}

pub(crate) struct Mutant {
    /// What is broken.
    pub rule: &'static str,
    pub file: &'static str,
    pub from: &'static str,
    pub to: &'static str,
    pub target: Target,
    /// Filter of test names.
    pub test: &'static str,
}

use Target::{Blocks, Lib, Lift, Test, Twin};

const fn mutant(rule: &'static str, file: &'static str, from: &'static str, to: &'static str, target: Target, test: &'static str) -> Mutant {
    Mutant { rule, file, from, to, target, test }
}

/// Neighbours share a crate, because going back costs a build as well.
pub(crate) const MUTANTS: &[Mutant] = &[
    mutant(
        "a signature need not fit a key",
        "policy/src/signature.rs",
        "verify_strict(message, &bytes).is_ok()",
        "verify_strict(message, &bytes).is_ok() || true",
        Test("signatures"),
        "refuses_",
    ),
    mutant("the signed bytes have no domain", "policy/src/signature.rs", "\"signatures\", kind.domain())", "\"signatures\", b\"\")", Test("signatures"), "domain_prefix"),
    mutant(
        "one key counts for many signatures",
        "policy/src/signature.rs",
        "if seen.len() < threshold.max(1)",
        "if made.len() < threshold.max(1)",
        Test("signatures"),
        "distinct_keys",
    ),
    mutant("a memory is of any manifest", "policy/src/memory.rs", "|| signed.digest != digest", "", Test("signatures"), "a_memory_of_other_bytes"),
    mutant(
        "a memory says whom to believe",
        "policy/src/signature.rs",
        "let trusted = |m: &Made| keys.iter().find(|k| hex(k.key.as_bytes()) == m.key);",
        "let trusted = |_: &Made| keys.iter().next();",
        Test("signatures"),
        "a_memory_is_of_one",
    ),
    mutant("a file of another size passes", "policy/src/decide.rs", "if listed == size {", "if listed == size || true {", Test("signatures"), "decides_exec_by_digest"),
    mutant(
        "a revoked program runs",
        "policy/src/decide.rs",
        "    if verified.revoked().has_file(digest) {\n        return Decision::Refuse(Reason::Revoked);\n    }\n    if let Some(b)",
        "    if let Some(b)",
        Test("signatures"),
        "decides_exec_by_digest",
    ),
    mutant("a certificate may claim anything", "policy/src/rules.rs", "    if c.lifted_bytes > c.code_bytes {", "    if false {", Test("manifests"), "refuses_every_manifest"),
    mutant("the manifest's rules are not checked", "policy/src/verify.rs", "        rules::check_acted_upon(m)?;\n", "", Test("manifests"), "refuses_every_manifest"),
    mutant(
        "mmap gives executable memory",
        "syscalls/src/mm/map.rs",
        "        if r.prot & libc::PROT_EXEC != 0 {\n            let path",
        "        if r.prot & libc::PROT_EXEC != 0 && r.len == 0 {\n            let path",
        Lib,
        "executable_memory_is_refused",
    ),
    mutant(
        "mprotect gives executable memory",
        "syscalls/src/mm/map.rs",
        "if prot & libc::PROT_EXEC != 0 && !self.is_text(host, addr, end) {",
        "if prot & libc::PROT_EXEC != 0 && !self.is_text(host, addr, end) && len == 0 {",
        Lib,
        "executable_memory_is_refused",
    ),
    mutant(
        "munmap leaves a hole in the window (S1)",
        "syscalls/src/mm/mod.rs",
        "let p = unsafe { libc::mmap(at.cast(), len as usize, libc::PROT_NONE, flags, -1, 0) };",
        "let p = if unsafe { libc::munmap(at.cast(), len as usize) } == 0 { at.cast() } else { libc::MAP_FAILED };\n        let _ = flags;",
        Lib,
        "mm::tests",
    ),
    mutant(
        "fixed mappings leave the window",
        "syscalls/src/mm/map.rs",
        "    if end > HIGHEST { Err(Errno::ENOMEM) } else { Ok(end) }",
        "    Ok(end)",
        Lib,
        "fixed_mappings_outside",
    ),
    mutant(
        "a guest range ends one byte beyond the window",
        "syscalls/src/guest.rs",
        "Some(end) if end <= WINDOW_BYTES => Ok",
        "Some(end) if end <= WINDOW_BYTES + 1 => Ok",
        Lib,
        "a_range_may_end",
    ),
    mutant(
        "a signal frame returns one byte further",
        "syscalls/src/signal/frame.rs",
        "        rip: cpu.rip,\n        eflags",
        "        rip: cpu.rip + 1,\n        eflags",
        Lib,
        "sigreturn_restores_everything",
    ),
    mutant(
        "siginfo lies eight bytes from where the handler is told",
        "syscalls/src/signal/frame.rs",
        "window.copy_out(frame + SIGINFO, d.info)?;",
        "window.copy_out(frame + SIGINFO + 8, d.info)?;",
        Lib,
        "a_fault_reaches_the_guest_handler",
    ),
    mutant("a signal frame overwrites the red zone", "syscalls/src/signal/frame.rs", "const RED_ZONE: u64 = 128;", "const RED_ZONE: u64 = 0;", Lib, "signal::tests"),
    mutant(
        "the allow-list is not asked",
        "syscalls/src/dispatch.rs",
        "(thread.process.allows(listed) ||",
        "(true || thread.process.allows(listed) ||",
        Lib,
        "outside_the_allow_list",
    ),
    mutant(
        "a permissive host lets through what the table refuses",
        "syscalls/src/dispatch.rs",
        "if row.support != Support::Refuse && (",
        "if (row.support != Support::Refuse || thread.process.host.watch().permissive) && (",
        Lib,
        "a_permissive_host",
    ),
    mutant(
        "a recording host enforces no list",
        "syscalls/src/process/mod.rs",
        ".filter(|_| listed || watch.permissive)",
        ".filter(|_| listed || watch.permissive || watch.recorded)",
        Lib,
        "a_recording_host",
    ),
    mutant(
        "lists are tightened by half a recording",
        "policy/src/learn.rs",
        "containers.is_subset(&self.recorded)",
        "!containers.is_disjoint(&self.recorded)",
        Lib,
        "every_start_was_recorded",
    ),
    mutant("a guest's path adds fields to the journal", "vkernel/src/audit/journald.rs", "if value.contains('\\n') {", "if value.contains('\\0') {", Lib, "adds_none"),
    mutant(
        "a helper reads beyond the window",
        "loader/src/helper/guarded.rs",
        "Some(end) if end <= limit => Ok",
        "Some(end) if end <= limit + 1 => Ok",
        Lib,
        "ranges_past_the_window",
    ),
    mutant("an unsorted block table is taken", "loader/src/section.rs", "|w| w[0][0] >= w[1][0]", "|w| w[0][0] > u32::MAX - 1 && w[1][0] == 0", Lib, "not_sorted"),
    mutant("the store takes a file with another digest", "vkernel/src/store.rs", "if digest == item.digest {", "if digest == item.digest || true {", Lib, "store::tests"),
    mutant(
        "execveat is not intercepted",
        "vkernel/src/filter/mod.rs",
        "for nr in [libc::SYS_execve, libc::SYS_execveat] {\n        filter.add_rule",
        "for nr in [libc::SYS_execve] {\n        filter.add_rule",
        Test("lockdown"),
        "",
    ),
    mutant("an intercepted exec is answered with CONTINUE", "vkernel/src/listener.rs", "val, error, flags: 0 }", "val: 0, error: 0, flags: 1 }", Test("lockdown"), "errno"),
    mutant(
        "an unlisted program is allowed",
        "vkernel/src/supervisor.rs",
        "Err(refusal) => (Answer::Errno(refusal.errno)",
        "Err(refusal) => (Answer::Errno(refusal.errno & 0)",
        Test("lockdown"),
        "errno",
    ),
    mutant(
        "overlapping segments are taken",
        "tools/recompiler-build/src/scan/elf.rs",
        "            return Err(format!(\"segment {i} overlaps the one before or is out of order\"",
        "            let _ = Err::<(), _>(format!(\"segment {i} overlaps the one before or is out of order\"",
        Lib,
        "overlapping",
    ),
    mutant("a damaged cache entry is used", "tools/recompiler-build/src/cache.rs", "intact.then_some(bytes)", "(intact || true).then_some(bytes)", Lib, "damaged_entry"),
    mutant(
        "adc forgets the carry it came with",
        "tools/lift/src/x86/arithmetic.rs",
        "        // Without carry in: r < a; with it: r <= a.\n        e.get(r);\n        e.get(a);\n        e.alu(w, Alu::LtU);\n        e.get(r);\n        e.get(a);\n        e.alu(w, Alu::Eq);\n        e.get(carry);",
        "        e.get(r);\n        e.get(a);\n        e.alu(w, Alu::LtU);\n        e.get(r);\n        e.get(a);\n        e.alu(w, Alu::Eq);\n        e.constant(w, 0);",
        Lift("semantics"),
        "every_integer_form",
    ),
    mutant(
        "movsx does not extend the sign",
        "tools/lift/src/x86/convert.rs",
        "    e.operand(i, 1);\n    e.sign_extend(from);",
        "    e.operand(i, 1);\n    let _ = from;",
        Lift("semantics"),
        "every_integer_form",
    ),
    mutant(
        "a shift by zero changes the flags",
        "tools/lift/src/x86/shift.rs",
        "                e.get(l);\n                e.if_then(update);\n            }\n        }\n        e.get(r);\n    });\n}\n\n/// ZF",
        "                let _ = l;\n                update(e);\n            }\n        }\n        e.get(r);\n    });\n}\n\n/// ZF",
        Lift("semantics"),
        "every_integer_form",
    ),
    mutant(
        "string instructions ignore DF",
        "tools/lift/src/x86/string.rs",
        "    e.cpu_load32(offset::DF);\n    e.s().i64_extend_i32_u()",
        "    e.c32(0);\n    e.s().i64_extend_i32_u()",
        Lift("semantics"),
        "string_instructions",
    ),
    mutant(
        "upper lanes of scalars are lost",
        "tools/lift/src/analyse/classes.rs",
        "if *upper == Upper::Lost && seen.has(16 + n) {",
        "if *upper == Upper::Lost && seen.has(16 + n) && n > 15 {",
        Lift("sse"),
        "",
    ),
    mutant(
        "a static stack is one slot off",
        "tools/lift/src/x86/mod.rs",
        "e.rsp_add(sign * i.immediate(1) as i32);",
        "e.rsp_add(sign * i.immediate(1) as i32 + 8);",
        Lift("semantics"),
        "static_stack",
    ),
    mutant(
        "a system call's number from memory counts as no number",
        "tools/lift/src/certificate/values.rs",
        "                Step::Open(why) => {\n                    found.open.insert(open(why));\n",
        "                Step::Open(_) => {\n",
        Lift("certificate"),
        "what_cannot_be_bounded",
    ),
    mutant(
        "callers do not say what an argument is",
        "tools/lift/src/certificate/values.rs",
        "            next.extend(self.callers.get(&f.entry).into_iter().flatten().map(|&p| (p, register)));\n",
        "",
        Lift("certificate"),
        "a_number_in_an_argument",
    ),
    mutant(
        "a gap behind no cpuid bit is gated",
        "tools/lift/src/certificate/mod.rs",
        "match (missing.is_empty(), stated",
        "match (false && missing.is_empty(), stated",
        Lift("certificate"),
        "gaps_are_told",
    ),
    mutant(
        "fnstenv shows host addresses",
        "loader/src/helper/x87.rs",
        "            buffer[if short { 6..SHORT_ENVIRONMENT } else { 12..ENVIRONMENT - 2 }].fill(0);\n",
        "",
        Lib,
        "x87::tests",
    ),
    mutant(
        "the 16-bit layouts are the 32-bit ones",
        "loader/src/helper/x87.rs",
        "if short { SHORT_ENVIRONMENT } else { ENVIRONMENT };",
        "if short && false { SHORT_ENVIRONMENT } else { ENVIRONMENT };",
        Lib,
        "x87::tests",
    ),
    mutant("an unmasked floating-point exception is forgotten", "loader/src/helper/float.rs", "    if unmasked == 0 {", "    if unmasked == 0 || true {", Lib, "float::tests"),
    mutant(
        "flags that an instruction reads are dead before it",
        "tools/lift/src/emit/flags.rs",
        ".or(Self::read_by(i)).or(Self::kept_by(i, live))",
        ".or(Self::kept_by(i, live))",
        Blocks,
        "",
    ),
    mutant(
        "a repeated string instruction begins again",
        "tools/lift/src/x86/string.rs",
        "            if e.form == Form::Resumable {\n",
        "            if e.form != Form::Resumable {\n",
        Twin,
        "repaired_faults",
    ),
    mutant("sums swap their operands", "third_party/wasmer-compiler-llvm/src/translator/host_instruction.rs", "v{mnemonic} $0, $1, $2", "v{mnemonic} $0, $2, $1", Blocks, ""),
    mutant("div divides what does not fit", "tools/lift/src/x86/multiply.rs", "local_get(divisor).i64_ge_u();", "local_get(divisor).i64_gt_u();", Blocks, ""),
    mutant(
        "a selector sends to its last block",
        "third_party/wasmer-compiler-llvm/src/translator/selector.rs",
        "selector.targets.get(k)",
        "selector.targets.get(k + 1)",
        Twin,
        "shared_table",
    ),
    mutant("comis is ucomis", "tools/lift/src/x86/sse_float.rs", "    let signalling = matches!(", "    let signalling = false && matches!(", Twin, "rounding"),
    mutant("emms keeps TOP", "tools/lift/src/x86/x87.rs", "    e.enter_mmx();\n    e.c32(0);", "    e.c32(0);", Twin, "mmx"),
];
