//! Who we are to a registry: what `docker login` and `podman login` left behind.
//!
//! Owns the order of files (podman's, then Docker's) and of keys in them. Reading a file and asking credential helpers is the `docker_credential` crate's. The fact a newcomer gets wrong: podman may store credentials for a part of a
//! registry, and the longest matching name wins.

use anyhow::{Context, bail};
use docker_credential::{CredentialRetrievalError, DockerCredential, get_credential_from_reader};
use oci_client::Reference;
use oci_client::secrets::RegistryAuth;
use std::path::{Path, PathBuf};

/// Files that may hold credentials, in the order they count.
fn files() -> Vec<PathBuf> {
    let from = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    if let Some(only) = from("REGISTRY_AUTH_FILE") {
        return vec![only];
    }
    let home = from("HOME");
    let docker = from("DOCKER_CONFIG").or_else(|| home.as_ref().map(|h| h.join(".docker")));
    let podman = from("XDG_RUNTIME_DIR").map(|d| d.join("containers/auth.json"));
    let config = from("XDG_CONFIG_HOME").or_else(|| home.map(|h| h.join(".config"))).map(|c| c.join("containers/auth.json"));
    [podman, config, docker.map(|d| d.join("config.json"))].into_iter().flatten().collect()
}

/// `host/a/b`, `host/a`, `host`, and Docker Hub's old key.
fn keys(reference: &Reference) -> Vec<String> {
    let host = reference.registry();
    let whole = format!("{host}/{}", reference.repository());
    let mut keys: Vec<String> = whole.match_indices('/').map(|(at, _)| whole[..at].to_owned()).collect();
    keys.push(whole.clone());
    keys.reverse();
    // Docker's own registry answers under another name, and `docker login` keeps its first address as the key.
    if reference.resolve_registry() != host {
        keys.push(format!("https://{}/v1/", reference.resolve_registry()));
    }
    keys
}

/// Credentials for a reference; nothing found means anonymous, a file that cannot be understood is an error.
pub fn lookup(reference: &Reference) -> anyhow::Result<RegistryAuth> {
    files().iter().map(|file| in_file(file, reference)).find_map(Result::transpose).unwrap_or(Ok(RegistryAuth::Anonymous))
}

fn in_file(file: &Path, reference: &Reference) -> anyhow::Result<Option<RegistryAuth>> {
    let Ok(bytes) = std::fs::read(file) else { return Ok(None) };
    of(&bytes, reference).with_context(|| file.display().to_string())
}

/// What the text of such a file says of a reference. A file may name a program that knows, which is then started.
pub fn of(file: &[u8], reference: &Reference) -> anyhow::Result<Option<RegistryAuth>> {
    for key in keys(reference) {
        match get_credential_from_reader(file, &key) {
            Ok(DockerCredential::UsernamePassword(user, password)) => return Ok(Some(RegistryAuth::Basic(user, password))),
            // The name that token services expect beside an identity token.
            Ok(DockerCredential::IdentityToken(token)) => return Ok(Some(RegistryAuth::Basic("<token>".into(), token))),
            Err(CredentialRetrievalError::NoCredentialConfigured) => {}
            Err(CredentialRetrievalError::HelperFailure { stdout, .. }) if stdout.contains("credentials not found") => {}
            Err(e) => bail!("credentials for {key}: {}: log in again with podman login or docker login", e.to_string().replace('\n', " ")),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_name_wins_and_other_registries_get_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("auth.json");
        // "u:p" and "v:q"
        std::fs::write(&file, r#"{"auths":{"r.example":{"auth":"dTpw"},"r.example/team":{"auth":"djpx"}}}"#).unwrap();
        let of = |name: &str| in_file(&file, &name.parse().unwrap()).unwrap();
        assert_eq!(of("r.example/other/x"), Some(RegistryAuth::Basic("u".into(), "p".into())));
        assert_eq!(of("r.example/team/x"), Some(RegistryAuth::Basic("v".into(), "q".into())));
        assert_eq!(of("s.example/team/x"), None);
        assert_eq!(in_file(&dir.path().join("none"), &"x".parse().unwrap()).unwrap(), None);
        std::fs::write(&file, "{").unwrap();
        assert!(in_file(&file, &"r.example/x".parse().unwrap()).is_err_and(|e| format!("{e:#}").contains("log in again")));
    }
}
