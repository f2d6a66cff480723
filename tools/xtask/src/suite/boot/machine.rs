//! The virtual machine: how it is started, for how long it may run, and the lines that come out of it.
//!
//! The fact a newcomer gets wrong: /dev/kvm says nothing. In a virtual machine without nested virtualisation it may be there and imitate a guest's every instruction, slower than TCG does; so the processor is asked.

use super::disks;
use crate::process::bounded;
use anyhow::{Context, ensure};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A quarter of an hour is usual without KVM.
const SECONDS: u32 = 2400;

pub(super) struct Machine {
    pub system: disks::System,
    pub payload: PathBuf,
    /// Where what it writes on its console is kept.
    pub console: PathBuf,
}

/// QEMU's words for how instructions are executed, and ours.
pub(super) fn accelerator() -> (&'static str, &'static str) {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let virtualises = cpu.lines().find(|l| l.starts_with("flags")).is_some_and(|l| l.split_whitespace().any(|f| f == "vmx" || f == "svm"));
    match virtualises && fs::File::options().read(true).write(true).open("/dev/kvm").is_ok() {
        true => ("kvm", "with KVM"),
        false => ("tcg,thread=multi,tb-size=1024", "its processor is imitated: no KVM here"),
    }
}

impl Machine {
    /// Until it switches itself off; after a panic it starts again, and the case that panicked has no result. `tell` gets every line of its results.
    pub(super) fn run(&self, mut tell: impl FnMut(&str) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let mut qemu = Command::new("nice");
        qemu.args(["-n", "5", "qemu-system-x86_64", "-nodefaults", "-display", "none", "-nic", "none", "-machine", "q35", "-cpu", "max", "-smp", "2", "-m", "3G"]);
        qemu.args(["-accel", accelerator().0]);
        qemu.arg("-kernel").arg(&self.system.kernel).arg("-initrd").arg(&self.system.initrd);
        qemu.args(["-append", "root=LABEL=system rw console=ttyS0 no_timer_check edd=off panic=-1"]);
        for disk in [&self.system.disk, &self.payload] {
            // What is written goes to a file without a name, which is gone with the machine.
            qemu.arg("-drive").arg(format!("if=virtio,format=raw,snapshot=on,file={}", disk.display()));
        }
        qemu.arg("-serial").arg(format!("file:{}", self.console.display()));
        qemu.args(["-device", "virtio-serial", "-chardev", "file,id=results,path=/dev/stdout", "-device", "virtserialport,chardev=results,name=results"]);
        let mut child = bounded(SECONDS, &qemu).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("cannot start setpriv")?;
        let lines = BufReader::new(child.stdout.take().context("the output is a pipe")?).lines();
        let told = lines.map_while(Result::ok).try_for_each(|line| tell(&line));
        if told.is_err() {
            child.kill()?;
        }
        let status = child.wait()?;
        told?;
        ensure!(status.success(), "the virtual machine ended with {status} (124: not within {SECONDS} s); its console is in {}", self.console.display());
        Ok(())
    }
}
