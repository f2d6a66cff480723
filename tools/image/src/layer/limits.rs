//! How much a whole image may cost. One budget is spent by all layers of an image, so that a bomb cannot hide in many small ones.
//!
//! The fact a newcomer gets wrong: what is counted are bytes after decompression, headers and skipped data included, so that every loop of the reader spends something; and holes of sparse files, which no layer pays for,
//! are counted apart.

use super::LayerError;
use std::sync::atomic::{AtomicBool, Ordering};

/// Enough for every image seen; large machine-learning images have about 30 GB.
pub const DEFAULT_BYTES: u64 = 64 << 30;
const ENTRIES: u64 = 5_000_000;
/// Sizes of sparse files together, in limits: holes take no space, but the time of whoever reads them.
const SPARSE_LIMITS: u64 = 4;

/// Deeper trees exist in no package; each level costs the remover a descriptor.
pub(super) const MAX_DEPTH: usize = 200;
/// PATH_MAX, and NAME_MAX.
pub(super) const MAX_PATH_BYTES: usize = 4095;
pub(super) const MAX_NAME_BYTES: usize = 255;
/// Extended headers and long names are held in memory.
pub(super) const MAX_EXTENDED_BYTES: u64 = 1 << 20;
/// A file system's own limit; beyond it a sparse file could not even be made.
pub(super) const MAX_FILE_BYTES: u64 = 8 << 40;

/// Set by the signal handler; every loop that could run long looks at it.
pub static INTERRUPTED: AtomicBool = AtomicBool::new(false);

#[derive(Debug)]
pub struct Budget {
    limit: u64,
    bytes: u64,
    sparse_bytes: u64,
    entries: u64,
}

impl Budget {
    pub fn new(limit: u64) -> Budget {
        Budget { limit, bytes: limit, sparse_bytes: limit.saturating_mul(SPARSE_LIMITS), entries: ENTRIES }
    }

    pub(super) fn bytes(&mut self, n: u64) -> Result<(), LayerError> {
        if INTERRUPTED.load(Ordering::Relaxed) {
            return Err(LayerError::Interrupted);
        }
        self.bytes = self.bytes.checked_sub(n).ok_or(LayerError::TooManyBytes { limit: self.limit })?;
        Ok(())
    }

    /// Whether a size that an entry claims could be paid at all.
    pub(super) fn affords(&self, n: u64) -> Result<(), LayerError> {
        if n > self.bytes { Err(LayerError::TooManyBytes { limit: self.limit }) } else { Ok(()) }
    }

    /// The size of a sparse file.
    pub(super) fn sparse(&mut self, size: u64) -> Result<(), LayerError> {
        let limit = self.limit.saturating_mul(SPARSE_LIMITS);
        self.sparse_bytes = self.sparse_bytes.checked_sub(size).ok_or(LayerError::TooManySparseBytes { limit, times: SPARSE_LIMITS })?;
        Ok(())
    }

    pub(super) fn entry(&mut self) -> Result<(), LayerError> {
        self.entries = self.entries.checked_sub(1).ok_or(LayerError::TooManyEntries { limit: ENTRIES })?;
        Ok(())
    }
}

impl Default for Budget {
    fn default() -> Budget {
        Budget::new(DEFAULT_BYTES)
    }
}
