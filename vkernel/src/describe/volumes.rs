//! `--volume`, `--mount`, `--tmpfs` and `--device`, as mounts and devices of a description.

use super::invalid;
use crate::cli::Shape;
use crate::failure::Failure;
use serde_json::{Value, json};
use std::os::unix::fs::{FileTypeExt, MetadataExt};

/// All mounts the options ask for, in podman's order: memory before volumes, so that a volume can lie on memory.
pub(super) fn mounts(shape: &Shape) -> Result<Vec<Value>, Failure> {
    let memory = shape.tmpfs.iter().map(|t| tmpfs(t));
    let named = shape.mount.iter().map(|m| mount(m));
    memory.chain(named).chain(shape.volume.iter().map(|v| volume(v))).collect()
}

fn absolute(path: &str) -> bool {
    path.starts_with('/') && path != "/"
}

fn volume(text: &str) -> Result<Value, Failure> {
    let wrong = || invalid("--volume", text, "write /HOST:/CONTAINER[:ro], both absolute");
    let mut parts = text.split(':');
    let (Some(host), Some(to)) = (parts.next(), parts.next()) else { return Err(wrong()) };
    let words: Vec<&str> = parts.next().unwrap_or_default().split(',').filter(|w| !w.is_empty()).collect();
    if !host.starts_with('/') || !absolute(to) || parts.next().is_some() || words.iter().any(|w| !["ro", "rw", "bind", "rbind", "z", "Z"].contains(w) && !w.ends_with("private")) {
        return Err(wrong());
    }
    let how = if words.contains(&"bind") { "bind" } else { "rbind" };
    let options: Vec<&str> = std::iter::once(how).chain(words.into_iter().filter(|w| !w.ends_with("bind"))).collect();
    Ok(json!({"destination": to, "type": "bind", "source": host, "options": options}))
}

fn tmpfs(text: &str) -> Result<Value, Failure> {
    let (to, words) = text.split_once(':').unwrap_or((text, ""));
    if !absolute(to) {
        return Err(invalid("--tmpfs", text, "write /DIR[:OPTIONS]"));
    }
    let options: Vec<&str> = words.split(',').filter(|w| !w.is_empty()).collect();
    Ok(json!({"destination": to, "type": "tmpfs", "source": "tmpfs", "options": options}))
}

fn mount(text: &str) -> Result<Value, Failure> {
    let wrong = || invalid("--mount", text, "write type=bind,source=/HOST,destination=/CONTAINER[,ro] or type=tmpfs,destination=/DIR[,tmpfs-size=SIZE]");
    let (mut kind, mut source, mut to, mut options) = ("volume", "", "", Vec::new());
    for part in text.split(',') {
        match part.split_once('=').unwrap_or((part, "")) {
            ("type", v) => kind = v,
            ("source" | "src", v) => source = v,
            ("destination" | "dst" | "target", v) => to = v,
            ("ro" | "readonly", "" | "true") => options.push("ro".to_owned()),
            ("ro" | "readonly", "false") | ("rw", "") => {}
            ("tmpfs-size", v) => options.push(format!("size={}", super::bytes("--mount", v)?)),
            ("tmpfs-mode", v) if v.bytes().all(|b| (b'0'..=b'7').contains(&b)) => options.push(format!("mode={v}")),
            _ => return Err(wrong()),
        }
    }
    match kind {
        "bind" if source.starts_with('/') && absolute(to) => {
            options.insert(0, "rbind".into());
            Ok(json!({"destination": to, "type": "bind", "source": source, "options": options}))
        }
        "tmpfs" if source.is_empty() && absolute(to) => Ok(json!({"destination": to, "type": "tmpfs", "source": "tmpfs", "options": options})),
        _ => Err(wrong()),
    }
}

/// Nodes as they are on this host.
pub(super) fn devices(shape: &Shape) -> Result<Vec<Value>, Failure> {
    let one = |text: &String| {
        let mut parts = text.split(':');
        let host = parts.next().unwrap_or_default();
        let to = parts.next().unwrap_or(host);
        let meta = std::fs::metadata(host).map_err(|e| Failure::new(format!("--device {host}"), e, "name a device of this host"))?;
        let kind = match meta.file_type() {
            t if t.is_char_device() => "c",
            t if t.is_block_device() => "b",
            _ => return Err(invalid("--device", text, "name a device of this host")),
        };
        let (major, minor) = (libc::major(meta.rdev()), libc::minor(meta.rdev()));
        Ok(json!({"path": to, "type": kind, "major": major, "minor": minor, "fileMode": meta.mode() & 0o777, "uid": meta.uid(), "gid": meta.gid()}))
    };
    shape.device.iter().map(one).collect()
}
