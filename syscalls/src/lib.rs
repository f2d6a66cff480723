//! The Linux syscall table over guest memory, and the guest ABI. See ARCHITECTURE.md.

pub mod abi;
pub mod errno;
pub mod exec;
pub mod fs;
pub mod guest;
pub mod info;
pub mod mm;
pub mod net;
pub mod poll;
pub mod process;
pub mod signal;
pub mod table;
pub mod thread;
pub mod time;
