//! What a description makes of a container, seen from inside by a native program in the guest's place. It reports by writing into a volume, which is the first thing that must work.
//! Needs root and control groups; without them the tests fail, they do not skip.

use oci_spec::runtime::Spec;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use vkernel::cgroup::Cgroup;
use vkernel::container::{Container, Place, Started, start};
use vkernel::namespaces::Network;
use vkernel::rootfs::Layout;
use vkernel::signals::Signals;
use vkernel::state::Process;
use vkernel::{describe, filter};

/// One container at a time: forks would otherwise inherit each other's descriptors.
static SERIAL: Mutex<()> = Mutex::new(());

/// An image and a directory for reports, removed at the end.
struct World {
    dir: PathBuf,
    _serial: std::sync::MutexGuard<'static, ()>,
}

impl World {
    fn new(name: &str) -> Self {
        let _serial = SERIAL.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let dir = std::env::temp_dir().join(format!("vkernel-world-{name}-{}", std::process::id()));
        for path in ["image/proc", "image/dev", "image/sys", "image/tmp", "image/etc", "image/secret", "image/bin", "out", "volume"] {
            fs::create_dir_all(dir.join(path)).unwrap();
        }
        fs::write(dir.join("image/etc/passwd"), "root:x:0:0::/root:/bin/sh\n").unwrap();
        fs::write(dir.join("image/secret/key"), "secret").unwrap();
        fs::write(dir.join("volume/file"), "of the host").unwrap();
        fs::set_permissions(dir.join("out"), fs::Permissions::from_mode(0o777)).unwrap();
        Self { dir, _serial }
    }

    /// The plain description with the report's volume, and `changes` merged into it.
    fn spec(&self, changes: Value) -> Spec {
        let mut spec = serde_json::to_value(describe::plain(&self.dir.join("image")).unwrap()).unwrap();
        let out = json!({"destination": "/out", "type": "bind", "source": self.dir.join("out"), "options": ["rbind"]});
        spec["mounts"].as_array_mut().unwrap().push(out);
        merge(&mut spec, changes);
        serde_json::from_value(spec).unwrap()
    }

    fn container(&self, changes: Value) -> Container {
        let place = Place::New(Layout { root: self.dir.join("image"), writable: false });
        // What programs of this test call beyond the runtime's own needs.
        let calls = [libc::SYS_open, libc::SYS_stat, libc::SYS_mkdir, libc::SYS_unlink, libc::SYS_statfs, libc::SYS_pause, libc::SYS_fork, libc::SYS_socket];
        let allow = filter::allow_list(&BTreeSet::from(calls)).unwrap();
        let signals = Signals::take_over().unwrap();
        Container::new(self.spec(changes), place, Network::None, allow, signals.inherited).unwrap()
    }

    /// Runs `guest` to its end; exit code and report, line by line.
    fn run(&self, container: &Container, guest: impl FnOnce(&mut Report) -> i32 + 'static) -> (i32, Vec<String>) {
        let started = start(container, |_| Ok(Box::new(move |_| guest(&mut Report::open())))).unwrap();
        let code = end(started);
        (code, self.report())
    }

    fn report(&self) -> Vec<String> {
        fs::read_to_string(self.dir.join("out/report")).unwrap_or_default().lines().map(str::to_owned).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Waits for a process whose listener nobody serves: its execs fail, and it makes none.
fn end(started: Started) -> i32 {
    let begun = started.go().unwrap();
    match nix::sys::wait::waitpid(begun.pid, None).unwrap() {
        nix::sys::wait::WaitStatus::Exited(_, code) => code,
        nix::sys::wait::WaitStatus::Signaled(_, signal, _) => 128 + signal as i32,
        other => panic!("{other:?}"),
    }
}

/// Arrays are appended to, objects merged.
fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => from.into_iter().for_each(|(k, v)| merge(into.entry(k).or_insert(Value::Null), v)),
        (Value::Array(into), Value::Array(from)) => into.extend(from),
        (into, from) => *into = from,
    }
}

struct Report(fs::File);

impl Report {
    fn open() -> Self {
        Self(fs::File::create("/out/report").unwrap())
    }

    fn say(&mut self, what: impl std::fmt::Display) {
        writeln!(self.0, "{what}").unwrap();
    }

