//! One repository of a registry: manifests and blobs, both ways.
//!
//! Owns retries, resumed downloads and what an error says; the protocol is `oci-client`'s. The fact a newcomer gets wrong: no digest that the registry claims is believed; what arrives is hashed here. A download that was cut off
//! stays beside its place as `.part` and is continued by the next one.

mod failure;

use crate::blob::{Blob, Blobs};
use crate::document;
use crate::image::NotThere;
use crate::layer::{Hashed, INTERRUPTED};
use crate::{credentials, progress};
use anyhow::{Context, anyhow, bail, ensure};
use failure::{Act, Cause, chain, shown};
use futures_util::StreamExt;
use oci_client::client::{BlobResponse, Certificate, CertificateEncoding, Client, ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError as RegistryError;
use oci_client::manifest::{ImageIndexEntry, OciDescriptor};
use oci_client::secrets::RegistryAuth;
use oci_client::{Reference, RegistryOperation};
use policy::Digest;
use rustix::fs::{FlockOperation, flock};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::runtime::Runtime;

const ATTEMPTS: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(300);
/// Without a byte for so long, a connection is dead.
const SILENCE: Duration = Duration::from_secs(60);
/// How often a waiting loop looks whether it was interrupted.
const TICK: Duration = Duration::from_millis(250);
const PIECE_BYTES: usize = 1 << 20;

/// How registries are reached.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// PEM certificates to trust besides the system's.
    pub authorities: Vec<PathBuf>,
    /// Hosts, as they stand in references, that are spoken to without TLS.
    pub plain_http: Vec<String>,
}

pub struct Registry {
    client: Client,
    runtime: Runtime,
    reference: Reference,
    auth: RegistryAuth,
    blobs: Blobs,
    scheme: &'static str,
}

