//! Scripts as they were judged: what a program opens by the name of one is the copy that the supervisor read when it decided, whatever lies there by then (07, S18).
//!
//! Owns which names mean such a script, and what is opened and told for them. Refuses to own which files are scripts: that is the supervisor's answer (`Granted::texts`). The fact a newcomer gets wrong: a name means the copy for as long
//! as the program runs, not for its first open only. Python looks at a script twice before it opens it to run it (it might be a directory, or an archive), and again for a traceback.

use super::own::{self, Identity, identity_of};
use super::proc_view;
use crate::errno::Errno;
use crate::host::Text;
use crate::pass::quick;
use crate::process::Exe;
use crate::table::SysResult;
use crate::thread::Thread;
use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

const CWD: u64 = libc::AT_FDCWD as u64;
/// More names are not learned: interpreters ask where they are once or twice.
const MOST_NAMES: usize = 16;
/// What procfs calls a copy begins so.
const SHOWN: &str = "vkernel-script:";
/// memfd_create(2): a longer name is EINVAL.
const LONGEST_NAME: usize = 249;

/// A script of the program that runs.
#[derive(Clone, Debug)]
pub struct Script {
    names: Vec<Name>,
    /// Where it lay, and by what last word: however both are written, they are a name.
    places: Vec<(Identity, Vec<u8>)>,
    /// Of the file that was judged.
    identity: Identity,
    path: Vec<u8>,
    /// `None`: the guest may not read that file.
    bytes: Option<Arc<[u8]>>,
}

/// A path without what means nothing (`.`, repeated slashes), and the directory that it begins in: a name of that directory's may be another's by now.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Name {
    base: Identity,
    words: Vec<u8>,
}

impl Name {
    fn of(dirfd: u64, path: &CStr) -> Option<Self> {
        let words = words(path.to_bytes())?;
        let base = if path.to_bytes().starts_with(b"/") { identity_of(CWD, c"/", 0) } else { identity_of(dirfd, c"", libc::AT_EMPTY_PATH) };
        Some(Self { base: base.ok()?, words })
    }
}

/// `None`: it names a directory, or nothing.
fn words(path: &[u8]) -> Option<Vec<u8>> {
    let words = || path.split(|b| *b == b'/');
    if matches!(words().next_back(), None | Some(b"" | b"." | b"..")) {
        return None;
    }
    Some(words().filter(|w| !matches!(*w, b"" | b".")).collect::<Vec<_>>().join(&b'/'))
}

fn last(words: &[u8]) -> &[u8] {
    words.rsplit(|b| *b == b'/').next().unwrap_or_default()
}

/// The directory that a path's last word is looked for in.
fn parent(dirfd: u64, path: &CStr) -> Option<Identity> {
    match path.to_bytes().iter().rposition(|b| *b == b'/') {
        None => identity_of(dirfd, c"", libc::AT_EMPTY_PATH).ok(),
        Some(end) => identity_of(dirfd, &CString::new(&path.to_bytes()[..end.max(1)]).ok()?, 0).ok(),
    }
}

impl Script {
    /// `name`: as the program is told it. `file`: what lies there now. `None`: the name means a stream to the program, and another one later.
    pub(crate) fn new(name: &CStr, text: &Text, file: Option<BorrowedFd<'_>>) -> Option<Self> {
        if [b"/dev/fd/".as_slice(), b"/dev/std", b"/proc/"].iter().any(|stream| name.to_bytes().starts_with(stream)) {
            return None;
        }
        // The supervisor may read everything, and the name may lead elsewhere by now.
        let may_read = |file: &BorrowedFd<'_>| {
            let fd = file.as_raw_fd() as u64;
            let how = (libc::AT_EMPTY_PATH | libc::AT_EACCESS) as u64;
            identity_of(fd, c"", libc::AT_EMPTY_PATH) == Ok(text.identity) && quick(libc::SYS_faccessat2, &[fd, c"".as_ptr() as u64, libc::R_OK as u64, how]).is_ok()
        };
        let file = file.filter(may_read);
        let path = file.and_then(|file| own::name(file.as_raw_fd()).ok()).unwrap_or_default();
        let mut script = Self { names: Vec::new(), places: Vec::new(), identity: text.identity, path, bytes: file.map(|_| text.bytes.clone()) };
        script.also(name);
        Some(script).filter(|script| !script.names.is_empty())
    }

    /// As the kernel calls it.
    pub(crate) fn lies_there(&self, path: &CStr) -> bool {
        self.path == path.to_bytes()
    }

    /// The program is told this name, too.
    pub(crate) fn also(&mut self, path: &CStr) {
        if let Some(name) = Name::of(CWD, path) {
            self.places.extend(parent(CWD, path).map(|parent| (parent, last(&name.words).to_vec())));
            self.names.push(name);
        }
    }

    /// The program's caller may mean it by this name.
    pub(crate) fn is_called(&self, name: &CStr) -> bool {
        Name::of(CWD, name).is_some_and(|name| self.names.contains(&name))
    }

    /// Its path, where it has one.
    pub(crate) fn path(&self) -> Option<CString> {
        if self.path.starts_with(b"/") { CString::new(self.path.clone()).ok() } else { None }
    }

    fn may_be_called(&self, word: &[u8]) -> bool {
        self.names.iter().any(|name| last(&name.words) == word)
    }

    fn lies_at(&self, parent: Identity, word: &[u8]) -> bool {
        self.places.iter().any(|(place, name)| *place == parent && name == word)
    }

    /// Under a number of its own, closed at exec.
    fn copy(&self, bytes: &[u8]) -> SysResult {
        let name = [SHOWN.as_bytes(), &self.path].concat();
        let name = if name.len() > LONGEST_NAME { None } else { CString::new(name).ok() };
        proc_view::filled(name.as_deref().unwrap_or(c"script"), bytes)
    }
}

