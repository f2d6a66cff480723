//! From a stored layer to the tar stream in it, and the digest over that stream.
//!
//! Owns the choice by magic number: registries and archives label layers wrongly often enough that no tool trusts the label. The fact a newcomer gets wrong: the digest in a manifest covers the compressed bytes, the `diff_id` in
//! the configuration the uncompressed ones, and both are checked.

use super::LayerError;
use policy::digest::{Algorithm, Digest};
use sha2::{Digest as _, Sha256};
use std::io::{self, BufRead, BufReader, Read};

/// Largest window a zstd frame may ask for, as a power of two: 128 MiB, what the zstd program accepts by default.
const MAX_WINDOW_LOG: u32 = 27;

/// The stream inside: gzip (several members too), zstd, or as it is.
pub fn decompressed<'a>(stored: impl Read + 'a) -> Result<Box<dyn Read + 'a>, LayerError> {
    let mut stored = BufReader::with_capacity(256 << 10, stored);
    let magic = stored.fill_buf().map_err(LayerError::Io)?;
    let other = |name: &str| LayerError::Unsupported { path: "the layer".into(), reason: format!("is compressed with {name}: push it again with gzip or zstd") };
    match magic {
        [0x1f, 0x8b, ..] => Ok(Box::new(flate2::bufread::MultiGzDecoder::new(stored))),
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(stored).map_err(LayerError::Io)?;
            decoder.window_log_max(MAX_WINDOW_LOG).map_err(LayerError::Io)?;
            Ok(Box::new(decoder))
        }
        [0xfd, b'7', b'z', b'X', b'Z', ..] => Err(other("xz")),
        [b'B', b'Z', b'h', ..] => Err(other("bzip2")),
        _ => Ok(Box::new(stored)),
    }
}

/// A reader that hashes what passes.
pub struct Hashed<R> {
    inner: R,
    hasher: Sha256,
    pub bytes: u64,
}

impl<R> Hashed<R> {
    pub fn new(inner: R) -> Hashed<R> {
        Hashed { inner, hasher: Sha256::new(), bytes: 0 }
    }

    pub fn digest(self) -> Digest {
        Digest { algorithm: Algorithm::Sha256, bytes: self.hasher.finalize().into() }
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..n]);
        self.bytes += n as u64;
        Ok(n)
    }
}
