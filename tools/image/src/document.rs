//! The JSON documents of images: index, manifest, configuration, checked before anything believes them.
//!
//! Owns which media types mean what and which image of an index is meant. Refuses to own where documents come from. The fact a newcomer gets wrong: Docker's manifest v2 and OCI's are the same document with other media types;
//! what is written here is always OCI's.

use crate::blob;
use anyhow::{Context, bail, ensure};
use oci_client::manifest::{ImageIndexEntry, OciDescriptor, OciImageIndex, OciImageManifest};
use policy::Digest;
use serde::Deserialize;
use serde_json::{Value, json};

pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// The configuration of what is no image.
pub const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";
pub const EMPTY: &[u8] = b"{}";
pub const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub const LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
pub const LAYER_PLAIN: &str = "application/vnd.oci.image.layer.v1.tar";
const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// What a registry is asked for.
pub const ACCEPTED: [&str; 4] = [MANIFEST, INDEX, DOCKER_MANIFEST, DOCKER_INDEX];

/// More layers than overlayfs can stack would be a curiosity at best.
pub const MAX_LAYERS: usize = 1000;

/// A manifest, or a list to choose from.
pub enum Document {
    Manifest(Box<OciImageManifest>),
    Index(OciImageIndex),
}

/// What the configuration says that matters here.
#[derive(Clone, Debug, Deserialize)]
pub struct Config {
    pub architecture: String,
    pub os: String,
    pub rootfs: Rootfs,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Rootfs {
    pub diff_ids: Vec<Digest>,
}

/// Whether bytes can be a document at all. Serde alone would take a list of values in the right order for one, too.
pub fn is_object(bytes: &[u8]) -> bool {
    bytes.trim_ascii_start().first() == Some(&b'{')
}

/// Reads a manifest or an index.
pub fn read(bytes: &[u8]) -> anyhow::Result<Document> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Probe {
        media_type: Option<String>,
        schema_version: Option<u64>,
        manifests: Option<Value>,
    }
    ensure!(is_object(bytes), "the image's manifest is no JSON object");
    let probe: Probe = serde_json::from_slice(bytes).context("the image's manifest is malformed")?;
    ensure!(
        probe.schema_version == Some(2),
        "the image's manifest has schema version {}, only 2 is supported: push the image again with a current tool",
        probe.schema_version.unwrap_or(0)
    );
    match probe.media_type.as_deref() {
        Some(INDEX | DOCKER_INDEX) => Ok(Document::Index(serde_json::from_slice(bytes).context("the image's index is malformed")?)),
        None if probe.manifests.is_some() => Ok(Document::Index(serde_json::from_slice(bytes).context("the image's index is malformed")?)),
        None | Some(MANIFEST | DOCKER_MANIFEST) => {
            let manifest: OciImageManifest = serde_json::from_slice(bytes).context("the image's manifest is malformed")?;
            ensure!(manifest.layers.len() <= MAX_LAYERS, "the image has {} layers, at most {MAX_LAYERS} are sensible", manifest.layers.len());
            Ok(Document::Manifest(Box::new(manifest)))
        }
        Some(other) => bail!("media type {other} is neither an image manifest nor an index"),
    }
}

/// The entry for Linux on x86-64.
pub fn choose(index: &OciImageIndex) -> anyhow::Result<&ImageIndexEntry> {
    let name = |e: &ImageIndexEntry| e.platform.as_ref().map(|p| format!("{}/{}", p.os, p.architecture));
    let exact = index.manifests.iter().find(|e| name(e).as_deref() == Some("linux/amd64"));
    let only = || index.manifests.first().filter(|e| index.manifests.len() == 1 && e.platform.is_none());
    let all = || index.manifests.iter().filter_map(name).collect::<Vec<_>>().join(", ");
    exact.or_else(only).with_context(|| format!("the image is not made for linux/amd64, only for: {}", all()))
}

/// Size and digest of a descriptor, both made sure to be possible.
pub fn descriptor(d: &OciDescriptor) -> anyhow::Result<(Digest, u64)> {
    let bytes = u64::try_from(d.size).with_context(|| format!("{}: its size is negative", d.digest))?;
    Ok((blob::digest(&d.digest)?, bytes))
}

/// Reads the configuration of an image to be unpacked.
pub fn config(manifest: &OciImageManifest, bytes: &[u8]) -> anyhow::Result<Config> {
    let kind = &manifest.config.media_type;
    ensure!(kind == CONFIG || kind == DOCKER_CONFIG, "this is not a container image but an artifact of type {}", manifest.artifact_type.as_ref().unwrap_or(kind));
    let malformed = "the image's configuration is malformed";
    let config: Config = serde_json::from_slice(bytes).context(malformed)?;
    // Serde takes lists of values for objects, too; whoever adds a layer does not.
    let value: Value = serde_json::from_slice(bytes).context(malformed)?;
    ensure!(value.pointer("/rootfs/diff_ids").is_some_and(Value::is_array), malformed);
    ensure!(config.os == "linux" && config.architecture == "amd64", "the image is made for {}/{}, not linux/amd64", config.os, config.architecture);
    ensure!(
        config.rootfs.diff_ids.len() == manifest.layers.len(),
        "the image's manifest lists {} layers, its configuration {}: it is damaged",
        manifest.layers.len(),
        config.rootfs.diff_ids.len()
    );
    for layer in &manifest.layers {
        layer_type(&layer.media_type)?;
    }
    Ok(config)
}

