//! Where the dynamic linker would find a library.
//!
//! Owns ld.so(8)'s search order: a name with a slash as it is; DT_RPATH of the object and its loaders unless the object has DT_RUNPATH; DT_RUNPATH; the directories of /etc/ld.so.conf; the default
//! directories, unless the object was linked with `-z nodefaultlib`. What musl does is `musl`'s. LD_LIBRARY_PATH is a matter of the run, not of the image. The fact a newcomer gets wrong: in each directory `glibc-hwcaps/x86-64-v2` comes first, because that is the CPU lifted programs see.

use super::rootfs::Rootfs;
use super::{elf, musl};
use std::collections::BTreeMap;
use std::path::Path;

/// Debian's defaults, after ld.so.conf.
const DEFAULT: [&str; 4] = ["/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib", "/usr/lib"];
const OTHER_DEFAULT: [&str; 2] = ["/lib64", "/usr/lib64"];

/// `include` lines of ld.so.conf nest; a cycle must end.
const MAX_INCLUDES: usize = 64;

/// Class and machine of an ELF file are within these.
const HEAD_BYTES: usize = 20;

pub struct Search {
    system: Vec<String>,
}

/// What one object says itself of where to look.
#[derive(Clone, Debug, Default)]
pub struct Own {
    /// Directory of the object, for $ORIGIN.
    pub origin: String,
    pub rpath: Vec<String>,
    pub runpath: Vec<String>,
    pub no_default_directories: bool,
    /// Path of musl's dynamic linker, if that is its.
    pub musl: Option<String>,
}

impl Own {
    pub fn of(path: &str, facts: &elf::ElfFacts) -> Self {
        let origin = path.rsplit_once('/').map_or("", |(directory, _)| directory).to_owned();
        Self { origin, rpath: facts.rpath.clone(), runpath: facts.runpath.clone(), no_default_directories: facts.no_default_directories, musl: musl::linker(facts) }
    }

    fn expanded<'a>(&'a self, list: &'a [String]) -> impl Iterator<Item = String> + 'a {
        list.iter().map(|directory| expand(directory, &self.origin))
    }
}

impl Search {
    pub fn of(rootfs: &Rootfs) -> Search {
        let mut system = Vec::new();
        let mut left = MAX_INCLUDES;
        read_conf(rootfs, "/etc/ld.so.conf", &mut system, &mut left);
        system.extend(DEFAULT.iter().chain(&OTHER_DEFAULT).map(|d| (*d).to_owned()));
        Search { system }
    }

    /// Path of the first fitting file. `chain` is the object that needs `name`, then its loader, up to the program.
    pub fn find(&self, rootfs: &Rootfs, name: &str, chain: &[&Own]) -> Option<String> {
        let own = chain.first()?;
        if name.contains('/') {
            return fits(rootfs, &expand(name, &own.origin));
        }
        if let Some(linker) = linker(chain) {
            return if musl::is_own(name) { fits(rootfs, linker) } else { with_musl(rootfs, name, chain, linker) };
        }
        let mut directories = Vec::new();
        if own.runpath.is_empty() {
            directories.extend(chain.iter().filter(|o| o.runpath.is_empty()).flat_map(|o| o.expanded(&o.rpath)));
        }
        directories.extend(own.expanded(&own.runpath));
        directories.extend(self.system.iter().filter(|d| !own.no_default_directories || !is_default(d)).cloned());
        directories.iter().find_map(|d| fits(rootfs, &format!("{d}/glibc-hwcaps/x86-64-v2/{name}")).or_else(|| fits(rootfs, &format!("{d}/{name}"))))
    }
}

/// musl's, of the program at the end of a chain.
fn linker<'a>(chain: &[&'a Own]) -> Option<&'a str> {
    chain.last()?.musl.as_deref()
}

fn with_musl(rootfs: &Rootfs, name: &str, chain: &[&Own], linker: &str) -> Option<String> {
    let own = chain.iter().flat_map(|o| o.expanded(if o.runpath.is_empty() { &o.rpath } else { &o.runpath }));
    own.chain(musl::directories(rootfs, linker)).find_map(|d| fits(rootfs, &format!("{d}/{name}")))
}

/// Whether a directory is a default one or lies in one: ld.so compares beginnings.
fn is_default(directory: &str) -> bool {
    DEFAULT.iter().chain(&OTHER_DEFAULT).any(|d| Path::new(directory).starts_with(d))
}

/// Names that are loaded already: ld.so compares them, and DT_SONAMEs, before it searches; so one program has one libx.so, whoever needs it.
#[derive(Default)]
pub struct Loaded(BTreeMap<String, String>);

