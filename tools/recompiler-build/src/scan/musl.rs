//! Where musl's dynamic linker would find a library.
//!
//! Owns its search order: a name with a slash as it is; names of libc's own parts, which all are the linker; DT_RUNPATH, or else DT_RPATH, of the object and of each of its loaders; the directories of the linker's
//! path file, or those it was built with. The fact a newcomer gets wrong: musl knows neither hwcaps nor DT_SONAME nor /etc/ld.so.conf, and hands DT_RUNPATH on to what is loaded, which glibc does not.

use super::elf::ElfFacts;
use super::rootfs::Rootfs;

const LINKER: &str = "/lib/ld-musl-x86_64.so.1";
const PATH_FILE: &str = "/etc/ld-musl-x86_64.path";
const DEFAULT: &str = "/lib:/usr/local/lib:/usr/lib";

/// Names that begin so are never looked for, with any version: libm.so.6 is the linker.
const OWN_NAMES: [&str; 7] = ["libc.", "libpthread.", "librt.", "libm.", "libdl.", "libutil.", "libxnet."];

/// Path of the linker that loads an object, if it is musl's. A library names none, but musl's libc by a name of its own.
pub(super) fn linker(facts: &ElfFacts) -> Option<String> {
    match &facts.interpreter {
        Some(path) => path.rsplit('/').next().is_some_and(|name| name.starts_with("ld-musl-")).then(|| path.clone()),
        None => facts.needed.iter().any(|name| name == "libc.so" || name.starts_with("libc.musl-")).then(|| LINKER.to_owned()),
    }
}

pub(super) fn is_own(name: &str) -> bool {
    OWN_NAMES.iter().any(|own| name.starts_with(own))
}

/// The directories searched for every program of this linker. Its path file lies beside the directory that the linker is in: /opt/lib/ld-musl… has /opt/etc/….
pub(super) fn directories(rootfs: &Rootfs, linker: &str) -> Vec<String> {
    let prefix = linker.rsplitn(3, '/').nth(2).unwrap_or_default();
    let file = format!("{prefix}{PATH_FILE}");
    let text = if rootfs.has_file(&file) { rootfs.read(&file).map(|c| String::from_utf8_lossy(&c.bytes).into_owned()).unwrap_or_default() } else { DEFAULT.to_owned() };
    text.split([':', '\n']).filter(|d| d.starts_with('/')).map(str::to_owned).collect()
}
