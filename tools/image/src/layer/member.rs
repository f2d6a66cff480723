//! One tar entry as it was meant, and the extended records that shape it.
//!
//! Owns header fields, PAX records and GNU's long names and sparse maps turned into one `Member`. Refuses to own files. The fact a newcomer gets wrong: the order of authority is PAX record, GNU long name, header; and a sparse
//! member's size in the header is that of the stored data, not that of the file.

use super::error::{LayerError, show};
use super::limits::{MAX_FILE_BYTES, MAX_PATH_BYTES};
use tar::{EntryType, Header};

/// What an entry makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Directory,
    Symlink,
    HardLink,
    Character { major: u32, minor: u32 },
    Block { major: u32, minor: u32 },
    Fifo,
}

/// A piece of a sparse file that holds data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) offset: u64,
    pub(super) bytes: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) path: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) kind: Kind,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime_seconds: i64,
    pub(super) mtime_nanoseconds: u32,
    /// Size of the file once it is written.
    pub(super) size: u64,
    /// Bytes in the archive.
    pub(super) stored: u64,
    pub(super) sparse: Option<Vec<Extent>>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What PAX and GNU headers said about the entry that follows them.
#[derive(Default)]
pub(super) struct Extended {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u32>,
    gid: Option<u32>,
    mtime: Option<(i64, u32)>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: PaxSparse,
}

/// GNU.sparse.* records.
#[derive(Default)]
pub(super) struct PaxSparse {
    name: Option<Vec<u8>>,
    real_size: Option<u64>,
    map: Option<Vec<Extent>>,
    /// Version 1.0: the map stands before the data.
    pub(super) map_in_data: bool,
}

const XATTR: &[u8] = b"SCHILY.xattr.";

fn decimal<T: std::str::FromStr>(value: &[u8]) -> Option<T> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

impl Extended {
    /// Takes the records of a PAX header: `length SP key = value LF`, where only the length says where a record ends.
    pub(super) fn records(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        while !bytes.is_empty() {
            let space = bytes.iter().take(20).position(|b| *b == b' ').ok_or("a PAX record has no length")?;
            let length: usize = decimal(&bytes[..space]).ok_or("a PAX record's length is no number")?;
            if length <= space + 1 || length > bytes.len() || bytes[length - 1] != b'\n' {
                return Err("a PAX record's length is wrong".into());
            }
            let record = &bytes[space + 1..length - 1];
            let equals = record.iter().position(|b| *b == b'=').ok_or("a PAX record has no value")?;
            self.record(&record[..equals], &record[equals + 1..])?;
            bytes = &bytes[length..];
        }
        Ok(())
    }

    fn record(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        let wrong = || format!("the PAX record {} is malformed", key.escape_ascii());
        match key {
            b"path" => self.path = Some(value.into()),
            b"linkpath" => self.link = Some(value.into()),
            b"size" => self.size = Some(decimal(value).ok_or_else(wrong)?),
            b"uid" => self.uid = Some(decimal(value).ok_or_else(wrong)?),
            b"gid" => self.gid = Some(decimal(value).ok_or_else(wrong)?),
            b"mtime" => self.mtime = Some(time(value).ok_or_else(wrong)?),
            b"GNU.sparse.name" => self.sparse.name = Some(value.into()),
            b"GNU.sparse.realsize" | b"GNU.sparse.size" => self.sparse.real_size = Some(decimal(value).ok_or_else(wrong)?),
            b"GNU.sparse.major" => self.sparse.map_in_data = value == b"1",
            b"GNU.sparse.map" => self.sparse.map = Some(list(value).ok_or_else(wrong)?),
            b"GNU.sparse.offset" => return Err("it uses version 0.0 of GNU's sparse format, which is not supported: make it with --sparse-version=1.0".into()),
            _ => {
                if let Some(name) = key.strip_prefix(XATTR) {
                    self.xattrs.push((name.into(), value.into()));
                }
            }
        }
        Ok(())
    }
}

/// Seconds with an optional fraction, possibly negative.
fn time(value: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(value).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let seconds: i64 = whole.parse().ok()?;
    let nanoseconds: u32 = format!("{fraction:0<9}")[..9].parse().ok()?;
    Some(match (text.starts_with('-'), nanoseconds) {
        (true, n) if n > 0 => (seconds.checked_sub(1)?, 1_000_000_000 - n),
        (_, n) => (seconds, n),
    })
}

/// `offset,bytes,offset,bytes…`
fn list(value: &[u8]) -> Option<Vec<Extent>> {
    let numbers: Vec<u64> = value.split(|b| *b == b',').map(decimal).collect::<Option<_>>()?;
    if !numbers.len().is_multiple_of(2) {
        return None;
    }
    Some(numbers.chunks_exact(2).map(|p| Extent { offset: p[0], bytes: p[1] }).collect())
}