impl Registry {
    pub fn new(reference: Reference, access: &Access, blobs: Blobs) -> anyhow::Result<Registry> {
        // A second caller finds it installed, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let auth = credentials::lookup(&reference)?;
        let mut plain = access.plain_http.clone();
        // As Docker does: on the own machine there is nobody between. A certificate authority given by hand says otherwise.
        if is_loopback(reference.resolve_registry()) && access.authorities.is_empty() {
            plain.push(reference.resolve_registry().into());
        }
        let read = |path: &PathBuf| {
            let data = std::fs::read(path).with_context(|| format!("cannot read the certificate {}", path.display()))?;
            Ok::<_, anyhow::Error>(Certificate { encoding: CertificateEncoding::Pem, data })
        };
        let scheme = if plain.iter().any(|h| h == reference.resolve_registry()) { "http" } else { "https" };
        let config = ClientConfig {
            protocol: ClientProtocol::HttpsExcept(plain),
            extra_root_certificates: access.authorities.iter().map(read).collect::<Result<_, _>>()?,
            use_monolithic_push: true,
            read_timeout: Some(SILENCE),
            connect_timeout: Some(Duration::from_secs(10)),
            user_agent: concat!("vkernel-image/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        };
        let client = Client::try_from(config).with_context(|| format!("cannot make a client for {}", reference.registry()))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot make a runtime")?;
        Ok(Registry { client, runtime, reference, auth, blobs, scheme })
    }

    pub fn reference(&self) -> &Reference {
        &self.reference
    }

    /// The manifest of the reference; of exactly the pinned digest if there is one.
    pub fn manifest(&self) -> anyhow::Result<Vec<u8>> {
        match self.reference.digest() {
            Some(digest) => self.checked(&crate::blob::digest(digest)?, Act::Named),
            None => self.fetch(&self.reference, Act::Named),
        }
    }

    /// A manifest that another one names.
    pub fn manifest_by_digest(&self, digest: &Digest) -> anyhow::Result<Vec<u8>> {
        self.checked(digest, Act::Part)
    }

    fn checked(&self, digest: &Digest, act: Act) -> anyhow::Result<Vec<u8>> {
        let bytes = self.fetch(&self.reference.clone_with_digest(digest.to_string()), act)?;
        let found = Digest::sha256(&bytes);
        ensure!(found == *digest, "{}: the registry sent a manifest with digest {found}, not {digest}: do not trust it", self.reference);
        Ok(bytes)
    }

    fn fetch(&self, reference: &Reference, act: Act) -> anyhow::Result<Vec<u8>> {
        let what = format!("get the manifest of {reference}");
        let (bytes, _) = self.retried(act, &what, || {
            let answer = self.runtime.block_on(self.client.pull_manifest_raw(reference, &self.auth, &document::ACCEPTED))?;
            // A login page comes with status 200, too.
            if document::is_object(&answer.0) { Ok(answer) } else { Err(self.no_manifest(reference, &answer.0)) }
        })?;
        ensure!(bytes.len() as u64 <= crate::blob::MAX_DOCUMENT_BYTES, "{reference}: its manifest has {} bytes, no manifest is that large", bytes.len());
        Ok(bytes.to_vec())
    }

    /// What was asked and what came, which are all there is to find out who answers.
    fn no_manifest(&self, reference: &Reference, answer: &[u8]) -> RegistryError {
        let wanted = reference.digest().or(reference.tag()).unwrap_or("latest");
        let (host, name) = (reference.resolve_registry(), reference.repository());
        let came = shown(&String::from_utf8_lossy(&answer[..answer.len().min(80)]));
        RegistryError::SpecViolationError(format!("{}://{host}/v2/{name}/manifests/{wanted} is no JSON object but {came:?}", self.scheme))
    }

    /// A blob, downloaded unless it is here, whole and with its digest.
    pub fn blob(&self, digest: &Digest, bytes: u64) -> anyhow::Result<Blob> {
        if let Some(blob) = self.blobs.get(digest, bytes) {
            return Ok(blob);
        }
        let place = self.blobs.path(digest);
        let part = place.with_extension("part");
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&part).with_context(|| format!("cannot write {}", part.display()))?;
        // Another process that downloads the same blob is waited for; it leaves either the blob or its part.
        flock(&file, FlockOperation::LockExclusive).with_context(|| format!("cannot lock {}", part.display()))?;
        if let Some(blob) = self.blobs.get(digest, bytes) {
            return Ok(blob);
        }
        let bar = progress::bytes("pull", bytes, &digest.hex()[..12]);
        let descriptor = OciDescriptor { digest: digest.to_string(), size: bytes as i64, ..OciDescriptor::default() };
        let what = format!("get {digest} of {}", self.reference);
        self.retried(Act::Part, &what, || self.runtime.block_on(self.download(&descriptor, &file, bytes, &bar)))?;
        bar.finish_and_clear();
        let mut hashed = Hashed::new(&file);
        (&file).seek(SeekFrom::Start(0)).and_then(|_| std::io::copy(&mut hashed, &mut std::io::sink())).with_context(|| format!("cannot read {}", part.display()))?;
        let (found_bytes, found) = (hashed.bytes, hashed.digest());
        if found != *digest || found_bytes != bytes {
            // Continuing it would give the same again.
            let _ = std::fs::remove_file(&part);
            bail!("{what}: the registry sent {found_bytes} bytes with digest {found}, not {bytes} with {digest}: do not trust it");
        }
        file.sync_all().and_then(|()| std::fs::rename(&part, &place)).with_context(|| format!("cannot keep {}", place.display()))?;
        Blob::of_file(&place, Some(*digest))
    }

    /// Appends to what is there.
    async fn download(&self, descriptor: &OciDescriptor, mut file: &File, bytes: u64, bar: &indicatif::ProgressBar) -> Result<(), RegistryError> {
        self.client.store_auth_if_needed(self.reference.resolve_registry(), &self.auth).await;
        let mut have = file.seek(SeekFrom::End(0))?;
        if have > bytes {
            file.set_len(0)?;
            have = file.seek(SeekFrom::Start(0))?;
        }
        if have == bytes {
            return Ok(());
        }
        let rest = match have {
            0 => None,
            _ => match self.client.pull_blob_stream_partial(&self.reference, descriptor, have, None).await {
                // It would say so at every try and every run.
                Err(e) if Cause::of(&e).refuses_range() => None,
                answer => Some(answer?),
            },
        };
        let response = match rest {
            Some(response) => response,
            None => BlobResponse::Full(self.client.pull_blob_stream(&self.reference, descriptor).await?),
        };
        let mut stream = match response {
            BlobResponse::Partial(stream) => stream.stream,
            BlobResponse::Full(stream) => {
                file.set_len(0)?;
                have = file.seek(SeekFrom::Start(0))?;
                stream.stream
            }
        };
        bar.set_position(have);
        loop {
            let piece = match tokio::time::timeout(TICK, stream.next()).await {
                Err(_) if INTERRUPTED.load(Ordering::Relaxed) => return Err(interrupted()),
                Err(_) => continue,
                Ok(None) => break,
                Ok(Some(piece)) => piece?,
            };
            have += piece.len() as u64;
            if have > bytes {
                // Whatever it is, the next one must not go on with it.
                file.set_len(0)?;
                return Err(RegistryError::SpecViolationError(format!("more than the {bytes} bytes announced arrive")));
            }
            if INTERRUPTED.load(Ordering::Relaxed) {
                return Err(interrupted());
            }
            file.write_all(&piece)?;
            bar.set_position(have);
        }
        if have < bytes { Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into()) } else { Ok(()) }
    }