/// The script that a path means to the program.
fn find(t: &Thread, dirfd: u64, path: &CStr) -> Option<Script> {
    if !t.process.has_scripts.load(Ordering::Relaxed) {
        return None;
    }
    let words = words(path.to_bytes())?;
    // Looking at directories may block, which nobody does who holds the lock.
    let exe = t.process.exe.lock().unwrap_or_else(PoisonError::into_inner);
    let may_be: Vec<Script> = exe.iter().flat_map(|exe| &exe.scripts).filter(|script| script.may_be_called(last(&words))).cloned().collect();
    drop(exe);
    let name = if may_be.is_empty() { None } else { Name::of(dirfd, path) };
    let parent = if may_be.is_empty() { None } else { parent(dirfd, path) };
    may_be.into_iter().find(|script| name.as_ref().is_some_and(|name| script.names.contains(name)) || parent.is_some_and(|parent| script.lies_at(parent, last(&words))))
}

/// Instead of the kernel's open. `None`: nothing of this is meant. What is opened to be written is the file.
pub(super) fn open(t: &Thread, dirfd: u64, path: &CStr, flags: u64) -> Option<SysResult> {
    const OTHERWISE: i32 = libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC | libc::O_PATH | libc::O_DIRECTORY;
    if flags & OTHERWISE as u64 != libc::O_RDONLY as u64 {
        return None;
    }
    let script = find(t, dirfd, path)?;
    let fd = script.bytes.as_deref().ok_or(Errno::EACCES).and_then(|bytes| script.copy(bytes));
    let stays = flags & libc::O_CLOEXEC as u64 == 0;
    Some(fd.and_then(|fd| if stays { quick(libc::SYS_fcntl, &[fd, libc::F_SETFD as u64, 0]).map(|_| fd) } else { Ok(fd) }))
}

/// What to stat instead of a path that means a script: its file, or the copy where something else lies there. A directory of that name would be a program to python.
pub(super) fn stand_in(t: &Thread, dirfd: u64, path: &CStr) -> Option<Result<OwnedFd, Errno>> {
    let script = find(t, dirfd, path)?;
    // SAFETY: a descriptor just made.
    let owned = |fd: u64| unsafe { OwnedFd::from_raw_fd(fd as i32) };
    let there = quick(libc::SYS_openat, &[dirfd, path.as_ptr() as u64, (libc::O_PATH | libc::O_CLOEXEC) as u64]).map(owned);
    // The number of a file that is gone may be a directory's by now.
    let is_same = |fd: u64| own::is_regular(fd) && identity_of(fd, c"", libc::AT_EMPTY_PATH) == Ok(script.identity);
    let same = there.ok().filter(|file| is_same(file.as_raw_fd() as u64));
    Some(same.map_or_else(|| script.copy(script.bytes.as_deref().unwrap_or_default()).map(owned), Ok))
}

