//! Whose code runs and whose rules count: containers beside each other, files that change under a running program, processes that look at each other (07, S5, S9, S10).

use integration_tests::{Running, Setup, finish, show};
use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A root directory that shares all files with the test image, but has `own` to itself.
fn image_with_its_own(own: &str) -> (tempfile::TempDir, PathBuf) {
    let setup = Setup::get();
    let dir = tempfile::tempdir_in(setup.rootfs.parent().expect("the image has a parent")).expect("a directory can be made");
    let root = dir.path().join("rootfs");
    assert!(Command::new("cp").args(["--archive", "--link"]).arg(&setup.rootfs).arg(&root).status().expect("cp runs").success());
    let at = root.join(own);
    let content = fs::read(&at).expect("the image has it");
    fs::remove_file(&at).expect("a name of the copy");
    fs::write(&at, content).expect("room for a copy");
    assert!(Command::new("chmod").arg("755").arg(&at).status().expect("chmod runs").success());
    (dir, root)
}

fn say(run: &mut Running, line: &str) {
    run.child.stdin.as_mut().expect("piped").write_all(line.as_bytes()).expect("the guest reads");
}

#[test]
fn a_library_rewritten_under_a_running_program_changes_nothing_in_it_and_starts_nothing_new() {
    const LIBC: &str = "usr/lib/x86_64-linux-gnu/libc.so.6";
    let (_dir, root) = image_with_its_own(LIBC);
    let mut setup = Setup::get();
    setup.rootfs = root.clone();
    let script = "echo ready; while read -r a b; do printf '%s %05d\\n' \"${a^^}\" $((b * 3)); /usr/bin/true && echo started || echo refused; done";
    let mut run = Running::start(setup.vkernel_run(&[], &["/bin/bash", "-c", script]));
    run.expect("ready\n");
    say(&mut run, "before 7\n");
    run.expect("BEFORE 00021\nstarted\n");
    // In place, all of it: text, jump tables, data.
    let length = fs::metadata(root.join(LIBC)).expect("it is there").len() as usize;
    let good = fs::read(root.join(LIBC)).expect("readable");
    let overwrite = |bytes: &[u8]| {
        let mut file = fs::OpenOptions::new().write(true).open(root.join(LIBC)).expect("writable");
        file.write_all(bytes).expect("room");
    };
    overwrite(&vec![0xcc; length]);
    say(&mut run, "after 8\n");
    run.expect("AFTER 00024\nrefused\n");
    overwrite(&good);
    say(&mut run, "again 9\n");
    run.expect("AGAIN 00027\nstarted\n");
    drop(run.child.stdin.take());
    run.wait();
}

#[test]
fn a_library_that_changes_all_the_time_is_either_the_signed_one_or_refused() {
    const LIBRARY: &str = "usr/lib/x86_64-linux-gnu/libselinux.so.1";
    let (_dir, root) = image_with_its_own(LIBRARY);
    let mut setup = Setup::get();
    setup.rootfs = root.clone();
    let end = std::sync::atomic::AtomicBool::new(false);
    let (mut good, mut refused) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let content = fs::read(root.join(LIBRARY)).expect("readable");
            let mut changed = content.clone();
            // Bytes of the text: ls starts with a call into it.
            let middle = changed.len() / 2;
            changed[middle..middle + 4096].fill(0xcc);
            let mut file = fs::OpenOptions::new().write(true).open(root.join(LIBRARY)).expect("writable");
            while !end.load(std::sync::atomic::Ordering::Relaxed) {
                for bytes in [&changed, &content] {
                    std::io::Seek::rewind(&mut file).expect("a file");
                    file.write_all(bytes).expect("room");
                    std::thread::sleep(std::time::Duration::from_micros(700));
                }
            }
        });
        for _ in 0..40 {
            let out = finish(setup.vkernel_run(&[], &["/usr/bin/ls", "-d", "/usr/bin"]));
            let text = String::from_utf8_lossy(&out.stderr).into_owned();
            match out.status.code() {
                Some(0) if out.stdout == b"/usr/bin\n" => good += 1,
                Some(127) if text.contains("libselinux") => refused += 1,
                _ => {
                    end.store(true, std::sync::atomic::Ordering::Relaxed);
                    panic!("neither the signed library nor a refusal: {}", show(&out));
                }
            }
        }
        end.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert!(good > 0 && refused > 0, "no race took place: {good} good, {refused} refused");
}

