//! The manual page vkernel(1). Owns the text behind the options; options, commands and examples come from the command line's definition, so that they cannot be wrong.
//!
//! The fact a newcomer gets wrong: the shipped page is generated, see `integration-tests/tests/manual.rs`.

use super::{Cli, EXAMPLES};

/// vkernel(1).
pub fn manual() -> std::io::Result<Vec<u8>> {
    use clap::CommandFactory;
    let command = Cli::command();
    let mut out = Vec::new();
    let page = clap_mangen::Man::new(command.clone());
    page.render_title(&mut out)?;
    page.render_name_section(&mut out)?;
    page.render_synopsis_section(&mut out)?;
    page.render_description_section(&mut out)?;
    for sub in command.get_subcommands().filter(|c| !c.is_hide_set() && c.get_name() != "help") {
        out.extend(format!(".SH \"VKERNEL {}\"\n", sub.get_name().to_uppercase()).bytes());
        let page = clap_mangen::Man::new(sub.clone());
        let mut part = Vec::new();
        page.render_description_section(&mut part)?;
        page.render_options_section(&mut part)?;
        for task in sub.get_subcommands().filter(|c| c.get_name() != "help") {
            part.extend(format!(".SS {}\n", task.get_name()).bytes());
            let page = clap_mangen::Man::new(task.clone());
            page.render_description_section(&mut part)?;
            page.render_options_section(&mut part)?;
        }
        out.extend(String::from_utf8_lossy(&part).replace(".SH DESCRIPTION\n", "").replace(".SH OPTIONS\n", ".PP\n").bytes());
    }
    out.extend(format!(".SH EXAMPLES\n.nf\n{}\n.fi\n", EXAMPLES.trim_start_matches("Examples:\n").replace('-', "\\-")).bytes());
    out.extend_from_slice(MANUAL_TAIL.as_bytes());
    Ok(out)
}

const MANUAL_TAIL: &str = r#".SH "EXIT STATUS"
.TP
.B 125
vkernel itself failed; one line on standard error says what, why and what to do
.TP
.B 126
the program was refused or cannot be executed
.TP
.B 127
the program or the working directory is not in the container
.TP
.B other
the guest's exit code, or 128 plus the number of the signal that killed it
.SH SIGNALS
Signals sent to
.B vkernel run
are passed on to the guest's first program. It is pid 1 of its namespace, so Linux discards signals it has no handler for, as with podman.
.SH "AUDIT LOG"
One JSON object per line with the members time, container, event, decision, reason, and where they apply pid, hash, path, detail, nr, stripped, latency_us and from_worker.
Events: policy-load, signature-failure, container-start, container-stop, exec, library, native-exec, syscall, guest, out-of-memory, dropped, daemon, syscall-request.
Each exec has exactly one record, even if its supervisor is killed: one that was not decided then is denied with the reason supervisor\-died.
Where a release has rules about scripts and program text (POLICY in
.BR recompiler\-build (1)),
execs are denied with the reasons script\-not\-listed, other\-interpreter (the script's row names another file) and inline\-denied, or allowed with inline\-audited; the detail says which script, or which option made it program text, never the text. arguments\-untold is a worker that kept silent, script\-not\-handed\-over one that did not take what was decided about. The names of variables that the program did not get are in stripped.
.B \-\-permissive
relaxes none of this.
A system call has its number in nr, its name in detail and its program's path. Its reasons: syscall\-not\-listed, syscall\-not\-implemented; would\-refuse, made because of \-\-permissive; used, listed and recorded because of \-\-record\-syscalls. The start of such a container has a policy\-load record with the reason permissive or syscalls\-recorded.
A syscall\-request is what somebody asked the daemon to call in the container
.RB ( syscall
in
.BR vkernel\-api (7)):
with the asking process in pid, and in the detail its user, the program whose list counts, and the calls. It is written before any of them is made; its reasons: asked; denied with requests\-off, release\-revoked, no\-container, bad\-calls, or why an exec of that program would be refused.
Records with from_worker come from inside the container and are as trustworthy as it is.
.PP
With
.B \-\-audit journald
each record is one of systemd's journal, with the fields MESSAGE, PRIORITY (4 for what was denied, else 6), SYSLOG_IDENTIFIER=vkernel, MESSAGE_ID=11ec81fc2be746c2b0798844345b4aac, and one for each member:
VKERNEL_TIME, VKERNEL_CONTAINER, VKERNEL_EVENT, VKERNEL_DECISION, VKERNEL_REASON, VKERNEL_PID, VKERNEL_HASH, VKERNEL_PATH, VKERNEL_DETAIL, VKERNEL_NR, VKERNEL_STRIPPED, VKERNEL_LATENCY_US and VKERNEL_FROM_WORKER; for instance
.nf

journalctl SYSLOG_IDENTIFIER=vkernel VKERNEL_DECISION=denied \-o verbose
.fi
.PP
VKERNEL_RECORD_ID names a record: two with the same id are one, which a supervisor that died may have sent already. A record that the journal does not take within a second is not sent again; how many those were stands in a later record with the reason sink\-failed.
The journal itself drops what is too much for it and says so (RateLimitBurst in
.BR journald.conf (5)).
.SH "OCI RUNTIME"
.B create, start, state, kill, delete, exec, list, features, pause
and
.B resume
take the arguments of runc, before the command
.BR \-\-root ", " \-\-log " and " \-\-log\-format .
The release of a bundle is named by
.BR \-\-manifest ,
by the annotation
.BR io.vkernel.manifest ,
or lies in the image as
.IR /.vkernel/manifest.json ;
it is verified like any other. Whatever a bundle says, mounts are nosuid, nodev and noexec, /proc and /sys are read-only, there is a user namespace, and no_new_privs is set. AppArmor profiles and SELinux labels are ignored with a warning in the log.
.PP
With podman:
.B podman \-\-runtime /usr/bin/vkernel run
\&... With containerd, through its runc v2 shim:
.B ctr run \-\-runc\-binary /usr/bin/vkernel
\&..., or a runtime of that BinaryName in its configuration, which a Kubernetes RuntimeClass can name. A pod's sandbox is run by the same runtime, so the image of its program must have a release as well.
.I /usr/share/doc/vkernel/examples
has a configuration for each.
.SH SECURITY
Host root is trusted: it can hand an open host binary to a process in the container. Against a worker that was taken over the container's kernel limits hold, per-binary lists do not.
.SH FILES
.TP
.I /etc/vkernel/keys/*.pub
trusted public keys
.TP
.I /etc/vkernel/revoked.json
revoked files and keys
.TP
.I /etc/vkernel/bridge.conflist
the network of
.BR "\-\-network bridge" :
a CNI network configuration list. Its plugins are looked for in /opt/cni/bin, /usr/lib/cni and /usr/libexec/cni
.TP
.I /var/lib/vkernel/store
verified copies of megabinaries, and of releases what is known of their manifests and their linked code, which
.B vkernel prune
empties of what was not used lately; may be deleted when nothing runs
.TP
.I /var/lib/vkernel/serials
the highest serial of each release that ran; an older release of the same name is refused
.TP
.I /run/vkernel/containers
records and logs of containers
.TP
.I /var/lib/vkernel/images, /var/lib/vkernel/blobs
images that were run by name, and their downloads; may be deleted when nothing runs
.SH "SEE ALSO"
.BR vkernel-serve (8),
.BR vkernel-api (7),
.BR vkernel-syscalls (7)
"#;