    /// `ok`, or the errno's name.
    fn result<T>(&mut self, name: &str, r: std::io::Result<T>) {
        let told = r.map_or_else(|e| format!("{:?}", nix::errno::Errno::from_raw(e.raw_os_error().unwrap_or(0))), |_| "ok".into());
        self.say(format!("{name} {told}"));
    }
}

#[test]
fn volumes_memory_covers_and_a_read_only_root_are_what_the_description_says() {
    let world = World::new("mounts");
    let volume = world.dir.join("volume");
    let container = world.container(json!({
        "root": {"readonly": true},
        "mounts": [
            {"destination": "/ro", "type": "bind", "source": volume, "options": ["rbind", "ro"]},
            {"destination": "/rw/deep", "type": "bind", "source": volume, "options": ["bind"]},
            {"destination": "/etc/one", "type": "bind", "source": volume.join("file"), "options": ["bind", "ro"]},
            {"destination": "/memory", "type": "tmpfs", "source": "tmpfs", "options": ["size=64k", "mode=700"]},
        ],
        "linux": {"maskedPaths": ["/secret", "/etc/passwd", "/not/there"], "readonlyPaths": ["/memory"]},
    }));
    let (code, report) = world.run(&container, |r| {
        r.result("ro", fs::write("/ro/new", ""));
        r.result("rw", fs::write("/rw/deep/new", "from inside"));
        r.say(fs::read_to_string("/etc/one").unwrap());
        r.result("one", fs::write("/etc/one", ""));
        r.result("root", fs::write("/etc/new", ""));
        r.result("memory", fs::write("/memory/new", ""));
        r.say(format!("mode {:o}", fs::metadata("/memory").unwrap().mode() & 0o777));
        r.result("secret", fs::read("/secret/key"));
        r.say(format!("passwd {:?}", fs::read_to_string("/etc/passwd").unwrap()));
        let open = |line: &str| !["nosuid", "noexec"].iter().all(|f| line.split(' ').nth(3).unwrap().contains(f));
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        mounts.lines().filter(|l| open(l)).for_each(|l| r.say(format!("open: {l}")));
        0
    });
    let want = ["ro EROFS", "rw ok", "of the host", "one EROFS", "root EROFS", "memory EROFS", "mode 700", "secret ENOENT", "passwd \"\""];
    assert_eq!((code, report.iter().map(String::as_str).collect::<Vec<_>>()), (0, want.to_vec()));
    assert_eq!(fs::read_to_string(volume.join("new")).unwrap(), "from inside");
    assert!(!world.dir.join("image/ro").exists() && !world.dir.join("image/etc/one").exists(), "mount points are made in the overlay");
}

#[test]
fn devices_of_the_description_work_and_a_node_on_a_volume_is_dead() {
    let world = World::new("devices");
    nix::sys::stat::mknod(&world.dir.join("out/zero"), nix::sys::stat::SFlag::S_IFCHR, nix::sys::stat::Mode::from_bits_truncate(0o666), libc::makedev(1, 5)).unwrap();
    let container = world.container(json!({"linux": {"devices": [
        {"path": "/dev/brim", "type": "c", "major": 1, "minor": 7, "fileMode": 438}, {"path": "/dev/null", "type": "c", "major": 1, "minor": 3}
    ]}}));
    let (_, report) = world.run(&container, |r| {
        r.result("brim", fs::write("/dev/brim", "x"));
        r.result("null", fs::write("/dev/null", "x"));
        r.result("volume", fs::read("/out/zero"));
        0
    });
    assert_eq!(report, ["brim ENOSPC", "null ok", "volume EACCES"]);
}

#[test]
fn ids_are_mapped_for_the_image_and_for_what_is_written() {
    let world = World::new("ids");
    let maps = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    let container = world.container(json!({"linux": {"uidMappings": maps, "gidMappings": maps}}));
    let (code, report) = world.run(&container, |r| {
        let owner = |p: &str| fs::metadata(p).map(|m| format!("{p} {}:{}", m.uid(), m.gid())).unwrap();
        ["/", "/etc/passwd", "/dev", "/dev/shm", "/out"].iter().for_each(|p| r.say(owner(p)));
        r.result("image", fs::write("/etc/new", ""));
        r.say(owner("/etc/new"));
        r.result("memory", fs::write("/dev/shm/new", ""));
        0
    });
    let want = ["/ 0:0", "/etc/passwd 0:0", "/dev 0:0", "/dev/shm 0:0", "/out 65534:65534", "image ok", "/etc/new 0:0", "memory ok"];
    assert_eq!((code, report.iter().map(String::as_str).collect::<Vec<_>>()), (0, want.to_vec()));
    let written = fs::metadata(world.dir.join("out/report")).unwrap();
    assert_eq!((written.uid(), written.gid()), (100_000, 100_000));
}

