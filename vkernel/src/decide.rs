//! From an open file to a verdict: what kind of object it is, its digest, the policy's word on it, and for scripts the interpreter's.
//! Owns the order of these questions; how a file is read and what of it is remembered is `files`'s.
//!
//! The fact a newcomer gets wrong: a stale cache entry can only choose a wrong *approved* entry, never unapproved code, because what a
//! worker becomes is always code of the signed megabinary and never the file.

use crate::files::{self, Digests, Files, opened, stat};
use crate::protocol::{self, Grant, HEAD_BYTES, SCRIPT_DEPTH};
use crate::sys;
use policy::manifest::Scripts;
use policy::{Decision, Digest, Reason, Verified};
use std::collections::BTreeSet;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use syscalls::Text;

/// What is asked of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    Program,
    Library,
}

/// Why an object is refused: the errno the guest gets, and the audit log's reason code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub errno: i32,
    pub reason: &'static str,
}

pub(crate) fn refuse<T>(errno: i32, reason: &'static str) -> Result<T, Refusal> {
    Err(Refusal { errno, reason })
}

/// What was found out about one request.
pub struct Verdict {
    pub result: Result<Grant, Refusal>,
    /// Of the object that decided: the program, the last interpreter, or the script that was refused.
    pub digest: Option<Digest>,
    /// The script that was asked about, where its interpreter is to get what was judged.
    pub text: Option<Text>,
}

impl Verdict {
    pub fn refused(errno: i32, reason: &'static str) -> Self {
        Self::of(refuse(errno, reason), None)
    }

    pub(crate) fn of(result: Result<Grant, Refusal>, digest: Option<Digest>) -> Self {
        Self { result, digest, text: None }
    }
}

/// A script that may run.
pub(crate) struct Script {
    pub digests: Digests,
    /// What was hashed, if it was asked for.
    pub text: Option<Text>,
}

/// Scripts beyond this are refused, one or all that a command line names: their size stands in no manifest, so nothing else bounds the work (07, S17).
pub(crate) const LARGEST_SCRIPT_BYTES: u64 = 16 << 20;
pub(crate) const TOO_LARGE: &str = "script-too-large";

/// Reason code: keys or revocations changed, and the release is no longer signed by anybody who is trusted.
const NOT_BELIEVED: &str = "release-revoked";

/// Decides for one container.
pub struct Decider {
    /// `None`: the release is believed no more, and nothing of it runs.
    verified: Option<Arc<Verified>>,
    root: OwnedFd,
    files: Files,
    granted: BTreeSet<u32>,
}

/// What is looked at before anybody asks has no more bytes than this together.
const MOST_AHEAD_BYTES: u64 = 32 << 20;

impl Decider {
    /// `begun`: when the container began.
    pub fn new(verified: impl Into<Option<Arc<Verified>>>, root: OwnedFd, begun: std::time::SystemTime) -> Self {
        Self { verified: verified.into(), root, files: Files::new(begun), granted: BTreeSet::new() }
    }

    /// Numbers of what was granted so far.
    pub fn granted(&self) -> &BTreeSet<u32> {
        &self.granted
    }

    /// Looks at files that will probably be asked about, where the manifest says that they lie. This decides nothing: what is remembered is what these files hold, and one that changes is looked at again.
    pub fn look_ahead(&mut self, entries: &[u32]) {
        let mut left = MOST_AHEAD_BYTES;
        let library = |entry| Some(self.verified.as_ref()?.library(entry)?.path.as_str());
        let paths = entries.iter().filter_map(|entry| CString::new(self.entry_path(*entry).or_else(|| library(*entry))?).ok());
        for path in paths.collect::<Vec<_>>() {
            let Ok(file) = sys::open_in_root(self.root.as_fd(), &path, libc::O_PATH) else { continue };
            let Ok(st) = stat(file.as_fd()) else { continue };
            if let Some(rest) = left.checked_sub(st.st_size as u64) {
                left = rest;
                let _ = self.interpreter(file.as_fd(), &st);
                let _ = self.digests(file.as_fd(), &st, None);
            }
        }
    }

