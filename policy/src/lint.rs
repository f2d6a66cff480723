//! What a careful reader would ask about a manifest that is well-formed.
//!
//! Owns the questions. What breaks a rule is `rules`' and refused; nothing here is. The fact a newcomer gets wrong: the analysis of code names a superset of the calls it can make, so a listed call
//! beyond it is surely of no use, while an unlisted one within it may belong to a path that never runs.

use crate::decide::inline_rule;
use crate::digest::Digest;
use crate::manifest::{Binary, Inline, Manifest, Networking, Scripts, SyscallEvidence};
use serde::Serialize;
use std::collections::BTreeSet;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// The list does not do what it seems to.
    Warning,
    /// Worth a look.
    Note,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub level: Level,
    /// Stable.
    pub code: &'static str,
    /// Where in the manifest: a program's path, or a member.
    pub at: String,
    pub text: String,
}

/// What the runtime's table says of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Granted,
    /// Whatever a list says.
    Refused,
    Unknown,
}

/// All findings; `every` holds all calls that a list can grant.
pub fn lint(m: &Manifest, every: &BTreeSet<&str>, call: impl Fn(&str) -> Call) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut find = |level, code, at: &str, text: String| found.push(Finding { level, code, at: at.to_owned(), text });
    let default = &m.global_policies.default_syscalls;
    let (members, policy) = ("global_policies.default_syscalls", "global_policies");
    let is_every = |list: &BTreeSet<&str>| every.is_subset(list);
    let (takers, all) = (m.binaries.values().filter(|b| !b.overrides.without_default).count(), m.binaries.len());
    if takers > 0 && is_every(&default.iter().map(String::as_str).collect()) {
        let who = if takers == all { "every program".to_owned() } else { format!("{takers} of {all} programs") };
        find(Level::Warning, "no-list", members, format!("{who} may make every system call there is: write a policy, or learn one with `vkernel policy learn --tighten`"));
    }
    if m.global_policies.networking == Networking::Host {
        find(Level::Warning, "host-network", policy, "programs share the host's network: every address that the host reaches".into());
    }
    if !m.global_policies.forbid_permissive {
        find(Level::Note, "permissive-possible", policy, "a host may run it with --permissive: set forbid_permissive to keep the lists enforced".into());
    }
    let lists = m.binaries.values().map(|b| (b.path.as_str(), &b.overrides.syscalls));
    for (at, list) in lists.chain([(members, default)]) {
        let of = |kind| list.iter().filter(|n| call(n) == kind).cloned().collect::<Vec<_>>();
        let (unknown, refused) = (of(Call::Unknown), of(Call::Refused));
        if !unknown.is_empty() {
            find(Level::Warning, "unknown-syscall", at, format!("no system call of vkernel: {}", unknown.join(", ")));
        }
        if !refused.is_empty() {
            find(Level::Warning, "never-granted", at, format!("refused whatever a list says: {}", refused.join(", ")));
        }
    }
    scripts(m, &mut find);
    for b in m.binaries.values() {
        let allowed = m.allowed_syscalls(b);
        if is_every(&allowed) && !is_every(&default.iter().map(String::as_str).collect()) {
            find(Level::Warning, "no-list", &b.path, "it may make every system call there is".into());
        }
        // One that breaks the rules was refused before anybody asks for advice.
        let Some(code) = b.syscalls.as_ref().and_then(|s| s.read().ok()) else { continue };
        let lacking: Vec<&str> = code.reachable.proved.iter().map(String::as_str).filter(|n| !allowed.contains(n) && call(n) == Call::Granted).collect();
        if !lacking.is_empty() {
            find(Level::Note, "code-wants-more", &b.path, format!("its code makes calls that its list refuses: {}", lacking.join(", ")));
        }
        let useless = allowed.iter().filter(|n| !mentions(&code.linked, n)).count();
        if code.linked.unknown_sites == 0 && !code.opens_objects && useless > 0 && !is_every(&allowed) {
            find(Level::Note, "more-than-code", &b.path, format!("{useless} of its {} listed calls are in no code of it or its libraries", allowed.len()));
        }
    }
    found
}

