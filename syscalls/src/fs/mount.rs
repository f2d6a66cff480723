//! Mounts, roots, quotas, swap, handles, asynchronous I/O rings: what a container does not get.
//!
//! Owns only refusals (07, S24). The fact a newcomer gets wrong: the errno is chosen so that programs fall back (ENOSYS for io_uring and AIO,
//! EPERM where an unprivileged process gets EPERM natively).

use crate::pass::refused;

refused! {
    136 "ustat" ENOSYS "obsolete; use statfs";
    139 "sysfs" ENOSYS "obsolete";
    155 "pivot_root" EPERM "the container's mounts are fixed";
    161 "chroot" EPERM "the container's root is fixed: the runtime believes what it finds below it";
    163 "acct" EPERM "host administration";
    165 "mount" EPERM "the container's mounts are fixed";
    166 "umount2" EPERM "the container's mounts are fixed";
    167 "swapon" EPERM "host administration";
    168 "swapoff" EPERM "host administration";
    179 "quotactl" EPERM "host administration";
    206 "io_setup" ENOSYS "asynchronous I/O is not offered; glibc's POSIX AIO uses threads";
    207 "io_destroy" ENOSYS "see io_setup";
    208 "io_getevents" ENOSYS "see io_setup";
    209 "io_submit" ENOSYS "see io_setup";
    210 "io_cancel" ENOSYS "see io_setup";
    212 "lookup_dcookie" ENOSYS "removed from Linux";
    300 "fanotify_init" EPERM "watches beyond the container";
    301 "fanotify_mark" EPERM "watches beyond the container";
    333 "io_pgetevents" ENOSYS "see io_setup";
    425 "io_uring_setup" ENOSYS "a ring would carry calls past the table";
    426 "io_uring_enter" ENOSYS "see io_uring_setup";
    427 "io_uring_register" ENOSYS "see io_uring_setup";
    428 "open_tree" EPERM "the container's mounts are fixed";
    429 "move_mount" EPERM "the container's mounts are fixed";
    430 "fsopen" EPERM "the container's mounts are fixed";
    431 "fsconfig" EPERM "the container's mounts are fixed";
    432 "fsmount" EPERM "the container's mounts are fixed";
    433 "fspick" EPERM "the container's mounts are fixed";
    442 "mount_setattr" EPERM "the container's mounts are fixed";
    443 "quotactl_fd" EPERM "host administration";
    457 "statmount" ENOSYS "read /proc/self/mountinfo";
    458 "listmount" ENOSYS "read /proc/self/mountinfo";
}
