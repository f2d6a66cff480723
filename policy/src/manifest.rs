//! The manifest: which files a container may run, and which shard, artifact and allow-list belongs to each.
//!
//! Owns the types and their JSON form; the JSON Schema comes from them. Refuses to own trust (`verify`) and meaning (`rules`, `decide`). The fact a
//! newcomer gets wrong: guest addresses of an ELF object are `elf.base + vaddr`; `vaddr` is what the file says, and `base` is 0 for non-PIE executables.

use crate::arguments::Arguments;
use crate::digest::Digest;
use crate::interpreter::Interpreter;
use crate::unread::Unread;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// One container image, as signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Digest of what went in: name, version and every row below, before signing.
    pub container_id: Digest,
    pub name: String,
    /// Grows with every release of `name`; a host refuses to go back.
    pub serial: u64,
    pub version: String,
    /// The runtime versions that can run this: `>=MAJOR.MINOR.PATCH`.
    pub vkernel_version: String,
    /// File name, relative to the manifest.
    pub megabinary: String,
    pub megabinary_digest: Digest,
    pub artifacts: Vec<Artifact>,
    pub global_policies: GlobalPolicies,
    /// Programs: files that execve may start.
    pub binaries: BTreeMap<Digest, Binary>,
    /// Shared objects and dynamic linkers: files that may be mapped executable. A file can be both a binary and a library.
    pub libraries: BTreeMap<Digest, Library>,
    pub scripts: BTreeMap<Digest, Script>,
    /// What was seen and deliberately left out.
    pub omitted: Vec<Omitted>,
    pub agent_tools: BTreeMap<Digest, AgentTool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signatures: Option<Signatures>,
}

/// Native code of one form of one shard for one kind of CPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Artifact {
    /// Target triple.
    pub target: String,
    /// Features beyond the x86-64 baseline that the code needs, sorted, in wasmer's spelling.
    pub cpu_features: Vec<String>,
    /// Engine and compiler with their versions.
    pub engine: String,
    pub shard: Digest,
    pub form: Form,
    /// File name, relative to the manifest.
    pub file: String,
    pub digest: Digest,
}

/// The two forms of lifted code (ARCHITECTURE.md, "Two forms of every function"), and the one of WASI programs ("WASI programs").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    Structured,
    Resumable,
    Wasi,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GlobalPolicies {
    /// Names of the system calls every binary may make that does not say otherwise.
    pub default_syscalls: BTreeSet<String>,
    pub networking: Networking,
    /// A host may not run it with lists of system calls that are not enforced (`vkernel run --permissive`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub forbid_permissive: bool,
    /// Which scripts may be run.
    #[serde(default, skip_serializing_if = "is_default")]
    pub scripts: Scripts,
    /// What becomes of programs that an interpreter is given as text or by a stream.
    #[serde(default, skip_serializing_if = "is_default")]
    pub inline: Inline,
}

/// Which scripts may be run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scripts {
    /// Every one whose interpreter is listed.
    #[default]
    Any,
    /// Those of `scripts`, executed or named to an interpreter.
    Listed,
}

/// What becomes of program text on a command line, and of programs on standard input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Inline {
    #[default]
    Allow,
    /// They run; the audit log says so.
    Audit,
    Deny,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Networking {
    None,
    Loopback,
    Restricted,
    Host,
}

/// A program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Binary {
    /// Where the file was found: absolute, no `.`, `..` or empty part.
    pub path: String,
    /// Bytes in the file.
    pub size: u64,
    /// SHA-256 of the same file, for tools that know no BLAKE3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
    /// 1-based position of the digest among the sorted digests of binaries, libraries and scripts.
    pub entry: u32,
    pub entry_point: String,
    /// Absent for a binary that only a polyfill could replace, and the release has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<Digest>,
    /// Absent for a WASI program, and for what one replaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elf: Option<Elf>,
    #[serde(default, skip_serializing_if = "Overrides::is_empty")]
    pub overrides: Overrides,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coverage: Option<Unread<Coverage>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub syscalls: Option<Unread<ProgramSyscalls>>,
    /// What becomes of the arguments that a caller means for a polyfilled file.
    #[serde(default, skip_serializing_if = "Arguments::is_empty")]
    pub arguments: Arguments,
    /// Directories of the image that a WASI program is given by name, besides the root: it would look for them in a file system that it brings along.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub directories: Vec<String>,
    /// Name of the WASI program that runs in the place of this file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub polyfill: Option<String>,
}

