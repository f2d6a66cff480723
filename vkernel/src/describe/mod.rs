//! From options of `vkernel run` to a runtime-spec description, the one language in which every command speaks of containers. Owns defaults and the meaning of options; what a
//! description means is the container's side. The fact a newcomer gets wrong: nothing here looks into the container; names of users were numbers before a process exists.

mod limits;
mod names;
mod volumes;

pub use limits::{bytes, signal};

use crate::cli::{NetworkChoice, Run, Shape};
use crate::failure::Failure;
use crate::user::{Database, User};
use oci_spec::runtime::Spec;
use serde_json::{Value, json};
use std::path::Path;

/// Of runtime-spec, what this program implements.
pub const VERSION: &str = "1.2.0";

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Root inside the container has these and no others unless it is told to; none of them reaches beyond the container's user namespace.
pub const KEPT: [&str; 8] = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID", "CAP_NET_BIND_SERVICE"];

/// Places of procfs and sysfs that tell of the host, or reach it.
const MASKED: [&str; 13] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/sysrq-trigger",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/vmallocinfo",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

pub(crate) fn invalid(option: &str, value: &str, advice: &str) -> Failure {
    Failure::new(format!("{option} {value}"), "is not understood", advice)
}

fn built(value: Value) -> Result<Spec, Failure> {
    serde_json::from_value(value).map_err(|e| Failure::new("describe container", e, "report this as a bug"))
}

/// The description of what `options` ask for, with `root` as the image, and a network namespace that is made for it.
pub fn spec(options: &Run, root: &Path, id: &str, network: Option<&Path>) -> Result<Spec, Failure> {
    built(text(options, root, id, network)?)
}

/// The same as it would stand in a bundle's config.json.
pub fn text(options: &Run, root: &Path, id: &str, network: Option<&Path>) -> Result<Value, Failure> {
    let shape = &options.shape;
    let users = Database::of(root);
    let mut user = users.user(&shape.user)?;
    for group in &shape.group_add {
        user.groups.push(users.group(group).ok_or_else(|| Failure::new(format!("group {group}"), "not in the container", "use a number or a name from the image's /etc/group"))?);
    }
    let mut mounts = if shape.bare { Vec::new() } else { furniture(root) };
    if shape.read_only {
        mounts.extend(["/run", "/tmp", "/var/tmp"].iter().filter(|d| has_directory(root, d)).map(|d| json!({"destination": d, "type": "tmpfs", "source": "tmpfs", "options": []})));
    }
    mounts.extend(names::mount(shape, root));
    mounts.extend(volumes::mounts(shape)?);
    Ok(json!({
        "ociVersion": VERSION,
        "root": {"path": root, "readonly": shape.read_only},
        "hostname": shape.hostname.as_deref().unwrap_or(id),
        "mounts": mounts,
        "annotations": pairs("--annotation", &shape.annotation)?,
        "process": {
            "terminal": options.life.tty,
            "user": {"uid": user.uid, "gid": user.gid, "additionalGids": user.groups},
            "args": options.command,
            "env": environment(shape, &user)?,
            "cwd": shape.workdir,
            "capabilities": capabilities(&KEPT, &shape.cap_add, &shape.cap_drop, user.uid)?,
            "rlimits": limits::rlimits(&shape.ulimit)?,
            "noNewPrivileges": true,
            "oomScoreAdj": shape.oom_score_adj,
        },
        "linux": {
            "namespaces": namespaces(shape, network)?,
            "uidMappings": maps("--uidmap", &shape.uidmap)?,
            "gidMappings": maps("--gidmap", if shape.gidmap.is_empty() { &shape.uidmap } else { &shape.gidmap })?,
            "sysctl": pairs("--sysctl", &shape.sysctl)?,
            "resources": limits::resources(shape)?,
            "devices": volumes::devices(shape)?,
            "maskedPaths": if shape.bare { Vec::new() } else { MASKED.to_vec() },
        },
    }))
}

/// The least there is to say: this image, root as user, what every container has. Programs of a test start from it.
pub fn plain(root: &Path) -> Result<Spec, Failure> {
    built(json!({
        "ociVersion": VERSION,
        "root": {"path": root},
        "mounts": furniture(root),
        "process": {"user": {"uid": 0, "gid": 0}, "cwd": "/", "args": ["true"], "capabilities": capabilities(&KEPT, &[], &[], 0)?},
        "linux": {"namespaces": [{"type": "pid"}, {"type": "mount"}], "maskedPaths": MASKED},
    }))
}

fn has_directory(root: &Path, path: &str) -> bool {
    std::fs::symlink_metadata(root.join(path.trim_start_matches('/'))).is_ok_and(|m| m.is_dir())
}