/// The program was told where it is: it may put a relative name behind that.
pub(super) fn told_directory(t: &Thread, text: &[u8]) {
    let Ok(here) = identity_of(CWD, c"", libc::AT_EMPTY_PATH) else { return };
    let mut exe = t.process.exe.lock().unwrap_or_else(PoisonError::into_inner);
    let scripts = exe.as_mut().map(|Exe { scripts, .. }| scripts).into_iter().flatten();
    for script in scripts {
        let learned = |name: &Name| Name::of(CWD, &CString::new([text, b"/", &name.words].concat()).ok()?);
        let learned: Vec<Name> = script.names.iter().filter(|name| name.base == here).filter_map(learned).collect();
        for name in learned {
            if script.names.len() < MOST_NAMES && !script.names.contains(&name) {
                script.names.push(name);
            }
        }
    }
}

/// What a link says, as the guest is to see it: procfs calls a copy by what it is.
pub(super) fn shown(dirfd: u64, path: &CStr, target: Vec<u8>) -> Vec<u8> {
    let script = || target.strip_prefix(b"/memfd:")?.strip_prefix(SHOWN.as_bytes())?.strip_suffix(b" (deleted)").filter(|path| path.starts_with(b"/"));
    match script() {
        Some(path_of_script) if proc_view::is_link_of_procfs(dirfd, path) => path_of_script.to_vec(),
        _ => target,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trial::Trial;
    use std::os::fd::AsFd;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::path::{Path, PathBuf};

    const GOOD: &[u8] = b"echo good\n";

    /// A directory for scripts, removed at the end. Tests that change the working directory do it in a child.
    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let place = std::env::temp_dir().join(format!("vkernel-scripts-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&place);
            std::fs::create_dir(&place).unwrap();
            std::fs::write(place.join("script"), GOOD).unwrap();
            Self(place)
        }

        fn path(&self, name: &str) -> String {
            self.0.join(name).to_str().unwrap().to_owned()
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn identity(path: &Path) -> Identity {
        let m = std::fs::metadata(path).unwrap();
        (m.dev(), m.ino())
    }

    /// The guest runs a program that was told `name`, when `judged` was the file there.
    fn running(name: &str, judged: &Path) -> Trial {
        let t = Trial::new();
        let text = Text { name: CString::default(), identity: identity(judged), bytes: std::fs::read(judged).unwrap().into() };
        let file = std::fs::File::open(judged).unwrap();
        let script = Script::new(&CString::new(name).unwrap(), &text, Some(file.as_fd())).unwrap();
        let exe = Exe { id: crate::host::ObjectId(1), path: c"/bin/sh".into(), argv: vec![], comm: vec![], auxv: vec![], args: (0, 0), env: (0, 0), scripts: vec![script] };
        *t.thread.process.exe.lock().unwrap() = Some(exe);
        t.thread.process.has_scripts.store(true, Ordering::Relaxed);
        t
    }

    fn read(t: &mut Trial, path: &str) -> Result<Vec<u8>, Errno> {
        let (p, out) = (t.put_str(path), t.room(4096));
        let fd = t.call("openat", &[CWD, p, libc::O_RDONLY as u64])?;
        assert_eq!(t.call("fcntl", &[fd, libc::F_GETFD as u64]), Ok(0));
        let n = t.call("read", &[fd, out, 4096])?;
        t.call("close", &[fd])?;
        Ok(t.get(out, n as usize))
    }

    fn mode(t: &mut Trial, path: &str) -> Result<u32, Errno> {
        let (p, out) = (t.put_str(path), t.room(144));
        t.call("stat", &[p, out])?;
        let by_stat = t.get(out, 144);
        t.call("newfstatat", &[CWD, p, out, 0])?;
        assert_eq!(by_stat[24..28], t.get(out, 144)[24..28]);
        Ok(u32::from_ne_bytes(by_stat[24..28].try_into().unwrap()) & libc::S_IFMT)
    }

    #[test]
    fn words_leave_out_what_means_nothing() {
        for (path, expected) in
            [("a", Some("a")), ("./a", Some("a")), ("//x/./a", Some("x/a")), ("../a", Some("../a")), ("a/", None), ("a/.", None), ("a/..", None), ("", None), ("/", None)]
        {
            assert_eq!(words(path.as_bytes()).as_deref(), expected.map(str::as_bytes), "{path}");
        }
    }

    #[test]
    fn what_was_judged_is_what_is_opened_whatever_was_put_in_its_place() {
        let place = Place::new("swapped");
        let (name, other) = (place.path("script"), place.path("other"));
        let mut t = running(&name, place.0.join("script").as_path());
        let changes: [&dyn Fn(); 5] =
            [&|| (), &|| std::fs::write(&name, "echo evil\n").unwrap(), &|| std::fs::remove_file(&name).unwrap(), &|| symlink(&other, &name).unwrap(), &|| {
                std::fs::remove_file(&name).and_then(|()| std::fs::create_dir(&name)).unwrap()
            }];
        std::fs::write(&other, "echo evil\n").unwrap();
        for change in changes {
            change();
            for name in [&name, &name.replace("/script", "//./script")] {
                assert_eq!((read(&mut t, name).as_deref(), mode(&mut t, name)), (Ok(GOOD), Ok(libc::S_IFREG)), "{name}");
            }
        }
        // Its twin: no name of the script's.
        assert_eq!(read(&mut t, &other).unwrap(), b"echo evil\n");
    }

    #[test]
    fn what_is_opened_otherwise_is_the_file() {
        let place = Place::new("written");
        let name = place.path("script");
        let mut t = running(&name, place.0.join("script").as_path());
        let p = t.put_str(&name);
        let fd = t.call("open", &[p, (libc::O_WRONLY | libc::O_TRUNC) as u64]).unwrap();
        let text = t.put(b"new");
        t.call("write", &[fd, text, 3]).unwrap();
        t.call("close", &[fd]).unwrap();
        assert_eq!(std::fs::read(&name).unwrap(), b"new");
        assert_eq!(read(&mut t, &name).unwrap(), GOOD);
        t.thread.process.has_scripts.store(false, Ordering::Relaxed);
        assert_eq!(read(&mut t, &name).unwrap(), b"new");
    }

    #[test]
    fn a_copy_cannot_be_changed_takes_the_lowest_number_and_is_called_by_its_path() {
        let place = Place::new("sealed");
        let name = place.path("script");
        let mut t = running(&name, place.0.join("script").as_path());
        let (p, out) = (t.put_str(&name), t.room(4096));
        let lowest = t.call("open", &[p, libc::O_WRONLY as u64]).unwrap();
        t.call("close", &[lowest]).unwrap();
        let how = t.put(&[0u64, 0, 0].map(u64::to_le_bytes).concat());
        let fd = t.call("openat2", &[CWD, p, how, 24]).unwrap();
        let link = t.put_str(&format!("/proc/self/fd/{fd}"));
        let n = t.call("readlink", &[link, out, 4096]).unwrap();
        assert_eq!(t.get(out, n as usize), name.as_bytes());
        assert_eq!(t.call("write", &[fd, out, 1]), Err(Errno::EBADF));
        let writable = t.call("open", &[link, libc::O_RDWR as u64]).unwrap();
        assert_eq!(t.call("write", &[writable, out, 1]), Err(Errno::EPERM));
        assert_eq!(t.call("ftruncate", &[writable, 0]), Err(Errno::EPERM));
        assert_eq!(t.call("lseek", &[fd, 5, libc::SEEK_SET as u64]), Ok(5));
        let n = t.call("read", &[fd, out, 4096]).unwrap();
        assert_eq!(t.get(out, n as usize), &GOOD[5..]);
    }

    #[test]
    fn a_relative_name_means_it_from_its_directory_only_whatever_that_is_called() {
        crate::testing::in_child(|| {
            let place = Place::new("relative");
            let (first, second) = (place.path("first"), place.path("second"));
            for directory in [&first, &second] {
                std::fs::create_dir(directory).unwrap();
                std::fs::write(format!("{directory}/script"), directory).unwrap();
            }
            std::env::set_current_dir(&first).unwrap();
            let mut t = running("script", Path::new("script"));
            let judged = first.clone().into_bytes();
            std::fs::remove_file("script").unwrap();
            assert_eq!(read(&mut t, "script").unwrap(), judged);
            assert_eq!(read(&mut t, &format!("{first}/script")).unwrap(), judged);
            // Python makes it absolute by what getcwd says, which may have changed, and then again.
            let third = place.path("third");
            std::fs::rename(&first, &third).unwrap();
            let out = t.room(4096);
            let n = t.call("getcwd", &[out, 4096]).unwrap();
            assert_eq!(t.get(out, n as usize - 1), third.as_bytes());
            std::fs::rename(&third, &first).unwrap();
            std::fs::rename(&second, &third).unwrap();
            for name in ["script", "./script", &format!("{third}/script"), &format!("{first}/script")] {
                assert_eq!(read(&mut t, name).unwrap(), judged, "{name}");
            }
            // Its twin: the same word from another directory is another file.
            std::fs::create_dir(&second).unwrap();
            std::fs::write(format!("{second}/script"), "another").unwrap();
            std::env::set_current_dir(&second).unwrap();
            assert_eq!(read(&mut t, "script").unwrap(), b"another");
        });
    }

    #[test]
    fn a_path_that_the_program_is_told_means_it_too_whatever_its_last_word_is() {
        let place = Place::new("told");
        let (link, real) = (place.path("link"), place.path("script"));
        symlink(&real, &link).unwrap();
        let mut t = running(&link, Path::new(&link));
        let told = |t: &mut Trial| t.thread.process.exe.lock().unwrap().as_mut().unwrap().scripts[0].also(&CString::new(real.as_str()).unwrap());
        std::fs::write(&real, "echo evil\n").unwrap();
        assert_eq!(read(&mut t, &real).unwrap(), b"echo evil\n", "nobody told it so");
        told(&mut t);
        assert_eq!((read(&mut t, &real).unwrap(), read(&mut t, &link).unwrap()), (GOOD.to_vec(), GOOD.to_vec()));
        // From a directory that was opened before.
        let (here, out) = (t.put_str(place.0.to_str().unwrap()), t.room(64));
        let directory = t.call("open", &[here, (libc::O_PATH | libc::O_DIRECTORY) as u64]).unwrap();
        for name in ["script", "link"] {
            let p = t.put_str(name);
            let fd = t.call("openat", &[directory, p, 0]).unwrap();
            let n = t.call("read", &[fd, out, 64]).unwrap();
            assert_eq!(t.get(out, n as usize), GOOD, "{name}");
        }
    }

    #[test]
    fn directories_that_are_opened_first_lead_to_it_as_well() {
        let place = Place::new("beneath");
        let name = place.path("script");
        let mut t = running(&name, place.0.join("script").as_path());
        std::fs::write(&name, "echo evil\n").unwrap();
        let (root, here, out) = (t.put_str("/"), t.put_str(place.0.to_str().unwrap()), t.room(64));
        for (directory, rest) in [(root, &name[1..]), (here, "script")] {
            let directory = t.call("open", &[directory, (libc::O_PATH | libc::O_DIRECTORY) as u64]).unwrap();
            let p = t.put_str(rest);
            let fd = t.call("openat", &[directory, p, 0]).unwrap();
            let n = t.call("read", &[fd, out, 64]).unwrap();
            assert_eq!(t.get(out, n as usize), GOOD, "{rest}");
        }
    }

    #[test]
    fn nobody_reads_by_it_what_he_may_not_read() {
        crate::testing::in_child(|| {
            let place = Place::new("secret");
            let (name, other) = (place.path("script"), place.path("other"));
            std::fs::write(&other, "other").unwrap();
            let text = Text { name: CString::default(), identity: identity(Path::new(&name)), bytes: GOOD.into() };
            let file = |name: &str| std::fs::File::options().read(true).custom_flags(libc::O_PATH).open(name).unwrap();
            use std::os::unix::fs::OpenOptionsExt;
            std::fs::set_permissions(&name, std::fs::Permissions::from_mode(0o711)).unwrap();
            let c = CString::new(name.as_str()).unwrap();
            let readable = |file: Option<&std::fs::File>| Script::new(&c, &text, file.map(AsFd::as_fd)).unwrap().bytes.is_some();
            let (secret, other) = (file(&name), file(&other));
            assert!(!readable(Some(&other)) && !readable(None), "another file says nothing of it");
            // SAFETY: this child's own ids, of which the real one stays, to remove the files.
            let become_effectively = |id: u32| unsafe { libc::syscall(libc::SYS_setresuid, u32::MAX, id, u32::MAX) };
            // SAFETY: a query.
            let is_root = unsafe { libc::geteuid() } == 0;
            if is_root {
                assert!(readable(Some(&secret)));
                assert_eq!(become_effectively(65534), 0);
            }
            assert!(!readable(Some(&secret)));
            if is_root {
                assert_eq!(become_effectively(0), 0);
            }
        });
    }

    #[test]
    fn names_of_descriptors_mean_what_is_open() {
        let text = Text { name: CString::default(), identity: (0, 0), bytes: GOOD.into() };
        for name in [c"/dev/fd/63", c"/dev/stdin", c"/proc/self/fd/3"] {
            assert!(Script::new(name, &text, None).is_none(), "{name:?}");
        }
    }
}
