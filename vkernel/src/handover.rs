//! Scripts on their way from the supervisor, who judged them, to the worker, whose program is to get just these bytes (07, S18): copies in one sealed file. Owns that file's form; what a name means is `syscalls::fs`'s.
//!
//! The fact a newcomer gets wrong: the worker does not keep this file, as it keeps no descriptor (S7). It reads it at once, into memory that the guest cannot reach.

use std::ffi::CString;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use syscalls::Text;

/// Lengths of name and text, device, inode.
const HEADER_BYTES: usize = 32;
const SEALS: i32 = libc::F_SEAL_WRITE | libc::F_SEAL_GROW | libc::F_SEAL_SHRINK | libc::F_SEAL_SEAL;

/// A file with these scripts that nobody can change.
pub fn sealed(texts: &[Text]) -> io::Result<OwnedFd> {
    let mut file = std::fs::File::from(crate::sys::sealable_memfd(c"vkernel-scripts")?);
    for text in texts {
        let name = text.name.to_bytes();
        for word in [name.len() as u64, text.bytes.len() as u64, text.identity.0, text.identity.1] {
            file.write_all(&word.to_le_bytes())?;
        }
        file.write_all(name)?;
        file.write_all(&text.bytes)?;
    }
    // SAFETY: plain numbers.
    crate::sys::check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, SEALS) }.into())?;
    Ok(file.into())
}

/// What `sealed` put there.
pub fn read(file: OwnedFd) -> io::Result<Vec<Text>> {
    // SAFETY: a query on a plain number.
    let seals = crate::sys::check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GET_SEALS) }.into())?;
    let other = || io::Error::new(io::ErrorKind::InvalidData, "is no file of scripts");
    if seals as i32 & SEALS != SEALS {
        return Err(other());
    }
    let file = std::fs::File::from(file);
    let mut bytes = vec![0; usize::try_from(file.metadata()?.len()).map_err(|_| other())?];
    // Its offset is where the supervisor stopped writing.
    file.read_exact_at(&mut bytes, 0)?;
    let mut rest = &bytes[..];
    let mut texts = Vec::new();
    while !rest.is_empty() {
        let (header, body) = rest.split_at_checked(HEADER_BYTES).ok_or_else(other)?;
        let word = |i: usize| u64::from_le_bytes(header[8 * i..8 * i + 8].try_into().expect("eight bytes"));
        let (name, body) = body.split_at_checked(word(0) as usize).ok_or_else(other)?;
        let (text, body) = body.split_at_checked(word(1) as usize).ok_or_else(other)?;
        texts.push(Text { name: CString::new(name).map_err(|_| other())?, identity: (word(2), word(3)), bytes: text.into() });
        rest = body;
    }
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts() -> Vec<Text> {
        let text = |name: &str, bytes: &[u8], ino| Text { name: CString::new(name).unwrap(), identity: (7, ino), bytes: bytes.into() };
        vec![text("", b"#!/bin/sh\n", 1), text("/tmp/a b", b"", 2), text("x", &[0, 255, b'\n'], u64::MAX)]
    }

    #[test]
    fn what_was_handed_over_is_what_is_read_and_nobody_changes_it() {
        let file = sealed(&texts()).unwrap();
        let same = std::fs::File::from(file.try_clone().unwrap());
        assert!(same.write_at(b"x", 0).is_err() && same.set_len(0).is_err() && same.set_len(1 << 20).is_err());
        assert_eq!(read(file).unwrap(), texts());
        assert_eq!(read(sealed(&[]).unwrap()).unwrap(), []);
    }

    #[test]
    fn what_can_be_changed_or_is_cut_is_refused() {
        let whole = {
            let mut bytes = vec![0; 4096];
            let n = std::fs::File::from(sealed(&texts()).unwrap()).read_at(&mut bytes, 0).unwrap();
            bytes.truncate(n);
            bytes
        };
        let made = |bytes: &[u8], seals: i32| {
            let mut file = std::fs::File::from(crate::sys::sealable_memfd(c"test").unwrap());
            file.write_all(bytes).unwrap();
            // SAFETY: plain numbers.
            assert_eq!(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) }, 0);
            read(file.into())
        };
        assert_eq!(made(&whole, SEALS).unwrap(), texts());
        assert!(made(&whole, SEALS & !libc::F_SEAL_WRITE).is_err());
        assert!(made(&whole[..whole.len() - 1], SEALS).is_err());
        let mut long = whole;
        long[15] = 0x80;
        assert!(made(&long, SEALS).is_err(), "a length beyond everything");
        assert!(read(std::fs::File::open("/etc/passwd").unwrap().into()).is_err());
    }
}