    /// The same release under other keys and revocations; `None`: they do not believe it.
    pub fn judge_by(&mut self, verified: Option<Arc<Verified>>) {
        self.verified = verified;
    }

    /// How often a digest was known already.
    pub fn hits(&self) -> u64 {
        self.files.hits()
    }

    pub(crate) fn verified(&self) -> Option<Arc<Verified>> {
        self.verified.clone()
    }

    fn believed(&self) -> &Verified {
        self.verified.as_deref().expect("asked before anything is looked at")
    }

    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// The file an entry number stands for.
    pub fn entry_digest(&self, entry: u32) -> Option<Digest> {
        self.verified.as_ref()?.entry_digest(entry)
    }

    /// Where the image has that file, as the manifest says.
    pub fn entry_path(&self, entry: u32) -> Option<&str> {
        match self.verified.as_ref()?.program(entry)? {
            policy::Object::Binary(binary) => Some(&binary.path),
            policy::Object::Script(script) => Some(&script.path),
            policy::Object::Library(library) => Some(&library.path),
        }
    }

    pub fn library(&mut self, file: BorrowedFd<'_>) -> Verdict {
        if self.verified.is_none() {
            return Verdict::refused(libc::EACCES, NOT_BELIEVED);
        }
        match stat(file) {
            Ok(st) => self.object(file, &st, Wanted::Library, None),
            Err(refusal) => Verdict::of(Err(refusal), None),
        }
    }

    /// A program or a script. `copies`: where scripts have to be listed, the text of one goes with the verdict.
    pub fn program(&mut self, file: BorrowedFd<'_>, copies: bool) -> Verdict {
        if self.verified.is_none() {
            return Verdict::refused(libc::EACCES, NOT_BELIEVED);
        }
        let mut owned: Option<OwnedFd> = None;
        let mut expected = None;
        let mut text = None;
        for scripts in 0..=SCRIPT_DEPTH {
            let file = owned.as_ref().map_or(file, AsFd::as_fd);
            let (st, found) = match stat(file).and_then(|st| Ok((st, self.interpreter(file, &st)?))) {
                Err(refusal) => return Verdict::of(Err(refusal), None),
                Ok(found) => found,
            };
            let (next, head) = match found {
                None => {
                    let mut verdict = self.object(file, &st, Wanted::Program, expected);
                    if let Ok(grant) = &mut verdict.result {
                        grant.scripts = scripts;
                        verdict.text = text;
                    }
                    return verdict;
                }
                Some(found) => found,
            };
            // The others are asked about by themselves, when it is their turn.
            let judged = self.script(file, &st, copies && scripts == 0 && self.listed_only());
            expected = match judged {
                Ok(script) if !script.digests.is(expected) => return Verdict::of(refuse(libc::EACCES, Reason::OtherInterpreter.code()), Some(script.digests.blake3)),
                Ok(script) if script.text.as_ref().is_some_and(|text| !text.bytes.starts_with(&head)) => return Verdict::refused(libc::EACCES, "changed-while-hashed"),
                Ok(script) => {
                    text = script.text.or(text);
                    script.digests.all().into_iter().find_map(|d| self.believed().manifest().scripts.get(&d)?.interpreter_digest)
                }
                Err((refusal, digest)) => return Verdict::of(Err(refusal), digest),
            };
            owned = Some(next);
        }
        Verdict::refused(libc::ELOOP, "script-depth")
    }

