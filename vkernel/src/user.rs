//! Users and groups of an image: names to numbers, home directories. Owns reading the image's /etc/passwd and /etc/group, from the host's side.
//!
//! The fact a newcomer gets wrong: the files are the image's, so they are opened with the image as root, without following a link out of it, and only a bounded part of a
//! regular file is read.

use crate::failure::Failure;
use crate::sys;
use std::ffi::CStr;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// More is no user database.
const LARGEST_BYTES: u64 = 4 << 20;

/// A user of an image, in numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub home: String,
}

/// The two files.
pub struct Database {
    passwd: String,
    group: String,
}

impl Database {
    /// Of the tree at `root`; a missing or odd file has no entries.
    pub fn of(root: &Path) -> Self {
        let root = std::fs::File::open(root).map(OwnedFd::from);
        let read = |path: &CStr| root.as_ref().ok().and_then(|root| text(root, path)).unwrap_or_default();
        Self { passwd: read(c"/etc/passwd"), group: read(c"/etc/group") }
    }

    fn users(&self) -> impl Iterator<Item = Vec<&str>> {
        self.passwd.lines().map(|l| l.split(':').collect::<Vec<_>>()).filter(|f| f.len() > 3)
    }

    fn groups(&self) -> impl Iterator<Item = Vec<&str>> {
        self.group.lines().map(|l| l.split(':').collect::<Vec<_>>()).filter(|f| f.len() > 2)
    }

    /// The home directory of a number.
    pub fn home(&self, uid: u32) -> String {
        let line = self.users().find(|f| f[2].parse() == Ok(uid));
        line.and_then(|f| f.get(5).copied()).filter(|h| !h.is_empty()).unwrap_or("/").to_owned()
    }

    /// `name|uid[:group|gid]`.
    pub fn user(&self, wanted: &str) -> Result<User, Failure> {
        let unknown = |what: &str, name: &str| Failure::new(format!("{what} {name}"), "not in the container", "use a number or a name from the image's /etc/passwd and /etc/group");
        let (name, group) = wanted.split_once(':').map_or((wanted, None), |(u, g)| (u, Some(g)));
        let line = self.users().find(|f| f[0] == name || f[2] == name);
        let uid = match (&line, name.parse::<u32>()) {
            (Some(f), _) => f[2].parse().map_err(|_| unknown("user", name))?,
            (None, Ok(uid)) => uid,
            (None, Err(_)) => return Err(unknown("user", name)),
        };
        let by_passwd = line.as_ref().and_then(|f| f[3].parse().ok()).unwrap_or(0);
        let gid = match group {
            None => by_passwd,
            Some(g) => self.group(g).ok_or_else(|| unknown("group", g))?,
        };
        let login = line.as_ref().map_or("", |f| f[0]);
        let member = |f: &Vec<&str>| f.len() > 3 && f[3].split(',').any(|m| m == login && !login.is_empty());
        let extra = self.groups().filter(member).filter_map(|f| f[2].parse().ok());
        let groups = if group.is_some() { vec![gid] } else { std::iter::once(gid).chain(extra).collect() };
        let home = line.as_ref().and_then(|f| f.get(5)).filter(|h| !h.is_empty()).map_or("/", |h| h).to_owned();
        Ok(User { uid, gid, groups, home })
    }

    /// A group's number.
    pub fn group(&self, wanted: &str) -> Option<u32> {
        wanted.parse().ok().or_else(|| self.groups().find(|f| f[0] == wanted).and_then(|f| f[2].parse().ok()))
    }
}

fn text(root: &OwnedFd, path: &CStr) -> Option<String> {
    let file = std::fs::File::from(sys::open_in_root(root.as_fd(), path, libc::O_RDONLY).ok()?);
    let mut bytes = Vec::new();
    let regular = file.metadata().is_ok_and(|m| m.is_file());
    regular.then(|| file.take(LARGEST_BYTES).read_to_end(&mut bytes))?.ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_name_and_by_number_with_their_groups() {
        let all = Database { passwd: "root:x:0:0::/root:/bin/sh\nmail:x:8:12::/var/mail:\nodd\n".into(), group: "mail:x:12:\ndisk:x:6:root,mail\n".into() };
        let user = |uid, gid, groups: &[u32], home: &str| User { uid, gid, groups: groups.to_vec(), home: home.into() };
        assert_eq!(all.user("mail").unwrap(), user(8, 12, &[12, 6], "/var/mail"));
        assert_eq!(all.user("8:disk").unwrap(), user(8, 6, &[6], "/var/mail"));
        assert_eq!(all.user("1000").unwrap(), user(1000, 0, &[0], "/"));
        assert_eq!(all.user("1000:7").unwrap(), user(1000, 7, &[7], "/"));
        assert!(all.user("nobody").is_err() && all.user("mail:nobody").is_err());
        assert_eq!((all.home(0).as_str(), all.home(77).as_str()), ("/root", "/"));
    }

    #[test]
    fn a_link_out_of_the_image_is_no_user_database() {
        let dir = std::env::temp_dir().join(format!("vkernel-users-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("etc")).unwrap();
        std::os::unix::fs::symlink("/proc/self/root/etc/passwd", dir.join("etc/passwd")).unwrap();
        assert!(Database::of(&dir).user("root").is_err());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
