//! A real registry on loopback, images made by other people's tools, and the program under test.

#![allow(dead_code, reason = "each test file uses its part")]

use policy::{Digest, canonical};
use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// "u", "secret".
const HTPASSWD: &str = "u:$2b$04$p6X6un/KAsLNyF4Y5GKH.uC7x6AOL0CsfK/9bXDF/3TaxgXZ1Lcjy\n";
pub(crate) const AUTH: &str = "dTpzZWNyZXQ=";

pub(crate) struct Work {
    pub(crate) dir: tempfile::TempDir,
}

impl Work {
    pub(crate) fn new() -> Work {
        assert!(rustix::process::geteuid().is_root(), "these tests need root, as `cargo xtask test` does");
        Work { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    pub(crate) fn name(&self, path: &str) -> String {
        self.at(path).to_str().unwrap().to_owned()
    }

    /// Runs a tool in the work directory.
    pub(crate) fn tool(&self, program: &str, args: &[&str]) -> String {
        let mut command = Command::new(program);
        command.args(args).current_dir(self.dir.path()).env("HOME", self.dir.path()).stdin(Stdio::null());
        let out = command.output().unwrap_or_else(|e| panic!("{program} is not installed: {e}"));
        assert!(out.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    }

    pub(crate) fn sh(&self, script: &str) -> String {
        self.tool("sh", &["-ec", script])
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vkernel-image"));
        command.args(args).current_dir(self.dir.path()).env("HOME", self.dir.path()).env("XDG_CACHE_HOME", self.at("cache"));
        command.env_remove("REGISTRY_AUTH_FILE").env_remove("XDG_RUNTIME_DIR").env_remove("DOCKER_CONFIG").stdin(Stdio::null());
        command
    }

    /// Runs vkernel-image; the line it prints.
    pub(crate) fn ok(&self, args: &[&str]) -> PathBuf {
        let out = self.command(args).output().unwrap();
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap().trim_end().into()
    }

    /// Runs what must fail with one line; that line. Nothing half made may stay.
    pub(crate) fn refused(&self, args: &[&str]) -> String {
        let text = error_of(&self.command(args).output().unwrap());
        self.nothing_half_made();
        text
    }

    pub(crate) fn nothing_half_made(&self) {
        for entry in fs::read_dir(self.at("cache/vkernel/images")).into_iter().flatten() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(!name.starts_with(".new"), "{name} was left behind");
        }
    }

    pub(crate) fn forget_everything(&self) {
        let _ = fs::remove_dir_all(self.at("cache"));
    }

    /// An OCI layout `lay` with an image `img` of three layers, made by umoci: files, links, a setuid bit, a replaced directory, removals.
    pub(crate) fn umoci_image(&self) {
        self.sh("umoci init --layout lay && umoci new --image lay:img");
        let steps = [
            "mkdir -p r/usr/bin r/usr/lib r/etc/d; echo one > r/usr/bin/one; ln r/usr/bin/one r/usr/bin/uno; ln -s usr/lib r/lib; chmod 4755 r/usr/bin/one; echo x > r/etc/d/x; echo y > r/etc/y; mknod r/null c 1 3; head -c 3000000 /dev/urandom > r/usr/lib/big; chown 5:6 r/etc/y",
            "rm r/etc/y; rm -r r/etc/d; echo file > r/etc/d; echo new > r/usr/lib/new; mkdir r/opt; echo z > r/opt/z",
            "rm r/etc/d; mkdir r/etc/d; echo w > r/etc/d/w; rm -r r/opt; mkdir r/opt; rm r/usr/bin/uno",
        ];
        for step in steps {
            self.sh(&format!("umoci unpack --image lay:img b >/dev/null 2>&1; ln -s b/rootfs r; {step}; umoci repack --image lay:img b >/dev/null 2>&1; rm -r b r"));
        }
    }

    /// Every file of a tree with its facts.
    pub(crate) fn tree(&self, root: &Path) -> String {
        self.sh(&format!(
            "cd '{}'; find . -mindepth 1 -printf '%P %y %m %U %G %l ' \\( -type f -printf '%s %n %T@ ' -exec sha256sum {{}} \\; -o -printf '\\n' \\) | sort",
            root.display()
        ))
    }
}

pub(crate) fn error_of(out: &Output) -> String {
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(!out.status.success() && text.starts_with("vkernel-image: ") && text.lines().count() == 1, "{text} {}", String::from_utf8_lossy(&out.stdout));
    text
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Debian's docker-registry, serving until dropped.
pub(crate) struct Registry {
    child: Child,
    pub(crate) port: u16,
    dir: tempfile::TempDir,
}

impl Registry {
    pub(crate) fn start() -> Registry {
        Registry::with("", |_| {})
    }

    /// With TLS and a password; the certificate authority is `ca.pem` in the work directory.
    pub(crate) fn protected(work: &Work) -> Registry {
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
        work.sh(&format!(
            "exec 2>/dev/null; openssl req -x509 {key} -keyout ca.key -out ca.pem -days 2 -subj /CN=authority; \
             openssl req {key} -keyout tls.key -out tls.csr -subj /CN=registry; \
             printf 'subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n' > ext; \
             openssl x509 -req -in tls.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out tls.pem"
        ));
        fs::write(work.at("htpasswd"), HTPASSWD).unwrap();
        let auth = format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", work.name("htpasswd"));
        Registry::with(&format!("  tls: {{certificate: {}, key: {}}}\n{auth}", work.name("tls.pem"), work.name("tls.key")), |_| {})
    }

    fn with(more: &str, _: impl FnOnce(&Path)) -> Registry {
        let dir = tempfile::tempdir().unwrap();
        let port = free_port();
        let config = dir.path().join("config.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\nhttp:\n  addr: 127.0.0.1:{port}\n{more}",
            dir.path().join("data").display()
        );
        fs::write(&config, text).unwrap();
        let child = Command::new("docker-registry").arg("serve").arg(&config).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("docker-registry is installed");
        // Made first: a panic below must end the child.
        let registry = Registry { child, port, dir };
        let end = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < end, "the registry does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        registry
    }

    pub(crate) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn reference(&self, name: &str) -> String {
        format!("docker://{}/{name}", self.host())
    }

    /// Puts the image `lay:img` there by skopeo; its reference.
    pub(crate) fn put(&self, work: &Work, name: &str) -> String {
        let reference = self.reference(name);
        work.tool("skopeo", &["copy", "-q", "--dest-tls-verify=false", "oci:lay:img", &reference]);
        reference
    }

    /// Stored blobs with their sizes, manifests included.
    pub(crate) fn blobs(&self) -> Vec<(PathBuf, u64)> {
        let root = self.dir.path().join("data/docker/registry/v2/blobs/sha256");
        let mut found = Vec::new();
        for short in fs::read_dir(root).into_iter().flatten() {
            for digest in fs::read_dir(short.unwrap().path()).unwrap() {
                let data = digest.unwrap().path().join("data");
                found.push((data.clone(), fs::metadata(&data).unwrap().len()));
            }
        }
        found
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Passes connections on to a registry; each is cut after so many bytes of answer, or slowed down.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    /// Bytes sent to clients.
    pub(crate) sent: Arc<AtomicU64>,
}

impl Proxy {
    pub(crate) fn start(to: u16, cut_after: u64, cuts: u64, pause: Duration) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let sent = Arc::new(AtomicU64::new(0));
        let cuts = Arc::new(AtomicU64::new(cuts));
        let total = sent.clone();
        // Ends with the test process; every connection it makes is to the registry of this test.
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(("127.0.0.1", to))) else { continue };
                let (mut up_from, mut up_to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || std::io::copy(&mut up_from, &mut up_to));
                let (cuts, total) = (cuts.clone(), total.clone());
                std::thread::spawn(move || down(server, client, cut_after, &cuts, &total, pause));
            }
        });
        Proxy { port, sent }
    }
}

