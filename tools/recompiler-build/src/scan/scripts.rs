//! Every script of an image that the included programs can run.
//!
//! Owns the walk for them. A script adds no power to a container whose interpreter is in it anyway, but only a listed one can be executed by its name, and the audit log then names its hash. The fact a newcomer gets wrong: scripts for
//! interpreters that are not included are not missing, they cannot run.

use super::rootfs::{Content, Rootfs};
use super::{Inventory, ScanError, Script, shebang};
use policy::Digest;
use rustix::fs::FileType;

/// Adds the scripts that are not yet in `found`.
pub(super) fn all(rootfs: &Rootfs, found: &mut Inventory) -> Result<(), ScanError> {
    let mut directories = vec!["/".to_owned()];
    while let Some(directory) = directories.pop() {
        for (path, kind) in rootfs.list(&directory)? {
            match kind {
                FileType::Directory => directories.push(path),
                FileType::RegularFile if is_script(rootfs, &path)? => add(rootfs, found, rootfs.read(&path)?),
                _ => {}
            }
        }
    }
    Ok(())
}

/// execve wants permission before it looks inside.
fn is_script(rootfs: &Rootfs, path: &str) -> Result<bool, ScanError> {
    let (head, _, mode) = rootfs.head(path, 2)?;
    Ok(mode & 0o111 != 0 && head == b"#!")
}

fn add(rootfs: &Rootfs, found: &mut Inventory, content: Content) {
    let Ok((interpreter, argument)) = shebang::cut(&content.bytes) else { return };
    let Ok(env) = shebang::env_program(&interpreter, argument.as_deref()) else { return };
    let runs = |path: &str| rootfs.resolve(path).is_ok_and(|(path, _)| found.paths.get(&path).and_then(|d| found.objects.get(d)).is_some_and(|o| o.program));
    if !runs(&interpreter) || env.is_some_and(|name| rootfs.in_path(&name).is_none_or(|p| !runs(&p))) {
        return;
    }
    let digest = Digest::blake3(&content.bytes);
    let (size, sha256) = (content.bytes.len() as u64, Digest::sha256(&content.bytes));
    found.paths.insert(content.path.clone(), digest);
    let script = found.scripts.entry(digest).or_insert_with(|| Script { path: content.path.clone(), size, sha256, interpreter, argument });
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
    fn lists_executable_scripts_of_included_interpreters_only() {
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
        assert_eq!(of(Scripts::All), ["/a", "/d"]);
        assert!(of(Scripts::Included).is_empty());
    }
}