    /// A script needs a row of its own only where the release says so; but one that is revoked or was left out at build time is refused anyway. Gives the refusal and what was refused.
    /// `copy`: with the text. Then it is read whatever is known of the file, so that what was hashed and what the interpreter gets are the same bytes.
    pub(crate) fn script(&mut self, file: BorrowedFd<'_>, st: &libc::stat, copy: bool) -> Result<Script, (Refusal, Option<Digest>)> {
        let size = st.st_size as u64;
        if self.listed_only() && !self.believed().has_size(size) {
            return Err((Refusal { errno: libc::EACCES, reason: Reason::ScriptNotListed.code() }, None));
        }
        let script = if copy { self.copied(file, st) } else { self.digests(file, st, Some(LARGEST_SCRIPT_BYTES)).map(|digests| Script { digests, text: None }) };
        let script = script.map_err(|refusal| (refusal, None))?;
        let digests = script.digests;
        let decision = policy::decide_script(self.believed(), &digests.all(), size);
        decision.map(|()| script).map_err(|reason| (Refusal { errno: libc::EACCES, reason: reason.code() }, Some(digests.blake3)))
    }

    fn copied(&self, file: BorrowedFd<'_>, st: &libc::stat) -> Result<Script, Refusal> {
        let size = st.st_size as u64;
        if size > LARGEST_SCRIPT_BYTES {
            return refuse(libc::EACCES, TOO_LARGE);
        }
        let (bytes, digests) = files::read(&opened(file)?, size, self.believed().uses_sha256())?;
        Ok(Script { digests, text: Some(Text { name: CString::default(), identity: (st.st_dev, st.st_ino), bytes: bytes.into() }) })
    }

    fn listed_only(&self) -> bool {
        self.believed().manifest().global_policies.scripts == Scripts::Listed
    }

    /// The interpreter named by a script's first line, opened inside the container's root, and what was read to find it.
    fn interpreter(&mut self, file: BorrowedFd<'_>, st: &libc::stat) -> Result<Option<(OwnedFd, Vec<u8>)>, Refusal> {
        if self.files.is_no_script(st) {
            return Ok(None);
        }
        let file = opened(file)?;
        let mut head = [0u8; HEAD_BYTES];
        let mut length = 0;
        while length < HEAD_BYTES {
            match file.read_at(&mut head[length..], length as u64) {
                Ok(0) => break,
                Ok(n) => length += n,
                Err(_) => return refuse(libc::EIO, "unreadable"),
            }
        }
        let (name, _) = match protocol::interpreter(&head[..length]) {
            None => {
                self.files.keep_no_script(st);
                return Ok(None);
            }
            // A shell would run it itself, and ask nobody.
            Some(None) if self.listed_only() => return refuse(libc::EACCES, Reason::ScriptNotListed.code()),
            Some(None) => return refuse(libc::ENOEXEC, "script-without-interpreter"),
            Some(Some(found)) => found,
        };
        if name.first() != Some(&b'/') {
            return refuse(libc::EACCES, "relative-interpreter");
        }
        let name = CString::new(name).map_err(|_| Refusal { errno: libc::ENOEXEC, reason: "script-without-interpreter" })?;
        match sys::open_in_root(self.root.as_fd(), &name, libc::O_PATH) {
            Ok(found) => Ok(Some((found, head[..length].to_vec()))),
            Err(e) => refuse(e.raw_os_error().unwrap_or(libc::EACCES), "interpreter-not-found"),
        }
    }

