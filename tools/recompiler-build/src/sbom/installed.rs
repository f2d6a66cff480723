//! Where an image keeps its package databases, and who owns a file.
//!
//! Owns places and paths. The fact a newcomer gets wrong: a database names files as packages were built. Where `/bin` is a link to `usr/bin`, `/bin/ls` of the database is `/usr/bin/ls` here, and dpkg's diversions move one package's
//! file out of another's way.

use super::packages::{self, Package};
use super::rpm::{self, RpmError};
use crate::scan::rootfs::Rootfs;
use anyhow::{Context, ensure};
use rustix::fs::FileType;
use std::collections::BTreeMap;

const DPKG: &str = "/var/lib/dpkg";
const APK: [&str; 2] = ["/lib/apk/db/installed", "/usr/lib/apk/db/installed"];
/// One of them is often a link to the other.
const RPM: [&str; 2] = ["/usr/lib/sysimage/rpm", "/var/lib/rpm"];
/// Its database there, by the formats' ages: SQLite, ndb, Berkeley DB. Where several lie, rpm left the older ones behind.
const DATABASES: [&str; 3] = ["rpmdb.sqlite", "Packages.db", OLDEST];
/// Before rpm 4, it had formats that nobody reads any more.
const OLDEST: &str = "Packages";

fn text(rootfs: &Rootfs, path: &str) -> Option<String> {
    Some(String::from_utf8_lossy(&rootfs.read(path).ok()?.bytes).into_owned())
}

/// All packages, in the order of kind, name and architecture.
pub(super) fn read(rootfs: &Rootfs) -> anyhow::Result<Vec<Package>> {
    let mut all: Vec<Package> = text(rootfs, &format!("{DPKG}/status")).map(|t| packages::dpkg(&t)).unwrap_or_default();
    all.iter_mut().for_each(|p| p.files = listed(rootfs, p));
    for (path, _) in rootfs.list(&format!("{DPKG}/status.d")).unwrap_or_default().into_iter().filter(|(p, kind)| *kind == FileType::RegularFile && !p.ends_with(".md5sums")) {
        let mut found = text(rootfs, &path).map(|t| packages::dpkg(&t)).unwrap_or_default();
        let sums = text(rootfs, &format!("{path}.md5sums")).unwrap_or_default();
        let files: Vec<String> = sums.lines().filter_map(|l| l.split_once("  ")).map(|(_, file)| format!("/{}", file.trim_start_matches("./"))).collect();
        found.iter_mut().for_each(|p| p.files.clone_from(&files));
        all.extend(found);
    }
    all.extend(APK.iter().filter_map(|p| text(rootfs, p)).flat_map(|t| packages::apk(&t)));
    for directory in RPM {
        all.extend(rpm(rootfs, directory)?);
    }
    all.sort_by(|a, b| (a.kind, &a.name, &a.architecture, &a.version).cmp(&(b.kind, &b.name, &b.architecture, &b.version)));
    all.dedup_by(|a, b| (a.kind, &a.name, &a.architecture, &a.version) == (b.kind, &b.name, &b.architecture, &b.version));
    Ok(all)
}

/// What rpm keeps in a directory, if anything.
fn rpm(rootfs: &Rootfs, directory: &str) -> anyhow::Result<Vec<Package>> {
    let Some(path) = DATABASES.map(|name| format!("{directory}/{name}")).into_iter().find(|path| rootfs.has_file(path)) else { return Ok(Vec::new()) };
    let name = || format!("{path} (inside the image)");
    // SQLite's changes that are not in the database yet: who makes an image in a running system should let rpm end first.
    let log = rootfs.read(&format!("{path}-wal")).is_ok_and(|log| !log.bytes.is_empty());
    ensure!(!log, "{}: has a write-ahead log beside it: run any rpm command on the image, which completes the database, or remove rpmdb.sqlite-wal", name());
    match rpm::packages(&rootfs.read(&path)?.bytes) {
        Err(unknown @ RpmError::Unknown) if path.ends_with(&format!("/{OLDEST}")) => {
            eprintln!("recompiler-build: warning: {}: {unknown}: its files are listed without a package", name());
            Ok(Vec::new())
        }
        found => found.with_context(name),
    }
}

