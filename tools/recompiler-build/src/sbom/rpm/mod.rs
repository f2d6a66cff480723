//! rpm's database: a table of package headers in one SQLite file.
//!
//! Owns what of a header becomes a package. Refuses to own both formats (`sqlite`, `header`). The fact a newcomer gets wrong: unlike dpkg's text, a binary file that does not fit is an error: half a database read would be an SBOM that looks whole.

mod header;
mod sqlite;

use super::packages::Package;
use header::Header;
use thiserror::Error;

/// What is wrong with a database, and where.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RpmError {
    #[error("is no SQLite database of rpm's: {0}")]
    Format(&'static str),
    #[error("page {page}: {what}")]
    Page { page: u32, what: &'static str },
    #[error("package {row}: {what}")]
    Package { row: u64, what: &'static str },
}

/// The installed packages of `rpmdb.sqlite`, each with its files.
pub fn packages(database: &[u8]) -> Result<Vec<Package>, RpmError> {
    let rows = sqlite::blobs(database, "Packages")?;
    let read = |(row, blob): &(u64, Vec<u8>)| package(blob).map_err(|what| RpmError::Package { row: *row, what });
    Ok(rows.iter().map(read).collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
}

/// None: a key that packages were signed with, which rpm keeps among them.
fn package(blob: &[u8]) -> Result<Option<Package>, &'static str> {
    use header::tag;
    let h = Header::parse(blob)?;
    let text = |tag| Ok::<_, &'static str>(h.strings(tag)?.into_iter().next());
    let name = text(tag::NAME)?.ok_or("has no name")?;
    let Some(architecture) = text(tag::ARCH)?.filter(|_| name != "gpg-pubkey") else { return Ok(None) };
    let version = format!("{}-{}", text(tag::VERSION)?.ok_or("has no version")?, text(tag::RELEASE)?.ok_or("has no release")?);
    Ok(Some(Package {
        kind: "rpm",
        name,
        version,
        epoch: h.numbers(tag::EPOCH)?.first().map(u32::to_string),
        architecture,
        source: text(tag::SOURCE_RPM)?,
        maintainer: text(tag::PACKAGER)?.or(text(tag::VENDOR)?),
        homepage: text(tag::URL)?,
        licence: text(tag::LICENCE)?,
        files: files(&h)?,
    }))
}

/// Paths are kept in halves: names, and for each the number of its directory.
fn files(h: &Header<'_>) -> Result<Vec<String>, &'static str> {
    let (names, numbers, directories) = (h.strings(header::tag::BASE_NAMES)?, h.numbers(header::tag::DIRECTORY_NUMBERS)?, h.strings(header::tag::DIRECTORY_NAMES)?);
    if names.len() != numbers.len() {
        return Err("has not one directory for each file");
    }
    let path = |(name, number): (&String, &u32)| {
        let directory = directories.get(*number as usize).filter(|d| d.starts_with('/'))?;
        Some(format!("{directory}{name}"))
    };
    names.iter().zip(&numbers).map(path).collect::<Option<_>>().ok_or("has a file in no directory")
}
