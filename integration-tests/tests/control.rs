//! The nasty-control programs (`programs/control/`): non-local control flow, threads, signals, on the real layout (dynamic, several shards).

use integration_tests::{Setup, finish, show, twin, twin_with};

macro_rules! twins { ($($name:ident)*) => {
    $(#[test] fn $name() { twin(&[concat!("/usr/local/lib/twins/", stringify!($name))]); })*
    /// The same without the structured form: what differs here is a fault of a semantic row or of the table, what differs only above one of the optimising side.
    mod resumable {
        $(#[test] fn $name() { super::twin_with(&["--form", "resumable"], &[concat!("/usr/local/lib/twins/", stringify!($name))]); })*
    }
    const NAMES: &[&str] = &[$(stringify!($name)),*];
} }

twins! {
    cancel_in_read counted_loops deep_recursion dlopen_in_thread exec_beside_vfork exec_from_thread fork_in_threads forwarded_results large_fixed lazy_calls memory_at_faults memory_order odd_returns profiled qsort_callbacks rounding segv_on_coroutine
    shared_table siglongjmp_from_alarm siglongjmp_from_segv spawn_missing swapcontext_same_site threads_and_mutexes throw_before_ud2 throw_below throw_through_alloca vsyscall
}

/// The resumable form alone repeats accesses: it knows every register at every fault.
const REPAIRED: [&str; 3] = ["faulting_strings", "repaired_exceptions", "repaired_faults"];

#[test]
fn repaired_faults() {
    for name in REPAIRED {
        twin_with(&["--form", "resumable"], &[&format!("/usr/local/lib/twins/{name}")]);
    }
}

#[test]
fn a_fault_that_optimised_code_cannot_repeat_ends_the_program_and_says_what_to_do() {
    let out = finish(Setup::get().vkernel_run(&[], &["/usr/local/lib/twins/repaired_faults"]));
    let text = show(&out);
    assert!(out.status.code() == Some(139) && text.contains("--form resumable"), "{text}");
}

#[test]
fn every_program_of_the_folder_has_a_test() {
    let mut files: Vec<String> = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/programs/control"))
        .expect("the folder exists")
        .map(|e| e.expect("readable").path().file_stem().expect("named").to_string_lossy().into_owned())
        .collect();
    files.retain(|f| !REPAIRED.contains(&f.as_str()));
    files.sort();
    assert_eq!(files, NAMES);
}
