//! Container images in, release images out.
//!
//! Owns image references, archives, registries, layers and the two forms a release is shipped in. Everything hostile that comes from outside is parsed here, in a program of its own (`vkernel-image`): neither the process
//! that holds the signing key nor the one that runs containers as root parses tar, JSON of strangers or TLS.
#![forbid(unsafe_code)]

pub mod accompanying;
pub mod archive;
pub mod blob;
pub mod bundle;
pub mod cli;
pub mod credentials;
pub mod document;
pub mod image;
pub mod layer;
pub mod progress;
pub mod pull;
pub mod push;
pub mod reference;
pub mod referrers;
pub mod registry;
pub mod release;
pub mod scratch;
pub mod target;
pub mod unpack;
pub mod writer;