impl Loaded {
    pub fn find(&mut self, search: &Search, rootfs: &Rootfs, name: &str, chain: &[&Own]) -> Option<String> {
        if let Some(path) = self.0.get(name) {
            return Some(path.clone());
        }
        let path = search.find(rootfs, name, chain)?;
        let soname = || rootfs.read(&path).ok().and_then(|c| elf::facts(&c.path, &c.bytes).ok()?.soname);
        let soname = if linker(chain).is_none() { soname() } else { None };
        // Only the program's own needs and those of its libraries come here, in ld.so's order: breadth first.
        for known in soname.into_iter().chain([name.to_owned()]) {
            self.0.entry(known).or_insert_with(|| path.clone());
        }
        Some(path)
    }
}

/// ld.so skips files of another class or machine and goes on searching.
fn fits(rootfs: &Rootfs, path: &str) -> Option<String> {
    let (path, _) = rootfs.resolve(path).ok()?;
    let head = rootfs.head(&path, HEAD_BYTES).ok()?.bytes;
    let (class, machine) = (head.get(4)?, head.get(18..20)?);
    (elf::is_elf(&head) && *class == 2 && machine == [62, 0]).then_some(path)
}

/// Dynamic string tokens, with and without braces.
fn expand(path: &str, origin: &str) -> String {
    let mut out = path.to_owned();
    for (token, value) in [("ORIGIN", origin), ("LIB", "lib/x86_64-linux-gnu"), ("PLATFORM", "x86_64")] {
        out = out.replace(&format!("${{{token}}}"), value).replace(&format!("${token}"), value);
    }
    if out.is_empty() { ".".into() } else { out }
}

fn read_conf(rootfs: &Rootfs, path: &str, system: &mut Vec<String>, left: &mut usize) {
    let Ok(content) = rootfs.read(path) else { return };
    for line in String::from_utf8_lossy(&content.bytes).lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if let Some(patterns) = line.strip_prefix("include").filter(|r| r.starts_with([' ', '\t'])) {
            for file in patterns.split_whitespace().flat_map(|p| matching(rootfs, p)) {
                if *left > 0 {
                    *left -= 1;
                    read_conf(rootfs, &file, system, left);
                }
            }
        } else if line.starts_with('/') {
            system.push(line.trim_end_matches('/').into());
        }
    }
}

