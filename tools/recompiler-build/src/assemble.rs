//! The manifest of a build.
//!
//! Owns how scan results, addresses, shards and artifacts become rows. The fact a newcomer gets wrong: nothing of the build machine may enter (no times, no host paths): two builds of one image give equal bytes.

use crate::interpreter;
use crate::processor::Processor;
use crate::scan::{Inventory, Object};
use crate::wasi::Programs;
use anyhow::Context;
use megabinary::section::ShardRow;
use policy::arguments::Arguments;
use policy::manifest::{
    Artifact, Binary, Coverage, Elf, Form, GlobalPolicies, Inline, Library, Manifest, Networking, Omitted, Overrides, ProgramSyscalls, Prot, Script, Scripts, Segment,
};
use policy::unread::Unread;
use policy::{Digest, canonical};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use syscalls::table::Support;

/// What the user says about the release.
#[derive(Clone, Debug)]
pub struct Release {
    pub name: String,
    pub serial: u64,
    pub version: String,
    pub policy: PolicyFile,
}

/// `--policy FILE`: the allow-lists and the rules about scripts. What is left out is as without a file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyFile {
    #[serde(default = "every_call")]
    pub default_syscalls: BTreeSet<String>,
    #[serde(default = "no_network")]
    pub networking: Networking,
    /// Where a program's list comes from if the file says nothing of it.
    #[serde(default, skip_serializing_if = "Syscalls::is_default")]
    pub syscalls: Syscalls,
    #[serde(default)]
    pub forbid_permissive: bool,
    #[serde(default)]
    pub scripts: Scripts,
    #[serde(default)]
    pub inline: Inline,
    /// Guest path → what is different there.
    #[serde(default)]
    pub overrides: BTreeMap<String, Overrides>,
}

/// Where programs' lists come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Syscalls {
    /// Each has the default one.
    #[default]
    Default,
    /// From its code, where that is bounded; the default one elsewhere.
    Analysed,
}

impl Syscalls {
    fn is_default(&self) -> bool {
        *self == Syscalls::Default
    }
}

fn every_call() -> BTreeSet<String> {
    syscalls::table::rows().filter(|r| r.support != Support::Refuse).map(|r| r.name.to_owned()).collect()
}

fn no_network() -> Networking {
    Networking::None
}

impl PolicyFile {
    /// Reads a policy file; without one, every system call that vkernel implements is allowed, and no network.
    pub fn read(path: Option<&Path>) -> anyhow::Result<PolicyFile> {
        let Some(path) = path else {
            return serde_json::from_value(serde_json::json!({})).context("everything may be left out");
        };
        let bytes = std::fs::read(path).with_context(|| format!("cannot read policy {}", path.display()))?;
        let value = canonical::parse(&bytes).with_context(|| format!("policy {}", path.display()))?;
        let policy: PolicyFile = serde_json::from_value(value).with_context(|| format!("policy {}", path.display()))?;
        let lists = policy.overrides.values().flat_map(|o| &o.syscalls).chain(&policy.default_syscalls);
        for name in lists {
            anyhow::ensure!(syscalls::table::rows().any(|r| r.name == name), "policy {}: {name:?} is no system call vkernel has a row for", path.display());
        }
        for (program, overrides) in &policy.overrides {
            policy::rules::overrides(&format!("overrides[\"{program}\"]"), overrides).with_context(|| format!("policy {}", path.display()))?;
        }
        Ok(policy)
    }

    /// Of the program at this path whose code can make these calls: what the file says, and what the catalogue of interpreters and the analysis say where the file is silent.
    pub fn overrides_of(&self, path: &str, code: Option<&ProgramSyscalls>) -> Overrides {
        let mut overrides = self.overrides.get(path).cloned().unwrap_or_default();
        if let Some(calls) = code.filter(|_| self.syscalls == Syscalls::Analysed && !overrides.without_default).and_then(ProgramSyscalls::bounded) {
            // Code that can make more than the file allows anybody is no reason to allow it.
            overrides.syscalls.extend(self.default_syscalls.iter().filter(|name| calls.contains(name.as_str())).cloned());
            overrides.without_default = true;
        }
        if let Some(row) = interpreter::of(path) {
            overrides.interpreter.get_or_insert_with(|| row.line.clone());
            let ruled = self.scripts == Scripts::Listed || overrides.inline.unwrap_or(self.inline) != Inline::Allow;
            if ruled {
                overrides.strip.get_or_insert_with(|| row.strip.clone());
            }
        }
        overrides
    }
}

