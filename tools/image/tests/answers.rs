//! Registries, and what answers in their place, that say something else than yes: what `vkernel-image` makes of it in one line, and what it keeps.

mod support;

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use support::{Proxy, Registry, Work, intercepting, response};

/// A registry with an image `a:1`.
fn served(w: &Work) -> Registry {
    w.umoci_image();
    let registry = Registry::start();
    registry.put(w, "a:1");
    registry
}

/// What arrived of blobs that are not whole.
fn parts(w: &Work) -> Vec<(PathBuf, u64)> {
    let all = fs::read_dir(w.at("cache/vkernel/blobs/sha256")).unwrap().map(|e| e.unwrap());
    all.filter(|e| e.path().extension().is_some()).map(|e| (e.path(), e.metadata().unwrap().len())).collect()
}

#[test]
fn a_pull_says_what_to_do_about_what_was_answered() {
    let w = Work::new();
    let registry = served(&w);
    type Answer = fn(&str) -> Option<String>;
    let page: Answer = |head| head.starts_with("GET /v2/a/manifests/1 ").then(|| response("200 OK", "text/html", "<html>\n<title>Log in</title>"));
    let list: Answer = |head| head.starts_with("GET /v2/a/manifests/1 ").then(|| response("200 OK", "application/json", "[2]"));
    let lost: Answer = |head| head.starts_with("GET /v2/a/blobs/").then(|| response("404 Not Found", "text/plain", "404 page not found"));
    let round: Answer = |head| {
        head.starts_with("GET /v2/a/manifests/").then(|| "HTTP/1.1 307 Temporary Redirect\r\nLocation: /v2/a/manifests/1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".into())
    };
    for (answer, words) in [
        (page, ["/v2/a/manifests/1 is no JSON object but \"<html> <title>Log in</title>\"", "whether a proxy or a login page"]),
        (list, ["/v2/a/manifests/1 is no JSON object but \"[2]\"", "whether a proxy or a login page"]),
        (lost, ["/v2/a/blobs/sha256:", "lacks a part of the image, have it pushed again"]),
        (round, ["redirect", "check its name, or ask whoever runs it"]),
    ] {
        let port = intercepting(registry.port, answer);
        let text = w.refused(&["unpack", &format!("127.0.0.1:{port}/a:1")]);
        assert!(words.iter().all(|w| text.contains(w)) && !text.contains("tries") && !text.contains("try again"), "{text}");
    }
    w.ok(&["unpack", &registry.reference("a:1")]);
}

#[test]
fn a_push_says_what_to_do_about_what_was_answered() {
    let w = Work::new();
    let registry = Registry::start();
    fs::create_dir(w.at("files")).unwrap();
    fs::write(w.at("files/x"), "x".repeat(5_000_000)).unwrap();
    fs::write(w.at("none"), "").unwrap();
    let put = |port: u16| ["bundle-put".to_owned(), "files".into(), format!("127.0.0.1:{port}/cache:1"), "--keep".into(), "none".into()];
    for (method, status, words) in [
        ("PUT ", "413 Payload Too Large", "have its limit raised"),
        ("POST ", "405 Method Not Allowed", "push to another one"),
        ("PUT ", "507 Insufficient Storage", "have room made on it"),
        ("POST ", "404 Not Found", "project of that name first"),
    ] {
        let port = intercepting(registry.port, move |head| head.starts_with(method).then(|| response(status, "text/plain", "no")));
        let text = w.refused(&put(port).each_ref().map(String::as_str));
        assert!(text.contains(&status[..3]) && text.contains(words) && !text.contains("tries") && !text.contains("try again"), "{text}");
    }
    let port = intercepting(registry.port, |_| None);
    w.ok(&put(port).each_ref().map(String::as_str));
}

#[test]
fn a_cache_that_is_not_there_yet_is_empty_and_one_that_is_refused_is_not() {
    let w = Work::new();
    let registry = served(&w);
    fs::write(w.at("names"), "index.json\n").unwrap();
    let get = |from: &str| ["bundle-get".to_owned(), from.to_owned(), "into".into(), "--names".into(), "names".into()];
    for absent in [registry.reference("never:1"), registry.reference("a:2"), "oci:never:1".into(), "oci:lay:never".into()] {
        assert_eq!(w.ok(&get(&absent).each_ref().map(String::as_str)), PathBuf::from("0"), "{absent}");
    }
    let port = intercepting(registry.port, |head| head.contains("/manifests/").then(|| response("403 Forbidden", "text/plain", "no")));
    assert!(w.refused(&get(&format!("127.0.0.1:{port}/never:1")).each_ref().map(String::as_str)).contains("may not do this"));
    assert!(w.refused(&get(&registry.reference("a:1")).each_ref().map(String::as_str)).contains("is no build cache"));
}

