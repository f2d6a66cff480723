//! Syscall twins (`programs/syscalls/`): each prints facts that are equal natively and under vkernel.

use integration_tests::twin;

macro_rules! twins { ($($name:ident)*) => {
    $(#[test] fn $name() { twin(&[concat!("/usr/local/lib/twins/", stringify!($name))]); })*
    const NAMES: &[&str] = &[$(stringify!($name)),*];
} }

twins! {
    access after_main_ends allocate children clock command_line corners directory dup epoll exec_credentials exec_resets fault_frames fcntl high_heap interrupted_calls ipc limits_of_memory links mapping maps_under_a_file_limit message no_room_for_frames open pidfd_of_a_child pipe poll posix_timer proc_self proc_self_as_nobody pty read_write restart robust_in_cut_file sent_faults shared_segments signal_frames signal_wait sockopt stat system_info task times unix_socket waitable_fds xattr
}

#[test]
fn every_program_of_the_folder_has_a_test() {
    let mut files: Vec<String> = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/programs/syscalls"))
        .expect("the folder exists")
        .map(|e| e.expect("readable").path())
        .filter(|p| p.extension().is_some_and(|e| e == "c"))
        .map(|p| p.file_stem().expect("named").to_string_lossy().into_owned())
        .collect();
    files.sort();
    assert_eq!(files, NAMES);
}
