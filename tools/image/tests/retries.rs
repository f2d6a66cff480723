//! Trouble that passes: each kind of request of a pull and of a push fails once, in each of the ways that registries and what stands before them fail, and the result is as if nothing had been.
//!
//! The fact a newcomer gets wrong: that it worked in the end proves nothing unless each request was really refused once, so that is asserted, too.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, Mutex};
use support::{Registry, Work, intercepting, release, response};

/// What a client gets, once for each kind of request. The empty answer is a connection that is closed.
fn troubles() -> [(&'static str, String); 4] {
    let busy = response("429 Too Many Requests", "application/json", r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slowly"}]}"#);
    [
        ("503", response("503 Service Unavailable", "text/html", "<html>overloaded</html>")),
        ("429", busy.replacen("\r\n", "\r\nRetry-After: 1\r\n", 1)),
        ("cut", String::new()),
        ("cut in the head", "HTTP/1.1 200 OK\r\nContent-Ty".into()),
    ]
}

/// Method and kind of what is asked for; none for the question whether this is a registry.
fn kind(head: &str) -> Option<String> {
    let mut words = head.split(' ');
    let (method, path) = (words.next()?, words.next()?);
    let part = ["/blobs/uploads/", "/blobs/", "/manifests/", "/referrers/"].into_iter().find(|p| path.contains(p))?;
    Some(format!("{method} {part}"))
}

/// A registry before a registry at which each kind of request fails the first time; how often each was made.
fn failing_once(to: u16, trouble: String) -> (u16, Arc<Mutex<BTreeMap<String, u32>>>) {
    let counts = Arc::new(Mutex::new(BTreeMap::new()));
    let counted = counts.clone();
    let port = intercepting(to, move |head| {
        let mut counted = counted.lock().unwrap();
        let count: &mut u32 = counted.entry(kind(head)?).or_default();
        *count += 1;
        (*count == 1).then(|| trouble.clone())
    });
    (port, counts)
}

fn assert_each_twice(name: &str, counts: &Mutex<BTreeMap<String, u32>>, kinds: &[&str]) {
    let counts = counts.lock().unwrap();
    for kind in kinds {
        assert!(counts.get(*kind).is_some_and(|n| *n > 1), "{name}: {kind} was not asked again: {counts:?}");
    }
}

#[test]
fn a_pull_goes_on_after_what_passes() {
    let w = Work::new();
    w.umoci_image();
    let registry = Registry::start();
    registry.put(&w, "a:1");
    let expected = w.tree(&w.ok(&["unpack", "oci:lay:img"]));
    for (name, trouble) in troubles() {
        w.forget_everything();
        let (port, counts) = failing_once(registry.port, trouble);
        assert_eq!(w.tree(&w.ok(&["unpack", &format!("127.0.0.1:{port}/a:1")])), expected, "{name}");
        assert_each_twice(name, &counts, &["GET /manifests/", "GET /blobs/"]);
    }
}

#[test]
fn a_push_goes_on_after_what_passes() {
    let w = Work::new();
    w.umoci_image();
    release(&w, "out", 1, "a");
    let registry = Registry::start();
    std::thread::scope(|threads| {
        // Nearly all of their time is pauses.
        for (n, (name, trouble)) in troubles().into_iter().enumerate() {
            let (w, registry) = (&w, &registry);
            threads.spawn(move || {
                let (port, counts) = failing_once(registry.port, trouble);
                w.ok(&["push", "--form", "artifact", "out/manifest.json", &format!("127.0.0.1:{port}/shop{n}:r"), "--image", "oci:lay:img"]);
                assert_each_twice(name, &counts, &["HEAD /blobs/", "POST /blobs/uploads/", "PUT /blobs/uploads/", "PUT /manifests/", "GET /referrers/"]);
                let place = w.ok(&["pull", &registry.reference(&format!("shop{n}:r"))]);
                for file in ["manifest.json", "container.wasm"] {
                    assert_eq!(fs::read(place.join(file)).unwrap(), fs::read(w.at("out").join(file)).unwrap(), "{name}: {file}");
                }
            });
        }
    });
}
