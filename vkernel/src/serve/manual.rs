//! The manual pages vkernel-serve(8) and vkernel-api(7). Owns their texts; options come from the command line's definition, requests and answers from the socket's words.

use clap::CommandFactory;
use serde_json::Value;
use std::fmt::Write;

/// vkernel-serve(8).
pub fn serve() -> std::io::Result<Vec<u8>> {
    let mut command = crate::cli::Cli::command();
    command.build();
    let serve = command.find_subcommand("serve").expect("it is defined").clone();
    let page = clap_mangen::Man::new(serve.name("vkernel-serve").bin_name("vkernel serve").display_name("vkernel-serve")).section("8").title("vkernel-serve");
    let mut out = Vec::new();
    page.render_title(&mut out)?;
    page.render_name_section(&mut out)?;
    page.render_synopsis_section(&mut out)?;
    page.render_description_section(&mut out)?;
    page.render_options_section(&mut out)?;
    out.extend_from_slice(SERVE.as_bytes());
    Ok(out)
}

const SERVE: &str = r#".SH "WHAT IT DOES"
Where the daemon runs,
.BR "vkernel run \-\-detach" ", " "vkernel create " and " vkernel exec \-\-detach"
hand it what they start, and it answers the execs. Without one they serve it themselves. What runs in the foreground is its caller's, but for ready containers. On its socket it answers the requests of
.BR vkernel-api (7).
.SH "WHEN IT ENDS"
The daemon is nobody's parent: containers live on. What it needs to serve them lies with the service manager (FDSTORE in
.BR sd_notify (3))
or with a small process called vkernel-holder, so execs wait for the next daemon; nothing runs that nobody has approved. A request that it had received and not answered is refused with EACCES by the next one.
Every exec has exactly one record in the audit log. When no daemon comes in time, the kernel answers ENOSYS to every further exec, and the containers can only be removed.
.SH "READY CONTAINERS"
With
.I zygotes
in serve.toml, a
.B vkernel run
in the foreground whose streams are no terminals finds a container that waits, locked down, for what it is to run: the same release, image and options, but for program, arguments and environment. The first run of a kind makes the zygote, a process of the daemon's
that keeps so many waiting; pins and serials are looked at again at each start, and when the manifest, the image's directory, keys or revocations are changed, or the settings are read again, a new zygote is made. Runs with
.BR \-\-detach ", " \-\-tty ", " \-\-name ", " \-\-volume ", " \-\-mount ", " \-\-device ", " \-\-publish ", " \-\-pid\-file ", " \-\-strace ", " \-\-userns ", " \-\-allow\-rollback ,
a network namespace by path, a permissive or recording run, and runs of images by name are started by their caller; so is everything when the daemon means other files or namespaces by the same names, when it was not started again since the program was replaced, and where a caller has fewer capabilities in its bounding set or a filter of
system calls.
.PP
Limits, niceness, processors, umask and blocked signals are the caller's, as ever. Whatever else a process inherits is the daemon's: its control group, unless the container has one, scheduling policy, I/O priority, score for want of memory, keyrings, security labels, and what its unit takes away, for example with SystemCallFilter and RestrictAddressFamilies in
.IR vkernel.service .
A container ends with the client that asked for it; when the daemon ends, those that were taken go on, and those that wait end.
.SH SIGNALS
.TP
.B SIGHUP
reads the settings again, as the request
.B reload
does: everything or nothing. What was wrong stands in the answer, on standard error and in the audit log, and the old settings stay in force.
.TP
.BR SIGTERM ", " SIGINT
end it
.SH FILES
.TP
.I /etc/vkernel/serve.toml
settings; all of them may be left out:
.nf

