//! Closing close-on-exec descriptors: the kernel does it at a real exec, here it is ours.
//!
//! The fact a newcomer gets wrong: close_range(CLOSE_RANGE_CLOEXEC) sets the flag, it closes nothing.

/// Highest descriptor looked at when /proc is not there.
const WITHOUT_PROC: i32 = 65_536;

/// Closes every descriptor with FD_CLOEXEC.
pub(super) fn close_on_exec() {
    for fd in open_descriptors() {
        // SAFETY: fcntl and close on plain numbers; the guest asked for these to be closed at exec, the runtime keeps none.
        unsafe {
            let flags = libc::fcntl(fd, libc::F_GETFD);
            if flags >= 0 && flags & libc::FD_CLOEXEC != 0 {
                libc::close(fd);
            }
        }
    }
}

fn open_descriptors() -> Vec<i32> {
    if let Some(Ok(dir)) = crate::fs::own::descriptors().map(std::fs::read_dir) {
        // The directory's own descriptor is in the list and closed by the time it is looked at.
        return dir.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).collect();
    }
    let mut limit = libc::rlimit { rlim_cur: 1024, rlim_max: 1024 };
    // SAFETY: writes one rlimit.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    (0..i32::try_from(limit.rlim_cur).unwrap_or(WITHOUT_PROC).min(WITHOUT_PROC)).collect()
}
