//! Who we are to a registry: what `docker login` leaves behind, helper programs included, and registries that send to a token service, as those of Docker and GitHub do.

mod support;

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use support::{AUTH, Registry, Work, error_of, intercepting, log_in, response};

/// "v:wrong"
const WRONG: &str = "djp3cm9uZw==";

/// A registry with TLS and a password that has the image `a:1`.
fn protected(w: &Work) -> Registry {
    w.umoci_image();
    let registry = Registry::protected(w);
    w.sh("mkdir certs; cp ca.pem certs/ca.crt");
    w.tool("skopeo", &["copy", "-q", "--dest-creds", "u:secret", "--dest-cert-dir", "certs", "oci:lay:img", &registry.reference("a:1")]);
    registry
}

/// Leaves a file as `docker login` does.
fn docker(w: &Work, directory: &str, text: &str) {
    fs::create_dir_all(w.at(directory)).unwrap();
    fs::write(w.at(directory).join("config.json"), text).unwrap();
}

/// The image from nothing, with these variables: the error's line, if there is one.
fn unpack(w: &Work, registry: &Registry, variables: &[(&str, &str)]) -> Result<(), String> {
    w.forget_everything();
    let mut command = w.command(&["--registry-ca", "ca.pem", "unpack", &registry.reference("a:1")]);
    // Helpers lie where PATH says.
    command.env("PATH", format!("{}:{}", w.name("bin"), std::env::var("PATH").unwrap())).envs(variables.iter().copied());
    let out = command.output().unwrap();
    if out.status.success() { Ok(()) } else { Err(error_of(&out)) }
}