#[test]
fn containers_beside_each_other_have_each_its_own_rules() {
    let setup = Setup::get();
    let release = setup.manifest.parent().expect("the manifest has a directory").to_path_buf();
    let dir = tempfile::tempdir_in(release.parent().expect("in target")).expect("a directory can be made");
    let copy = dir.path().join("release");
    assert!(Command::new("cp").args(["--archive", "--link"]).arg(&release).arg(&copy).status().expect("cp runs").success());
    let mut strict = Setup::get();
    strict.manifest = copy.join("manifest.json");
    // A manifest that lists another file as ls.
    let mut value: serde_json::Value = serde_json::from_slice(&fs::read(&strict.manifest).expect("readable")).expect("JSON");
    value.as_object_mut().expect("an object").remove("signatures");
    let rows = value["binaries"].as_object_mut().expect("a map");
    let row = rows.values_mut().find(|b| b["path"] == "/usr/bin/ls").expect("ls is listed");
    row["size"] = (row["size"].as_u64().expect("a number") + 1).into();
    fs::remove_file(&strict.manifest).expect("in the copy");
    fs::write(&strict.manifest, serde_json::to_vec(&value).expect("JSON")).expect("room");
    let mut sign = Command::new(&strict.recompiler);
    sign.arg("sign").arg(&strict.manifest).arg("--key").arg(strict.key.with_extension("key"));
    let out = finish(sign);
    assert!(out.status.success(), "{}", show(&out));
    let script = "echo ready; while read -r x; do /usr/bin/ls -d / > /dev/null 2>&1; echo \"ls $?\"; /usr/bin/true; echo \"true $?\"; done";
    let store = dir.path().join("store").to_string_lossy().into_owned();
    let start = |setup: &Setup| {
        let mut run = Running::start(setup.vkernel_run(&["--store", &store], &["/bin/bash", "-c", script]));
        run.expect("ready\n");
        run
    };
    let (mut first, mut second) = (start(&setup), start(&strict));
    for _ in 0..20 {
        say(&mut first, "\n");
        say(&mut second, "\n");
        first.expect("ls 0\ntrue 0\n");
        second.expect("ls 126\ntrue 0\n");
    }
}

#[test]
fn a_process_sees_neither_its_own_host_side_nor_another_processs_memory() {
    let script = r#"
        sleep 100 & other=$!
        for file in mem maps smaps pagemap auxv environ; do cat /proc/$other/$file > /dev/null 2>&1 && echo "read $file of another"; done
        for file in mem smaps pagemap map_files syscall stack; do cat /proc/self/$file > /dev/null 2>&1 && echo "read own $file"; done
        { echo x > /proc/self/mem; } 2> /dev/null && echo "wrote own memory"
        { echo x > /proc/$other/mem; } 2> /dev/null && echo "wrote another's memory"
        while read -r line; do case $line in *vkernel*|*store*|*memfd*) echo "host: $line";; esac; done < /proc/self/maps
        while read -r range rest; do [ ${#range} -le 17 ] || echo "beyond the window: $range"; done < /proc/self/maps
        kill $other; echo looked"#;
    let setup = Setup::get();
    for user in ["0", "65534"] {
        let out = finish(setup.vkernel_run(&["--user", user], &["/bin/bash", "-c", script]));
        assert_eq!(String::from_utf8_lossy(&out.stdout), "looked\n", "as {user}: {}", show(&out));
    }
}

/// A guest's process executes the host's program, and guest root may be its owner by number.
#[test]
fn nobody_changes_the_program_that_guests_run_in() {
    let setup = Setup::get();
    let before = fs::metadata(&setup.vkernel).expect("it is there");
    let script = "for p in /proc/self/exe /proc/1/exe; do chmod 4777 $p; chown 1:1 $p; touch -d 1999-01-01 $p; done; echo tried";
    let out = finish(setup.vkernel_run(&["--cap-add", "ALL"], &["/bin/bash", "-c", script]));
    assert_eq!(String::from_utf8_lossy(&out.stdout), "tried\n", "{}", show(&out));
    let after = fs::metadata(&setup.vkernel).expect("it is there");
    assert_eq!((after.mode(), after.uid(), after.mtime()), (before.mode(), before.uid(), before.mtime()), "{}", show(&out));
}

#[test]
fn a_worker_is_not_dumpable_and_leaves_no_core() {
    let setup = Setup::get();
    let mut run = Running::start(setup.vkernel_run(&["--user", "65534"], &["/bin/bash", "-c", "echo ready; read x"]));
    run.expect("ready\n");
    let pid = run.child.id();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("it runs");
    let init = Path::new("/proc").join(children.split_whitespace().next().expect("one child"));
    let limits = fs::read_to_string(init.join("limits")).expect("root reads it");
    let core: Vec<_> = limits.lines().find(|l| l.starts_with("Max core file size")).expect("a limit").split_whitespace().collect();
    assert_eq!(core[4..6], ["0", "0"]);
    // Files of a process that is not dumpable belong to root, whoever it is.
    let owner = |file: &str| MetadataExt::uid(&fs::metadata(init.join(file)).expect("it is there"));
    let status = fs::read_to_string(init.join("status")).expect("root reads it");
    assert!(status.contains("Uid:\t65534\t65534"), "{status}");
    assert_eq!((owner("environ"), owner("maps")), (0, 0));
}
