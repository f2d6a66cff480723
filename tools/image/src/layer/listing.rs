//! The members of an image archive, listed and not unpacked.
//!
//! Owns turning links inside the archive into names. The fact a newcomer gets wrong: links here lead from one member to another, never to a file; nothing on this machine is looked at.

use super::error::LayerError;
use super::limits::Budget;
use super::member::Kind;
use super::path::Inside;
use super::reader::Members;
use std::io::Read;

/// A member of an image archive: a regular file's place, or a link to one.
pub struct Listed {
    pub path: String,
    pub offset: u64,
    pub bytes: u64,
    /// Symlinks relative to their directory, hard links relative to the root, both made absolute.
    pub link: Option<String>,
}

/// Lists the files of a plain tar without reading them.
pub fn members(input: impl Read, budget: &mut Budget) -> Result<Vec<Listed>, LayerError> {
    let mut members = Members::new(input, budget);
    let mut found = Vec::new();
    let text = |path: &Inside| String::from_utf8_lossy(path.bytes()).into_owned();
    while let Some(m) = members.next()? {
        let path = Inside::parse(&m.path)?;
        let link = match m.kind {
            Kind::File if m.sparse.is_none() => None,
            Kind::HardLink => Some(Inside::parse(&m.link)?),
            Kind::Symlink => path.split().and_then(|(above, _)| above.resolve(&m.link)),
            _ => continue,
        };
        if m.kind == Kind::Symlink && link.is_none() {
            continue;
        }
        found.push(Listed { path: text(&path), offset: members.offset(), bytes: m.stored, link: link.as_ref().map(text) });
    }
    Ok(found)
}