#[test]
fn limits_hold_kills_are_counted_and_the_group_goes() {
    let world = World::new("limits");
    let path = Path::new("vkernel").join(format!("world-{}", std::process::id()));
    let resources = serde_json::from_value(json!({"memory": {"limit": 32 << 20, "swap": 32 << 20}, "pids": {"limit": 5}})).unwrap();
    let group = Cgroup::make(&path, Some(&resources)).unwrap();
    let mut container = world.container(json!({}));
    container.cgroup = group.clone();
    let (code, report) = world.run(&container, |r| {
        let mut children = Vec::new();
        let refused = loop {
            // SAFETY: the child only waits to be killed.
            match unsafe { libc::fork() } {
                0 => loop {
                    nix::unistd::pause();
                },
                -1 => break std::io::Error::last_os_error(),
                pid => children.push(pid),
            }
        };
        r.result(&format!("{} children", children.len()), Err::<(), _>(refused));
        // SAFETY: our own children; memory is touched in one of them.
        unsafe {
            for pid in &children {
                libc::kill(*pid, libc::SIGKILL);
                libc::waitpid(*pid, std::ptr::null_mut(), 0);
            }
            let greedy = libc::fork();
            if greedy == 0 {
                let bytes = vec![1u8; 64 << 20];
                libc::_exit(i32::from(std::hint::black_box(&bytes)[4096]) - 1);
            }
            let mut status = 0;
            libc::waitpid(greedy, &raw mut status, 0);
            r.say(format!("greedy {}", if libc::WIFSIGNALED(status) { libc::WTERMSIG(status) } else { -1 }));
        }
        0
    });
    assert_eq!((code, report), (0, vec!["4 children EAGAIN".to_owned(), "greedy 9".into()]));
    assert!(group.oom_kills() > 0);
    group.remove();
    let left = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let left = left.lines().filter(|l| l.contains("cgroup")).map(|l| Path::new(l.split(' ').nth(4).unwrap()).join(&path)).filter(|p| p.exists());
    assert_eq!(left.collect::<Vec<_>>(), Vec::<PathBuf>::new());
}

