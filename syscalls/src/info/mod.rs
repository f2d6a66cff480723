//! System information and what a container does not administrate.
//!
//! Owns no call itself. The fact a newcomer gets wrong: the guest lives in its own uts, pid and user namespaces, so most answers are simply the kernel's.

mod admin;
mod ipc;
mod system;

crate::pass::family! { system::PASSED, system::ROWS, ipc::PASSED, ipc::ROWS, admin::REFUSED }