fn down(mut server: TcpStream, mut client: TcpStream, cut_after: u64, cuts: &AtomicU64, total: &AtomicU64, pause: Duration) {
    let mut piece = vec![0; 16 << 10];
    let mut passed = 0;
    while let Ok(n) = server.read(&mut piece) {
        if n == 0 || client.write_all(&piece[..n]).is_err() {
            break;
        }
        passed += n as u64;
        total.fetch_add(n as u64, Ordering::Relaxed);
        std::thread::sleep(pause);
        if passed > cut_after && cuts.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |c| c.checked_sub(1)).is_ok() {
            break;
        }
    }
    let _ = client.shutdown(std::net::Shutdown::Both);
    let _ = server.shutdown(std::net::Shutdown::Both);
}

/// A registry in front of a registry: `answer` sees the head of each request, and gives the whole response or None, whereupon the request is passed on. One request a connection. Its port.
pub(crate) fn intercepting(to: u16, answer: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let answer = answer.clone();
            std::thread::spawn(move || intercept(client, to, &*answer));
        }
    });
    port
}

fn intercept(mut client: TcpStream, to: u16, answer: &dyn Fn(&str) -> Option<String>) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && client.read(&mut byte).is_ok_and(|n| n == 1) {
        head.push(byte[0]);
    }
    if let Some(response) = answer(std::str::from_utf8(&head).unwrap()) {
        let _ = client.write_all(response.as_bytes());
        let _ = client.shutdown(std::net::Shutdown::Write);
        // Closed with a request's body unread, the connection would be reset and the answer lost.
        let _ = std::io::copy(&mut client, &mut std::io::sink());
        return;
    }
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", to)) else { return };
    head.truncate(head.len().saturating_sub(2));
    head.extend_from_slice(b"Connection: close\r\n\r\n");
    let _ = server.write_all(&head);
    let (mut body_from, mut body_to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    std::thread::spawn(move || std::io::copy(&mut body_from, &mut body_to));
    let _ = std::io::copy(&mut server, &mut client);
    let _ = client.shutdown(std::net::Shutdown::Both);
}

