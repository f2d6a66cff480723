//! x86-64 ELF → WASM shard. See ARCHITECTURE.md, "The guest ABI".

#![forbid(unsafe_code)]

pub mod analyse;
pub mod certificate;
pub mod discover;
pub mod emit;
pub mod function;
pub mod image;
pub mod language;
pub mod module;
pub mod registers;
mod shard;
pub mod x86;

pub use certificate::Certificate;
pub use shard::{Error, LIFTER_VERSION, Report, Shard, Structured, certify, lift, lift_forms, no_structured_functions};
