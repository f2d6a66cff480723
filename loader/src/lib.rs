//! Verified artifacts to running code. The only crate that names wasmer, and wasmer without a compiler.
//!
//! Owns mapping (`megabinary`), structured code by slot (`code`), a guest thread's state and instances (`machine`), the dispatcher loop (`dispatch`), faults, and the x86 slow-path helpers. Does not decide what may
//! run (policy), and does not know what a syscall means (syscalls). The fact a newcomer gets wrong: wasmer maps and instantiates, but calls, imports and
//! traps go through `native` and `fault`, not through wasmer.

pub mod artifact;
pub mod blocks;
mod code;
pub mod codemap;
pub mod dispatch;
pub mod fault;
mod float;
pub mod helper;
pub mod machine;
pub mod megabinary;
pub mod native;
mod owned;
pub mod reservation;
pub mod section;
mod vsyscall;
pub mod wasi;
mod world;

pub use dispatch::Form;
pub use machine::Machine;
pub use megabinary::{LoadError, Mapped, Megabinary, ShardId, ShardInput};
pub use native::{Kernel, Next};
pub use owned::forked;
pub use wasi::ModuleInput;