/// A configuration with one more layer, and a line of history where it keeps any.
pub fn with_layer(config: &[u8], diff_id: &Digest, history: Value) -> anyhow::Result<Vec<u8>> {
    let mut config: Value = serde_json::from_slice(config).context("the image's configuration is malformed")?;
    let diff_ids = config.pointer_mut("/rootfs/diff_ids").and_then(Value::as_array_mut).context("the image's configuration is malformed")?;
    diff_ids.push(json!(diff_id));
    if let Some(lines) = config.get_mut("history").and_then(Value::as_array_mut) {
        lines.push(history);
    }
    Ok(self::bytes(&config))
}

/// An index to begin with.
pub fn empty_index() -> Value {
    json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [] })
}

/// The entries of an index that is to be changed; what else stands in it stays.
pub fn entries(index: &mut Value) -> anyhow::Result<&mut Vec<Value>> {
    index.get_mut("manifests").and_then(Value::as_array_mut).context("it is no index")
}

/// OCI's name of a layer's media type.
pub fn layer_type(given: &str) -> anyhow::Result<&'static str> {
    Ok(match given {
        LAYER_GZIP | "application/vnd.docker.image.rootfs.diff.tar.gzip" => LAYER_GZIP,
        LAYER_ZSTD | "application/vnd.docker.image.rootfs.diff.tar.zstd" => LAYER_ZSTD,
        LAYER_PLAIN | "application/vnd.docker.image.rootfs.diff.tar" => LAYER_PLAIN,
        other => bail!("a layer of media type {other} cannot be unpacked"),
    })
}

/// Bytes of a document of our own, always the same for the same content.
pub fn bytes(document: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(document).expect("documents are plain JSON")
}

/// Describes bytes.
pub fn describe(media_type: &str, bytes: &[u8]) -> OciDescriptor {
    OciDescriptor { media_type: media_type.into(), digest: Digest::sha256(bytes).to_string(), size: bytes.len() as i64, ..OciDescriptor::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_amd64_image_of_an_index_or_the_only_one() {
        let entry = |arch: &str| format!(r#"{{"mediaType":"{MANIFEST}","digest":"sha256:{arch}","size":1,"platform":{{"os":"linux","architecture":"{arch}"}}}}"#);
        let index = |entries: &str| match read(format!(r#"{{"schemaVersion":2,"manifests":[{entries}]}}"#).as_bytes()) {
            Ok(Document::Index(i)) => i,
            _ => panic!("not an index"),
        };
        let both = index(&format!("{},{}", entry("arm64"), entry("amd64")));
        assert_eq!(choose(&both).unwrap().digest, "sha256:amd64");
        assert!(choose(&index(&entry("arm64"))).unwrap_err().to_string().contains("linux/arm64"));
        assert_eq!(choose(&index(&format!(r#"{{"mediaType":"{MANIFEST}","digest":"d","size":1}}"#))).unwrap().digest, "d");
    }

    #[test]
    fn lists_in_the_places_of_objects_are_refused_and_nothing_is_added_to_them() {
        let digest = format!("sha256:{:064}", 0);
        let manifest = OciImageManifest { config: describe(CONFIG, b""), layers: vec![describe(LAYER_PLAIN, b"")], ..OciImageManifest::default() };
        let good = format!(r#"{{"architecture":"amd64","os":"linux","rootfs":{{"diff_ids":["{digest}"]}},"history":[]}}"#);
        assert_eq!(config(&manifest, good.as_bytes()).unwrap().rootfs.diff_ids.len(), 1);
        let more = with_layer(good.as_bytes(), &Digest::sha256(b""), json!("line")).unwrap();
        let two = OciImageManifest { layers: vec![describe(LAYER_PLAIN, b""); 2], ..manifest.clone() };
        assert_eq!(config(&two, &more).unwrap().rootfs.diff_ids[1], Digest::sha256(b""));
        assert!(String::from_utf8(more).unwrap().contains(r#""history":["line"]"#));
        for bad in [format!(r#"["amd64","linux",[["{digest}"]]]"#), format!(r#"{{"architecture":"amd64","os":"linux","rootfs":[["{digest}"]]}}"#)] {
            assert!(config(&manifest, bad.as_bytes()).unwrap_err().to_string().contains("malformed"), "{bad}");
            assert!(with_layer(bad.as_bytes(), &Digest::sha256(b""), json!({})).is_err(), "{bad}");
        }
        for bad in [json!([]), json!({ "manifests": {} }), json!(1), Value::Null] {
            assert!(entries(&mut bad.clone()).is_err() && read(bad.to_string().as_bytes()).is_err(), "{bad}");
        }
        assert!(read(format!(r#"["{MANIFEST}",2,null]"#).as_bytes()).is_err_and(|e| e.to_string().contains("no JSON object")));
        assert_eq!(entries(&mut empty_index()).unwrap().len(), 0);
    }

    #[test]
    fn refuses_what_is_no_image() {
        for bad in ["", "[]", r#"{"schemaVersion":1}"#, r#"{"schemaVersion":2,"mediaType":"text/html"}"#, r#"{"schemaVersion":2}"#] {
            assert!(read(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(layer_type("application/wasm").is_err() && layer_type(LAYER_ZSTD).is_ok());
    }
}
