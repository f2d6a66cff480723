//! The Linux syscall table over guest memory, and the guest ABI. See ARCHITECTURE.md.

pub mod abi;
pub mod blocking;
pub mod direct;
pub mod dispatch;
pub mod errno;
pub mod exec;
pub mod fs;
pub mod guest;
pub mod host;
pub mod info;
pub mod mm;
pub mod net;
pub(crate) mod pass;
pub mod poll;
pub mod process;
pub mod signal;
pub mod strace;
pub mod table;
#[cfg(test)]
pub(crate) mod testing;
pub mod thread;
pub mod time;
#[cfg(test)]
pub(crate) mod trial;
pub mod wasi;

pub use blocking::host_call;
pub use dispatch::dispatch;
pub use host::{Argument, Event, Granted, Host, Object, ObjectId, Refusal, Segment, Text, Watch};
pub use process::Process;
pub use thread::{NewThread, Next, Thread};