impl Member {
    /// Header and extended records together. `data_bytes` of the result is what follows in the archive.
    pub(super) fn new(header: &Header, extended: Extended) -> Result<Member, String> {
        let malformed = |field: &'static str| move |_| format!("its {field} is malformed");
        let stored = extended.size.map_or_else(|| header.entry_size().map_err(malformed("size")), Ok)?;
        let path = extended.sparse.name.or(extended.path).unwrap_or_else(|| header.path_bytes().into_owned());
        let link = extended.link.or_else(|| header.link_name_bytes().map(|l| l.into_owned())).unwrap_or_default();
        let number = |n: u64| u32::try_from(n).map_err(|_| "its owner is no 32-bit number".to_owned());
        let (mtime_seconds, mtime_nanoseconds) = match extended.mtime {
            Some(time) => time,
            None => (i64::try_from(header.mtime().unwrap_or(0)).unwrap_or(0), 0),
        };
        let kind = kind(header, &path)?;
        let mut member = Member {
            link,
            kind,
            mode: header.mode().map_err(malformed("mode"))? & 0o7777,
            uid: extended.uid.map_or_else(|| header.uid().map_err(malformed("owner")).and_then(number), Ok)?,
            gid: extended.gid.map_or_else(|| header.gid().map_err(malformed("group")).and_then(number), Ok)?,
            mtime_seconds,
            mtime_nanoseconds,
            size: stored,
            stored,
            sparse: extended.sparse.map,
            xattrs: extended.xattrs,
            path,
        };
        if let Some(real) = extended.sparse.real_size {
            member.size = real;
        }
        if header.entry_type() == EntryType::GNUSparse {
            let gnu = header.as_gnu().ok_or("it is sparse, but its header is not GNU's")?;
            member.size = gnu.real_size().map_err(malformed("real size"))?;
            member.sparse = Some(
                gnu.sparse
                    .iter()
                    .filter(|s| !s.is_empty())
                    .map(|s| Ok(Extent { offset: s.offset()?, bytes: s.length()? }))
                    .collect::<std::io::Result<_>>()
                    .map_err(malformed("sparse map"))?,
            );
        }
        if member.kind != Kind::File {
            member.size = 0;
        }
        Ok(member)
    }

    /// Whether a sparse map is one: ascending, inside the file, and as long as the data.
    pub(super) fn check_sparse(&self) -> Result<(), LayerError> {
        let refuse = |reason| Err(LayerError::Path { path: show(&self.path), reason });
        if self.size > MAX_FILE_BYTES {
            return refuse("it is larger than 8 TiB");
        }
        let Some(extents) = &self.sparse else { return Ok(()) };
        let (mut end, mut data) = (0u64, 0u64);
        for e in extents {
            if e.offset < end {
                return refuse("its sparse map overlaps");
            }
            end = match e.offset.checked_add(e.bytes) {
                Some(end) if end <= self.size => end,
                _ => return refuse("its sparse map reaches past its end"),
            };
            data += e.bytes;
        }
        if data != self.stored { refuse("its sparse map and its data differ in size") } else { Ok(()) }
    }
}

fn kind(header: &Header, path: &[u8]) -> Result<Kind, String> {
    let device = |what: fn(&Header) -> std::io::Result<Option<u32>>| what(header).ok().flatten().ok_or("its device number is malformed".to_owned());
    Ok(match header.entry_type() {
        // The oldest archives know directories by their names only.
        EntryType::Regular if path.ends_with(b"/") => Kind::Directory,
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Kind::File,
        EntryType::Directory => Kind::Directory,
        EntryType::Symlink => Kind::Symlink,
        EntryType::Link => Kind::HardLink,
        EntryType::Char => Kind::Character { major: device(Header::device_major)?, minor: device(Header::device_minor)? },
        EntryType::Block => Kind::Block { major: device(Header::device_major)?, minor: device(Header::device_minor)? },
        EntryType::Fifo => Kind::Fifo,
        other => return Err(format!("entry type {:?} is not known", char::from(other.as_byte()))),
    })
}

/// A symlink's target is data, but the kernel has limits.
pub(super) fn check_target(member: &Member) -> Result<(), LayerError> {
    if member.link.is_empty() || member.link.len() > MAX_PATH_BYTES || member.link.contains(&0) {
        return Err(LayerError::Path { path: show(&member.path), reason: "its link target is empty, too long or holds a zero byte" });
    }
    Ok(())
}