/// What one process got, the next one does not ask for again, however the first one ended.
#[test]
fn a_download_that_a_killed_process_began_is_continued_by_the_next() {
    let w = Work::new();
    let registry = served(&w);
    let slow = Proxy::start(registry.port, u64::MAX, 0, Duration::from_millis(10));
    let ranges = Arc::new(Mutex::new(Vec::new()));
    let seen = ranges.clone();
    let port = intercepting(slow.port, move |head| {
        seen.lock().unwrap().extend(head.lines().find_map(|l| l.to_lowercase().strip_prefix("range: ").map(str::to_owned)));
        None
    });
    let image = format!("127.0.0.1:{port}/a:1");
    let mut child = w.command(&["unpack", &image]).stderr(std::process::Stdio::null()).stdout(std::process::Stdio::null()).spawn().unwrap();
    let end = Instant::now() + Duration::from_secs(60);
    while slow.sent.load(Ordering::Relaxed) < 900_000 {
        assert!(Instant::now() < end, "nothing arrives");
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    std::thread::sleep(Duration::from_millis(100));
    assert!(ranges.lock().unwrap().is_empty());
    let (_, have) = parts(&w).into_iter().max_by_key(|p| p.1).unwrap();
    assert!(have > 300_000, "{have}");
    let before = slow.sent.load(Ordering::Relaxed);
    let root = w.ok(&["unpack", &image]);
    assert_eq!(fs::metadata(root.join("usr/lib/big")).unwrap().len(), 3_000_000);
    assert_eq!(*ranges.lock().unwrap(), [format!("bytes={have}-")]);
    let sent = slow.sent.load(Ordering::Relaxed) - before;
    assert!(sent < 3_000_000 - have + 30_000, "{sent} bytes were sent, {have} of 3 MB were here");
    assert!(parts(&w).is_empty());
}

#[test]
fn a_server_that_refuses_to_go_on_is_asked_for_the_whole() {
    let w = Work::new();
    let registry = served(&w);
    let (large, bytes) = registry.blobs().into_iter().max_by_key(|b| b.1).unwrap();
    let name = large.parent().unwrap().file_name().unwrap().to_str().unwrap();
    let envelope = r#"{"errors":[{"code":"RANGE_INVALID","message":"no"}]}"#;
    for (kind, body) in [("text/plain", "invalid range"), ("application/json", envelope)] {
        w.forget_everything();
        fs::create_dir_all(w.at("cache/vkernel/blobs/sha256")).unwrap();
        // Of another blob, as a mirror may have had it: what is there is of no use.
        fs::write(w.at("cache/vkernel/blobs/sha256").join(format!("{name}.part")), vec![0; bytes as usize / 2]).unwrap();
        let port = intercepting(registry.port, move |head| head.to_lowercase().contains("\r\nrange:").then(|| response("416 Range Not Satisfiable", kind, body)));
        let root = w.ok(&["unpack", &format!("127.0.0.1:{port}/a:1")]);
        assert_eq!(fs::metadata(root.join("usr/lib/big")).unwrap().len(), 3_000_000);
        assert!(parts(&w).is_empty());
    }
}

/// The list of what refers to an image is read and written again by those who push; only one that is not there begins empty.
#[test]
fn a_list_of_referrers_that_cannot_be_had_is_not_replaced() {
    let w = Work::new();
    let registry = served(&w);
    let digest = w.tool("skopeo", &["inspect", "--tls-verify=false", "--format", "{{.Digest}}", &registry.reference("a:1")]);
    let list = digest.trim().replace(':', "-");
    let (list_path, puts) = (format!("/v2/a/manifests/{list} "), Arc::new(Mutex::new(0)));
    let counted = puts.clone();
    let port = intercepting(registry.port, move |head| {
        if head.starts_with(&format!("PUT {list_path}")) {
            *counted.lock().unwrap() += 1;
        }
        head.starts_with(&format!("GET {list_path}")).then(|| response("403 Forbidden", "application/json", r#"{"errors":[{"code":"DENIED","message":"not now"}]}"#))
    });
    let release = support::release(&w, "out", 1, "a");
    let push =
        |port: u16| ["push".into(), "--form".into(), "artifact".into(), release.display().to_string(), format!("127.0.0.1:{port}/a:r"), "--image".into(), "oci:lay:img".to_owned()];
    let text = w.refused(&push(port).each_ref().map(String::as_str));
    assert!(text.contains("may not do this"), "{text}");
    assert_eq!(*puts.lock().unwrap(), 0);
    w.ok(&push(registry.port).each_ref().map(String::as_str));
}