/// A response with a body.
pub(crate) fn response(status: &str, kind: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

/// A registry in front of a registry that answers one path itself.
pub(crate) fn answering(to: u16, path: &str, body: &str) -> u16 {
    let (asked, answer) = (format!("GET {path}"), response("200 OK", "application/vnd.oci.image.index.v1+json", body));
    intercepting(to, move |head| head.starts_with(&asked).then(|| answer.clone()))
}

/// Leaves credentials as `podman login` does.
pub(crate) fn log_in(work: &Work, host: &str) {
    fs::create_dir_all(work.at(".config/containers")).unwrap();
    fs::write(work.at(".config/containers/auth.json"), format!(r#"{{"auths":{{"{host}":{{"auth":"{AUTH}"}}}}}}"#)).unwrap();
}

/// A release in a directory: a manifest of policy's own tests with digests of made-up files.
pub(crate) fn release(w: &Work, directory: &str, serial: u64, changed_code: &str) -> PathBuf {
    let text = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policy/tests/manifests/accept/minimal.json")).unwrap();
    let mut m: Value = serde_json::from_slice(&text).unwrap();
    let put = |name: &str, bytes: &[u8]| {
        let path = w.at(directory).join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
        json!(Digest::blake3(bytes).to_string())
    };
    m["serial"] = serial.into();
    m["megabinary_digest"] = put("container.wasm", format!("wasm {serial}").as_bytes());
    for (i, a) in m["artifacts"].as_array_mut().unwrap().iter_mut().enumerate() {
        let code = if i == 0 { format!("{changed_code} {}", "x".repeat(100_000)) } else { format!("code {i} {}", "y".repeat(500_000)) };
        a["digest"] = put(a["file"].as_str().unwrap(), code.as_bytes());
    }
    let path = w.at(directory).join("manifest.json");
    fs::write(&path, canonical::to_bytes(&m)).unwrap();
    path
}
