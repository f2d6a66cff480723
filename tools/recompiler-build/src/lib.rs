//! `recompiler-build`: image to signed megabinary.
//!
//! Owns the commands and the exit code; each stage lives in its own file. The fact a newcomer gets wrong: this is the only program of the project that contains a compiler, and it never runs guest code.
#![forbid(unsafe_code)]

pub mod assemble;
pub mod attest;
pub mod building;
pub mod cache;
pub mod cli;
pub mod commands;
pub mod compile;
pub mod compiling;
pub mod cost;
pub mod coverage;
pub mod elf_image;
pub mod fetching;
mod instruction;
pub mod interpreter;
pub mod inventory;
pub mod lifting;
pub mod link;
pub mod lists;
pub mod manual;
pub mod output;
pub mod pipeline;
pub mod polyfill;
pub mod portable;
pub mod processor;
pub mod progress;
pub mod prove;
pub mod recompile;
pub mod remote_cache;
pub mod report;
pub mod routing;
pub mod sbom;
pub mod scan;
pub mod signing;
pub mod slim;
pub mod sound;
pub mod starting;
pub mod verifying;
pub mod wasi;
