//! See ARCHITECTURE.md.
pub mod abi;