/// dpkg's list of a package's files: with the architecture in its name where several can be installed.
fn listed(rootfs: &Rootfs, p: &Package) -> Vec<String> {
    // A name with a slash would lead elsewhere, and no package has one.
    if p.name.contains('/') || p.architecture.contains('/') {
        return Vec::new();
    }
    let names = [format!("{DPKG}/info/{}:{}.list", p.name, p.architecture), format!("{DPKG}/info/{}.list", p.name)];
    let list = names.iter().find_map(|n| text(rootfs, n)).unwrap_or_default();
    list.lines().map(str::to_owned).collect()
}

/// Path after all links of its first directory → index of the package.
pub(super) fn owners(rootfs: &Rootfs, all: &[Package]) -> BTreeMap<String, usize> {
    let diverted = diversions(rootfs);
    let mut tops: BTreeMap<String, String> = BTreeMap::new();
    let mut owners = BTreeMap::new();
    for (index, p) in all.iter().enumerate() {
        for file in &p.files {
            let file = match diverted.get(file) {
                Some((to, by)) if *by != p.name => to,
                _ => file,
            };
            let Some((top, rest)) = file.strip_prefix('/').and_then(|f| f.split_once('/')) else { continue };
            let real = tops.entry(top.to_owned()).or_insert_with(|| rootfs.resolve(&format!("/{top}")).map_or_else(|_| format!("/{top}"), |(path, _)| path));
            owners.entry(format!("{real}/{rest}")).or_insert(index);
        }
    }
    owners
}

/// Path → where another package's file of that name lies, and the package for which it made way.
fn diversions(rootfs: &Rootfs) -> BTreeMap<String, (String, String)> {
    let text = text(rootfs, &format!("{DPKG}/diversions")).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines.chunks_exact(3).map(|l| (l[0].to_owned(), (l[1].to_owned(), l[2].to_owned()))).collect()
}

/// `ID` and `VERSION_ID` of os-release.
pub(super) fn distribution(rootfs: &Rootfs) -> (String, String) {
    let text = ["/etc/os-release", "/usr/lib/os-release"].iter().find_map(|p| text(rootfs, p)).unwrap_or_default();
    let value = |name: &str| text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix('=')).map(|v| v.trim_matches(['"', '\'']).to_owned());
    (value("ID").unwrap_or_else(|| "unknown".into()), value("VERSION_ID").unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_file_belongs_to_its_package_behind_merged_directories_and_diversions() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put("usr/bin/ls", "");
        std::os::unix::fs::symlink("usr/bin", root.path().join("bin")).unwrap();
        let stanza = |name: &str| format!("Package: {name}\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\n\n");
        put("var/lib/dpkg/status", &(stanza("coreutils") + &stanza("dash") + &stanza("libc6")));
        put("var/lib/dpkg/info/coreutils.list", "/.\n/bin\n/bin/ls\n/bin/sh\n");
        put("var/lib/dpkg/info/dash.list", "/bin/sh\n");
        put("var/lib/dpkg/info/libc6:amd64.list", "/usr/lib/libc.so.6\n");
        put("var/lib/dpkg/diversions", "/bin/sh\n/bin/sh.distrib\ndash\n");
        put("var/lib/dpkg/status.d/base", &stanza("base-files"));
        put("var/lib/dpkg/status.d/base.md5sums", "d41d8cd98f00b204e9800998ecf8427e  usr/lib/os-release\n");
        put("usr/lib/os-release", "NAME=\"X\"\nID=debian\nVERSION_ID=\"12\"\n");
        let rootfs = Rootfs::open(root.path()).unwrap();
        let all = read(&rootfs).unwrap();
        let owners = owners(&rootfs, &all);
        let owner = |path: &str| owners.get(path).map(|i| all[*i].name.as_str());
        assert_eq!(owner("/usr/bin/ls"), Some("coreutils"));
        assert_eq!((owner("/usr/bin/sh"), owner("/usr/bin/sh.distrib")), (Some("dash"), Some("coreutils")));
        assert_eq!((owner("/usr/lib/libc.so.6"), owner("/usr/lib/os-release"), owner("/bin/ls")), (Some("libc6"), Some("base-files"), None));
        assert_eq!(distribution(&rootfs), ("debian".into(), "12".into()));
    }
}