/// Files that a pattern names; a `*` in the last component only, which is all that ld.so.conf files use.
fn matching(rootfs: &Rootfs, pattern: &str) -> Vec<String> {
    let pattern = if pattern.starts_with('/') { pattern.to_owned() } else { format!("/etc/{pattern}") };
    let Some((before, after)) = pattern.split_once('*') else { return vec![pattern] };
    let (directory, prefix) = before.rsplit_once('/').expect("the pattern is absolute");
    let list = rootfs.list(directory).unwrap_or_default().into_iter().map(|(path, _)| path);
    list.filter(|p| p[directory.len() + 1..].starts_with(prefix) && p.ends_with(after)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{create_dir_all, write};

    /// An image with a fitting library at each path.
    fn image(paths: &[&str], conf: &[(&str, &str)]) -> (tempfile::TempDir, Rootfs) {
        let dir = tempfile::tempdir().unwrap();
        let mut elf = std::fs::read("/proc/self/exe").unwrap();
        elf.truncate(64);
        let all = paths.iter().map(|p| (*p, elf.clone())).chain(conf.iter().map(|(p, t)| (*p, t.as_bytes().to_vec())));
        for (path, bytes) in all {
            let host = dir.path().join(&path[1..]);
            create_dir_all(host.parent().unwrap()).unwrap();
            write(host, bytes).unwrap();
        }
        let rootfs = Rootfs::open(dir.path()).unwrap();
        (dir, rootfs)
    }

    #[test]
    fn runpath_comes_before_conf_and_conf_before_defaults() {
        let conf = [("/etc/ld.so.conf", "include /etc/ld.so.conf.d/*.conf\n"), ("/etc/ld.so.conf.d/a.conf", "# x\n/opt/conf\n")];
        let (dir, r) = image(&["/opt/bin/program", "/opt/run/l", "/opt/conf/l", "/usr/lib/l"], &conf);
        let own = |runpath: &[&str]| Own { origin: "/opt/bin".into(), runpath: runpath.iter().map(|s| (*s).into()).collect(), ..Own::default() };
        let s = Search::of(&r);
        assert_eq!(s.find(&r, "l", &[&own(&["$ORIGIN/../run"])]).as_deref(), Some("/opt/run/l"));
        assert_eq!(s.find(&r, "l", &[&own(&[])]).as_deref(), Some("/opt/conf/l"));
        std::fs::remove_file(dir.path().join("opt/conf/l")).unwrap();
        assert_eq!(s.find(&r, "l", &[&own(&["/nowhere"])]).as_deref(), Some("/usr/lib/l"));
        assert_eq!(s.find(&r, "missing", &[&own(&[])]), None);
    }

    #[test]
    fn rpath_of_a_loader_counts_unless_the_object_has_runpath() {
        let (_dir, r) = image(&["/opt/l"], &[]);
        let program = Own { rpath: vec!["/opt".into()], ..Own::default() };
        let plain = Own::default();
        let with_runpath = Own { runpath: vec!["/x".into()], ..Own::default() };
        let s = Search::of(&r);
        assert_eq!(s.find(&r, "l", &[&plain, &program]).as_deref(), Some("/opt/l"));
        assert_eq!(s.find(&r, "l", &[&with_runpath, &program]), None);
    }

    #[test]
    fn skips_a_file_of_another_machine_as_ld_so_does() {
        let (dir, r) = image(&["/lib/x86_64-linux-gnu/l", "/usr/lib/l"], &[]);
        let host = dir.path().join("lib/x86_64-linux-gnu/l");
        let mut bytes = std::fs::read(&host).unwrap();
        bytes[18] = 183;
        write(&host, bytes).unwrap();
        assert_eq!(Search::of(&r).find(&r, "l", &[&Own::default()]).as_deref(), Some("/usr/lib/l"));
    }

    #[test]
    fn of_hwcaps_the_one_of_the_cpu_that_lifted_programs_see_is_taken() {
        let (dir, r) = image(&["/usr/lib/glibc-hwcaps/x86-64-v3/l", "/usr/lib/glibc-hwcaps/x86-64-v2/l", "/usr/lib/l"], &[]);
        let find = || Search::of(&r).find(&r, "l", &[&Own::default()]);
        assert_eq!(find().as_deref(), Some("/usr/lib/glibc-hwcaps/x86-64-v2/l"));
        std::fs::remove_file(dir.path().join("usr/lib/glibc-hwcaps/x86-64-v2/l")).unwrap();
        assert_eq!(find().as_deref(), Some("/usr/lib/l"));
    }

    #[test]
    fn an_object_without_default_directories_still_has_those_of_the_conf() {
        let (dir, r) = image(&["/opt/conf/l", "/usr/lib/deep/l", "/usr/lib/l"], &[("/etc/ld.so.conf", "/usr/lib/deep\n/opt/conf\n")]);
        let s = Search::of(&r);
        let find = |no_default_directories| s.find(&r, "l", &[&Own { no_default_directories, ..Own::default() }]);
        assert_eq!(find(false).as_deref(), Some("/usr/lib/deep/l"));
        assert_eq!(find(true).as_deref(), Some("/opt/conf/l"));
        std::fs::remove_file(dir.path().join("opt/conf/l")).unwrap();
        assert_eq!(find(true), None);
    }

    #[test]
    fn musl_has_directories_a_path_file_and_names_of_its_own() {
        let (dir, r) = image(&["/lib/ld-musl-x86_64.so.1", "/usr/local/lib/l", "/usr/lib/l", "/opt/l", "/lib/glibc-hwcaps/x86-64-v2/l"], &[("/etc/ld.so.conf", "/opt\n")]);
        let program = Own { musl: Some("/lib/ld-musl-x86_64.so.1".into()), ..Own::default() };
        let s = Search::of(&r);
        let find = |name| s.find(&r, name, &[&Own::default(), &program]);
        assert_eq!(find("l").as_deref(), Some("/usr/local/lib/l"));
        assert_eq!(find("libc.musl-x86_64.so.1").as_deref(), Some("/lib/ld-musl-x86_64.so.1"));
        assert_eq!(find("libm.so.6").as_deref(), Some("/lib/ld-musl-x86_64.so.1"));
        write(dir.path().join("etc/ld-musl-x86_64.path"), "/nowhere:/opt\n/usr/lib\n").unwrap();
        assert_eq!(find("l").as_deref(), Some("/opt/l"));
        write(dir.path().join("etc/ld-musl-x86_64.path"), "").unwrap();
        assert_eq!(find("l"), None);
    }

    #[test]
    fn a_conf_that_includes_itself_ends() {
        let (_dir, r) = image(&["/usr/lib/l"], &[("/etc/ld.so.conf", "include /etc/ld.so.conf\n/usr/lib\n")]);
        assert!(Search::of(&r).find(&r, "l", &[&Own::default()]).is_some());
    }
}