/// A shared object or dynamic linker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Library {
    pub path: String,
    pub size: u64,
    /// SHA-256 of the same file, for tools that know no BLAKE3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
    pub entry: u32,
    pub shard: Digest,
    pub elf: Elf,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coverage: Option<Unread<Coverage>>,
}

/// What exec and mmap need to know of an ELF object. Addresses are the file's; the guest's are `base` higher.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Elf {
    /// Guest address of the object's address slot; 0 for a non-PIE executable.
    pub base: u64,
    /// ET_EXEC: linked at fixed addresses.
    pub non_pie: bool,
    /// e_entry.
    pub entry: u64,
    /// Address of the program headers (AT_PHDR), and their number (AT_PHNUM).
    pub phdr: u64,
    pub phnum: u32,
    /// PT_INTERP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interpreter: Option<String>,
    /// PT_GNU_STACK or its absence asks for an executable stack; it never becomes one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub executable_stack: bool,
    /// PT_LOAD segments in ascending order.
    pub segments: Vec<Segment>,
}

/// One PT_LOAD segment, held as whole file pages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Segment {
    pub vaddr: u64,
    pub memsz: u64,
    pub filesz: u64,
    /// p_offset in the original file; equals `vaddr` modulo the page size.
    pub file_offset: u64,
    /// Offset in the megabinary file of the page that holds `file_offset`: page-aligned, maps to `base + vaddr` rounded down.
    pub image_offset: u64,
    pub prot: Prot,
}

/// Permissions a segment asks for, written like `r-x`. Text is mapped as data: the guest never gets `x`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prot {
    pub read: bool,
    pub write: bool,
    pub execute: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Overrides {
    /// System calls this binary may make beyond the default ones.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub syscalls: BTreeSet<String>,
    /// `syscalls` is the whole list: the default ones are not for this binary.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub without_default: bool,
    /// How its command line says what it is to run; absent for what is no interpreter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interpreter: Option<Interpreter>,
    /// Instead of the global one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inline: Option<Inline>,
    /// Variables that it does not get: names, or beginnings of names followed by `*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strip: Option<BTreeSet<String>>,
}

/// What was found in an object's code, and how much of it was translated.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Coverage {
    pub functions: u64,
    /// Bytes of executable segments that are neither padding nor data.
    pub code_bytes: u64,
    /// Of these, the ones that are translated.
    pub lifted_bytes: u64,
    pub padding_bytes: u64,
    pub data_bytes: u64,
    /// Instructions that an x86-64-v2 processor executes and that stop the guest here.
    pub unlifted_instructions: u64,
    /// Instructions behind cpuid bits that the guest is not shown.
    pub gated_instructions: u64,
    /// Jumps whose targets are found at run time only.
    pub unresolved_jumps: u64,
    pub indirect_calls: u64,
    /// Of the object's own code.
    pub syscalls: SyscallEvidence,
}

/// Which system calls code can make, by static analysis. Together the lists are a superset, unless `unknown_sites` is not 0.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SyscallEvidence {
    /// The only call that some place can make.
    pub proved: BTreeSet<String>,
    /// One of several that a place may make; some may belong to paths that never run.
    pub possible: BTreeSet<String>,
    /// Places whose call could not be bounded.
    pub unknown_sites: u64,
}

/// Which system calls a program can make with its interpreter and all libraries it is linked with. What it opens at run time does not count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProgramSyscalls {
    /// Of all code of these objects.
    pub linked: SyscallEvidence,
    /// Of the code that the call graph leads to.
    pub reachable: SyscallEvidence,
    /// Reachable code asks for more objects by name (dlopen): these can make every linked call, and those of their own.
    pub opens_objects: bool,
}

/// A file that an interpreter runs. Its interpreter is one of the binaries, or of the scripts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Script {
    pub path: String,
    pub size: u64,
    /// SHA-256 of the same file, for tools that know no BLAKE3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
    pub entry: u32,
    pub interpreter: String,
    /// Digest of the interpreter's file: another one does not run it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interpreter_digest: Option<Digest>,
    /// The one optional argument of the `#!` line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub argument: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Omitted {
    pub path: String,
    pub digest: Digest,
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AgentTool {
    pub name: String,
    pub entry_point: String,
}

/// One signature, or several (array form).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Signatures {
    One(Signature),
    Several(Vec<Signature>),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// A hint for finding the key, not covered by the signature.
    pub key_id: String,
    /// 128 lower-case hexadecimal digits.
    pub signature: String,
}

impl Signatures {
    pub fn iter(&self) -> impl Iterator<Item = &Signature> {
        match self {
            Signatures::One(s) => std::slice::from_ref(s).iter(),
            Signatures::Several(v) => v.iter(),
        }
    }
}

