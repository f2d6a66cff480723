//! Who tells addresses in a network of the container's own: the host's name servers, if they are reached from there.
//!
//! The fact a newcomer gets wrong: a resolver that listens to the host's loopback is not. systemd's says elsewhere whom it asks itself.

use super::has_directory;
use crate::cli::{NetworkChoice, Shape};
use crate::sys;
use serde_json::{Value, json};
use std::ffi::CString;
use std::os::fd::AsFd;
use std::path::Path;

const FILE: &str = "/etc/resolv.conf";
const OF_SYSTEMD: &str = "/run/systemd/resolve/resolv.conf";

pub(super) fn mount(shape: &Shape, root: &Path) -> Option<Value> {
    if !matches!(shape.network, Some(NetworkChoice::Bridge(_))) || !has_directory(root, "/etc") || leads_nowhere(root) {
        return None;
    }
    let source = [FILE, OF_SYSTEMD].into_iter().find(|path| is_reached(&std::fs::read_to_string(path).unwrap_or_default()))?;
    Some(json!({"destination": FILE, "type": "bind", "source": source, "options": ["bind", "ro"]}))
}

/// The image has a link in its place whose target is only there when its own resolver runs: nothing can be mounted on that.
fn leads_nowhere(root: &Path) -> bool {
    let inside = CString::new(FILE).expect("no NUL");
    let target = || std::fs::File::open(root).and_then(|root| sys::open_in_root(root.as_fd(), &inside, libc::O_PATH));
    std::fs::symlink_metadata(root.join(&FILE[1..])).is_ok_and(|m| m.is_symlink()) && target().is_err()
}

/// Whether a name server of the file is reached from another network namespace.
fn is_reached(text: &str) -> bool {
    let servers = text.lines().filter_map(|l| l.strip_prefix("nameserver")).filter_map(|s| s.trim().parse::<std::net::IpAddr>().ok());
    servers.into_iter().any(|server| !server.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_on_loopback_are_not_reached() {
        assert!(is_reached("# by hand\nsearch x\nnameserver 127.0.0.53\nnameserver 192.0.2.1\n") && is_reached("nameserver\t2001:db8::1"));
        assert!(!is_reached("nameserver 127.0.0.53\nnameserver ::1\n") && !is_reached(""));
    }

    #[test]
    fn a_link_of_the_image_that_leads_nowhere_is_left_alone() {
        let root = std::env::temp_dir().join(format!("vkernel-names-{}", std::process::id()));
        std::fs::create_dir_all(root.join("etc")).unwrap();
        assert!(!leads_nowhere(&root), "it is made");
        std::os::unix::fs::symlink("../run/x/resolv.conf", root.join("etc/resolv.conf")).unwrap();
        assert!(leads_nowhere(&root));
        std::fs::create_dir_all(root.join("run/x")).unwrap();
        std::fs::write(root.join("run/x/resolv.conf"), "").unwrap();
        assert!(!leads_nowhere(&root));
        std::fs::remove_dir_all(&root).unwrap();
    }
}
