//! Why a layer was refused. Owns the texts: what, where in the layer, and what to do when there is something to do.
//!
//! The fact a newcomer gets wrong: every variant but `Io` and `Host` is a statement about the archive; the same bytes are refused on every machine.

use std::io;
use thiserror::Error;

#[derive(Debug, Error)]
pub enum LayerError {
    #[error("the layer cannot be read: {0}: fetch the image again")]
    Io(#[source] io::Error),
    #[error("{path}: {what}: {source}")]
    Host { path: String, what: &'static str, source: io::Error },
    #[error("the layer is cut off: {0}")]
    Truncated(&'static str),
    #[error("tar header at byte {offset}: {reason}: the archive is damaged or hostile")]
    Header { offset: u64, reason: String },
    #[error("{path}: {reason}: no tool makes such an entry, the archive is hostile or damaged")]
    Path { path: String, reason: &'static str },
    #[error("{path}: leads through the symlink {link} of the same layer: no tool makes such an archive, it is hostile")]
    ThroughSymlink { path: String, link: String },
    #[error("{path}: {above} is not a directory")]
    NotADirectory { path: String, above: String },
    #[error("{path}: stands twice in one layer, which of the two would count differs between tools")]
    Duplicate { path: String },
    #[error("{path}: hard link to {target}, which {reason}")]
    HardLink { path: String, target: String, reason: &'static str },
    #[error("{path}: {reason}")]
    Unsupported { path: String, reason: String },
    #[error("the layers unpack to more than {limit} bytes: allow more with --max-bytes if this image is really that large")]
    TooManyBytes { limit: u64 },
    #[error("the layers' sparse files have more than {limit} bytes, {times} times what --max-bytes allows: allow more if this image is really that large")]
    TooManySparseBytes { limit: u64, times: u64 },
    #[error("the layers hold more than {limit} entries, no sensible image does")]
    TooManyEntries { limit: u64 },
    #[error("interrupted")]
    Interrupted,
}

/// Bytes of a name, for messages: control characters of a hostile name must not reach the terminal.
pub(super) fn show(path: &[u8]) -> String {
    format!("/{}", path.escape_ascii())
}
