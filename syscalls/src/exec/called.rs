//! The arguments that a new program gets: what becomes of its caller's (`Host::arguments`), with the whole paths of files.
//!
//! Owns where a file lies that the caller calls by a name of its own. The fact a newcomer gets wrong: a script that was judged is the caller's name for it, whatever lies there by now, so whatever path the program is told for that name has to
//! mean the same copy (`fs::scripts`), and no other name is tried.

use super::resolve::{Room, mode, open_raw};
use crate::fs::own;
use crate::fs::scripts::Script;
use crate::host::{Argument, Host, ObjectId, Refusal};
use crate::pass::{at_mut, quick};
use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, OwnedFd};

/// `scripts`: those that were judged.
pub(super) fn arguments(host: &dyn Host, id: ObjectId, argv: Vec<CString>, scripts: &mut [Script]) -> Result<Vec<CString>, Refusal> {
    let path = |argument| match argument {
        Argument::Text(text) => text,
        Argument::File { name, suffixes } => path(name, &suffixes, scripts),
    };
    Ok(host.arguments(id, argv, on_terminal())?.into_iter().map(path).collect())
}

fn path(name: CString, suffixes: &[CString], scripts: &mut [Script]) -> CString {
    let is_whole = |name: &CStr| name.to_bytes().starts_with(b"/");
    if let Some(script) = scripts.iter_mut().find(|script| script.is_called(&name)) {
        if is_whole(&name) {
            return name;
        }
        let path = script.path().unwrap_or_else(|| below_here(&name));
        script.also(&path);
        return path;
    }
    let kind = |file: &OwnedFd| mode(file).map(|mode| mode & libc::S_IFMT);
    let opened = |name: &CStr| open_raw(&Room::default(), libc::AT_FDCWD, name, libc::O_PATH | libc::O_CLOEXEC);
    let lies = |name: &CStr| {
        let file = opened(name).ok().filter(|file| kind(file).is_ok_and(|kind| kind != libc::S_IFDIR))?;
        Some(if is_whole(name) { name.to_owned() } else { whole(own::name(file.as_raw_fd()).ok()).unwrap_or_else(|| below_here(name)) })
    };
    let others: Vec<CString> = suffixes.iter().map(|suffix| joined(&[name.to_bytes(), suffix.to_bytes()])).collect();
    if let Some(path) = std::iter::once(&name).chain(&others).find_map(|name| lies(name)) {
        return path;
    }
    // A program that is given a directory may read nothing from it, and say nothing.
    let is_directory = || opened(&name).is_ok_and(|file| kind(&file) == Ok(libc::S_IFDIR));
    let name = others.last().filter(|_| is_directory()).unwrap_or(&name);
    if is_whole(name) { name.clone() } else { below_here(name) }
}

/// The whole path of a name that is no file, or none that has a path: what is said of it is said of that. Behind a directory's name `..` is the kernel's to follow: that may be a link.
fn below_here(name: &CStr) -> CString {
    let here = working_directory().unwrap_or_else(|| b"/".to_vec());
    let mut words: Vec<&[u8]> = Vec::new();
    let mut is_above = true;
    for word in here.split(|b| *b == b'/') {
        words.extend(Some(word).filter(|word| !word.is_empty()));
    }
    for word in name.to_bytes().split(|b| *b == b'/') {
        is_above &= matches!(word, b"" | b"." | b"..");
        match word {
            b"" | b"." => {}
            b".." if is_above => drop(words.pop()),
            _ => words.push(word),
        }
    }
    joined(&[b"/", &words.join(&b'/')])
}

/// The path of the caller's directory, if it lies in the guest's root.
pub(crate) fn working_directory() -> Option<Vec<u8>> {
    let mut path = vec![0u8; crate::guest::PATH_MAX];
    let n = quick(libc::SYS_getcwd, &[at_mut(path.as_mut_slice()), path.len() as u64]).ok()?;
    path.truncate((n as usize).saturating_sub(1));
    path.starts_with(b"/").then_some(path)
}

fn whole(path: Option<Vec<u8>>) -> Option<CString> {
    path.filter(|path| path.starts_with(b"/")).and_then(|path| CString::new(path).ok())
}