/// proc, dev and sys. As runc, proc is mounted whatever the image has, or it would be the guest who makes what its processes believe to be procfs; the others only where the image has the directory (never through a symbolic
/// link of the image).
fn furniture(root: &Path) -> Vec<Value> {
    let mount = |to: &str, kind: &str, options: &[&str]| json!({"destination": to, "type": kind, "source": kind, "options": options});
    let all = [
        mount("/proc", "proc", &["ro"]),
        mount("/dev", "tmpfs", &["size=64k"]),
        mount("/dev/pts", "devpts", &["newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
        mount("/dev/shm", "tmpfs", &["mode=1777", "size=64m"]),
        mount("/sys", "sysfs", &["ro"]),
    ];
    let there = |m: &Value| m["destination"].as_str().and_then(|d| d[1..].split('/').next()).is_some_and(|top| top == "proc" || has_directory(root, top));
    all.into_iter().filter(there).collect()
}

/// Set in the order of podman: defaults, files, options; HOME is the user's unless it was set.
fn environment(shape: &Shape, user: &User) -> Result<Vec<String>, Failure> {
    let mut env = vec![PATH.to_owned(), format!("TERM={}", std::env::var("TERM").unwrap_or_else(|_| "xterm".into()))];
    let mut asked = Vec::new();
    for file in &shape.env_file {
        let text = std::fs::read_to_string(file).map_err(|e| Failure::new(format!("--env-file {}", file.display()), e, "name a text file"))?;
        asked.extend(text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')).map(str::to_owned));
    }
    asked.extend(shape.env.iter().cloned());
    for entry in asked {
        // `-e NAME` passes the caller's value.
        let entry = match entry.split_once('=') {
            Some(_) => entry,
            None => match std::env::var(&entry) {
                Ok(value) => format!("{entry}={value}"),
                Err(_) => continue,
            },
        };
        set(&mut env, entry);
    }
    with_home(&mut env, &user.home);
    Ok(env)
}

/// Sets `NAME=VALUE` where NAME was, or at the end.
pub fn set(env: &mut Vec<String>, entry: String) {
    let name = entry.split('=').next().unwrap_or_default().to_owned();
    env.retain(|old| old.split('=').next() != Some(&name));
    env.push(entry);
}

/// HOME unless it is there.
pub fn with_home(env: &mut Vec<String>, home: &str) {
    if !env.iter().any(|e| e.starts_with("HOME=")) {
        env.push(format!("HOME={home}"));
    }
}

fn pairs(option: &str, entries: &[String]) -> Result<serde_json::Map<String, Value>, Failure> {
    let pair = |e: &String| e.split_once('=').map(|(k, v)| (k.to_owned(), v.into())).ok_or_else(|| invalid(option, e, "write NAME=VALUE"));
    entries.iter().map(pair).collect()
}

fn maps(option: &str, entries: &[String]) -> Result<Vec<Value>, Failure> {
    let map = |e: &String| {
        let numbers: Option<Vec<u32>> = e.split(':').map(|n| n.parse().ok()).collect();
        match numbers.as_deref() {
            Some([container, host, size]) if *size > 0 => Ok(json!({"containerID": container, "hostID": host, "size": size})),
            _ => Err(invalid(option, e, "write CONTAINER:HOST:COUNT")),
        }
    };
    entries.iter().map(map).collect()
}

fn namespaces(shape: &Shape, network: Option<&Path>) -> Result<Vec<Value>, Failure> {
    let mut all: Vec<Value> = ["pid", "mount", "uts", "ipc", "cgroup"].iter().map(|kind| json!({"type": kind})).collect();
    let mapped = !shape.uidmap.is_empty();
    all.push(match (shape.userns.as_deref(), mapped) {
        (None, _) | (Some("host"), false) | (Some("private"), true) => json!({"type": "user"}),
        (Some(mode), mapped) => match mode.strip_prefix("ns:") {
            Some(path) if !mapped => json!({"type": "user", "path": path}),
            _ => return Err(invalid("--userns", mode, "use host, private with --uidmap, or ns:PATH")),
        },
    });
    match &shape.network {
        Some(NetworkChoice::Host) => {}
        Some(NetworkChoice::Namespace(path)) => all.push(json!({"type": "network", "path": path})),
        Some(NetworkChoice::Bridge(_)) => all.push(json!({"type": "network", "path": network})),
        _ => all.push(json!({"type": "network"})),
    }
    Ok(all)
}

/// Sets of the first program: for root what it keeps, for others only what was added for them.
pub fn capabilities(kept: &[impl AsRef<str>], add: &[String], drop: &[String], uid: u32) -> Result<Value, Failure> {
    let mut known: Vec<String> = caps::all().into_iter().map(|c| c.to_string()).collect();
    // A set has another order each time, and descriptions are compared.
    known.sort();
    let name = |option: &str, c: &String| {
        let full = c.to_uppercase();
        let full = if full.starts_with("CAP_") || full == "ALL" { full } else { format!("CAP_{full}") };
        if full == "ALL" || known.contains(&full) { Ok(full) } else { Err(invalid(option, c, "see capabilities(7)")) }
    };
    let add = add.iter().map(|c| name("--cap-add", c)).collect::<Result<Vec<_>, _>>()?;
    let drop = drop.iter().map(|c| name("--cap-drop", c)).collect::<Result<Vec<_>, _>>()?;
    let all = |list: &[String]| list.iter().any(|c| c == "ALL");
    let added: Vec<&String> = known.iter().filter(|c| all(&add) || add.contains(c)).collect();
    let stays = |c: &&String| kept.iter().any(|k| k.as_ref() == c.as_str()) && !all(&drop);
    let set: Vec<&String> = known.iter().filter(|c| (stays(c) && !drop.contains(c)) || added.contains(c)).collect();
    Ok(match uid {
        0 => json!({"bounding": set, "effective": set, "permitted": set}),
        _ => json!({"bounding": set, "effective": added, "permitted": added, "inheritable": added, "ambient": added}),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;

    fn run(options: &[&str]) -> Run {
        let args = ["vkernel", "run", "m.json"].iter().chain(options).chain(&["--", "/bin/x", "-y"]);
        let Command::Run(run) = Cli::try_parse_from(args).unwrap().command else { panic!("not run") };
        run
    }

    fn described(options: &[&str]) -> Result<Value, Failure> {
        spec(&run(options), Path::new("/nowhere"), "c1", None).map(|s| serde_json::to_value(s).unwrap())
    }

    #[test]
    fn the_same_options_are_described_by_the_same_text() {
        let run = run(&["--cap-add", "ALL", "--annotation", "a=1", "--sysctl", "kernel.shm_rmid_forced=1", "--ulimit", "nofile=3"]);
        let told = || text(&run, Path::new("/nowhere"), "c1", None).unwrap();
        (0..20).for_each(|_| assert_eq!(told(), told()));
    }

    #[test]
    fn a_plain_run_keeps_eight_capabilities_in_namespaces_of_its_own() {
        let s = described(&[]).unwrap();
        assert_eq!(s["process"]["args"], json!(["/bin/x", "-y"]));
        assert_eq!(s["process"]["capabilities"]["effective"].as_array().unwrap().len(), 8);
        let kinds: Vec<_> = s["linux"]["namespaces"].as_array().unwrap().iter().map(|n| n["type"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["pid", "mount", "uts", "ipc", "cgroup", "user", "network"]);
        assert_eq!(s["hostname"], "c1");
    }

    #[test]
    fn procfs_is_mounted_in_an_image_that_has_no_place_for_it() {
        let mounts = described(&[]).unwrap()["mounts"].clone();
        assert_eq!(mounts, json!([{"destination": "/proc", "type": "proc", "source": "proc", "options": ["ro"]}]));
    }

    #[test]
    fn options_say_what_podmans_say() {
        let s = described(&[
            "--memory",
            "64m",
            "--pids-limit",
            "9",
            "--cpus",
            "1.5",
            "--ulimit",
            "nofile=10:20",
            "-e",
            "A=1",
            "-e",
            "A=2",
            "-e",
            "PATH=/x",
            "--sysctl",
            "net.x=1",
            "--uidmap",
            "0:100000:65536",
        ])
        .unwrap();
        assert_eq!(s["linux"]["resources"]["memory"]["limit"], 64 << 20);
        assert_eq!(s["linux"]["resources"]["pids"]["limit"], 9);
        assert_eq!(s["linux"]["resources"]["cpu"], json!({"quota": 150_000, "period": 100_000}));
        assert_eq!(s["process"]["rlimits"], json!([{"type": "RLIMIT_NOFILE", "soft": 10, "hard": 20}]));
        let env = s["process"]["env"].as_array().unwrap();
        assert!(env.contains(&json!("A=2")) && !env.contains(&json!("A=1")) && env.contains(&json!("PATH=/x")), "{env:?}");
        assert_eq!(s["linux"]["gidMappings"], s["linux"]["uidMappings"]);
    }

    #[test]
    fn capabilities_are_added_and_dropped_by_their_short_names() {
        let of = |options: &[&str]| described(options).map(|s| s["process"]["capabilities"].clone());
        let all = of(&["--cap-drop", "all", "--cap-add", "net_raw"]).unwrap();
        assert_eq!(all["bounding"], json!(["CAP_NET_RAW"]));
        let user = of(&["--user", "7", "--cap-add", "CAP_KILL"]).unwrap();
        assert_eq!((&user["ambient"], &user["effective"]), (&json!(["CAP_KILL"]), &json!(["CAP_KILL"])));
        assert!(of(&["--cap-add", "FLY"]).unwrap_err().to_string().contains("capabilities(7)"));
    }

    #[test]
    fn what_is_not_understood_is_refused_by_its_option() {
        for (options, word) in [
            (["--memory", "much"], "--memory"),
            (["--uidmap", "0:1"], "--uidmap"),
            (["--ulimit", "nofiles=1"], "--ulimit"),
            (["--sysctl", "net"], "--sysctl"),
            (["--userns", "keep"], "--userns"),
            (["--volume", "relative:/x"], "--volume"),
            (["--mount", "type=nfs,destination=/x"], "--mount"),
        ] {
            let told = described(&options).unwrap_err().to_string();
            assert!(told.starts_with(word), "{told}");
        }
    }
}
