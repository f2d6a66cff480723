//! An interpreter's command line: what it names is looked up as the guest would, hashed and decided. Owns the way from told arguments to a verdict; what they mean is the row's grammar (`policy::interpreter`).
//!
//! The fact a newcomer gets wrong: the interpreter opens a name, later, and anything may lie there by then. So what was judged is copied while it is hashed, and the copy goes with the answer (`handover`). Nobody is asked about what a running interpreter reads besides (`source`, `import`, `eval`).

use crate::arguments::Told;
use crate::decide::{Decider, LARGEST_SCRIPT_BYTES, Refusal, TOO_LARGE};
use crate::files::stat;
use crate::sys;
use policy::interpreter::is_stripped;
use policy::manifest::{Binary, Inline, Scripts};
use policy::{Digest, Object, Reason, Verified};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use syscalls::Text;

/// Reason code of program text that runs, and is only told.
pub const AUDITED: &str = "inline-audited";
/// Reason code of a request that keeps silent about what the decision depends on.
const UNTOLD: &str = "arguments-untold";
/// So many variables are named in a record, and so much of each name and path.
const NAMED: usize = 32;
const SHOWN: usize = 256;

/// What a command line adds to a program's verdict.
#[derive(Default)]
pub struct Judgement {
    pub refusal: Option<Refusal>,
    /// Of a script that decided.
    pub digest: Option<Digest>,
    /// Program text runs, and the log is to say so.
    pub audited: bool,
    pub detail: Option<String>,
    /// Names of variables that the program does not get.
    pub stripped: Vec<String>,
    /// The files that it names, for the program to get what was judged.
    pub texts: Vec<Text>,
}

/// Judges the command line of the program that was granted. `open` finds a file as the guest would, and fails for what is no file by itself.
pub fn judge(decider: &mut Decider, entry: u32, told: Option<&Told>, open: impl Fn(&[u8]) -> io::Result<OwnedFd>) -> Judgement {
    let Some(verified) = decider.verified() else { return Judgement::default() };
    let Some(Object::Binary(binary)) = verified.program(entry) else { return Judgement::default() };
    let stripped = told.map(|told| stripped(binary, told)).unwrap_or_default();
    if !verified.manifest().judges_command(binary) {
        return Judgement { stripped, ..Judgement::default() };
    }
    let judgement = match told {
        Some(told) => program(decider, &verified, binary, told, open),
        None => refused(UNTOLD),
    };
    Judgement { stripped, ..judgement }
}

fn refused(reason: &'static str) -> Judgement {
    Judgement { refusal: Some(Refusal { errno: libc::EACCES, reason }), ..Judgement::default() }
}

fn program(decider: &mut Decider, verified: &Verified, binary: &Binary, told: &Told, open: impl Fn(&[u8]) -> io::Result<OwnedFd>) -> Judgement {
    let Some(grammar) = &binary.overrides.interpreter else { return Judgement::default() };
    let argv: Vec<&[u8]> = told.argv.iter().map(Vec::as_slice).collect();
    let program = grammar.program(&argv, told.whole);
    let mut inline = program.inline;
    let mut texts: Vec<Text> = Vec::new();
    for name in program.files {
        let regular = open(name).ok().and_then(|file| Some((stat(file.as_fd()).ok()?, file)));
        match regular {
            Some((st, file)) => match decider.script(file.as_fd(), &st, told.place.is_some()) {
                Err((reason, digest)) => return Judgement { digest, detail: Some(format!("script {}", shown(name))), ..refused(reason.reason) },
                Ok(script) => texts.extend(script.text.and_then(|text| Some(Text { name: CString::new(name).ok()?, ..text }))),
            },
            // It may be there by the time that the interpreter looks.
            None if verified.manifest().global_policies.scripts == Scripts::Listed => {
                return Judgement { detail: Some(format!("script {}, where no file is", shown(name))), ..refused(Reason::ScriptNotListed.code()) };
            }
            None => drop(inline.get_or_insert_with(|| format!("{} is no file", shown(name)))),
        }
        if texts.iter().map(|text| text.bytes.len() as u64).sum::<u64>() > LARGEST_SCRIPT_BYTES {
            return Judgement { detail: Some(format!("script {}", shown(name))), ..refused(TOO_LARGE) };
        }
    }
    match (inline, policy::decide_inline(verified, binary)) {
        (None, _) | (_, Inline::Allow) => Judgement { texts, ..Judgement::default() },
        (why, Inline::Audit) => Judgement { audited: true, detail: why, texts, ..Judgement::default() },
        (why, Inline::Deny) => Judgement { detail: why, ..refused(Reason::InlineDenied.code()) },
    }
}

fn stripped(binary: &Binary, told: &Told) -> Vec<String> {
    let Some(patterns) = &binary.overrides.strip else { return Vec::new() };
    told.variables.iter().filter(|name| is_stripped(patterns, name)).take(NAMED).map(|name| shown(name)).collect()
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().take(SHOWN).collect()
}

/// A file by the name that a thread of a guest has for it: in its root, from its working directory, and never through procfs to a descriptor. Names of a thread that has ended may be another's: who calls asks whether it still waits.
pub fn open_as(thread: u32, name: &[u8]) -> io::Result<OwnedFd> {
    let place = |link: &str| std::fs::OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open(format!("/proc/{thread}/{link}"));
    let root = place("root")?;
    let open = |path: &Path| {
        let path = CString::new(path.as_os_str().as_bytes())?;
        sys::open_in_root(root.as_fd(), &path, libc::O_PATH)
    };
    let name = Path::new(std::ffi::OsStr::from_bytes(name));
    if name.is_absolute() {
        return open(name);
    }
    // From the root, because only from there the kernel keeps links and `..` inside it.
    let text = |link: &str| std::fs::read_link(format!("/proc/{thread}/{link}"));
    let (root_text, directory) = (text("root")?, text("cwd")?);
    let directory = Path::new("/").join(directory.strip_prefix(&root_text).map_err(|_| io::ErrorKind::NotFound)?);
    let (found, meant) = (std::fs::File::from(open(&directory)?).metadata()?, place("cwd")?.metadata()?);
    if (found.dev(), found.ino()) != (meant.dev(), meant.ino()) {
        return Err(io::ErrorKind::NotFound.into());
    }
    open(&directory.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_looked_up_as_the_thread_would_and_lead_to_no_descriptor() {
        // SAFETY: gettid has no preconditions.
        let thread = unsafe { libc::gettid() } as u32;
        let same = |name: &str, path: &str| {
            let found = std::fs::File::from(open_as(thread, name.as_bytes()).unwrap()).metadata().unwrap();
            let meant = std::fs::metadata(path).unwrap();
            assert_eq!((found.dev(), found.ino()), (meant.dev(), meant.ino()), "{name}");
        };
        same("Cargo.toml", "Cargo.toml");
        same("src/../Cargo.toml", "Cargo.toml");
        same("/bin/sh", "/bin/sh");
        same("/../bin/sh", "/bin/sh");
        for nothing in ["/dev/stdin", "/proc/self/fd/0", "no such file", "Cargo.toml/"] {
            assert!(open_as(thread, nothing.as_bytes()).is_err(), "{nothing:?}");
        }
    }
}
