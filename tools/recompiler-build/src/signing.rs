//! Who signs: a private key in a file, or a program that holds the key where no file is.
//!
//! Owns calling that program and judging what it printed. Refuses to own which bytes are signed (`policy::signature`, `attest`). The fact a newcomer gets wrong: the program is believed nothing. Its signature is checked against the
//! public key before it is used, so a wrong slot, a banner on standard output or a hash signed in the place of the message is an error here and not on every host.

use crate::cli::SignerArgs;
use anyhow::{Context, bail, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use policy::PrivateKey;
use policy::key::{PublicKey, key_id};
use policy::signature::{self, Kind};
use rustix::fs::{MemfdFlags, memfd_create};
use serde_json::Value;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// More than any spelling of 64 bytes needs.
const MAX_OUTPUT_BYTES: u64 = 4096;

/// A key that can sign, and its name.
pub struct Signer {
    pub key_id: String,
    how: How,
}

enum How {
    Key(PrivateKey),
    Program { words: Vec<String>, public: PublicKey, limit: Duration },
}

impl Signer {
    /// The signer of a command line; `None` if it names none.
    pub fn open(args: &SignerArgs) -> anyhow::Result<Option<Signer>> {
        let named = |path: &Path| args.key_id.clone().unwrap_or_else(|| key_id(path));
        match (&args.key, &args.signer, &args.signer_public) {
            (Some(path), ..) => Ok(Some(Signer::of(PrivateKey::read(path)?, &named(path)))),
            (None, Some(command), Some(path)) => {
                let words: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
                ensure!(!words.is_empty(), "--signer names no program");
                let how = How::Program { words, public: PublicKey::read(path)?, limit: Duration::from_secs(args.signer_timeout) };
                Ok(Some(Signer { key_id: named(path), how }))
            }
            _ => Ok(None),
        }
    }

    pub fn of(key: PrivateKey, key_id: &str) -> Signer {
        Signer { key_id: key_id.into(), how: How::Key(key) }
    }

    pub fn public(&self) -> PublicKey {
        match &self.how {
            How::Key(key) => key.public(&self.key_id),
            How::Program { public, .. } => PublicKey { id: self.key_id.clone(), key: public.key },
        }
    }

    /// A signature over exactly these bytes.
    pub fn sign(&self, message: &[u8]) -> anyhow::Result<[u8; 64]> {
        match &self.how {
            How::Key(key) => Ok(key.sign(message)),
            How::Program { words, public, limit } => {
                let name = &words[0];
                let made = ask(words, message, *limit).with_context(|| format!("signer {name}"))?;
                ensure!(
                    public.verifies(message, &made),
                    "signer {name}: what it printed is not the signature of {}'s key over the bytes it got: check the slot, and that it signs the message itself (Ed25519, not a hash of it)",
                    public.id
                );
                Ok(made)
            }
        }
    }

    /// Signs a document in place.
    pub fn sign_document(&self, kind: Kind, document: &mut Value) -> anyhow::Result<()> {
        let made = self.sign(&signature::message_as(kind, document))?;
        signature::attach(document, &made, &self.key_id);
        Ok(())
    }
}

/// Runs the program with the message as its standard input.
fn ask(words: &[String], message: &[u8], limit: Duration) -> anyhow::Result<[u8; 64]> {
    // A file in memory and not a pipe: openssl asks for its length, and a program that does not read cannot hold us up.
    let mut input = File::from(memfd_create("message", MemfdFlags::CLOEXEC).context("no memory for the message")?);
    input.write_all(message).and_then(|()| input.rewind()).context("no memory for the message")?;
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).stdin(input).stdout(Stdio::piped()).env_remove("RUST_MIN_STACK");
    let mut child = command.spawn().context("cannot be started")?;
    let output = child.stdout.take().context("has no output")?;
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = output.take(MAX_OUTPUT_BYTES + 1).read_to_end(&mut bytes);
        // Nobody waits any more after the limit.
        let _ = send.send(read.map(|_| bytes));
    });
    let end = Instant::now() + limit;
    let bytes = match receive.recv_timeout(limit) {
        Ok(read) => read.context("its output cannot be read")?,
        Err(_) => {
            stop(&mut child);
            bail!("gave no signature within {} s: it was stopped (--signer-timeout)", limit.as_secs());
        }
    };
    if bytes.len() as u64 > MAX_OUTPUT_BYTES {
        stop(&mut child);
        bail!("printed more than {MAX_OUTPUT_BYTES} bytes: only the signature may go to standard output");
    }
    let status = loop {
        match child.try_wait().context("cannot be waited for")? {
            Some(status) => break status,
            None if Instant::now() >= end => {
                stop(&mut child);
                bail!("did not end within {} s: it was stopped (--signer-timeout)", limit.as_secs());
            }
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    };
    ensure!(status.success(), "failed ({status}); nothing was signed");
    parse(&bytes)
}

fn stop(child: &mut Child) {
    // It may have ended by itself meanwhile.
    let _ = child.kill();
    let _ = child.wait();
}

/// 64 bytes as they are, or in base64, which base64(1) breaks into lines.
fn parse(bytes: &[u8]) -> anyhow::Result<[u8; 64]> {
    if let Ok(raw) = bytes.try_into() {
        return Ok(raw);
    }
    let decoded = BASE64_STANDARD.decode(bytes.iter().copied().filter(|b| !b.is_ascii_whitespace()).collect::<Vec<_>>()).ok();
    decoded.and_then(|d| d.try_into().ok()).with_context(|| format!("printed {} bytes that are neither a signature (64 bytes) nor one in base64", bytes.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_read_raw_and_in_base64_and_in_no_other_way() {
        let raw: [u8; 64] = std::array::from_fn(|i| i as u8);
        let text = BASE64_STANDARD.encode(raw);
        for good in [raw.to_vec(), text.clone().into_bytes(), format!(" {}\n{}\n", &text[..76], &text[76..]).into_bytes()] {
            assert_eq!(parse(&good).unwrap(), raw);
        }
        for bad in [&raw[..63], b"", b"signature: ok", &text.as_bytes()[..80], policy::digest::hex(&raw).as_bytes()] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
