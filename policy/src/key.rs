//! Ed25519 keys as files that openssl reads: PKCS#8 and SubjectPublicKeyInfo, PEM.
//!
//! Owns making, reading and writing keys and the rule that a private key file is its owner's alone. Does not decide which keys to trust: the caller names the
//! files. The fact a newcomer gets wrong: PKCS#8 *version 2* (with the public half) is what the crate writes by default, and openssl 3.0 cannot read it.

use crate::digest::Digest;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey, KeypairBytes};
use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// A PEM file of one key is about 120 bytes.
const MAX_KEY_FILE_BYTES: u64 = 16 << 10;

#[derive(Debug, Error)]
pub enum KeyError {
    #[error("cannot read key {path}: {cause}")]
    Read { path: PathBuf, cause: io::Error },
    #[error("cannot write key {path}: {cause}")]
    Write { path: PathBuf, cause: io::Error },
    #[error("private key {path} is accessible to others (mode {mode:04o}): run chmod 600 on it")]
    Permissions { path: PathBuf, mode: u32 },
    #[error("{path} is not an Ed25519 key in PEM form: make one with recompiler-build keygen")]
    Format { path: PathBuf },
    #[error("no random bytes: {0}")]
    Random(io::Error),
}

/// A private key. Wiped from memory when dropped.
pub struct PrivateKey(SigningKey);

/// A public key and the id it is known by.
#[derive(Clone, Debug)]
pub struct PublicKey {
    pub id: String,
    pub key: VerifyingKey,
}

/// The public keys the caller trusts.
#[derive(Clone, Debug, Default)]
pub struct TrustedKeys(Vec<PublicKey>);

impl PrivateKey {
    /// A new key from the kernel's random numbers.
    pub fn generate() -> Result<PrivateKey, KeyError> {
        let mut seed = [0; 32];
        File::open("/dev/urandom").and_then(|mut f| f.read_exact(&mut seed)).map_err(KeyError::Random)?;
        Ok(PrivateKey::from_seed(seed))
    }

    /// The key of a 32-byte seed.
    pub fn from_seed(seed: [u8; 32]) -> PrivateKey {
        PrivateKey(SigningKey::from_bytes(&seed))
    }

    /// Reads a PKCS#8 PEM file that only its owner can access.
    pub fn read(path: &Path) -> Result<PrivateKey, KeyError> {
        let file = File::open(path).map_err(|cause| KeyError::Read { path: path.into(), cause })?;
        let mode = file.metadata().map_err(|cause| KeyError::Read { path: path.into(), cause })?.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(KeyError::Permissions { path: path.into(), mode });
        }
        let text = bounded_text(path, file)?;
        SigningKey::from_pkcs8_pem(&text).map(PrivateKey).map_err(|_| KeyError::Format { path: path.into() })
    }

    /// Writes a new file with mode 0600. An existing file is never replaced.
    pub fn write(&self, path: &Path) -> Result<(), KeyError> {
        let pair = KeypairBytes { secret_key: self.0.to_bytes(), public_key: None };
        new_file(path, 0o600, &pair.to_pkcs8_pem(LineEnding::LF).expect("32 bytes always encode"))
    }

    /// Writes the public half as SubjectPublicKeyInfo PEM. An existing file is never replaced.
    pub fn write_public(&self, path: &Path) -> Result<(), KeyError> {
        new_file(path, 0o644, &self.0.verifying_key().to_public_key_pem(LineEnding::LF).expect("32 bytes always encode"))
    }

    pub fn public(&self, id: &str) -> PublicKey {
        PublicKey { id: id.into(), key: self.0.verifying_key() }
    }

    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

/// All of it, or nothing.
fn new_file(path: &Path, mode: u32, text: &str) -> Result<(), KeyError> {
    let failed = |cause| KeyError::Write { path: path.into(), cause };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).inspect_err(|_| drop(fs::remove_file(path))).map_err(failed)
}

impl PublicKey {
    /// Reads a SubjectPublicKeyInfo PEM file; its id is the file name without `.pub` or `.pem`.
    pub fn read(path: &Path) -> Result<PublicKey, KeyError> {
        let file = File::open(path).map_err(|cause| KeyError::Read { path: path.into(), cause })?;
        let text = bounded_text(path, file)?;
        let key = VerifyingKey::from_public_key_pem(&text).map_err(|_| KeyError::Format { path: path.into() })?;
        Ok(PublicKey { id: key_id(path), key })
    }

    /// Whether a signature is this key's over a message.
    pub fn verifies(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        self.key.verify_strict(message, &ed25519_dalek::Signature::from_bytes(signature)).is_ok()
    }

    /// `blake3:` digest of the 32 key bytes: the name of the key that nobody chooses.
    pub fn fingerprint(&self) -> String {
        Digest::blake3(self.key.as_bytes()).to_string()
    }
}

/// The id that a key file stands for: `build-server-2026` for `/etc/vkernel/keys/build-server-2026.pub`.
pub fn key_id(path: &Path) -> String {
    path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default()
}

impl TrustedKeys {
    /// Trusts exactly these.
    pub fn of(keys: impl IntoIterator<Item = PublicKey>) -> TrustedKeys {
        TrustedKeys(keys.into_iter().collect())
    }

    /// Trusts one key more.
    pub fn add(&mut self, key: PublicKey) {
        self.0.push(key);
    }

    /// Trusts one public key file.
    pub fn add_file(&mut self, path: &Path) -> Result<(), KeyError> {
        self.0.push(PublicKey::read(path)?);
        Ok(())
    }

    /// Trusts every `*.pub` file of a directory, in the order of their names.
    pub fn add_directory(&mut self, path: &Path) -> Result<(), KeyError> {
        let read = |cause| KeyError::Read { path: path.into(), cause };
        let entries: Result<Vec<_>, _> = fs::read_dir(path).map_err(read)?.map(|e| e.map(|e| e.path())).collect();
        let mut files: Vec<_> = entries.map_err(read)?.into_iter().filter(|p| p.extension().is_some_and(|e| e == "pub")).collect();
        files.sort();
        files.iter().try_for_each(|f| self.add_file(f))
    }

    pub fn iter(&self) -> impl Iterator<Item = &PublicKey> {
        self.0.iter()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn bounded_text(path: &Path, file: File) -> Result<String, KeyError> {
    let mut text = String::new();
    file.take(MAX_KEY_FILE_BYTES).read_to_string(&mut text).map_err(|cause| KeyError::Read { path: path.into(), cause })?;
    Ok(text)
}
