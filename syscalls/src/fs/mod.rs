//! Files: the rows of every file and directory call, gathered from the files of this folder.
//!
//! Owns no call itself. Sockets are in `net`, waiting in `poll`. The fact a newcomer gets wrong: paths are copied exactly once and the copy is
//! what the kernel gets (07, S6), so no row reads a path twice.

mod access;
pub(crate) mod apart;
mod directory;
mod fcntl;
mod ioctl;
mod links;
mod metadata;
mod mount;
mod open;
pub(crate) mod own;
mod proc_view;
mod read_write;
pub(crate) mod scripts;
mod shared;
#[cfg(test)]
mod tests;
mod xattr;

pub use access::may_execute;
pub use own::{is_procfs_root, know_executable};

crate::pass::family! {
    read_write::PASSED,
    read_write::ROWS,
    read_write::REFUSED,
    open::PASSED,
    open::ROWS,
    open::REFUSED,
    metadata::PASSED,
    metadata::ROWS,
    directory::PASSED,
    directory::ROWS,
    links::ROWS,
    xattr::ROWS,
    fcntl::PASSED,
    fcntl::ROWS,
    ioctl::ROWS,
    mount::REFUSED,
}