/// Rules about scripts that bind nobody.
fn scripts(m: &Manifest, find: &mut impl FnMut(Level, &'static str, &str, String)) {
    let listed = m.global_policies.scripts == Scripts::Listed;
    for b in m.binaries.values().filter(|b| m.judges_command(b)) {
        if listed && inline_rule(m, b) == Inline::Allow {
            find(Level::Warning, "inline-allowed", &b.path, "only listed scripts run, but it may be given any program as text: set inline to deny or audit".into());
        }
        if b.overrides.strip.as_ref().is_none_or(BTreeSet::is_empty) {
            find(Level::Note, "steered-by-environment", &b.path, "no variable is stripped: some may name files that it runs".into());
        }
    }
    for s in m.scripts.values() {
        let named = |(digest, b): &(&Digest, &Binary)| s.interpreter_digest == Some(**digest) && inline_rule(m, b) == Inline::Deny;
        let grammar = m.binaries.iter().find(named).and_then(|(_, b)| b.overrides.interpreter.as_ref());
        let line: Vec<&[u8]> = [Some(&s.interpreter), s.argument.as_ref(), Some(&s.path)].into_iter().flatten().map(|w| w.as_bytes()).collect();
        if let Some(why) = grammar.and_then(|grammar| grammar.program(&line, true).inline) {
            find(Level::Warning, "script-refused", &s.path, format!("its #! line counts as program text, which is denied: {why}"));
        }
    }
    let ruled = listed || m.global_policies.inline != Inline::Allow;
    let unread = |b: &&Binary| ruled && b.overrides.interpreter.is_none();
    let runs = |(digest, b): (&Digest, &Binary)| m.scripts.values().any(|s| s.interpreter_digest == Some(*digest) || (s.interpreter_digest.is_none() && s.interpreter == b.path));
    for (_, b) in m.binaries.iter().filter(|(_, b)| unread(b)).filter(|(d, b)| runs((d, b))) {
        find(Level::Warning, "unread-interpreter", &b.path, "scripts name it, but how it takes programs is not known: give it overrides.interpreter".into());
    }
}

fn mentions(evidence: &SyscallEvidence, name: &str) -> bool {
    evidence.proved.contains(name) || evidence.possible.contains(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unread::Unread;

    fn codes(m: &Manifest) -> Vec<(&'static str, String)> {
        let every = BTreeSet::from(["read", "write", "close", "getuid", "exit_group"]);
        let call = |n: &str| match n {
            "ptrace" => Call::Refused,
            "no_such" => Call::Unknown,
            _ => Call::Granted,
        };
        lint(m, &every, call).into_iter().map(|f| (f.code, f.at)).collect()
    }

    #[test]
    fn each_question_is_asked_where_it_arises_and_only_there() {
        let bytes = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/manifests/accept/minimal.json")).unwrap();
        let mut m = crate::verify::typed(crate::canonical::parse(&bytes).unwrap()).unwrap();
        let ls = || "/usr/bin/ls".to_owned();
        let has = |m: &Manifest, code| codes(m).into_iter().find(|(c, _)| *c == code).map(|(_, at)| at);
        m.global_policies.forbid_permissive = true;
        assert_eq!(has(&m, "more-than-code"), None, "its code was not bounded");
        let code = m.binaries.values_mut().find_map(|b| b.syscalls.as_mut()).unwrap();
        let mut bounded = code.read().unwrap();
        bounded.linked.unknown_sites = 0;
        *code = Unread::of(&bounded);
        for quiet in ["no-list", "host-network", "permissive-possible", "unknown-syscall", "never-granted"] {
            assert_eq!(has(&m, quiet), None, "{:?}", codes(&m));
        }
        assert_eq!((has(&m, "code-wants-more"), has(&m, "more-than-code")), (Some(ls()), Some(ls())));
        m.global_policies.forbid_permissive = false;
        m.global_policies.networking = Networking::Host;
        let binary = m.binaries.values_mut().next().unwrap();
        binary.overrides.syscalls.extend(["ptrace".into(), "no_such".into()]);
        for loud in ["host-network", "permissive-possible"] {
            assert_eq!(has(&m, loud), Some("global_policies".into()));
        }
        assert_eq!((has(&m, "never-granted"), has(&m, "unknown-syscall")), (Some(ls()), Some(ls())));
        for quiet in ["inline-allowed", "steered-by-environment", "unread-interpreter"] {
            assert_eq!(has(&m, quiet), None);
        }
        m.global_policies.scripts = Scripts::Listed;
        let ldd = m.scripts.values_mut().next().unwrap();
        ldd.interpreter = ls();
        assert_eq!((has(&m, "unread-interpreter"), has(&m, "inline-allowed")), (Some(ls()), None));
        let binary = m.binaries.values_mut().next().unwrap();
        binary.overrides.interpreter = Some(Default::default());
        assert_eq!((has(&m, "inline-allowed"), has(&m, "steered-by-environment"), has(&m, "unread-interpreter")), (Some(ls()), Some(ls()), None));
        let binary = m.binaries.values_mut().next().unwrap();
        (binary.overrides.inline, binary.overrides.strip) = (Some(Inline::Audit), Some(BTreeSet::from(["ENV".into()])));
        assert_eq!((has(&m, "inline-allowed"), has(&m, "steered-by-environment")), (None, None));
        let digest = *m.binaries.keys().next().unwrap();
        m.binaries.values_mut().next().unwrap().overrides.inline = Some(Inline::Deny);
        m.scripts.values_mut().next().unwrap().interpreter_digest = Some(digest);
        assert_eq!(has(&m, "script-refused"), None);
        m.scripts.values_mut().next().unwrap().argument = Some("-l".into());
        assert_eq!(has(&m, "script-refused"), Some("/usr/bin/ldd".to_owned()));
        m.binaries.values_mut().next().unwrap().overrides.syscalls.extend(["getuid".into(), "exit_group".into()]);
        assert_eq!((has(&m, "no-list"), has(&m, "code-wants-more")), (Some(ls()), None));
        m.global_policies.default_syscalls.extend(["getuid".into(), "exit_group".into()]);
        assert_eq!(has(&m, "no-list"), Some("global_policies.default_syscalls".into()));
        m.binaries.values_mut().for_each(|b| (b.overrides.without_default, b.overrides.syscalls) = (true, BTreeSet::new()));
        assert_eq!(has(&m, "no-list"), None, "nobody has that list");
    }
}