/// One object with everything that was made of it.
pub struct Built<'a> {
    pub digest: Digest,
    pub object: &'a Object,
    pub base: u64,
    pub row: &'a ShardRow,
    pub image_offsets: &'a [u64],
    pub coverage: Coverage,
    /// Of the program with all it is linked with.
    pub syscalls: Option<ProgramSyscalls>,
}

/// One artifact that was written.
pub struct Made {
    pub processor: Processor,
    pub shard: Digest,
    pub form: Form,
    pub file: String,
    pub digest: Digest,
    pub engine: String,
}

/// Digest of everything that shapes the release before any code is made.
pub fn container_id(release: &Release, found: &Inventory, wasi: &Programs) -> Digest {
    let files: BTreeMap<&str, String> = found.paths.iter().map(|(p, d)| (p.as_str(), d.to_string())).collect();
    let programs: BTreeMap<String, String> = wasi.rows().map(|(p, row)| (row.digest.to_string(), p.shard().to_string())).collect();
    let value = serde_json::json!({
        "name": release.name, "serial": release.serial, "version": release.version, "files": files,
        "policy": release.policy,
        "programs": programs,
    });
    Digest::blake3(&canonical::to_bytes(&value))
}

/// Everything but the signatures.
pub fn manifest(release: &Release, found: &Inventory, wasi: &Programs, built: &[Built<'_>], made: Vec<Made>, megabinary: (String, Digest)) -> Manifest {
    let artifact = |m: Made| Artifact {
        target: m.processor.architecture.triple().into(),
        cpu_features: m.processor.features(),
        engine: m.engine,
        shard: m.shard,
        form: m.form,
        file: m.file,
        digest: m.digest,
    };
    let programs = built.iter().filter(|b| b.object.program).map(|b| (b.digest, binary(b, release))).chain(wasi.binaries(&release.policy));
    let libraries = built.iter().filter(|b| b.object.library).map(|b| (b.digest, library(b)));
    let scripts = found.scripts.iter().map(|(d, s)| {
        let script = Script {
            path: s.path.clone(),
            size: s.size,
            sha256: Some(s.sha256),
            entry: 0,
            interpreter: s.interpreter.clone(),
            interpreter_digest: s.interpreter_digest,
            argument: s.argument.clone(),
        };
        (*d, script)
    });
    let omitted =
        found.omitted.iter().filter(|o| wasi.rows().all(|(_, row)| row.digest != o.digest)).map(|o| Omitted { path: o.path.clone(), digest: o.digest, reason: o.reason.clone() });
    let mut manifest = Manifest {
        container_id: container_id(release, found, wasi),
        name: release.name.clone(),
        serial: release.serial,
        version: release.version.clone(),
        vkernel_version: concat!(">=", env!("CARGO_PKG_VERSION")).into(),
        megabinary: megabinary.0,
        megabinary_digest: megabinary.1,
        artifacts: made.into_iter().map(artifact).collect(),
        global_policies: GlobalPolicies {
            default_syscalls: release.policy.default_syscalls.clone(),
            networking: release.policy.networking,
            forbid_permissive: release.policy.forbid_permissive,
            scripts: release.policy.scripts,
            inline: release.policy.inline,
        },
        binaries: programs.collect(),
        libraries: libraries.collect(),
        scripts: scripts.collect(),
        omitted: omitted.collect(),
        agent_tools: wasi.tools().collect(),
        signatures: None,
    };
    manifest.number_entries();
    manifest
}

fn binary(b: &Built<'_>, release: &Release) -> Binary {
    let name = b.object.path.rsplit('/').next().unwrap_or_default();
    Binary {
        path: b.object.path.clone(),
        size: b.object.bytes.len() as u64,
        sha256: Some(Digest::sha256(&b.object.bytes)),
        entry: 0,
        entry_point: format!("{name}_start"),
        shard: Some(b.row.shard),
        elf: Some(elf(b)),
        overrides: release.policy.overrides_of(&b.object.path, b.syscalls.as_ref()),
        coverage: Some(Unread::of(&b.coverage)),
        syscalls: b.syscalls.as_ref().map(Unread::of),
        arguments: Arguments::default(),
        directories: Vec::new(),
        polyfill: None,
    }
}

fn library(b: &Built<'_>) -> Library {
    let size = b.object.bytes.len() as u64;
    let sha256 = Some(Digest::sha256(&b.object.bytes));
    Library { path: b.object.path.clone(), size, sha256, entry: 0, shard: b.row.shard, elf: elf(b), coverage: Some(Unread::of(&b.coverage)) }
}

fn elf(b: &Built<'_>) -> Elf {
    let facts = &b.object.facts;
    let segments = facts.loads.iter().zip(b.image_offsets).map(|(l, &image_offset)| Segment {
        vaddr: l.vaddr,
        memsz: l.memsz,
        filesz: l.filesz,
        file_offset: l.offset,
        image_offset,
        prot: Prot::from_bits(l.prot),
    });
    Elf {
        base: b.base,
        non_pie: facts.non_pie,
        entry: facts.entry,
        phdr: facts.phdr,
        phnum: facts.phnum,
        interpreter: facts.interpreter.clone(),
        executable_stack: facts.executable_stack,
        segments: segments.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy::manifest::SyscallEvidence;

    #[test]
    fn a_policy_that_breaks_a_rule_is_refused_before_anything_is_built() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let read = |text: &str| {
            std::fs::write(file.path(), text).unwrap();
            PolicyFile::read(Some(file.path())).map_err(|e| format!("{e:#}"))
        };
        let wrong = read(r#"{"overrides": {"/bin/sh": {"strip": ["*"]}}}"#).unwrap_err();
        assert!(wrong.contains("overrides[\"/bin/sh\"].strip: \"*\" is no variable's name"), "{wrong}");
        let policy = read(r#"{"inline": "deny", "overrides": {"/bin/dash": {"strip": []}, "/bin/bash": {"inline": "allow"}}}"#).unwrap();
        let of = |path| policy.overrides_of(path, None);
        assert_eq!(of("/bin/dash").strip, Some(BTreeSet::new()), "the signer's word");
        assert_eq!(of("/bin/bash").strip, None, "no rule holds for it");
        assert!(of("/usr/bin/perl").strip.is_some_and(|s| s.contains("PERL*")) && of("/bin/ls").is_empty());
    }

    #[test]
    fn a_list_comes_from_code_that_is_bounded_and_holds_no_call_that_the_policy_allows_nobody() {
        let names = |list: &[&str]| list.iter().map(|n| (*n).to_owned()).collect::<BTreeSet<_>>();
        let policy = |syscalls| -> PolicyFile {
            let overrides = serde_json::json!({ "/more": {"syscalls": ["uname"]}, "/own": {"syscalls": ["uname"], "without_default": true} });
            serde_json::from_value(serde_json::json!({ "syscalls": syscalls, "default_syscalls": ["exit", "read", "write"], "overrides": overrides })).unwrap()
        };
        let mut code = ProgramSyscalls::default();
        (code.reachable.proved, code.reachable.possible) = (names(&["exit", "ptrace"]), names(&["read"]));
        let analysed = policy("analysed");
        let of = |path, code: &ProgramSyscalls| {
            let overrides = analysed.overrides_of(path, Some(code));
            (overrides.without_default, overrides.syscalls)
        };
        assert_eq!(of("/p", &code), (true, names(&["exit", "read"])));
        assert_eq!(of("/more", &code), (true, names(&["exit", "read", "uname"])), "what the file adds");
        assert_eq!(of("/own", &code), (true, names(&["uname"])), "what the file says alone");
        assert!(policy("default").overrides_of("/p", Some(&code)).is_empty() && analysed.overrides_of("/p", None).is_empty());
        let unknown = ProgramSyscalls { reachable: SyscallEvidence { unknown_sites: 1, ..code.reachable.clone() }, ..code.clone() };
        let opens = ProgramSyscalls { opens_objects: true, ..code.clone() };
        for unbounded in [unknown, opens] {
            assert_eq!((of("/p", &unbounded), of("/more", &unbounded)), ((false, names(&[])), (false, names(&["uname"]))));
        }
    }
}
