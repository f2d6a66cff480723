//! Every script of an image that the included programs can run, and program text without a `#!` line that was named.
//!
//! Owns the walk for them, and which file is meant by an interpreter's name. Where a release has `scripts: any`, a row adds no power; where it has `listed`, nothing else runs. The fact a newcomer gets wrong: scripts for
//! interpreters that are not included are not missing, they cannot run.

use super::rootfs::{Content, Rootfs};
use super::{Inventory, ScanError, Script, omitted, shebang};
use crate::interpreter;
use policy::{Algorithm, Digest};
use rustix::fs::FileType;
use std::collections::BTreeSet;

/// Adds the scripts that are not yet in `found`.
pub(super) fn all(rootfs: &Rootfs, found: &mut Inventory, replaced: &BTreeSet<String>) -> Result<(), ScanError> {
    for (path, interpreter, argument) in runnable(rootfs, found, replaced)? {
        match rootfs.read(&path) {
            Ok(content) => {
                let interpreter_digest = digest_at(rootfs, found, replaced, &interpreter);
                keep(found, content, interpreter, interpreter_digest, argument);
            }
            Err(e) => found.omitted.push(omitted(rootfs, &path, e.into())?),
        }
    }
    Ok(())
}

/// Paths of scripts that `all` would add: what a release refuses where only listed ones run.
pub fn unlisted(rootfs: &Rootfs, found: &Inventory, replaced: &BTreeSet<String>) -> Result<Vec<String>, ScanError> {
    let mut paths = Vec::new();
    for (path, ..) in runnable(rootfs, found, replaced)? {
        if !found.scripts.contains_key(&rootfs.digest(Algorithm::Blake3, &path)?) {
            paths.push(path);
        }
    }
    Ok(paths)
}

/// Every script of the image that an included program can run, with its interpreter and that one's argument; also one that cannot be executed: its interpreter may be given it by name.
fn runnable(rootfs: &Rootfs, found: &Inventory, replaced: &BTreeSet<String>) -> Result<Vec<(String, String, Option<String>)>, ScanError> {
    let is_program = |path: &str| found.paths.get(path).and_then(|d| found.objects.get(d)).is_some_and(|o| o.program);
    let runs = |path: &str| rootfs.resolve(path).is_ok_and(|(path, _)| is_program(&path) || replaced.contains(&path));
    let mut scripts = Vec::new();
    let mut directories = vec!["/".to_owned()];
    while let Some(directory) = directories.pop() {
        for (path, kind) in rootfs.list(&directory)? {
            match kind {
                FileType::Directory => directories.push(path),
                FileType::RegularFile => {
                    let head = rootfs.head(&path, shebang::MAX_BYTES)?.bytes;
                    if let Some((interpreter, argument)) = asked(&head).filter(|(interpreter, _)| runs(interpreter))
                        && let Ok(env) = shebang::env_program(&interpreter, argument.as_deref())
                        && env.is_none_or(|name| rootfs.in_path(&name).is_some_and(|program| runs(&program)))
                    {
                        scripts.push((path, interpreter, argument));
                    }
                }
                _ => {}
            }
        }
    }
    Ok(scripts)
}

/// What the `#!` line at the beginning of a file asks for.
fn asked(head: &[u8]) -> Option<(String, Option<String>)> {
    head.starts_with(b"#!").then(|| shebang::cut(head).ok()).flatten()
}

/// Digest of the file that a path leads to, if it is one of the programs or scripts, or something else runs in its place.
pub(super) fn digest_at(rootfs: &Rootfs, found: &Inventory, replaced: &BTreeSet<String>, path: &str) -> Option<Digest> {
    let (path, _) = rootfs.resolve(path).ok()?;
    let digest = found.paths.get(&path).copied();
    digest.or_else(|| replaced.contains(&path).then(|| rootfs.read(&path).ok().map(|c| Digest::blake3(&c.bytes)))?)
}

