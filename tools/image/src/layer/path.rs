//! Names inside a layer: relative to the image's root, without `.`, `..`, empty parts.
//!
//! Owns the one place where bytes of an archive become a path. The fact a newcomer gets wrong: a leading slash means the image's root, as every tool takes it; `..` means nothing at all and is refused even where
//! it would stay inside.

use super::error::{LayerError, show};
use super::limits::{MAX_DEPTH, MAX_NAME_BYTES, MAX_PATH_BYTES};

/// Components joined by `/`; empty for the root itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Inside(Vec<u8>);

impl Inside {
    pub(super) fn root() -> Inside {
        Inside(Vec::new())
    }

    pub(super) fn parse(raw: &[u8]) -> Result<Inside, LayerError> {
        let refuse = |reason| Err(LayerError::Path { path: show(raw), reason });
        if raw.contains(&0) {
            return refuse("its name holds a zero byte");
        }
        let parts: Vec<&[u8]> = raw.split(|b| *b == b'/').filter(|p| !p.is_empty() && *p != b".").collect();
        if parts.iter().any(|p| *p == b"..") {
            return refuse("its name leads upwards with ..");
        }
        if parts.iter().any(|p| p.len() > MAX_NAME_BYTES) {
            return refuse("a part of its name is longer than 255 bytes");
        }
        let joined = parts.join(&b'/');
        if parts.len() > MAX_DEPTH || joined.len() > MAX_PATH_BYTES {
            return refuse("it lies deeper than 200 directories or 4095 bytes");
        }
        Ok(Inside(joined))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn show(&self) -> String {
        show(&self.0)
    }

    pub(super) fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn parts(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|b| *b == b'/').filter(|p| !p.is_empty())
    }

    /// Directory and last component; `None` for the root.
    pub(super) fn split(&self) -> Option<(Inside, &[u8])> {
        if self.is_root() {
            return None;
        }
        let at = self.0.iter().rposition(|b| *b == b'/');
        Some((Inside(self.0[..at.unwrap_or(0)].to_vec()), &self.0[at.map_or(0, |a| a + 1)..]))
    }

    pub(super) fn join(&self, name: &[u8]) -> Inside {
        let mut bytes = self.0.clone();
        if !bytes.is_empty() {
            bytes.push(b'/');
        }
        bytes.extend_from_slice(name);
        Inside(bytes)
    }

    /// Where a relative symlink in this directory leads, in an archive that is only read; `None` when it leads out.
    pub(super) fn resolve(&self, link: &[u8]) -> Option<Inside> {
        let mut parts: Vec<&[u8]> = self.parts().collect();
        for part in link.split(|b| *b == b'/') {
            match part {
                b"" | b"." => {}
                b".." => drop(parts.pop()?),
                name => parts.push(name),
            }
        }
        Some(Inside(parts.join(&b'/')))
    }

    /// Everything below a directory starts with this.
    pub(super) fn below(&self) -> Inside {
        let mut bytes = self.0.clone();
        bytes.push(b'/');
        Inside(bytes)
    }

    pub(super) fn is_below(&self, prefix: &Inside) -> bool {
        self.0.starts_with(&prefix.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_paths_below_the_root_or_nothing() {
        let parse = |s: &str| Inside::parse(s.as_bytes());
        for (raw, clean) in [("./usr//bin/ls", "usr/bin/ls"), ("/etc/passwd", "etc/passwd"), ("./", ""), ("a/./b/", "a/b"), ("..a/b..", "..a/b..")] {
            assert_eq!(parse(raw).unwrap().bytes(), clean.as_bytes(), "{raw}");
        }
        for raw in ["../x", "a/../b", "a/..", "a\0b", &"x/".repeat(300), &"y".repeat(256)] {
            assert!(parse(raw).is_err(), "{raw}");
        }
        let path = parse("a/b/c").unwrap();
        assert_eq!(path.split().map(|(d, n)| (d.bytes().to_vec(), n.to_vec())), Some((b"a/b".to_vec(), b"c".to_vec())));
    }
}