fn joined(parts: &[&[u8]]) -> CString {
    CString::new(parts.concat()).expect("parts of C strings")
}

fn on_terminal() -> bool {
    // The kernel's `struct termios` has 36 bytes.
    let mut settings = [0u8; 64];
    quick(libc::SYS_ioctl, &[0, libc::TCGETS, at_mut(settings.as_mut_slice())]).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Text;
    use std::os::fd::AsFd;
    use std::os::unix::fs::{MetadataExt, symlink};

    #[test]
    fn names_are_whole_paths_with_suffixes_where_there_is_no_file_and_directories_are_none() {
        crate::testing::in_child(|| {
            let place = std::fs::canonicalize(std::env::temp_dir()).unwrap().join(format!("vkernel-called-{}", std::process::id()));
            std::fs::create_dir_all(place.join("app/sub")).unwrap();
            for file in ["app/a.js", "app/both", "app/both.js", "app/sub/index.js", "x.js"] {
                std::fs::write(place.join(file), "").unwrap();
            }
            symlink("app/sub", place.join("link")).unwrap();
            symlink("sub/index.js", place.join("app/main")).unwrap();
            std::env::set_current_dir(place.join("app")).unwrap();
            let found = |name: &str| {
                let path = path(CString::new(name).unwrap(), &[c".js".into(), c"/index.js".into()], &mut []).into_string().unwrap();
                path.strip_prefix(&format!("{}/", place.display())).map_or(path.clone(), str::to_owned)
            };
            for (name, expected) in [
                ("a.js", "app/a.js"),
                ("./a.js", "app/a.js"),
                ("a", "app/a.js"),
                ("both", "app/both"),
                ("sub", "app/sub/index.js"),
                ("sub/", "app/sub/index.js"),
                ("main", "app/sub/index.js"),
                ("../x", "x.js"),
                ("../link/../x.js", "link/../x.js"),
                ("../nothing.js", "nothing.js"),
                ("../link/../a.js", "app/a.js"),
                ("nothing", "app/nothing"),
                ("..", "index.js"),
                ("/etc/passwd", "/etc/passwd"),
                ("/nothing/../x", "/nothing/../x"),
                ("../../../../../../../dev/null", "/dev/null"),
            ] {
                assert_eq!(found(name), expected, "{name}");
            }
            assert_eq!(found(&format!("{}/app/a", place.display())), "app/a.js");
            std::fs::remove_dir_all(&place).unwrap();
        });
    }

    #[test]
    fn a_script_that_was_judged_is_told_by_a_path_that_means_its_copy_and_no_suffix_is_tried() {
        crate::testing::in_child(|| {
            let place = std::fs::canonicalize(std::env::temp_dir()).unwrap().join(format!("vkernel-judged-{}", std::process::id()));
            std::fs::create_dir_all(place.join("other")).unwrap();
            std::fs::write(place.join("other/real.js"), "good").unwrap();
            std::fs::write(place.join("app.js"), "evil").unwrap();
            symlink("other/real.js", place.join("app")).unwrap();
            std::env::set_current_dir(&place).unwrap();
            let m = std::fs::metadata("app").unwrap();
            let text = Text { name: c"app".into(), identity: (m.dev(), m.ino()), bytes: b"good"[..].into() };
            let file = std::fs::File::open("app").unwrap();
            let mut scripts = [Script::new(c"app", &text, Some(file.as_fd())).unwrap()];
            std::fs::remove_file("app").unwrap();
            let real = CString::new(place.join("other/real.js").into_os_string().into_encoded_bytes()).unwrap();
            for name in [c"app", c"./app"] {
                assert_eq!(path(name.into(), &[c".js".into()], &mut scripts), real);
            }
            assert!(scripts[0].is_called(&real));
            // Its twin: the name of no script.
            assert!(!scripts[0].is_called(c"app.js") && path(c"app.js".into(), &[], &mut scripts).to_bytes().ends_with(b"/app.js"));
            std::fs::remove_dir_all(&place).unwrap();
        });
    }
}
