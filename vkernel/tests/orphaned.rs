//! A container whose supervisor is gone: every request fails, nothing becomes anything. Needs root; without it the test fails, it does not skip.

use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::path::PathBuf;
use vkernel::container::{Container, Place, start};
use vkernel::namespaces::Network;
use vkernel::protocol::{EXEC_MARK, LIBRARY_MARK};
use vkernel::request::ask;
use vkernel::rootfs::Layout;
use vkernel::signals::Signals;
use vkernel::{describe, filter};

/// A root directory with one file, removed at the end.
struct Image(PathBuf);

impl Image {
    fn new() -> Image {
        let root = std::env::temp_dir().join(format!("vkernel-test-orphaned-{}", std::process::id()));
        for dir in ["proc", "dev", "etc", "bin"] {
            std::fs::create_dir_all(root.join(dir)).unwrap();
        }
        std::fs::write(root.join("etc/passwd"), "root:x:0:0::/:/bin/sh\n").unwrap();
        std::fs::write(root.join("bin/tool"), "\x7fELF").unwrap();
        Image(root)
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Asks in every way there is; bit n of the result: way n was not answered by ENOSYS.
fn requests() -> i32 {
    let file = std::fs::File::open("/bin/tool").unwrap();
    let native = |nr, args: [usize; 5]| {
        // SAFETY: terminated strings and null pointers; a call that succeeded would end this program.
        let r = unsafe { libc::syscall(nr, args[0], args[1], args[2], args[3], args[4]) };
        assert!(r < 0);
        std::io::Error::last_os_error().raw_os_error().unwrap()
    };
    let path = c"/bin/tool".as_ptr() as usize;
    let answers = [
        ask(file.as_fd(), EXEC_MARK, None).map_or_else(|e| e, |_| 0),
        ask(file.as_fd(), LIBRARY_MARK, None).map_or_else(|e| e, |_| 0),
        native(libc::SYS_execve, [path, 0, 0, 0, 0]),
        native(libc::SYS_execveat, [libc::AT_FDCWD as usize, path, 0, 0, 0]),
    ];
    answers.iter().enumerate().map(|(i, a)| i32::from(*a != libc::ENOSYS) << i).sum()
}

#[test]
fn requests_fail_when_nobody_holds_the_listener() {
    let image = Image::new();
    let signals = Signals::take_over().unwrap();
    let place = Place::New(Layout { root: image.0.clone(), writable: false });
    let allow = filter::allow_list(&BTreeSet::new()).unwrap();
    let container = Container::new(describe::plain(&image.0).unwrap(), place, Network::None, allow, signals.inherited).unwrap();
    let started = start(&container, |_| Ok(Box::new(|_| requests()))).unwrap();
    // What `go` would hand to a supervisor is dropped at once: the listener closes before or while the guest asks.
    let begun = started.go().unwrap();
    drop(begun.listener);
    let status = nix::sys::wait::waitpid(begun.pid, None).unwrap();
    assert_eq!(status, nix::sys::wait::WaitStatus::Exited(begun.pid, 0));
}