#[test]
fn a_further_process_lives_in_the_same_world_and_dies_with_it() {
    let world = World::new("further");
    let mut first = world.container(json!({"hostname": "same"}));
    let path = Path::new("vkernel").join(format!("further-{}", std::process::id()));
    first.cgroup = Cgroup::make(&path, None).unwrap();
    let started = start(&first, |_| {
        Ok(Box::new(|_| {
            fs::write("/memo", "of the first").unwrap();
            Report::open().say("ready");
            loop {
                nix::unistd::pause();
            }
        }))
    });
    let init = started.unwrap().go().unwrap();
    while world.report().is_empty() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let mut second = world.container(json!({}));
    second.place = Place::Of(init.pid);
    second.cgroup = first.cgroup.clone();
    let started = start(&second, |_| {
        Ok(Box::new(|_| {
            let mut r = Report::open();
            r.say(fs::read_to_string("/memo").unwrap());
            r.say(fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim());
            r.say(format!("pid 1 {}", std::process::id() == 1));
            r.result("kill", nix::sys::signal::kill(nix::unistd::Pid::from_raw(1), None).map_err(Into::into));
            let filters = fs::read_to_string("/proc/self/status").unwrap();
            filters.lines().filter(|l| l.starts_with("NoNewPrivs") || l.starts_with("Seccomp:")).for_each(|l| r.say(l.replace('\t', " ")));
            r.say("done");
            loop {
                nix::unistd::pause();
            }
        }))
    });
    let further = started.unwrap().go().unwrap();
    while world.report().last().is_none_or(|l| l != "done") {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    assert_eq!(world.report(), ["of the first", "same", "pid 1 false", "kill ok", "NoNewPrivs: 1", "Seccomp: 2", "done"]);
    assert_eq!(first.cgroup.members().len(), 2);
    first.cgroup.freeze(true).unwrap();
    assert!(first.cgroup.is_frozen());
    first.cgroup.freeze(false).unwrap();
    nix::sys::signal::kill(init.pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    // The further one first: a pid namespace ends only when all its processes were waited for.
    for pid in [further.pid, init.pid] {
        let status = nix::sys::wait::waitpid(pid, None).unwrap();
        assert!(matches!(status, nix::sys::wait::WaitStatus::Signaled(_, nix::sys::signal::Signal::SIGKILL, _)), "{status:?}");
        assert!(!Process::of(pid).is_alive());
    }
    first.cgroup.remove();
}

#[test]
fn settings_of_the_host_are_refused_and_those_of_the_container_are_set() {
    let world = World::new("settings");
    let told = |name: &str| {
        let container = world.container(json!({"linux": {"sysctl": {name: "0"}}}));
        start(&container, |_| Ok(Box::new(|_| 0))).err().map(|f| f.to_string()).unwrap_or_default()
    };
    for name in ["kernel.panic", "vm.swappiness", "net/../kernel/panic", "fs.file-max"] {
        assert!(told(name).contains("is the host's"), "{name}: {}", told(name));
    }
    let container = world.container(json!({"linux": {"sysctl": {"net.ipv4.ip_forward": "1", "kernel.msgmax": "4242"}}}));
    let (_, report) = world.run(&container, |r| {
        ["net/ipv4/ip_forward", "kernel/msgmax"].iter().for_each(|p| r.say(fs::read_to_string(format!("/proc/sys/{p}")).unwrap().trim()));
        0
    });
    assert_eq!(report, ["1", "4242"]);
}

#[test]
fn a_profile_of_the_description_takes_more_away_and_descriptors_are_kept_as_asked() {
    let world = World::new("profile");
    let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["unlink", "seccomp"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}]});
    let mut container = world.container(json!({}));
    container.profile = Some(vkernel::profile::compile(&serde_json::from_value(profile).unwrap()).unwrap());
    let (_, report) = world.run(&container, |r| {
        // SAFETY: a terminated path, and numbers that the filters see first.
        let unlink = unsafe { libc::syscall(libc::SYS_unlink, c"/nothing".as_ptr()) };
        r.result("unlink", vkernel::sys::check(unlink));
        // SAFETY: as above.
        let seccomp = unsafe { libc::syscall(libc::SYS_seccomp, 0, 0, 0) };
        r.result("seccomp", vkernel::sys::check(seccomp));
        r.say(format!("descriptors {}", fs::read_dir("/proc/self/fd").unwrap().count()));
        0
    });
    assert_eq!(report, ["unlink EOPNOTSUPP", "seccomp EPERM", "descriptors 5"]);
}

#[test]
fn procfs_is_there_whatever_the_image_has_and_nothing_else_is_taken_for_it() {
    let world = World::new("procfs");
    fs::remove_dir(world.dir.join("image/proc")).unwrap();
    let (code, report) = world.run(&world.container(json!({})), |r| {
        r.say(fs::read_to_string("/proc/thread-self/stat").unwrap().starts_with("1 "));
        0
    });
    assert_eq!((code, report), (0, vec!["true".to_owned()]));
    let told = |source: &Path| {
        let container = world.container(json!({"mounts": [{"destination": "/proc/", "type": "bind", "source": source, "options": ["rbind"]}]}));
        start(&container, |_| Ok(Box::new(|_| 0))).and_then(Started::go).err().map(|f| f.to_string()).unwrap_or_default()
    };
    for source in [world.dir.join("volume"), "/proc/sys".into()] {
        assert!(told(&source).contains("not a procfs"), "{}: {}", source.display(), told(&source));
    }
    std::os::unix::fs::symlink("etc", world.dir.join("image/proc")).unwrap();
    let linked = start(&world.container(json!({})), |_| Ok(Box::new(|_| 0))).and_then(Started::go).err();
    assert!(linked.is_some_and(|f| f.to_string().contains("plain directory")));
}
