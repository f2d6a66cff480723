//! Digests as they stand in manifests: `blake3:` or `sha256:` and 64 lower-case hexadecimal digits.
//!
//! Owns parsing, printing and computing them. The fact a newcomer gets wrong: upper-case digits are refused, because two spellings of one
//! digest would be two keys of one map.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest as _, Sha256};
use std::borrow::Cow;
use std::fmt;
use std::io::{self, Read};
use std::str::FromStr;
use thiserror::Error;

/// Bytes read at a time when hashing: large enough for BLAKE3's widest kernel, small enough for a stack of hashers.
const BLOCK_BYTES: usize = 128 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    Blake3,
    Sha256,
}

impl Algorithm {
    const fn prefix(self) -> &'static str {
        match self {
            Algorithm::Blake3 => "blake3:",
            Algorithm::Sha256 => "sha256:",
        }
    }
}

/// 256 bits and the name of the function that made them. Orders as its text does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest {
    pub algorithm: Algorithm,
    pub bytes: [u8; 32],
}

#[derive(Debug, Error, PartialEq, Eq)]
#[error("{text:?} is not a digest: write blake3: or sha256: and 64 lower-case hexadecimal digits")]
pub struct DigestError {
    pub text: String,
}

impl Digest {
    /// BLAKE3 of bytes in memory.
    pub fn blake3(bytes: &[u8]) -> Digest {
        Digest { algorithm: Algorithm::Blake3, bytes: *blake3::hash(bytes).as_bytes() }
    }

    /// SHA-256 of bytes in memory.
    pub fn sha256(bytes: &[u8]) -> Digest {
        Digest { algorithm: Algorithm::Sha256, bytes: Sha256::digest(bytes).into() }
    }

    /// Digest of everything a reader gives, with `read` only: a mapped file that is truncated meanwhile would kill the hasher.
    pub fn of_reader(algorithm: Algorithm, reader: &mut impl Read) -> io::Result<Digest> {
        let mut block = vec![0; BLOCK_BYTES];
        let (mut blake, mut sha) = (blake3::Hasher::new(), Sha256::new());
        loop {
            let n = match reader.read(&mut block) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            match algorithm {
                Algorithm::Blake3 => drop(blake.update(&block[..n])),
                Algorithm::Sha256 => sha.update(&block[..n]),
            }
        }
        let bytes = match algorithm {
            Algorithm::Blake3 => *blake.finalize().as_bytes(),
            Algorithm::Sha256 => sha.finalize().into(),
        };
        Ok(Digest { algorithm, bytes })
    }

    /// The 64 digits without the algorithm's name, as in file names.
    pub fn hex(&self) -> String {
        hex(&self.bytes)
    }
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|b| [b >> 4, b & 15]).map(|d| char::from_digit(d.into(), 16).expect("a nibble is a digit")).collect()
}

/// Value of each byte as a lower-case hexadecimal digit, or `NO_DIGIT`.
const DIGITS: [u8; 256] = {
    let mut values = [NO_DIGIT; 256];
    let mut value: u8 = 0;
    while value < 16 {
        values[b"0123456789abcdef"[value as usize] as usize] = value;
        value += 1;
    }
    values
};
const NO_DIGIT: u8 = 0xff;

/// The reverse of `hex`; `None` for anything but as many pairs of lower-case digits. By a table: a manifest has thousands of them.
pub fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let pairs: &[[u8; 2]; N] = pairs.try_into().ok()?;
    let mut all = 0;
    let bytes = pairs.map(|pair| {
        let [high, low] = pair.map(|digit| DIGITS[usize::from(digit)]);
        all |= high | low;
        high << 4 | low & 15
    });
    (rest.is_empty() && all < 16).then_some(bytes)
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Digest, DigestError> {
        [Algorithm::Blake3, Algorithm::Sha256]
            .into_iter()
            .find_map(|algorithm| Some(Digest { algorithm, bytes: unhex(text.strip_prefix(algorithm.prefix())?)? }))
            .ok_or_else(|| DigestError { text: text.chars().take(80).collect() })
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.algorithm.prefix(), self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Digest, D::Error> {
        Cow::<'de, str>::deserialize(d)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Digest {
    fn schema_name() -> Cow<'static, str> {
        "Digest".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^(blake3|sha256):[0-9a-f]{64}$" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_digest_are_each_others_reverse() {
        for d in [Digest::blake3(b"x"), Digest::sha256(b"x")] {
            assert_eq!(d.to_string().parse(), Ok(d));
        }
    }

    #[test]
    fn refuses_upper_case_short_and_unnamed_digests() {
        let good = Digest::blake3(b"x").to_string();
        for bad in [good.to_uppercase(), good[..70].into(), good[7..].into(), format!("md5:{}", &good[7..]), format!("{good}0")] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_reader_gives_the_digest_of_its_bytes() {
        let bytes = vec![7; 3 * BLOCK_BYTES + 5];
        assert_eq!(Digest::of_reader(Algorithm::Blake3, &mut &bytes[..]).unwrap(), Digest::blake3(&bytes));
        assert_eq!(Digest::of_reader(Algorithm::Sha256, &mut &bytes[..]).unwrap(), Digest::sha256(&bytes));
    }

    #[test]
    fn orders_as_its_text_does() {
        let mut d: Vec<_> = (0..50u8).flat_map(|i| [Digest::blake3(&[i]), Digest::sha256(&[i])]).collect();
        let mut t: Vec<_> = d.iter().map(Digest::to_string).collect();
        d.sort();
        t.sort();
        assert_eq!(d.iter().map(Digest::to_string).collect::<Vec<_>>(), t);
    }
}
