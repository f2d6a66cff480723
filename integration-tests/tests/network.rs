//! Networks that CNI plugins make. Everything runs in a network namespace of the test's own, which stands for the host's: bridges, addresses and firewall rules go with it.
//!
//! The fact a newcomer gets wrong: plugins also write to disk which addresses are taken. That is in the test's directory here, and must be empty after every container, however it ended.

use integration_tests::{Setup, finish, show};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

/// A release whose manifest allows this, and a directory for all else.
struct Host {
    dir: tempfile::TempDir,
    setup: Setup,
}

impl Host {
    fn new(allowed: &str) -> Self {
        let mut setup = Setup::get();
        let release = setup.manifest.parent().expect("the manifest has a directory").to_path_buf();
        let dir = tempfile::tempdir_in(release.parent().expect("in target")).expect("a directory can be made");
        let copy = dir.path().join("release");
        assert!(Command::new("cp").args(["--archive", "--link"]).arg(&release).arg(&copy).status().expect("cp runs").success());
        let mut manifest: Value = serde_json::from_slice(&fs::read(&setup.manifest).expect("readable")).expect("JSON");
        manifest.as_object_mut().expect("an object").remove("signatures");
        manifest["global_policies"]["networking"] = json!(allowed);
        let calls = manifest["global_policies"]["default_syscalls"].as_array_mut().expect("a list");
        for call in "accept accept4 bind connect getpeername getsockname getsockopt listen recvfrom recvmsg sendmsg sendto setsockopt shutdown socket".split(' ') {
            if !calls.contains(&json!(call)) {
                calls.push(json!(call));
            }
        }
        calls.sort_by_key(ToString::to_string);
        setup.manifest = copy.join("manifest.json");
        for file in ["manifest.json", "manifest.provenance.json"] {
            let _ = fs::remove_file(copy.join(file));
        }
        fs::write(&setup.manifest, serde_json::to_vec(&manifest).expect("JSON")).expect("room");
        let mut sign = Command::new(&setup.recompiler);
        sign.arg("sign").arg(&setup.manifest).arg("--key").arg(setup.key.with_extension("key"));
        let out = finish(sign);
        assert!(out.status.success(), "{}", show(&out));
        let host = Self { dir, setup };
        host.list(json!([
            {"type": "bridge", "bridge": "vk0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
             "ipam": {"type": "host-local", "dataDir": host.path("leases"), "ranges": [[{"subnet": "10.99.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
            {"type": "portmap", "capabilities": {"portMappings": true}},
            {"type": "firewall"},
        ]));
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn list(&self, plugins: Value) {
        fs::write(self.path("net.conflist"), json!({"cniVersion": "1.0.0", "name": "test", "plugins": plugins}).to_string()).expect("room");
    }

    /// A script on this host. `run OPTIONS -- PROGRAM` and `vk COMMAND` are vkernel's.
    fn script(&self, text: &str) -> Output {
        let vkernel = format!("{} --root {}", self.setup.vkernel.display(), self.path("root").display());
        let places = format!("--store {} --serials {}", self.path("store").display(), self.path("serials").display());
        let network = format!("--network ${{NETWORK-bridge:{}}}", self.path("net.conflist").display());
        let (manifest, rootfs, key) = (self.setup.manifest.display(), self.setup.rootfs.display(), self.setup.key.display());
        let head = format!(
            "set -eu; ip link set lo up\nvk() {{ {vkernel} \"$@\"; }}\nrun() {{ vk run {manifest} --rootfs {rootfs} --key {key} {places} {network} \"$@\"; }}\n\
             leases() {{ ls {leases}/test 2> /dev/null | grep -c '^10\\.' || true; }}\nrules() {{ iptables-save | grep -c '{subnet}' || true; }}\nmounted() {{ grep -c 'nsfs' /proc/self/mountinfo || true; }}\nlinks() {{ ip -o link | grep -c veth || true; }}\n",
            leases = self.path("leases").display(),
            subnet = r"10\.99\.0\.[0-9]",
        );
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount", "bash", "-c", &(head + text), "host"]);
        finish(command)
    }

    fn says(&self, script: &str, lines: &str) {
        let out = self.script(script);
        assert!(out.status.success() && String::from_utf8_lossy(&out.stdout) == lines, "{}", show(&out));
    }
}

/// A server in the container that says what it is told.
const SERVE: &str = r#"
serve() { run -d --name "$1" "${@:2}" -- /usr/local/lib/twins/echo_server tcp 80; }
supervisor() { vk inspect web | sed -n 's/.*"supervisor": \([0-9]*\).*/\1/p'; }
ask() { exec 3<>"/dev/tcp/$1/$2"; echo "$3" >&3; timeout 10 head -c "${#3}" <&3; echo; exec 3>&-; }
reached() { for i in $(seq 100); do (exec 3<>"/dev/tcp/$1/$2") 2> /dev/null && return; sleep 0.05; done; echo "$1:$2 is not reached"; exit 1; }
"#;

#[test]
fn a_container_has_an_address_a_gateway_and_what_it_publishes_and_leaves_nothing() {
    let host = Host::new("host");
    let script = SERVE.to_owned()
        + r#"
serve web -p 8080:80 > /dev/null
address=$(vk inspect web | sed -n 's/.*"\(10\.99[0-9.]*\)\/24".*/\1/p')
vk inspect web | grep -o '0.0.0.0:8080->80/tcp'
reached "$address" 80
ask "$address" 80 straight
ask 127.0.0.1 8080 published
run -d --name names -p 127.0.0.1:5353:53/udp -- /usr/local/lib/twins/echo_server udp 53 > /dev/null
for i in $(seq 50); do exec 4<>/dev/udp/127.0.0.1/5353; echo datagram >&4; timeout 0.2 head -n 1 <&4 && break; done
vk rm --force names
run -p 8080:81 -- /usr/bin/true 2>&1 | grep -o 'container [0-9a-f]* has this port' | cut -c 24-
run -- /bin/bash -c "exec 3<>/dev/tcp/$address/80; echo neighbour >&3; head -c 9 <&3; echo"
echo "$(leases) address, rules: $([ "$(rules)" -gt 0 ] && echo some)"
vk stop -t 1 web; vk rm web
echo "$(leases) addresses, $(rules) rules, $(mounted) mounts, $(links) links"
"#;
    host.says(&script, "0.0.0.0:8080->80/tcp\nstraight\npublished\ndatagram\nhas this port\nneighbour\n1 address, rules: some\n0 addresses, 0 rules, 0 mounts, 0 links\n");
}

#[test]
fn a_container_reaches_a_server_of_its_host() {
    let host = Host::new("host");
    host.says(
        r#"
run -- /usr/bin/true
python3 - <<'END' &
import socket
s = socket.create_server(("10.99.0.1", 7000)); s.settimeout(30)
c, peer = s.accept(); c.sendall(b"hello " + peer[0].split(".")[0].encode() + b"\n"); c.close()
END
run -- /bin/bash -c 'for i in {1..200}; do exec 3<>/dev/tcp/10.99.0.1/7000 && break; sleep 0.05; done 2> /dev/null; read -r line <&3; echo "$line"'
wait
echo "$(leases) addresses"
"#,
        "hello 10\n0 addresses\n",
    );
}

#[test]
fn whoever_cleans_up_after_a_killed_supervisor_leaves_the_network() {
    let host = Host::new("host");
    let script = SERVE.to_owned()
        + r#"
serve web -p 8080:80 > /dev/null
kill -KILL "$(supervisor)"
for i in $(seq 100); do [ "$(leases) $(rules)" = "0 0" ] && break; sleep 0.1; done
echo "$(leases) addresses, $(rules) rules"
vk rm web
# Neither supervisor nor keeper: the next command.
serve web -p 8080:80 > /dev/null
supervisor=$(supervisor)
kill -KILL $(cat /proc/$supervisor/task/*/children) "$supervisor"
for i in $(seq 100); do [ "$(vk ps --all | grep -c exit)" = 0 ] && [ "$(vk ps --quiet | wc -l)" = 0 ] && break; sleep 0.1; done
NETWORK=none run -- /usr/bin/true
echo "$(leases) addresses, $(rules) rules, $(mounted) mounts"
vk rm web
# A plugin that fails in the middle: what the first ones made goes, too.
sed -i 's/"type":"firewall"/"type":"tuning","sysctl":{"net.core.none":"1"}/' NET
run -p 8080:80 -- /usr/bin/true 2>&1 | grep -c '^vkernel: network test: tuning'
echo "$(leases) addresses, $(rules) rules; $(vk ps --all --quiet | wc -l) containers"
# One that cannot undo what it did is asked again, as long as the record is there.
sed -i 's/"type":"tuning"/"type":"vlan"/' NET
run -p 8080:80 -- /usr/bin/true 2>&1 | grep -c '^vkernel: warning: leave network test: vlan'
NETWORK=none run -- /usr/bin/true 2>&1 | grep -c '^vkernel: warning: leave network test: vlan'
vk rm $(vk ps --all --quiet) 2> /dev/null
echo "$(leases) addresses, $(rules) rules; $(vk ps --all --quiet | wc -l) containers"
"#;
    let script = script.replace("NET\n", &format!("{}\n", host.path("net.conflist").display()));
    host.says(&script, "0 addresses, 0 rules\n0 addresses, 0 rules, 0 mounts\n1\n0 addresses, 0 rules; 0 containers\n1\n1\n0 addresses, 0 rules; 0 containers\n");
}

#[test]
fn what_cannot_be_is_said_before_anything_is_done() {
    let host = Host::new("host");
    let refused = |script: &str, says: &[&str]| {
        let out = host.script(script);
        let told = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.code() == Some(125) && says.iter().all(|s| told.contains(s)), "{}", show(&out));
        assert!(!host.path("leases").exists(), "an address was taken");
    };
    refused(
        "python3 -c 'import socket,sys,os; s=socket.create_server((\"0.0.0.0\",8080)); os.set_inheritable(s.fileno(),True); os.execvp(\"sleep\",[\"sleep\",\"20\"])' & p=$!; trap 'kill $p' EXIT; until (exec 3<>/dev/tcp/127.0.0.1/8080) 2> /dev/null; do sleep 0.1; done; run -p 8080:80 -- /usr/bin/true",
        &["--publish 0.0.0.0:8080->80/tcp", "in use"],
    );
    refused("NETWORK=loopback; run -p 8080:80 -- /usr/bin/true", &["--publish: has no meaning with --network loopback"]);
    host.list(json!([{"type": "bridge"}, {"type": "missing"}]));
    refused("run -- /usr/bin/true", &["its plugin missing is not installed", "containernetworking-plugins"]);
    host.list(json!([{"type": "bridge"}]));
    refused("run -p 80 -- /usr/bin/true", &["none of its plugins publishes ports"]);
    host.list(json!([{"type": "bridge"}, {"type": "portmap", "capabilities": {"portMappings": true}}]));
    refused("run -p 80 -p 127.0.0.1:80:81 -- /usr/bin/true", &["--publish 127.0.0.1:80->81/tcp: stands twice"]);
    let tight = Host::new("loopback");
    let out = tight.script("run -- /usr/bin/true");
    assert!(out.status.code() == Some(125) && String::from_utf8_lossy(&out.stderr).contains("the manifest allows loopback"), "{}", show(&out));
}
