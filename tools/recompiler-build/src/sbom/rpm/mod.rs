//! rpm's database: one file of package headers, in one of three formats: SQLite, rpm's own (`ndb`) or Berkeley DB's.
//!
//! Owns which format it is, and what of a header becomes a package. Refuses to own the formats (`sqlite`, `ndb`, `berkeley`, `header`). The fact a newcomer gets wrong: unlike dpkg's text, a binary file that does not fit is an error: half a database read would be an SBOM that looks whole.

mod berkeley;
mod header;
mod ndb;
mod pages;
mod sqlite;

use super::packages::Package;
use header::Header;
use thiserror::Error;

/// What is wrong with a database, and where.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RpmError {
    #[error("begins like no database of rpm's (SQLite, ndb, hash file of Berkeley DB)")]
    Unknown,
    #[error("is no {format} of rpm's: {what}")]
    Format { format: &'static str, what: &'static str },
    #[error("page {page}: {what}")]
    Page { page: u32, what: &'static str },
    #[error("slot {slot}: {what}")]
    Slot { slot: usize, what: &'static str },
    #[error("package {row}: {what}")]
    Package { row: u64, what: &'static str },
}

/// The installed packages, each with its files. The format is told by the file's first bytes, not by its name.
pub fn packages(database: &[u8]) -> Result<Vec<Package>, RpmError> {
    let rows = match database {
        _ if database.starts_with(sqlite::MAGIC) => sqlite::blobs(database, "Packages")?,
        _ if database.starts_with(ndb::MAGIC) => ndb::blobs(database)?,
        _ if berkeley::is_hash(database) => berkeley::blobs(database)?,
        _ => return Err(RpmError::Unknown),
    };
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

/// Paths may be so many times larger than the header they come from; some fifty are possible, were all as long as Linux takes them (each file has some eighty bytes there).
const MOST_LARGER: usize = 64;

/// Paths are kept in halves: names, and for each the number of its directory. A long one that is named often would cost more than the file's size.
fn files(h: &Header<'_>) -> Result<Vec<String>, &'static str> {
    let (names, numbers, directories) = (h.strings(header::tag::BASE_NAMES)?, h.numbers(header::tag::DIRECTORY_NUMBERS)?, h.strings(header::tag::DIRECTORY_NAMES)?);
    if names.len() != numbers.len() {
        return Err("has not one directory for each file");
    }
    let mut left = h.bytes() * MOST_LARGER;
    let path = |(name, number): (&String, &u32)| {
        let directory = directories.get(*number as usize).filter(|d| d.starts_with('/')).ok_or("has a file in no directory")?;
        left = left.checked_sub(directory.len() + name.len()).ok_or("has longer paths than a package of its size can have")?;
        Ok(format!("{directory}{name}"))
    };
    names.iter().zip(&numbers).map(path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header of entries: tag, kind, number of values, values.
    fn header(entries: &[(u32, u32, usize, Vec<u8>)]) -> Vec<u8> {
        let (mut index, mut store) = (Vec::new(), Vec::new());
        for (tag, kind, count, values) in entries {
            store.resize(store.len().next_multiple_of(4), 0);
            [*tag, *kind, store.len() as u32, *count as u32].iter().for_each(|n| index.extend(n.to_be_bytes()));
            store.extend(values);
        }
        [&(entries.len() as u32).to_be_bytes()[..], &(store.len() as u32).to_be_bytes(), &index, &store].concat()
    }

    #[test]
    fn a_long_directory_that_every_file_names_is_an_error() {
        use header::tag;
        let with = |directory: usize| {
            let [name, version, release, arch] = [tag::NAME, tag::VERSION, tag::RELEASE, tag::ARCH].map(|tag| (tag, 6, 1, b"a\0".to_vec()));
            let directory = format!("/{}/\0", "d".repeat(directory)).into_bytes();
            let files = [(tag::BASE_NAMES, 8, 1000, b"f\0".repeat(1000)), (tag::DIRECTORY_NUMBERS, 4, 1000, vec![0; 4000]), (tag::DIRECTORY_NAMES, 8, 1, directory)];
            package(&header(&[&[name, version, release, arch][..], &files].concat()))
        };
        let files = with(300).unwrap().unwrap().files;
        assert_eq!((files.len(), files[999].len()), (1000, 303));
        assert_eq!(with(3000), Err("has longer paths than a package of its size can have"));
    }
}
