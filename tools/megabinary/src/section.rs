//! The custom sections of a megabinary, except the image: `vkernel.meta`, `vkernel.shards`, `vkernel.programs`, `vkernel.map`.
//!
//! Owns their JSON forms (canonical, so equal inputs give equal bytes) and reading them back. The fact a newcomer gets wrong: nothing here is authority; the signed manifest is.
//! `verify` uses these sections to show that module and manifest tell the same story.

use policy::{Digest, canonical};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use thiserror::Error;

pub const META: &str = "vkernel.meta";
pub const SHARDS: &str = "vkernel.shards";
pub const MAP: &str = "vkernel.map";
pub const IMAGE: &str = "vkernel.image";
pub const PROGRAMS: &str = "vkernel.programs";

#[derive(Debug, Error)]
pub enum SectionError {
    #[error("the module is not valid WASM: {0}")]
    Wasm(#[from] wasmparser::BinaryReaderError),
    #[error("section {name} is missing: this is no megabinary")]
    Missing { name: &'static str },
    #[error("section {name} is malformed ({reason}): rebuild the megabinary")]
    Malformed { name: &'static str, reason: String },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Meta {
    pub container_id: Digest,
    pub format: u32,
    /// Name and version of each tool that shaped the module.
    pub tools: BTreeMap<String, String>,
}

/// One row of `vkernel.shards`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardRow {
    /// Path of the ELF object in the image.
    pub name: String,
    /// Digest of the ELF file.
    pub source: Digest,
    pub shard: Digest,
    /// Start of the address slot; 0 for non-PIE executables.
    pub base: u64,
    pub structured: FormRow,
    pub resumable: FormRow,
    /// Guest address of the object's ELF entry; 0 if it has none.
    pub entry: u64,
}

/// Where one form of a shard lies: functions `first..first + functions`, of which `entries` are in table slots `slot..slot + entries`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FormRow {
    pub first: u32,
    pub functions: u32,
    pub slot: u32,
    pub entries: u32,
}

/// `vkernel.map`: what `_dispatch` starts for a digest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EntryMap(pub BTreeMap<Digest, MapRow>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MapRow {
    /// Guest address where the program starts: its interpreter's entry if it has one.
    pub pc: u32,
    /// Table slot of the structured function there.
    pub slot: u32,
    /// Of a WASI program: the function to call instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<u32>,
}

/// One row of `vkernel.programs`: a WASI program, with functions `first..first + functions` and the memory of this number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProgramRow {
    pub name: String,
    pub shard: Digest,
    pub first: u32,
    pub functions: u32,
    pub memory: u32,
    /// Digests of the files that are executed as it.
    pub sources: Vec<Digest>,
}

/// The section's bytes.
pub(crate) fn encode(value: &impl Serialize) -> Vec<u8> {
    canonical::to_bytes(&serde_json::to_value(value).expect("rows are plain JSON"))
}

/// Everything the JSON sections say.
#[derive(Clone, Debug)]
pub struct Sections {
    pub meta: Meta,
    pub shards: Vec<ShardRow>,
    pub programs: Vec<ProgramRow>,
    pub map: EntryMap,
}

/// Reads the JSON sections of a megabinary.
pub fn read(module: &[u8]) -> Result<Sections, SectionError> {
    let mut found: BTreeMap<&str, &[u8]> = BTreeMap::new();
    for payload in wasmparser::Parser::new(0).parse_all(module) {
        if let wasmparser::Payload::CustomSection(s) = payload? {
            found.insert(s.name(), s.data());
        }
    }
    Ok(Sections { meta: decode(&found, META)?, shards: decode(&found, SHARDS)?, programs: decode(&found, PROGRAMS)?, map: decode(&found, MAP)? })
}

fn decode<T: DeserializeOwned>(found: &BTreeMap<&str, &[u8]>, name: &'static str) -> Result<T, SectionError> {
    let bytes = found.get(name).ok_or(SectionError::Missing { name })?;
    let malformed = |reason: String| SectionError::Malformed { name, reason };
    let value = canonical::parse(bytes).map_err(|e| malformed(e.to_string()))?;
    serde_json::from_value(value).map_err(|e| malformed(e.to_string()))
}
