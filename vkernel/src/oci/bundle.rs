//! A bundle: its config.json, what of it is not obeyed, and where its release is. Owns reading and judging descriptions that others wrote.
//!
//! The facts a newcomer gets wrong: a release may lie in the image's own `/.vkernel`, and is believed no more for it: its signature and every digest are checked as always; the guest
//! does not see it. And no_new_privs, user namespace and locked mounts hold whatever the description says.

use crate::failure::Failure;
use crate::mounts;
use crate::sys;
use crate::user::Database;
use oci_spec::runtime::{LinuxNamespaceType, Spec};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Where the manifest of a bundle is, unless the image has it.
pub(super) const MANIFEST: &str = "io.vkernel.manifest";
/// The folder of a release inside an image.
const INSIDE: &str = "/.vkernel";

/// A description and the directory it came from.
pub(super) struct Bundle {
    pub dir: PathBuf,
    pub spec: Spec,
    pub rootfs: PathBuf,
    pub manifest: PathBuf,
    /// What was asked for and is not done.
    pub warnings: Vec<String>,
}

impl Bundle {
    /// Reads `config.json` of `dir`; `manifest` is the caller's word on where the release is.
    pub(super) fn read(dir: &Path, manifest: Option<&Path>) -> Result<Self, Failure> {
        let dir = std::path::absolute(dir).map_err(|e| Failure::new(format!("bundle {}", dir.display()), e, "name a bundle's directory"))?;
        let path = dir.join("config.json");
        let what = || path.display().to_string();
        let bytes = std::fs::read(&path).map_err(|e| Failure::new(what(), e, "name a bundle's directory with --bundle"))?;
        let mut spec: Spec = serde_json::from_slice(&bytes).map_err(|e| Failure::new(what(), e, "write it as runtime-spec 1.x says"))?;
        // runc and crun take any 1.x: later versions only add.
        if !spec.version().starts_with("1.") {
            return Err(Failure::new(what(), format!("ociVersion {:?} is not 1.x", spec.version()), "write it as runtime-spec 1.x says"));
        }
        if spec.process().is_none() || spec.linux().is_none() {
            return Err(Failure::new(what(), "has no process, or is not for Linux", "write it as runtime-spec 1.x says"));
        }
        // As with runc, which cannot start a process without one.
        if !spec.mounts().iter().flatten().any(|m| m.destination() == Path::new("/proc")) {
            return Err(Failure::new(what(), "mounts nothing on /proc", "mount a procfs there"));
        }
        let root = spec.root().as_ref().ok_or_else(|| Failure::new(what(), "has no root", "write it as runtime-spec 1.x says"))?;
        let rootfs = dir.join(root.path());
        let manifest = find(&spec, &rootfs, manifest)?;
        let warnings = warnings(&spec);
        own_user_namespace(&mut spec);
        sources(&mut spec, &dir);
        hide(&mut spec);
        home(&mut spec, &rootfs);
        Ok(Self { dir, spec, rootfs, manifest, warnings })
    }
}

/// By option, by annotation, or inside the image.
fn find(spec: &Spec, rootfs: &Path, option: Option<&Path>) -> Result<PathBuf, Failure> {
    if let Some(path) = option {
        return Ok(path.to_owned());
    }
    if let Some(path) = spec.annotations().as_ref().and_then(|a| a.get(MANIFEST)) {
        let absolute = Path::new(path).is_absolute();
        return absolute.then(|| path.into()).ok_or_else(|| Failure::new(format!("annotation {MANIFEST}={path}"), "is not absolute", "name the manifest's path on this host"));
    }
    let failure = |e: std::io::Error| {
        Failure::new(
            format!("release of {}", rootfs.display()),
            e,
            format!("put one into the image as {INSIDE}, or name its manifest with --manifest or the annotation {MANIFEST}"),
        )
    };
    let root = std::fs::File::open(rootfs).map(OwnedFd::from).map_err(failure)?;
    // No link of the image may say where on the host it is.
    let inside = sys::open_plain(root.as_fd(), c"/.vkernel/manifest.json", libc::O_PATH).map_err(failure)?;
    std::fs::read_link(mounts::path_of(&inside)).map_err(failure)
}

fn warnings(spec: &Spec) -> Vec<String> {
    let mut all = Vec::new();
    if let Some(p) = spec.process() {
        all.extend(p.apparmor_profile().as_ref().filter(|l| !l.is_empty()).map(|l| format!("AppArmor profile {l} is ignored: nothing native runs in the container")));
        all.extend(p.selinux_label().as_ref().filter(|l| !l.is_empty()).map(|l| format!("SELinux label {l} is ignored")));
        all.extend((p.io_priority().is_some() || p.scheduler().is_some()).then(|| "scheduler and I/O priority are ignored".to_owned()));
    }
    if let Some(linux) = spec.linux() {
        all.extend(linux.intel_rdt().as_ref().map(|_| "intelRdt is ignored".to_owned()));
        all.extend(linux.personality().as_ref().map(|_| "personality is ignored".to_owned()));
        all.extend(linux.rootfs_propagation().as_ref().filter(|p| p.contains("shared")).map(|p| format!("rootfsPropagation {p} is ignored: every mount is private")));
    }
    all
}

