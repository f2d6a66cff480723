//! A DSSE envelope in a Sigstore bundle, version 0.3, with one Ed25519 signature.
//!
//! Owns both formats. The fact a newcomer gets wrong: what is signed is neither the payload nor its base64 but the pre-authentication encoding of type and payload, which also keeps such a signature apart from the manifest's own.
//!
//! Plain JSON of ours: the `sigstore` crate brings an HTTP client and a TLS stack to the process that holds the key, for forty lines.

use crate::signing::Signer;
use anyhow::{Context, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use policy::canonical;
use serde_json::{Value, json};

const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

pub struct Bundle {
    pub payload: Vec<u8>,
    pub signature: [u8; 64],
    /// A claim, as in the manifest.
    pub key_id: String,
}

/// DSSE's pre-authentication encoding.
fn encoded(payload: &[u8]) -> Vec<u8> {
    [format!("DSSEv1 {} {PAYLOAD_TYPE} {} ", PAYLOAD_TYPE.len(), payload.len()).as_bytes(), payload].concat()
}

impl Bundle {
    pub fn sign(payload: &[u8], signer: &Signer) -> anyhow::Result<Bundle> {
        Ok(Bundle { payload: payload.to_vec(), signature: signer.sign(&encoded(payload))?, key_id: signer.key_id.clone() })
    }

    /// The bytes that the signature is over.
    pub fn message(&self) -> Vec<u8> {
        encoded(&self.payload)
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        canonical::to_bytes(&json!({
            "mediaType": MEDIA_TYPE,
            "verificationMaterial": { "publicKey": { "hint": self.key_id }, "tlogEntries": [] },
            "dsseEnvelope": {
                "payload": BASE64_STANDARD.encode(&self.payload),
                "payloadType": PAYLOAD_TYPE,
                "signatures": [{ "keyid": self.key_id, "sig": BASE64_STANDARD.encode(self.signature) }],
            },
        }))
    }

    /// Reads a bundle of the shape that `to_bytes` makes; bundles with certificates or log entries are other people's.
    pub fn parse(bytes: &[u8]) -> anyhow::Result<Bundle> {
        let value: Value = canonical::parse(bytes)?;
        let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).with_context(|| format!("has no {pointer}: it is no Sigstore bundle of a release"));
        ensure!(text("/mediaType")? == MEDIA_TYPE && text("/dsseEnvelope/payloadType")? == PAYLOAD_TYPE, "is not a Sigstore bundle v0.3 of an in-toto statement");
        let decoded = |pointer: &str| BASE64_STANDARD.decode(text(pointer)?).with_context(|| format!("{pointer} is not base64"));
        let signature: Option<[u8; 64]> = decoded("/dsseEnvelope/signatures/0/sig")?.try_into().ok();
        let bundle = Bundle {
            payload: decoded("/dsseEnvelope/payload")?,
            signature: signature.context("its signature is not Ed25519's")?,
            key_id: text("/verificationMaterial/publicKey/hint")?.to_owned(),
        };
        ensure!(bundle.to_bytes() == bytes, "is not written as a build writes it: sign the manifest again");
        Ok(bundle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy::PrivateKey;

    #[test]
    fn the_encoding_is_that_of_the_specification() {
        let text = String::from_utf8(encoded(b"hello world")).unwrap();
        assert_eq!(text, "DSSEv1 28 application/vnd.in-toto+json 11 hello world");
    }

    #[test]
    fn a_bundle_is_read_as_written_and_in_no_other_spelling() {
        let key = PrivateKey::from_seed([1; 32]);
        let public = key.public("k");
        let made = Bundle::sign(b"{}", &Signer::of(key, "k")).unwrap();
        let bytes = made.to_bytes();
        let read = Bundle::parse(&bytes).unwrap();
        assert!(public.verifies(&read.message(), &read.signature) && read.payload == b"{}" && read.key_id == "k");
        for (from, to) in [("v0.3", "v0.2"), ("\"tlogEntries\":[]", "\"tlogEntries\":[1]"), ("in-toto", "in-tot0"), ("{\"dsse", "{ \"dsse")] {
            let other = String::from_utf8(bytes.clone()).unwrap().replace(from, to);
            assert!(Bundle::parse(other.as_bytes()).is_err(), "{from}");
        }
    }
}
