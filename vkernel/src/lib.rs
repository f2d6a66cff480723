//! The run side of vkernel: containers, their supervisor, interception, lock-down, audit, and the commands of the `vkernel` binary.
//!
//! Owns processes, namespaces, mounts, seccomp. Knows nothing of x86 or wasm: workers are `loader`'s and `syscalls`' code behind
//! `worker`. The fact a newcomer gets wrong: exactly two host processes start a container, this one and its init, which never executes a file.

pub mod audit;
pub mod check;
pub mod cli;
pub mod container;
pub mod decide;
pub mod failure;
pub mod fetch;
pub mod filter;
pub mod handshake;
pub mod keys;
pub mod listener;
pub mod listing;
pub mod lockdown;
pub mod protocol;
pub mod request;
pub mod ring;
pub mod rootfs;
pub mod run;
pub mod serial;
pub mod signals;
pub mod store;
pub mod supervisor;
pub mod sys;
pub mod terminal;
pub mod verify;
pub mod worker;