/// Without one, guest root would be host root; with the ids mapped to themselves nobody sees a difference.
fn own_user_namespace(spec: &mut Spec) {
    let Some(linux) = spec.linux_mut() else { return };
    let mut all = linux.namespaces().clone().unwrap_or_default();
    if !all.iter().any(|n| n.typ() == LinuxNamespaceType::User) {
        let mut user = oci_spec::runtime::LinuxNamespace::default();
        user.set_typ(LinuxNamespaceType::User);
        all.push(user);
        linux.set_uid_mappings(None);
        linux.set_gid_mappings(None);
    }
    linux.set_namespaces(Some(all));
}

/// Relative sources of binds are the bundle's, not the caller's.
fn sources(spec: &mut Spec, dir: &Path) {
    for mount in spec.mounts_mut().iter_mut().flatten() {
        let is_bind = mount.options().iter().flatten().any(|o| o == "bind" || o == "rbind");
        if let Some(source) = mount.source().clone().filter(|s| is_bind && s.is_relative()) {
            mount.set_source(Some(dir.join(source)));
        }
    }
}

/// The guest has no business with its release.
fn hide(spec: &mut Spec) {
    let Some(linux) = spec.linux_mut() else { return };
    let mut masked = linux.masked_paths().clone().unwrap_or_default();
    masked.push(INSIDE.to_owned());
    linux.set_masked_paths(Some(masked));
}

/// HOME as runc sets it: the user's in the image, unless it was given.
fn home(spec: &mut Spec, rootfs: &Path) {
    let Some(process) = spec.process_mut() else { return };
    let mut env = process.env().clone().unwrap_or_default();
    crate::describe::with_home(&mut env, &Database::of(rootfs).home(process.user().uid()));
    process.set_env(Some(env));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(name: &str, config: serde_json::Value) -> (PathBuf, Result<Bundle, Failure>) {
        let dir = std::env::temp_dir().join(format!("vkernel-bundle-{name}-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("rootfs/.vkernel")).unwrap();
        std::fs::write(dir.join("rootfs/.vkernel/manifest.json"), "{}").unwrap();
        std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
        let read = Bundle::read(&dir, None);
        (dir, read)
    }

    fn config(version: &str) -> serde_json::Value {
        serde_json::json!({
            "ociVersion": version, "root": {"path": "rootfs"}, "unknown": {"a": 1}, "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
            "process": {"user": {"uid": 0, "gid": 0}, "cwd": "/", "args": ["x"], "apparmorProfile": "p"}, "linux": {"namespaces": [{"type": "pid"}]}
        })
    }

    #[test]
    fn any_version_1_is_accepted_and_what_is_ignored_is_said() {
        let (dir, read) = bundle("ok", config("1.0.2-dev"));
        let read = read.unwrap();
        assert_eq!(read.manifest, dir.join("rootfs/.vkernel/manifest.json"));
        assert!(read.warnings.len() == 1 && read.warnings[0].contains("AppArmor"), "{:?}", read.warnings);
        let linux = read.spec.linux().as_ref().unwrap();
        assert!(linux.namespaces().as_ref().unwrap().iter().any(|n| n.typ() == LinuxNamespaceType::User));
        assert!(linux.masked_paths().as_ref().unwrap().contains(&INSIDE.to_owned()));
        assert!(read.spec.process().as_ref().unwrap().env().as_ref().unwrap().contains(&"HOME=/".to_owned()));
        std::fs::remove_dir_all(&dir).unwrap();
        let (dir, read) = bundle("old", config("0.9"));
        assert!(read.err().unwrap().to_string().contains("1.x"));
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_bundle_without_procfs_is_refused() {
        let mut config = config("1.2.0");
        config["mounts"][0]["destination"] = "/procfs".into();
        let (dir, read) = bundle("proc", config);
        assert!(read.err().unwrap().to_string().contains("/proc"));
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_link_of_the_image_does_not_choose_the_release() {
        let (dir, _) = bundle("link", config("1.2.0"));
        std::fs::rename(dir.join("rootfs/.vkernel"), dir.join("elsewhere")).unwrap();
        std::os::unix::fs::symlink("../elsewhere", dir.join("rootfs/.vkernel")).unwrap();
        let told = Bundle::read(&dir, None).err().unwrap().to_string();
        assert!(told.contains("--manifest"), "{told}");
        assert!(Bundle::read(&dir, Some(Path::new("/m.json"))).is_ok());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
