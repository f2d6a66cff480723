//! See ARCHITECTURE.md.
pub mod function;