# what containers of a release that was revoked as a whole, or whose keys were taken away, may do: "refuse" everything, or "keep" going by the rules they began with until the daemon is started again
revoked_releases = "refuse"
# how long listeners are held while no daemon runs; under systemd, as long as the unit is not stopped or failed
takeover_seconds = 30
# how many connections there are at most
clients = 1024
# log for records about the daemon, and about containers that name none with \-\-audit: a file, or "journald"
audit = "/var/log/vkernel/audit.jsonl"
# whether whoever may use the socket can have single system calls made in a container, without a program of it: "syscall" in vkernel-api(7)
syscall_requests = false
# metrics for Prometheus, at a TCP address or the path of a socket
metrics = "127.0.0.1:9464"
# for how many kinds of container some are kept ready (READY CONTAINERS); 0: for none
zygotes = 0
# how many of each kind wait
zygote_containers = 2
# a kind for which nobody asked so long is given up
zygote_idle_seconds = 600
.fi
.TP
.I /etc/vkernel/keys/*.pub, /etc/vkernel/revoked.json
whom and what to believe; a revoked file is refused in containers that run already
.TP
.I /run/vkernel/vkernel.sock
the socket; mode 0600, and only root is heard. Whoever can open it is as good as root on the host: it is never to be shown to a container.
.TP
.I /run/vkernel/holder, /run/vkernel/serve.lock, /run/vkernel/manifests
the holder's socket, the mark that a daemon runs, and copies of the manifests of what it serves
.SH "SEE ALSO"
.BR vkernel (1),
.BR vkernel-api (7),
.BR systemd.service (5)
"#;

/// vkernel-api(7).
pub fn api() -> String {
    let schema = vkernel_client::schema();
    let mut out = String::from(API_HEAD);
    out.push_str(".SH REQUESTS\n");
    variants(&mut out, &schema["$defs"]["request"], "type");
    out.push_str(".SH ANSWERS\nAn answer has the\n.B id\nof its request, if there was one.\n");
    variants(&mut out, &schema["$defs"]["answer"], "status");
    out.push_str(API_TAIL);
    out
}

fn variants(out: &mut String, schema: &Value, tag: &str) {
    for variant in schema["oneOf"].as_array().into_iter().flatten() {
        let text = |v: &Value| escape(v["description"].as_str().unwrap_or_default());
        let _ = writeln!(out, ".TP\n.B {}\n{}", escape(variant["properties"][tag]["const"].as_str().unwrap_or_default()), text(variant));
        let required = |name: &str| variant["required"].as_array().is_some_and(|r| r.iter().any(|n| n == name));
        let mut members: Vec<_> = variant["properties"].as_object().into_iter().flatten().filter(|(name, _)| *name != tag && *name != "id").collect();
        members.sort_by_key(|(name, _)| !required(name));
        if members.is_empty() {
            continue;
        }
        out.push_str(".RS\n");
        for (name, member) in members {
            let kind = member["type"].as_str().or_else(|| member["type"][0].as_str()).unwrap_or("any");
            let optional = if required(name) { "" } else { ", optional" };
            let _ = writeln!(out, ".TP\n.BR {} \" ({kind}{optional})\"\n{}", escape(name), text(member));
        }
        out.push_str(".RE\n");
    }
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq").replace('…', "...")
}

const API_HEAD: &str = r#".\" Generated by `vkernel manual api`; do not edit.
.TH vkernel-api 7 "" "vkernel"
.SH NAME
vkernel\-api \- requests to the daemon of vkernel
.SH DESCRIPTION
.B vkernel serve
listens on a UNIX socket. A request is one JSON object in one line, at most 1 MiB long, with the member
.B type
and those of its type; a member that is not listed here is an error. It may have a member
.BR id ,
which its answers carry too. A connection can make any number of requests, one after the other. What is wrong is answered with
.B error
and ends nothing but the request.
.B vkernel serve \-\-schema
prints all this as JSON Schema; the crate
.B vkernel\-client
has it as Rust types.
.SH EXAMPLES
.nf
echo '{"type": "status"}' | socat \-t 5 \- UNIX\-CONNECT:/run/vkernel/vkernel.sock
echo '{"type": "exec", "container": "web", "path": "/usr/bin/ls"}' | socat \-t 5 \- UNIX\-CONNECT:/run/vkernel/vkernel.sock
echo '{"type": "kill", "container": "web", "signal": "TERM"}' | socat \-t 5 \- UNIX\-CONNECT:/run/vkernel/vkernel.sock
echo '{"id": 1, "type": "wait", "container": "web"}' | socat \-t 3600 \- UNIX\-CONNECT:/run/vkernel/vkernel.sock
echo '{"type": "run", "manifest": "/srv/out/manifest.json", "options": ["\-\-name", "web"], "command": ["/usr/bin/shop"]}' | socat \-t 10 \- UNIX\-CONNECT:/run/vkernel/vkernel.sock
echo '{"type": "syscall", "container": "web", "name": "mkdir", "args": ["/tmp/a", 493]}' | socat \-t 15 \- UNIX\-CONNECT:/run/vkernel/vkernel.sock
echo '{"type": "syscall", "container": "web", "calls": [{"name": "open", "args": ["/etc/hostname"]}, {"name": "read", "args": [{"result": 0}, {"out": 4096}, 4096]}]}' | socat \-t 15 \- UNIX\-CONNECT:/run/vkernel/vkernel.sock
echo '{"type": "events"}' | socat \-t 86400 \- UNIX\-CONNECT:/run/vkernel/vkernel.sock
.fi
"#;

const API_TAIL: &str = r#".SH SECURITY
The socket equals host root. Nothing is executed in a container but through
.BR vkernel "(1)'s"
own commands, locked down like everything else.
.SH "SEE ALSO"
.BR vkernel-serve (8),
.BR vkernel (1),
.BR socat (1)
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_are_requests() {
        let page = api().replace('\\', "");
        let examples: Vec<&str> = page.lines().filter_map(|l| l.strip_prefix("echo '")?.split_once("' | socat").map(|(request, _)| request)).collect();
        assert!(examples.len() >= 6);
        for example in examples {
            vkernel_client::Call::parse(example.as_bytes()).unwrap_or_else(|(_, why)| panic!("{why}: {example}"));
        }
    }

    #[test]
    fn the_settings_of_the_manual_are_the_defaults_and_known() {
        let page = SERVE.replace("\\-", "-");
        let text = page.split(".nf\n").nth(1).and_then(|t| t.split(".fi\n").next()).unwrap();
        let file: super::super::settings::File = toml::from_str(text).unwrap();
        let (audit, metrics) = (file.audit.clone(), file.metrics.clone());
        assert_eq!(file, super::super::settings::File { audit, metrics, ..Default::default() });
    }
}