    /// `expected`: the only file that may be meant, because a script's row says so.
    fn object(&mut self, file: BorrowedFd<'_>, st: &libc::stat, wanted: Wanted, expected: Option<Digest>) -> Verdict {
        let size = st.st_size as u64;
        let digests = match self.digests(file, st, None) {
            Err(refusal) => return Verdict::of(Err(refusal), None),
            Ok(digests) => digests,
        };
        if !digests.is(expected) {
            return Verdict::of(refuse(libc::EACCES, Reason::OtherInterpreter.code()), Some(digests.blake3));
        }
        let ask = |digest: &Digest| match wanted {
            Wanted::Program => policy::decide_exec(self.believed(), digest, size),
            Wanted::Library => policy::decide_library(self.believed(), digest, size),
        };
        // Each digest may have a row or be revoked; a refusal other than "unknown" by either wins.
        let mut last = (Decision::Refuse(Reason::UnknownHash), digests.blake3);
        for digest in digests.all() {
            match ask(&digest) {
                Decision::Refuse(Reason::UnknownHash) => {}
                decision @ Decision::Allow { .. } => last = (decision, digest),
                decision => {
                    last = (decision, digest);
                    break;
                }
            }
        }
        let result = match last.0 {
            // A listed text without a `#!` line: Linux's own answer.
            Decision::Allow { .. } if wanted == Wanted::Program && self.believed().manifest().scripts.contains_key(&last.1) => refuse(libc::ENOEXEC, "not-a-program"),
            Decision::Allow { entry } => {
                self.granted.insert(entry);
                Ok(Grant { entry, scripts: 0, texts: false })
            }
            Decision::Refuse(reason) => refuse(libc::EACCES, reason.code()),
        };
        Verdict::of(result, Some(last.1))
    }

    /// `largest`: hash whatever the manifest says about sizes, up to this; otherwise only sizes the manifest lists are hashed (07, S17).
    fn digests(&mut self, file: BorrowedFd<'_>, st: &libc::stat, largest: Option<u64>) -> Result<Digests, Refusal> {
        if let Some(digests) = self.files.digests(st) {
            return Ok(digests);
        }
        let file = opened(file)?;
        let size = st.st_size as u64;
        match largest {
            Some(largest) if size > largest => return refuse(libc::EACCES, TOO_LARGE),
            None if !self.believed().has_size(size) => return self.unknown_size(&file),
            _ => {}
        }
        let digests = files::digest(&file, size, self.believed().uses_sha256())?;
        self.files.keep_digests(st, digests);
        Ok(digests)
    }

    /// Shells take ENOEXEC as "run it as a script of mine"; Linux answers the same for a file that is neither ELF nor script.
    fn unknown_size(&self, file: &std::fs::File) -> Result<Digests, Refusal> {
        let mut magic = [0u8; 4];
        let is_elf = file.read_at(&mut magic, 0).is_ok_and(|n| n == 4) && magic == *b"\x7fELF";
        match () {
            () if is_elf => refuse(libc::EACCES, Reason::UnknownSize.code()),
            () if self.listed_only() => refuse(libc::EACCES, Reason::ScriptNotListed.code()),
            () => refuse(libc::ENOEXEC, "not-a-program"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serial::tests::release;
    use std::time::{Duration, SystemTime};

    #[test]
    fn what_was_looked_at_ahead_is_not_read_again_and_decided_as_ever() {
        let root = std::env::temp_dir().join(format!("vkernel-ahead-{}", std::process::id()));
        let paths = ["usr/bin/ls", "usr/lib/libc.so.6"].map(|path| root.join(path));
        for path in &paths {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, [b'x'; 16384]).unwrap();
        }
        let open = |path| OwnedFd::from(std::fs::File::open(path).unwrap());
        let decider = |begun| Decider::new(Arc::new(release("shop", 1)), open(&root), begun);
        let later = SystemTime::now() + Duration::from_secs(10);
        for (begun, known) in [(later, [&[1, 2, 77][..], &[2], &[]]), (SystemTime::now(), [&[1, 2], &[2], &[]])] {
            for entries in known {
                let mut decider = decider(begun);
                decider.look_ahead(entries);
                let reasons = [decider.program(open(&paths[0]).as_fd(), false), decider.library(open(&paths[1]).as_fd())].map(|verdict| verdict.result.unwrap_err().reason);
                assert_eq!(reasons, [Reason::UnknownHash.code(); 2], "what they hold is not what was signed");
                // The same bytes under two names are two files.
                let hits = if begun == later { entries.iter().filter(|entry| **entry < 3).count() as u64 } else { 0 };
                assert_eq!((decider.hits(), decider.granted().len()), (hits, 0), "{entries:?}");
            }
        }
        std::fs::remove_dir_all(&root).unwrap();
    }
}
