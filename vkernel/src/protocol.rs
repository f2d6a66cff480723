//! The words worker and supervisor exchange inside an intercepted `execveat`. Owns register layout and answer format, nothing else.
//!
//! A request is `execveat(fd, "", MARK, note, AT_EMPTY_PATH)`: `fd` is the object, `MARK` (in the place of argv) says what is asked, `note`
//! (in the place of envp) points to the path as the guest wrote it, NUL-terminated, for the audit log only. A sixth argument, which the kernel does not
//! know, points to what `arguments` tells of argv and the environment, where the release has rules for them; 0 elsewhere.
//!
//! The fact a newcomer gets wrong: the marks are not hidden passwords. They are non-canonical addresses, so that the same call made without
//! a supervisor could only ever fail with EFAULT, and a native exec, which needs a readable argv, can never look like a request.

use std::num::NonZeroU64;

/// In the place of argv: may this process become the program `fd`?
pub const EXEC_MARK: u64 = u64::from_be_bytes(*b"vkexec\0\x01");
/// In the place of argv: may this process bind the library `fd`?
pub const LIBRARY_MARK: u64 = u64::from_be_bytes(*b"vklibr\0\x01");

/// Linux gives up after this many `#!` levels.
pub const SCRIPT_DEPTH: u32 = 4;
/// What the kernel reads of a file to find its `#!` line (BINPRM_BUF_SIZE).
pub const HEAD_BYTES: usize = 256;

/// A positive answer: become or bind entry `entry`. `scripts` > 0: the object is a script; the worker reads the `#!` line from the same
/// descriptor, opens the interpreter, and so on `scripts` times, to build argv; `entry` is the last interpreter's. `texts`: copies of the scripts that were judged lie (`handover`) under the number that the worker named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Entry number, from 1.
    pub entry: u32,
    pub scripts: u32,
    pub texts: bool,
}

/// In a positive answer, above the entry number and the scripts.
const TEXTS: u64 = 1 << 40;

impl Grant {
    pub fn encode(self) -> NonZeroU64 {
        debug_assert!(self.entry > 0 && self.scripts <= SCRIPT_DEPTH);
        let texts = if self.texts { TEXTS } else { 0 };
        NonZeroU64::new(u64::from(self.entry) | u64::from(self.scripts) << 32 | texts).expect("entry numbers start at 1")
    }

    /// `None` for what the supervisor never answers.
    pub fn decode(value: i64) -> Option<Self> {
        let texts = value as u64 & TEXTS != 0;
        let grant = Self { entry: value as u32, scripts: u32::try_from(value >> 32).ok()? & !((TEXTS >> 32) as u32), texts };
        (grant.entry > 0 && grant.scripts <= SCRIPT_DEPTH).then_some(grant)
    }
}

/// The interpreter and its optional single argument in a `#!` line, as Linux's binfmt_script splits them; `None`: not a script.
/// `Some(None)`: a `#!` line Linux answers with ENOEXEC (empty, or cut off before the interpreter's end).
pub fn interpreter(head: &[u8]) -> Option<Option<(Vec<u8>, Option<Vec<u8>>)>> {
    let rest = head.strip_prefix(b"#!")?;
    let blank = |b: &u8| *b == b' ' || *b == b'\t';
    let (line, whole) = match rest.iter().position(|b| *b == b'\n') {
        Some(n) => (&rest[..n], true),
        None => (rest, head.len() < HEAD_BYTES),
    };
    let end = line.iter().rposition(|b| !blank(b)).map_or(0, |n| n + 1);
    let start = line.iter().position(|b| !blank(b)).unwrap_or(end);
    let line = &line[start.min(end)..end];
    let name_end = line.iter().position(|b| blank(b) || *b == 0).unwrap_or(line.len());
    if name_end == 0 || (name_end == line.len() && !whole) {
        return Some(None);
    }
    let argument = line[name_end..].iter().position(|b| !blank(b)).map(|n| &line[name_end + n..]);
    let argument = argument.map(|a| a.split(|b| *b == 0).next().unwrap_or_default().to_vec()).filter(|a| !a.is_empty());
    Some(Some((line[..name_end].to_vec(), argument)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_not_canonical_addresses_even_with_five_level_paging() {
        for mark in [EXEC_MARK, LIBRARY_MARK] {
            let top = mark >> 56;
            assert!(top != 0 && top != 0xff);
        }
    }

    #[test]
    fn grants_survive_the_answer_and_others_are_refused() {
        for texts in [false, true] {
            let g = Grant { entry: 7, scripts: 2, texts };
            assert_eq!(Grant::decode(g.encode().get() as i64), Some(g));
        }
        assert_eq!(Grant::decode(0), None);
        assert_eq!(Grant::decode(-13), None);
        assert_eq!(Grant::decode(5 << 32 | 1), None);
        assert_eq!(Grant::decode(1 << 41 | 1), None);
    }

    #[test]
    fn script_lines_split_as_linux_splits_them() {
        let some = |i: &str, a: Option<&str>| Some(Some((i.as_bytes().to_vec(), a.map(|a| a.as_bytes().to_vec()))));
        assert_eq!(interpreter(b"#!/bin/sh\necho"), some("/bin/sh", None));
        assert_eq!(interpreter(b"#! /usr/bin/env  -S a b \n"), some("/usr/bin/env", Some("-S a b")));
        assert_eq!(interpreter(b"#!\n"), Some(None));
        assert_eq!(interpreter(b"\x7fELF"), None);
        let mut long = b"#!/".to_vec();
        long.resize(HEAD_BYTES, b'a');
        assert_eq!(interpreter(&long), Some(None));
    }
}