impl ProgramSyscalls {
    /// The calls that its code leads to, if that is all it can make: every one is known, and it opens no code besides.
    pub fn bounded(&self) -> Option<BTreeSet<&str>> {
        let is_bounded = self.reachable.unknown_sites == 0 && !self.opens_objects;
        is_bounded.then(|| self.reachable.proved.union(&self.reachable.possible).map(String::as_str).collect())
    }
}

impl Overrides {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Manifest {
    /// The digests of everything that has an entry number, in that order: first what a process can become or map (programs and libraries with code of their own), then
    /// polyfilled programs and scripts; each part sorted.
    pub fn entry_order(&self) -> Vec<Digest> {
        let has_code = |d: &Digest| self.libraries.contains_key(d) || self.binaries.get(d).is_some_and(|b| b.shard.is_some() || b.elf.is_some());
        let all: BTreeSet<Digest> = self.binaries.keys().chain(self.libraries.keys()).chain(self.scripts.keys()).copied().collect();
        let (objects, others): (Vec<Digest>, Vec<Digest>) = all.into_iter().partition(has_code);
        [objects, others].concat()
    }

    /// Writes the entry number of every row. The build side's last step before signing.
    pub fn number_entries(&mut self) {
        for (digest, entry) in self.entry_order().into_iter().zip(1..) {
            if let Some(b) = self.binaries.get_mut(&digest) {
                b.entry = entry;
            }
            if let Some(l) = self.libraries.get_mut(&digest) {
                l.entry = entry;
            }
            if let Some(s) = self.scripts.get_mut(&digest) {
                s.entry = entry;
            }
        }
    }

    /// The system calls a binary may make.
    pub fn allowed_syscalls<'a>(&'a self, binary: &'a Binary) -> BTreeSet<&'a str> {
        let default = Some(&self.global_policies.default_syscalls).filter(|_| !binary.overrides.without_default);
        default.into_iter().flatten().chain(&binary.overrides.syscalls).map(String::as_str).collect()
    }

    /// The system calls that some binary may make.
    pub fn syscalls_of_any(&self) -> BTreeSet<&str> {
        let overrides = || self.binaries.values().map(|b| &b.overrides);
        let default = Some(&self.global_policies.default_syscalls).filter(|_| overrides().any(|o| !o.without_default));
        default.into_iter().flatten().chain(overrides().flat_map(|o| &o.syscalls)).map(String::as_str).collect()
    }

    /// Whether an exec of this binary depends on its command line.
    pub fn judges_command(&self, binary: &Binary) -> bool {
        let listed = self.global_policies.scripts == Scripts::Listed && binary.overrides.interpreter.is_some();
        listed || crate::decide::inline_rule(self, binary) != Inline::Allow
    }

    /// Variables that some program does not get.
    pub fn stripped_anywhere(&self) -> BTreeSet<String> {
        self.binaries.values().flat_map(|b| b.overrides.strip.iter().flatten()).cloned().collect()
    }

    /// JSON Schema of the manifest, as shipped.
    pub fn schema() -> serde_json::Value {
        schemars::schema_for!(Manifest).to_value()
    }
}

impl Prot {
    /// PROT_READ, PROT_WRITE and PROT_EXEC of mmap(2).
    pub fn bits(self) -> u32 {
        u32::from(self.read) | u32::from(self.write) << 1 | u32::from(self.execute) << 2
    }

    pub fn from_bits(bits: u32) -> Prot {
        Prot { read: bits & 1 != 0, write: bits & 2 != 0, execute: bits & 4 != 0 }
    }
}

impl Serialize for Prot {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let letter = |set, c| if set { c } else { '-' };
        s.collect_str(&format_args!("{}{}{}", letter(self.read, 'r'), letter(self.write, 'w'), letter(self.execute, 'x')))
    }
}

impl<'de> Deserialize<'de> for Prot {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Prot, D::Error> {
        let text = Cow::<'de, str>::deserialize(d)?;
        let letter = |i: usize, c: u8| match text.as_bytes()[i] {
            b'-' => Some(false),
            b if b == c => Some(true),
            _ => None,
        };
        let parse = || Some(Prot { read: letter(0, b'r')?, write: letter(1, b'w')?, execute: letter(2, b'x')? });
        (text.len() == 3).then(parse).flatten().ok_or_else(|| de::Error::custom(format!("{text:?} is not a protection: write three of rwx-")))
    }
}

impl JsonSchema for Prot {
    fn schema_name() -> Cow<'static, str> {
        "Prot".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[r-][w-][x-]$" })
    }
}
