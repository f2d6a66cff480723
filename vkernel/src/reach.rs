//! Places of the host that decide what runs, and that no guest gets to write: this program, keys and revocations, stores, serials, records, CNI plugins. Owns the list and the comparison with what a description hands over.
//!
//! The facts a newcomer gets wrong: what a guest writes there changes not its own container, whose code is mapped by then, but the next one. And a path says little, since a file system can be seen in several places: what
//! is compared is the identity of directories. Not covered: block devices that an operator hands over, and a guest that puts a link into the place of another's volume between this look and the mount.

use crate::failure::Failure;
use crate::release::Source;
use crate::{cni, keys, own_file, serial, state, store, sys};
use std::fs;
use std::path::{Path, PathBuf};

/// Refuses host trees that a guest would get to write if one of the places is in them, or they are in it.
pub fn refuse(written: &[PathBuf], source: &Source) -> Result<(), Failure> {
    let defaults = [store::DEFAULT, serial::DEFAULT, state::DEFAULT, keys::DIRECTORY].into_iter().chain(cni::DIRECTORIES).map(PathBuf::from);
    let places = defaults.chain([source.store.clone(), source.serials.clone()]).chain(own_file::directory());
    for place in places.filter(|p| !p.as_os_str().is_empty()) {
        if let Some(tree) = written.iter().find(|tree| touch(tree, &place)) {
            let why = format!("{} would be the guest's to write, and decides what the next container runs", place.display());
            return Err(Failure::new(format!("mount {}", tree.display()), why, "mount it read-only, or only what the guest needs of it; --store and --serials can be elsewhere"));
        }
    }
    Ok(())
}

/// Whether one is the other or a part of it. A tree that is not there is the next one's to complain about.
fn touch(tree: &Path, place: &Path) -> bool {
    let Ok(tree) = fs::canonicalize(tree) else { return false };
    let Some((there, whole)) = nearest(place) else { return false };
    holds(&tree, &there) || (whole && holds(&there, &tree))
}

/// The place, or else the directory in which somebody could make it.
fn nearest(place: &Path) -> Option<(PathBuf, bool)> {
    place.ancestors().find_map(|p| fs::canonicalize(p).ok().map(|found| (found, p == place)))
}

/// Whether the way up from `inner` leads through `outer`, under whatever name.
fn holds(outer: &Path, inner: &Path) -> bool {
    let wanted = sys::identity(outer);
    wanted.is_some() && inner.ancestors().any(|p| sys::identity(p) == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_found_above_below_and_under_other_names() {
        let dir = std::env::temp_dir().join(format!("vkernel-reach-{}", std::process::id()));
        fs::create_dir_all(dir.join("image")).unwrap();
        fs::create_dir_all(dir.join("a/store/part")).unwrap();
        std::os::unix::fs::symlink(dir.join("a"), dir.join("link")).unwrap();
        let touches = |tree: &str, place: &str| touch(&dir.join(tree), &dir.join(place));
        assert!(touches("", "a/store") && touches("a", "a/store") && touches("a/store", "a/store") && touches("a/store/part", "a/store"));
        assert!(touches("link", "a/store") && touches("a", "link/store"));
        assert!(!touches("image", "a/store") && !touches("gone", "a/store"));
        // What is not there yet could be made.
        assert!(touches("a", "a/later/store") && !touches("image", "a/later/store") && !touches("a/store", "a/later/store"));
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_bind_of_a_place_is_the_place() {
        let dir = std::env::temp_dir().join(format!("vkernel-alias-{}", std::process::id()));
        fs::create_dir_all(dir.join("a/store")).unwrap();
        fs::create_dir_all(dir.join("b")).unwrap();
        let mount = |args: &[&str]| std::process::Command::new(args[0]).args(&args[1..]).status().unwrap().success();
        let (a, b) = (dir.join("a").display().to_string(), dir.join("b").display().to_string());
        assert!(mount(&["mount", "--bind", &a, &b]), "tests run as root");
        let (over, under) = (touch(&dir.join("b"), &dir.join("a/store")), touch(&dir.join("b/store"), &dir.join("a/store")));
        assert!(mount(&["umount", &b]));
        fs::remove_dir_all(&dir).unwrap();
        assert!(over && under);
    }
}