    /// Uploads a blob unless the repository has it.
    pub fn push_blob(&self, blob: &Blob, digest: &Digest) -> anyhow::Result<()> {
        let what = format!("push {digest} to {}", self.reference);
        let client = &self.client;
        let name = digest.to_string();
        let bar = progress::bytes("push", blob.bytes, &digest.hex()[..12]);
        self.retried(Act::Push, &what, || {
            self.runtime.block_on(async {
                client.auth(&self.reference, &self.auth, RegistryOperation::Push).await?;
                if client.blob_exists(&self.reference, &name).await? {
                    return Ok(());
                }
                let input = blob.open().map_err(|e| RegistryError::IoError(std::io::Error::other(e.to_string())))?;
                let bar = bar.clone();
                let pieces = futures_util::stream::unfold(input, move |mut input| {
                    let bar = bar.clone();
                    async move {
                        let mut piece = vec![0; PIECE_BYTES];
                        let read = if INTERRUPTED.load(Ordering::Relaxed) { Err(std::io::Error::other("interrupted")) } else { input.read(&mut piece) };
                        match read {
                            Ok(0) => None,
                            Ok(n) => {
                                piece.truncate(n);
                                bar.inc(n as u64);
                                Some((Ok(piece.into()), input))
                            }
                            Err(e) => Some((Err(RegistryError::IoError(e)), input)),
                        }
                    }
                });
                client.push_blob_stream(&self.reference, pieces, &name, Some(blob.bytes)).await.map(drop)
            })
        })?;
        bar.finish_and_clear();
        Ok(())
    }

    /// Stores a manifest or index under a tag or its digest.
    pub fn push_manifest(&self, bytes: &[u8], media_type: &str, reference: &Reference) -> anyhow::Result<()> {
        let what = format!("push the manifest of {reference}");
        let kind = media_type.parse().context("media types are header values")?;
        let push = || {
            self.runtime.block_on(async {
                self.client.auth(reference, &self.auth, RegistryOperation::Push).await?;
                self.client.push_manifest_raw(reference, bytes.to_vec(), Clone::clone(&kind)).await
            })
        };
        self.retried(Act::Push, &what, push).map(drop)
    }

    /// What refers to a manifest of this repository, by the referrers API or, where a registry lacks it, its tag.
    pub fn referrers(&self, subject: &Digest) -> anyhow::Result<Vec<ImageIndexEntry>> {
        let reference = self.reference.clone_with_digest(subject.to_string());
        let ask = || {
            self.runtime.block_on(async {
                self.client.store_auth_if_needed(reference.resolve_registry(), &self.auth).await;
                self.client.pull_referrers(&reference, None).await
            })
        };
        Ok(self.retried(Act::Part, &format!("list what refers to {reference}"), ask)?.manifests)
    }

    /// Makes a manifest known as referring to its subject, for registries without the referrers API.
    pub fn add_referrer(&self, subject: &Digest, descriptor: &OciDescriptor) -> anyhow::Result<()> {
        if self.referrers(subject)?.iter().any(|e| e.digest == descriptor.digest) {
            return Ok(());
        }
        let tag = Reference::with_tag(self.reference.registry().into(), self.reference.repository().into(), subject.to_string().replace(':', "-"));
        let mut all = match self.fetch(&tag, Act::Named) {
            Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| format!("{tag} is malformed"))?,
            Err(e) if e.is::<NotThere>() => document::empty_index(),
            // It may well be there: a new one in its place would lose what it lists.
            Err(e) => return Err(e),
        };
        document::entries(&mut all).with_context(|| tag.to_string())?.push(serde_json::to_value(descriptor).context("a descriptor is plain JSON")?);
        self.push_manifest(&document::bytes(&all), document::INDEX, &tag)
    }

    /// Tries again after what may pass: broken connections, overload, trouble inside the registry.
    fn retried<T>(&self, act: Act, what: &str, mut once: impl FnMut() -> Result<T, RegistryError>) -> anyhow::Result<T> {
        let mut pause = FIRST_PAUSE;
        for attempt in 1.. {
            let error = match once() {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            ensure!(!INTERRUPTED.load(Ordering::Relaxed), "interrupted");
            let cause = Cause::of(&error);
            // A client that got no token asks on without one: a token service that was away for a moment looks like a refusal.
            let tokenless = cause == Cause::Status(401) && attempt == 1;
            if attempt == ATTEMPTS || !(cause.may_pass() || tokenless) {
                let tries = if attempt > 1 { format!(" ({attempt} tries)") } else { String::new() };
                let remedy = cause.remedy(act, matches!(self.auth, RegistryAuth::Anonymous));
                let line = format!("cannot {what}{tries}: {}: {remedy}", chain(&error));
                return Err(if (cause, act) == (Cause::Status(404), Act::Named) { NotThere(line).into() } else { anyhow!(line) });
            }
            std::thread::sleep(pause);
            pause *= 2;
        }
        unreachable!("the last attempt returns")
    }
}

fn interrupted() -> RegistryError {
    RegistryError::GenericError(Some("interrupted".into()))
}

fn is_loopback(host: &str) -> bool {
    let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit())).map_or(host, |(name, _)| name);
    name == "localhost" || name == "[::1]" || name.parse().is_ok_and(|a: std::net::Ipv4Addr| a.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_spoken_to_without_tls() {
        for host in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.9.9.9", "[::1]:5000"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["localhost.example", "128.0.0.1", "registry.example", "127.0.0.1.example:5000"] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
