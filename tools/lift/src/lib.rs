//! x86-64 ELF → WASM shard. See ARCHITECTURE.md.

pub mod emit;
pub mod function;
pub mod registers;
pub mod x86;
