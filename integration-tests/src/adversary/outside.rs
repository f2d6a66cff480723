//! What happens on the host while a container runs: natives that enter it, a log whose disk is full, a release that is replaced, mount points that become links.
//!
//! Owns these attacks' outer halves; each gives back what was won. The fact a newcomer gets wrong: host root is inside the trust boundary, so these try what host root does by mistake, or lets a guest do.

use super::cases::Case;
use super::mode::Mode;
use super::stage::Stage;
use super::{Share, Side};
use crate::{Setup, finish, show};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const CANARY: &str = "/usr/local/lib/adversary/unlisted/canary";
const GOOD: &str = "/usr/bin/true";

/// Somebody on the host, who sees the container's stage.
pub struct Outside<'a> {
    pub(super) stage: &'a Stage,
    pub(super) mode: &'a Mode,
    /// The process that started the container.
    pub(super) child: u32,
    pub(super) share: Share,
    /// Execs in the container that its program does not count.
    pub(super) further_execs: u64,
}

type Won = Result<Vec<String>, String>;

impl Outside<'_> {
    /// The container's first process.
    fn init(&self) -> Result<u32, String> {
        let text =
            if let Mode::Unprotected = self.mode { fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.child)) } else { fs::read_to_string(self.stage.path("pid")) };
        let text = text.map_err(|e| format!("the first process: {e}"))?;
        text.split_whitespace().next().and_then(|n| n.parse().ok()).ok_or_else(|| format!("no process in {text:?}"))
    }

    /// Has the guest execute something; whether it ran.
    fn has_executed(&self, path: &str) -> Result<bool, String> {
        let seen = self.stage.out().len();
        fs::write(self.stage.path("say"), format!("{path}\n")).map_err(|e| e.to_string())?;
        fs::rename(self.stage.path("say"), self.stage.path("out/say")).map_err(|e| e.to_string())?;
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(20) {
            let out = self.stage.out();
            if let Some(answer) = out[seen..].lines().find_map(|l| l.strip_prefix(&format!("answer {path} "))) {
                return Ok(answer == "0 0");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Err(format!("no answer about {path}: {}", self.stage.out()))
    }

    /// As few as prove something where each takes seconds.
    fn times(&self, usual: u32) -> u32 {
        self.share.of(if let Mode::Podman { .. } = self.mode { usual / 8 } else { usual })
    }
}

/// Further programs enter the container, one after another.
pub(super) fn enter(o: &mut Outside<'_>, _: Side) -> Won {
    let mut failed = Vec::new();
    for _ in 0..o.times(40) {
        let Some(enter) = o.mode.enter(o.stage, GOOD) else { return Err("nobody can enter".into()) };
        let out = o.stage.started_carelessly(&enter).stdin(Stdio::null()).output().map_err(|e| e.to_string())?;
        if out.status.success() {
            o.further_execs += 1;
        } else {
            failed.push(show(&out));
        }
    }
    if o.further_execs == 0 { Err(format!("nobody entered: {failed:?}")) } else { Ok(Vec::new()) }
}

/// The disk of the audit log is filled, and freed again.
pub(super) fn fill_the_log(o: &mut Outside<'_>, side: Side) -> Won {
    let disk = o.stage.disk_of_the_log(o.child)?;
    let waste = disk.join("waste");
    let rest = || std::thread::sleep(Duration::from_millis(150));
    if side == Side::Twin {
        return Ok(Vec::new());
    }
    for _ in 0..4 {
        rest();
        // To the last byte: what is not written in whole blocks, too.
        let mut file = fs::File::create(&waste).map_err(|e| e.to_string())?;
        while std::io::Write::write(&mut file, &[0; 512]).is_ok_and(|n| n > 0) {}
        rest();
        fs::remove_file(&waste).map_err(|e| e.to_string())?;
    }
    rest();
    let full = fs::read_to_string(o.stage.log_on(&disk)).map_err(|e| e.to_string())?;
    if full.contains("sink-failed") { Ok(Vec::new()) } else { Err("the disk was never full".into()) }
}

/// A native program is executed inside by somebody who enters the namespaces.
pub(super) fn nsenter(o: &mut Outside<'_>, side: Side) -> Won {
    if side == Side::Twin {
        return if o.has_executed(GOOD)? { Ok(Vec::new()) } else { Err("the guest itself executes nothing".into()) };
    }
    let init = o.init()?.to_string();
    let setup = Setup::get();
    let copy = o.stage.path("out/canary");
    fs::copy(setup.rootfs.join(&CANARY[1..]), &copy).map_err(|e| e.to_string())?;
    let mut won = Vec::new();
    for program in [CANARY, "/out/canary", "/lib64/ld-linux-x86-64.so.2", GOOD] {
        for ids in [&[][..], &["--user", "--preserve-credentials"]] {
            let mut c = Command::new("nsenter");
            c.args(["--target", &init, "--mount", "--pid", "--net", "--ipc", "--uts", "--root", "--wd"]).args(ids).args([program, CANARY]);
            let out = finish(c);
            // nsenter itself says 126 or 127 when the kernel executes nothing.
            if !matches!(out.status.code(), Some(1 | 126 | 127)) {
                won.push(format!("nsenter {ids:?} executed {program}: {:?}", out.status));
            }
        }
    }
    // And the guest cannot execute what now lies there.
    if o.has_executed("/out/canary")? {
        won.push("the guest executed what the host put there".into());
    }
    Ok(won)
}

/// A copy of the release, for whoever replaces it.
pub(super) fn own_release(stage: &Stage) -> std::path::PathBuf {
    let release = Setup::get().manifest;
    let release = release.parent().expect("the manifest has a directory");
    assert!(Command::new("cp").args(["--archive", "--link"]).arg(release).arg(stage.path("release")).status().expect("cp runs").success());
    stage.path("release/manifest.json")
}

/// The release is replaced by a newer one, validly signed, that does not list what the container executes, and lists something else.
pub(super) fn swap_the_release(o: &mut Outside<'_>, side: Side) -> Won {
    let before = o.has_executed(GOOD)?;
    if !before || o.has_executed(CANARY)? {
        return Err("the release is not what it should be before".into());
    }
    if side == Side::Attack {
        newer_release(&o.stage.manifest)?;
        let aot = o.stage.path("release/aot");
        fs::rename(&aot, o.stage.path("release/gone")).map_err(|e| e.to_string())?;
    }
    let mut won = Vec::new();
    for _ in 0..5 {
        if !o.has_executed(GOOD)? {
            won.push("a newer release re-routed a running container".to_owned());
        }
        if o.has_executed(CANARY)? {
            won.push("the canary ran".to_owned());
        }
    }
    if side == Side::Attack {
        let entered = o.mode.enter(o.stage, GOOD).ok_or("nobody can enter")?;
        let out = finish(entered);
        if out.status.success() {
            won.push(format!("somebody entered with another release than the container's: {}", show(&out)));
        }
    }
    Ok(won)
}

/// Replaces the manifest by one with the next serial that lists no `true`.
fn newer_release(manifest: &Path) -> Result<(), String> {
    let setup = Setup::get();
    let text = fs::read(manifest).map_err(|e| e.to_string())?;
    let mut value: serde_json::Value = serde_json::from_slice(&text).map_err(|e| e.to_string())?;
    let object = value.as_object_mut().ok_or("no object")?;
    object.remove("signatures");
    object["serial"] = (object["serial"].as_u64().unwrap_or_default() + 1).into();
    let rows = object["binaries"].as_object_mut().ok_or("no binaries")?;
    let row = rows.values_mut().find(|b| b["path"] == GOOD).ok_or("true is not listed")?;
    row["size"] = (row["size"].as_u64().unwrap_or_default() + 1).into();
    fs::remove_file(manifest).and_then(|()| fs::write(manifest, value.to_string())).map_err(|e| e.to_string())?;
    let mut sign = Command::new(&setup.recompiler);
    sign.arg("sign").arg(manifest).arg("--key").arg(setup.key.with_extension("key"));
    let out = finish(sign);
    if out.status.success() { Ok(()) } else { Err(show(&out)) }
}

/// Another container writes the volume in which the mount point lies: it is a directory, and then a link to somewhere else, and so on.
pub(super) fn swap_mount_points(o: &mut Outside<'_>, side: Side) -> Won {
    let (volume, hidden) = (o.stage.path("volume"), o.stage.path("hidden"));
    for dir in [&volume, &hidden, &volume.join("a"), &volume.join("sub")] {
        fs::create_dir(dir).map_err(|e| e.to_string())?;
    }
    let over = AtomicBool::new(false);
    let (mut won, mut good, mut refused) = (Vec::new(), 0, 0);
    std::thread::scope(|scope| {
        let swap = scope.spawn(|| {
            let targets = ["/proc", "../../../../../..", "/etc", "/proc/1/root", "/dev"];
            for target in targets.iter().cycle() {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                if side == Side::Attack {
                    let (sub, aside) = (volume.join("sub"), volume.join("aside"));
                    let _ = fs::rename(&sub, &aside).and_then(|()| std::os::unix::fs::symlink(target, &sub));
                    std::thread::sleep(Duration::from_micros(300));
                    let _ = fs::remove_file(&sub).and_then(|()| fs::rename(&aside, &sub));
                }
                std::thread::sleep(Duration::from_micros(300));
            }
        });
        for _ in 0..o.times(60) {
            let another = Stage::new();
            let options = ["--volume", &format!("{}:/v", volume.display()), "--volume", &format!("{}:/v/sub/deep:ro", hidden.display())].map(str::to_owned);
            let options: Vec<&str> = options.iter().map(String::as_str).collect();
            let out = finish(o.mode.command(&another, &options, &["/usr/bin/cat", "/proc/self/mountinfo"]));
            let text = String::from_utf8_lossy(&out.stdout).into_owned();
            match out.status.code() {
                Some(0) if text.contains(" /v ") && text.contains("/deep ") => good += 1,
                Some(125..=127) => refused += 1,
                _ => won.push(format!("neither a container nor a refusal: {}", show(&out))),
            }
        }
        over.store(true, Ordering::Relaxed);
        let _ = swap.join();
    });
    for found in ["/deep", "/proc/deep", "/etc/deep"] {
        if Path::new(found).exists() {
            won.push(format!("{found} was made on the host"));
        }
    }
    if good == 0 || (side == Side::Twin && refused > 0) { Err(format!("{good} containers, {refused} refused")) } else { Ok(won) }
}

/// What a case needs before its container starts.
pub(super) fn prepare(stage: &mut Stage, case: &Case) {
    let is = |f: fn(&mut Outside<'_>, Side) -> Won| case.outside.is_some_and(|o| std::ptr::fn_addr_eq(o, f));
    if is(swap_the_release) {
        stage.manifest = own_release(stage);
    }
    stage.small_log = is(fill_the_log);
    // Without a terminal of its caller's a container has a session of its own, and neither can be tried.
    stage.terminal = ["signal_group", "first_in_anothers_group"].contains(&case.name);
}
