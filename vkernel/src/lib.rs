//! The run side of vkernel: containers, their supervisor, interception, lock-down, audit, and the commands of the `vkernel` binary.
//!
//! Owns processes, namespaces, mounts, seccomp. Knows nothing of x86 or wasm: workers are `loader`'s and `syscalls`' code behind
//! `worker`. The fact a newcomer gets wrong: exactly two host processes start a container, this one and its init, which never executes a file.

pub mod audit;
pub mod cgroup;
pub mod check;
pub mod cli;
pub mod code;
pub mod commands;
pub mod container;
pub mod decide;
pub mod describe;
pub mod detached;
pub mod devices;
pub mod failure;
pub mod fetch;
pub mod filter;
pub mod handshake;
pub mod hooks;
pub mod init;
pub mod journal;
pub mod keeper;
pub mod keys;
pub mod launch;
pub mod limits;
pub mod listener;
pub mod listing;
pub mod lists;
pub mod lockdown;
pub mod log;
pub mod mounts;
pub mod namespaces;
pub mod oci;
pub mod own_file;
pub mod profile;
pub mod protocol;
pub mod prove;
pub mod release;
pub mod request;
pub mod ring;
pub mod rootfs;
pub mod run;
pub mod serial;
pub mod serve;
pub mod signals;
pub mod state;
pub mod stats;
pub mod store;
pub mod streams;
pub mod supervisor;
pub mod sys;
pub mod terminal;
pub mod top;
pub mod user;
pub mod verify;
mod wasi;
pub mod worker;
