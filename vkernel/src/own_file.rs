//! This program's file, out of its guests' reach: a guest's host process executes it, so /proc/self/exe leads a guest to it, on the mount it was executed from, whatever the guest's own mounts are. Guest root is
//! often the host's root by number, and could change the file's mode, owner, times or attributes there.
//!
//! So commands that start guests execute the program once more, from a detached read-only copy of its mount. The fact a newcomer gets wrong: from then on the program's own path says nothing (`directory`).

use crate::failure::Failure;
use crate::{mounts, sys};
use nix::sys::statvfs::{FsFlags, statvfs};
use std::ffi::{CString, OsString};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The link to it.
pub const LINK: &str = "/proc/self/exe";
/// Tells the second execution where the file is.
const DIRECTORY: &str = "VKERNEL_DIRECTORY";

fn failure(e: impl std::fmt::Display) -> Failure {
    Failure::new("protect this program's file", e, "see `vkernel check`, or start it again if it was just replaced")
}

/// Commands that start guests.
const STARTING: [&str; 4] = ["run", "create", "exec", "zygote"];

/// Whether this may be one of them. Whether it is is seen when the command line is read.
pub fn may_start(mut words: impl Iterator<Item = OsString>) -> bool {
    words.any(|word| word.to_str().is_some_and(|word| STARTING.contains(&word)))
}

/// Whether nothing can be written through the mount this program lies on.
fn is_read_only(program: &Path) -> Result<bool, Failure> {
    Ok(statvfs(program).map_err(failure)?.flags().contains(FsFlags::ST_RDONLY))
}

/// Whether `protect` has begun this one.
pub fn is_second_execution() -> bool {
    std::env::var_os(DIRECTORY).is_some()
}

/// Executes the program again from a read-only mount, unless it runs from one.
pub fn protect() -> Result<(), Failure> {
    if is_read_only(Path::new(LINK))? { Ok(()) } else { execute(&std::fs::read_link(LINK).map_err(failure)?, Path::new(LINK)) }
}

/// The same for who executes this program: it then need not do it once more.
pub fn protected(program: &Path) -> Result<(), Failure> {
    if is_read_only(program)? { Ok(()) } else { execute(program, program) }
}

/// `own`: the file that is meant by `path`.
fn execute(path: &Path, own: &Path) -> Result<(), Failure> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else { return Err(failure("it has no path")) };
    let c = |text: OsString| CString::new(text.into_vec()).map_err(failure);
    let tree = mounts::detached(directory, false)?;
    sys::make_read_only(tree.as_fd()).map_err(failure)?;
    let name = c(name.to_owned())?;
    let file = sys::open_plain(tree.as_fd(), &name, libc::O_PATH).map_err(failure)?;
    let (found, own) = (sys::fstat(file.as_fd()).map_err(failure)?, std::fs::metadata(own).map_err(failure)?);
    if (found.st_dev, found.st_ino) != (own.dev(), own.ino()) {
        return Err(failure("another file is in its place"));
    }
    let arguments = std::env::args_os().map(c).collect::<Result<Vec<_>, _>>()?;
    let mut environment = Vec::new();
    for (mut entry, value) in std::env::vars_os().filter(|(key, _)| key != DIRECTORY).chain([(DIRECTORY.into(), directory.as_os_str().to_owned())]) {
        entry.push("=");
        entry.push(value);
        environment.push(c(entry)?);
    }
    let pointers = |all: &[CString]| -> Vec<*const libc::c_char> { all.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect() };
    let (argv, envp) = (pointers(&arguments), pointers(&environment));
    // SAFETY: terminated strings in terminated arrays, all alive. The call returns only if it failed.
    unsafe { libc::syscall(libc::SYS_execveat, tree.as_raw_fd(), name.as_ptr(), argv.as_ptr(), envp.as_ptr(), 0) };
    Err(failure(std::io::Error::last_os_error()))
}

/// Where the file is on the host.
pub fn directory() -> Option<PathBuf> {
    let own = std::env::current_exe().ok()?;
    let told = std::env::var_os(DIRECTORY).filter(|_| own.parent().is_some_and(|p| p == Path::new("/")));
    told.map(PathBuf::from).or_else(|| own.parent().map(PathBuf::from))
}
