//! `cargo xtask demo`: the whole chain on Debian's own programs, and three refusals.

use crate::process::{self, output, say, work};
use crate::setup::Binaries;
use crate::{release, rootfs, setup};
use anyhow::{Context, bail, ensure};
use std::fs;
use std::path::Path;
use std::process::Command;

/// The programs of the demo container.
pub(crate) const PROGRAMS: &[&str] = &[
    "bash",
    "ls",
    "cat",
    "cp",
    "mv",
    "rm",
    "mkdir",
    "rmdir",
    "ln",
    "touch",
    "chmod",
    "stat",
    "sort",
    "head",
    "tail",
    "wc",
    "cut",
    "tr",
    "uniq",
    "seq",
    "echo",
    "printf",
    "true",
    "false",
    "env",
    "id",
    "uname",
    "date",
    "sleep",
    "tee",
    "basename",
    "dirname",
    "readlink",
    "sha256sum",
    "grep",
    "sed",
];

pub(crate) fn programs() -> Vec<String> {
    PROGRAMS.iter().map(|p| format!("/usr/bin/{p}")).collect()
}

pub(crate) fn run() -> anyhow::Result<()> {
    let binaries = setup::binaries()?;
    let rootfs = rootfs::debian()?;
    say("building the signed megabinary from Debian's own, unmodified programs");
    let release = release::build(&binaries, "demo", &rootfs, &programs())?;

    say("vkernel verify: the signature covers the manifest, the manifest every byte that may run");
    run_shown(Command::new(&binaries.vkernel).arg("verify").arg(&release.manifest).arg("--key").arg(&release.public_key))?;

    say("ls -l /, lifted; the listing equals a native chroot's byte for byte");
    let ls = ["/usr/bin/ls", "-l", "/"];
    let guest = output(&mut release.run(&binaries, &["--bare"], &ls))?;
    print!("{}{}", String::from_utf8_lossy(&guest.stdout), String::from_utf8_lossy(&guest.stderr));
    let native = output(Command::new("chroot").arg(&rootfs).args(ls).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"))?;
    ensure!(guest.stdout == native.stdout && guest.status.success(), "the listings differ; native:\n{}", String::from_utf8_lossy(&native.stdout));
    println!("(equal to the native listing: {} bytes)", native.stdout.len());

    say("a shell with pipes, fork, exec, wait and exit codes");
    let script = "for f in a b c; do echo $f; done | sort -r | head -2; ls /nonexistent; echo $?";
    run_shown(&mut release.run(&binaries, &[], &["/bin/bash", "-c", script]))?;

    refusals(&binaries, &release, &rootfs)
}

fn run_shown(command: &mut Command) -> anyhow::Result<()> {
    println!("$ {}", shown(command));
    process::run(command)
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|w| w.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

fn refusals(binaries: &Binaries, release: &release::Release, rootfs: &Path) -> anyhow::Result<()> {
    let tampered = work().join("demo-tampered");
    let _ = fs::remove_dir_all(&tampered);
    process::run(Command::new("cp").arg("--archive").arg(rootfs).arg(&tampered))?;
    let changed = release::Release { manifest: release.manifest.clone(), rootfs: tampered.clone(), public_key: release.public_key.clone() };

    say("refusal 1: /usr/bin/ls with one byte changed");
    let ls = tampered.join("usr/bin/ls");
    let mut bytes = fs::read(&ls)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&ls, bytes)?;
    refused(binaries, &changed, &["/usr/bin/ls", "/"])?;

    say("refusal 2: a static ELF file copied in after the build");
    let source = work().join("intruder.c");
    fs::write(&source, "int main(void) { return 0; }\n")?;
    process::run(Command::new("cc").args(["-static", "-o"]).arg(tampered.join("usr/bin/intruder")).arg(&source))?;
    refused(binaries, &changed, &["/usr/bin/intruder"])?;
    fs::remove_dir_all(&tampered).context("removing the tampered copy")?;

    say("refusal 3: a manifest with one byte flipped");
    let forged = work().join("demo/forged.json");
    let mut bytes = fs::read(&release.manifest)?;
    let at = bytes.windows(6).position(|w| w == b"\"size\"").context("a manifest lists sizes")? + 7;
    bytes[at] ^= 1;
    fs::write(&forged, bytes)?;
    let forged_release = release::Release { manifest: forged.clone(), rootfs: rootfs.to_path_buf(), public_key: release.public_key.clone() };
    let result = refused(binaries, &forged_release, &["/usr/bin/true"]);
    fs::remove_file(&forged)?;
    result
}

/// Runs something that must be refused; shows the message and the audit line.
fn refused(binaries: &Binaries, release: &release::Release, program: &[&str]) -> anyhow::Result<()> {
    let audit = work().join("demo-audit.jsonl");
    let _ = fs::remove_file(&audit);
    let audit_name = audit.to_string_lossy().into_owned();
    let mut command = release.run(binaries, &["--audit", &audit_name], program);
    println!("$ {}", shown(&command));
    let out = output(&mut command)?;
    print!("{}", String::from_utf8_lossy(&out.stderr));
    if out.status.success() {
        bail!("this had to be refused");
    }
    let lines = fs::read_to_string(&audit).unwrap_or_default();
    let refusal = lines.lines().find(|l| l.contains("denied") || l.contains("refused") || l.contains("signature"));
    println!("audit: {}", refusal.context("a refusal leaves an audit line")?);
    Ok(())
}
