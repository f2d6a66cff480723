//! Verified artifacts to running code. The only crate that names wasmer, and wasmer without a compiler.
//!
//! Owns linking a release once per host (`link`), mapping what came out (`linked`, `megabinary`), a guest thread's state (`machine`), the dispatcher loop (`dispatch`), faults, and the x86 slow-path helpers. Does not decide what may
//! run (policy), and does not know what a syscall means (syscalls). The fact a newcomer gets wrong: wasmer says what fits and where functions are when a release is linked; processes that run guests map the result,
//! and do calls, imports and traps themselves.

pub mod artifact;
pub mod blocks;
pub mod codemap;
pub mod dispatch;
pub mod fault;
mod float;
pub mod helper;
pub mod image;
pub mod link;
mod linked;
pub mod machine;
pub mod megabinary;
pub mod native;
mod owned;
pub mod reservation;
pub mod section;
mod vmctx;
mod vsyscall;
pub mod wasi;
mod world;

pub use dispatch::Form;
pub use link::{LinkError, ShardInput, link};
pub use machine::Machine;
pub use megabinary::{LoadError, Megabinary, ShardId};
pub use native::{Kernel, Next};
pub use owned::forked;
pub use wasi::ModuleInput;
