//! Manifests, digests, allow-lists, signatures and decisions: pure data and pure functions.
//!
//! Owns what a signed container *is* and what may run in it. Refuses to own doing: no mapping, no hashing of guest files on the run side's behalf,
//! no syscall numbers (names only). The fact a newcomer gets wrong: a `Manifest` value proves nothing; only `Verified`, which nothing but
//! `verify` can make, may be loaded or decided upon.
#![forbid(unsafe_code)]
#![warn(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_precision_loss, clippy::cast_sign_loss)]

pub mod arguments;
pub mod canonical;
pub mod compare;
pub mod decide;
pub mod digest;
pub mod document;
pub mod interpreter;
pub mod key;
pub mod learn;
pub mod lint;
pub mod manifest;
pub mod memory;
pub mod revocation;
pub mod rules;
pub mod signature;
pub mod unread;
pub mod verify;

pub use decide::{Decision, Pin, Reason, decide_exec, decide_inline, decide_library, decide_permissive, decide_pin, decide_script, decide_serial};
pub use digest::{Algorithm, Digest};
pub use key::{KeyError, PrivateKey, TrustedKeys};
pub use manifest::Manifest;
pub use revocation::Revocations;
pub use verify::{Object, Verified, VerifyError, verify};