#[test]
fn what_docker_login_left_is_used_where_podman_login_left_nothing() {
    let w = Work::new();
    let registry = protected(&w);
    let host = registry.host();
    let auths = |host: &str, auth: &str| format!(r#"{{"auths":{{"{host}":{{"auth":"{auth}"}}}}}}"#);
    assert!(unpack(&w, &registry, &[]).is_err_and(|e| e.contains("log in with podman login or docker login")));
    docker(&w, ".docker", &auths(&host, AUTH));
    assert_eq!(unpack(&w, &registry, &[]), Ok(()));
    docker(&w, ".docker", &auths("other.invalid", AUTH));
    assert!(unpack(&w, &registry, &[]).is_err_and(|e| e.contains("log in with")), "another registry's are not sent");
    docker(&w, ".docker", &auths(&host, WRONG));
    assert!(unpack(&w, &registry, &[]).is_err_and(|e| e.contains("the stored credentials were not accepted")));
    // podman's count first, and DOCKER_CONFIG names another directory.
    docker(&w, "elsewhere", &auths(&host, AUTH));
    assert_eq!(unpack(&w, &registry, &[("DOCKER_CONFIG", &w.name("elsewhere"))]), Ok(()));
    log_in(&w, &host);
    assert_eq!(unpack(&w, &registry, &[]), Ok(()));
    // One that has nothing to say about this registry leaves it to the other.
    log_in(&w, "other.invalid");
    docker(&w, ".docker", &auths(&host, AUTH));
    assert_eq!(unpack(&w, &registry, &[]), Ok(()));
}

#[test]
fn helper_programs_of_dockers_are_asked_as_docker_asks_them() {
    let w = Work::new();
    let registry = protected(&w);
    let host = registry.host();
    // Written by another process: a descriptor open for writing here could be inherited, and the kernel executes no such file.
    w.sh(&format!(
        "mkdir bin; cat > bin/docker-credential-tests <<'END'\n#!/bin/sh\n[ \"$1\" = get ] || exit 3\nread -r server\necho \"$server\" >> {log}\n\
         case $server in {host}) echo '{{\"ServerURL\":\"{host}\",\"Username\":\"u\",\"Secret\":\"secret\"}}';; *) echo 'credentials not found in native keychain'; exit 1;; esac\nEND\n\
         printf '#!/bin/sh\\necho the keychain is locked >&2\\nexit 1\\n' > bin/docker-credential-locked\nprintf '#!/bin/sh\\necho hello\\n' > bin/docker-credential-chatty\nchmod 755 bin/*",
        log = w.name("asked")
    ));
    let asked = || fs::read_to_string(w.at("asked")).unwrap_or_default();
    docker(&w, ".docker", r#"{"auths":{},"credsStore":"tests"}"#);
    assert_eq!(unpack(&w, &registry, &[]), Ok(()));
    assert!(asked().lines().any(|l| l == host), "{}", asked());
    fs::remove_file(w.at("asked")).unwrap();
    // One for this registry alone; the store that knows nothing is not what counts.
    docker(&w, ".docker", &format!(r#"{{"credsStore":"tests","credHelpers":{{"{host}":"tests"}}}}"#));
    assert_eq!(unpack(&w, &registry, &[]), Ok(()));
    docker(&w, ".docker", &format!(r#"{{"credHelpers":{{"{host}":"tests"}}}}"#));
    assert_eq!(unpack(&w, &registry, &[]), Ok(()));
    fs::remove_file(w.at("asked")).unwrap();
    docker(&w, ".docker", r#"{"credHelpers":{"other.invalid":"tests"}}"#);
    assert!(unpack(&w, &registry, &[]).is_err_and(|e| e.contains("log in with")) && asked().is_empty(), "another registry's helper is not asked");
    for helper in ["locked", "chatty", "missing"] {
        docker(&w, ".docker", &format!(r#"{{"credHelpers":{{"{host}":"{helper}"}}}}"#));
        let line = unpack(&w, &registry, &[]).unwrap_err();
        assert!(line.contains(&format!("credentials for {host}: ")) && line.contains("log in again with podman login or docker login"), "{helper}: {line}");
    }
}

/// A registry that believes tokens only, its token service, and the place that it sends to for blobs, each a host of its own.
struct Hub {
    port: u16,
    /// Scopes that were asked for, with who asked.
    asked: Arc<Mutex<Vec<String>>>,
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|l| l.split_once(": ").filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v))
}

impl Hub {
    /// `trouble` sees the head of each request first.
    fn before(to: u16, trouble: impl Fn(&str) -> Option<String> + Clone + Send + Sync + 'static) -> Hub {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (log, first) = (asked.clone(), trouble.clone());
        // Everybody may pull from `public`, who has the password does anything.
        let service = intercepting(to, move |head| {
            if let Some(answer) = first(head) {
                return Some(answer);
            }
            let query = head.split(' ').nth(1).unwrap_or_default().replace("%3A", ":").replace("%2C", ",").replace("%2F", "/");
            let value = |name: &str| query.split(['?', '&']).find_map(|p| p.strip_prefix(name)).unwrap_or_default().to_owned();
            let (scope, who) = (value("scope="), header(head, "authorization").unwrap_or("nobody"));
            log.lock().unwrap().push(format!("{scope} {who}"));
            let may = who == format!("Basic {AUTH}") || (who == "nobody" && scope == "repository:public:pull");
            Some(if !may || value("service=") != "hub" || !query.starts_with("/token?") {
                response("401 Unauthorized", "application/json", r#"{"details":"incorrect username or password"}"#)
            } else {
                response("200 OK", "application/json", &format!(r#"{{"token":"for-{scope}","expires_in":300}}"#))
            })
        });
        // A token that went there would be known to a stranger.
        let blobs = intercepting(to, |head| header(head, "authorization").map(|_| response("400 Bad Request", "text/plain", "Only one auth mechanism allowed")));
        let port = intercepting(to, move |head| {
            if let Some(answer) = trouble(head) {
                return Some(answer);
            }
            let mut words = head.split(' ');
            let (method, path) = (words.next()?, words.next()?);
            let name = path.strip_prefix("/v2/")?.split("/blobs/").next()?.split("/manifests/").next()?.split("/referrers/").next()?;
            let pull = matches!(method, "GET" | "HEAD");
            let good = |scope: &str| header(head, "authorization") == Some(&format!("Bearer for-repository:{name}:{scope}"));
            if name.is_empty() || !(good("pull,push") || (pull && good("pull"))) {
                let challenge = format!("HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer realm=\"http://127.0.0.1:{service}/token\",service=\"hub\"\r\n");
                return Some(response("401 Unauthorized", "application/json", r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#).replacen(
                    "HTTP/1.1 401 Unauthorized\r\n",
                    &challenge,
                    1,
                ));
            }
            let elsewhere = method == "GET" && path.contains("/blobs/sha256:");
            elsewhere.then(|| format!("HTTP/1.1 307 Temporary Redirect\r\nLocation: http://127.0.0.1:{blobs}{path}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"))
        });
        Hub { port, asked }
    }

    fn reference(&self, name: &str) -> String {
        format!("127.0.0.1:{}/{name}", self.port)
    }

    /// What was asked for since the last time, which is something.
    fn asked(&self) -> Vec<String> {
        let asked = std::mem::take(&mut *self.asked.lock().unwrap());
        assert!(!asked.is_empty(), "nobody asked for a token");
        asked
    }
}

#[test]
fn a_registry_that_believes_tokens_gets_one_of_its_token_service() {
    let w = Work::new();
    w.umoci_image();
    let registry = Registry::start();
    for name in ["public:1", "private:1"] {
        registry.put(&w, name);
    }
    let expected = w.tree(&w.ok(&["unpack", "oci:lay:img"]));
    let hub = Hub::before(registry.port, |_| None);
    let pulled = |name: &str| {
        w.forget_everything();
        w.tree(&w.ok(&["unpack", &hub.reference(name)]))
    };
    // Without a login: a token for everybody, and none for what is not for everybody.
    assert_eq!(pulled("public:1"), expected);
    assert!(hub.asked().iter().all(|a| a == "repository:public:pull nobody"));
    w.forget_everything();
    let text = w.refused(&["unpack", &hub.reference("private:1")]);
    assert!(text.contains("log in with podman login or docker login"), "{text}");
    fs::create_dir(w.at("files")).unwrap();
    fs::write(w.at("files/x"), "x").unwrap();
    fs::write(w.at("none"), "").unwrap();
    let to = hub.reference("public:c");
    let put = ["bundle-put", "files", &to, "--keep", "none"];
    assert!(w.refused(&put).contains("log in with podman login or docker login"));
    // With one, what may be pulled is more, and pushes are asked for by their scope.
    log_in(&w, &format!("127.0.0.1:{}", hub.port));
    hub.asked();
    assert_eq!(pulled("private:1"), expected);
    assert!(hub.asked().iter().all(|a| *a == format!("repository:private:pull Basic {AUTH}")));
    w.ok(&put);
    assert!(hub.asked().contains(&format!("repository:public:pull,push Basic {AUTH}")));
    // The wrong password: it is not tried without.
    let file = w.at(".config/containers/auth.json");
    fs::write(&file, fs::read_to_string(&file).unwrap().replace(AUTH, WRONG)).unwrap();
    w.forget_everything();
    let text = w.refused(&["unpack", &hub.reference("private:1")]);
    assert!(text.contains("the stored credentials were not accepted, log in again"), "{text}");
}

/// A client that gets no token asks on without one, and is refused: what passes must not end as advice to log in again.
#[test]
fn a_token_service_that_was_away_for_a_moment_is_asked_again() {
    let w = Work::new();
    w.umoci_image();
    let registry = Registry::start();
    registry.put(&w, "private:1");
    fs::create_dir(w.at("files")).unwrap();
    fs::write(w.at("none"), "").unwrap();
    let [overloaded, busy] = ["503 Service Unavailable", "429 Too Many Requests"].map(|status| response(status, "text/plain", "slowly"));
    for (what, answer) in [("GET /token", &overloaded), ("GET /token", &busy), ("GET /token", &String::new()), ("GET /v2/ ", &overloaded)] {
        let failing_once = || {
            let (failed, answer) = (Arc::new(AtomicBool::new(false)), answer.clone());
            let hub = Hub::before(registry.port, {
                let failed = failed.clone();
                move |head| (head.starts_with(what) && !failed.swap(true, Ordering::Relaxed)).then(|| answer.clone())
            });
            log_in(&w, &format!("127.0.0.1:{}", hub.port));
            (hub, failed)
        };
        let (hub, failed) = failing_once();
        w.forget_everything();
        w.ok(&["unpack", &hub.reference("private:1")]);
        assert!(failed.load(Ordering::Relaxed), "{what}{answer}");
        if answer != &overloaded {
            continue;
        }
        let (hub, failed) = failing_once();
        fs::write(w.at("files/x"), what).unwrap();
        w.ok(&["bundle-put", "files", &hub.reference("private:c"), "--keep", "none"]);
        assert!(failed.load(Ordering::Relaxed), "{what}{answer}");
    }
}