/// A text that was named, for an included interpreter of its kind.
pub(super) fn text(rootfs: &Rootfs, found: &mut Inventory, replaced: &BTreeSet<String>, path: &str) -> Result<(), ScanError> {
    let programs = found.objects.values().filter(|o| o.program).map(|o| &o.path).chain(replaced);
    let known = interpreter::of_text(path).find_map(|row| programs.clone().filter(|p| row.fits(p)).min());
    let Some(interpreter) = known.cloned() else {
        let interpreter = interpreter::of_text(path).map(|row| row.name.as_str()).collect::<Vec<_>>().join(" or ");
        return Err(ScanError::NoInterpreter { path: path.to_owned(), interpreter });
    };
    let interpreter_digest = digest_at(rootfs, found, replaced, &interpreter);
    keep(found, rootfs.read(path)?, interpreter, interpreter_digest, None);
    Ok(())
}

fn keep(found: &mut Inventory, content: Content, interpreter: String, interpreter_digest: Option<Digest>, argument: Option<String>) {
    let digest = Digest::blake3(&content.bytes);
    let (size, sha256) = (content.bytes.len() as u64, Digest::sha256(&content.bytes));
    found.paths.insert(content.path.clone(), digest);
    let script = found.scripts.entry(digest).or_insert_with(|| Script { path: content.path.clone(), size, sha256, interpreter, interpreter_digest, argument });
    if content.path < script.path {
        script.path = content.path;
    }
}

#[cfg(test)]
mod tests {
    use crate::scan::rootfs::Rootfs;
    use crate::scan::{Scripts, scan};
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn lists_scripts_of_included_interpreters_only_and_text_that_is_named() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("usr/bin")).unwrap();
        fs::write(root.path().join("t.s"), ".globl _start\n_start: ret\n").unwrap();
        for (name, code) in [("sh", "ret"), ("env", "nop\n ret"), ("perl", "nop\n nop\n ret")] {
            fs::write(root.path().join("t.s"), format!(".globl _start\n_start: {code}\n")).unwrap();
            let gcc = std::process::Command::new("gcc").args(["-nostdlib", "-static-pie", "-o", &format!("usr/bin/{name}"), "t.s"]).current_dir(root.path()).status();
            assert!(gcc.expect("gcc is installed").success());
        }
        for (name, text, mode) in [
            ("a", "#!/usr/bin/sh\n", 0o755),
            ("b", "#!/usr/bin/sh -e\n", 0o644),
            ("c", "#!/usr/bin/perl\n", 0o755),
            ("d", "#!/usr/bin/env sh\n", 0o755),
            ("e", "#!/usr/bin/env perl\n", 0o755),
        ] {
            fs::write(root.path().join(name), text).unwrap();
            fs::set_permissions(root.path().join(name), PermissionsExt::from_mode(mode)).unwrap();
        }
        let rootfs = Rootfs::open(root.path()).unwrap();
        let include = ["/usr/bin/sh".to_owned(), "/usr/bin/env".to_owned()];
        let of = |scripts| {
            let mut paths: Vec<_> = scan(&rootfs, &include, scripts, Default::default()).unwrap().scripts.into_values().map(|s| s.path).collect();
            paths.sort();
            paths
        };
        assert_eq!(of(Scripts::All), ["/a", "/b", "/d"]);
        assert!(of(Scripts::Included).is_empty());
        fs::write(root.path().join("f.pl"), "print 1\n").unwrap();
        let named = |include: &[&str]| scan(&rootfs, &include.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>(), Scripts::Included, Default::default());
        let found = named(&["/f.pl", "/usr/bin/perl"]).unwrap();
        let script = found.scripts.values().next().unwrap();
        assert_eq!((script.interpreter.as_str(), script.interpreter_digest), ("/usr/bin/perl", found.paths.get("/usr/bin/perl").copied()));
        let error = named(&["/f.pl", "/usr/bin/sh"]).err().unwrap().to_string();
        assert_eq!(error, "/f.pl: is text for perl, and no program of that name is included: name it with --include");
    }
}
