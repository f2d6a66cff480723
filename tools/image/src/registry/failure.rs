//! What went wrong between here and a registry, whether it may pass, and what to do.
//!
//! Owns the texts. The fact a newcomer gets wrong: registries answer "not found" where they mean "not yours to see"; the remedy follows from whether there were credentials.

use oci_client::errors::{OciDistributionError as RegistryError, OciErrorCode};
use oci_client::secrets::RegistryAuth;

/// Whether trying again can help.
pub(super) fn may_pass(error: &RegistryError) -> bool {
    match error {
        RegistryError::ServerError { code, .. } => *code >= 500 || *code == 429 || *code == 408,
        RegistryError::RequestError(e) => {
            !e.is_builder() && e.status().is_none_or(|s| s.is_server_error() || s.as_u16() == 429) && !causes(error).any(|c| c.contains("certificate"))
        }
        RegistryError::IoError(_) => true,
        RegistryError::RegistryError { envelope, .. } => envelope.errors.iter().any(|e| matches!(e.code, OciErrorCode::Toomanyrequests)),
        _ => false,
    }
}

/// The whole story in one line: reqwest hides the reason in sources.
pub(super) fn chain(error: &RegistryError) -> String {
    let mut text = error.to_string();
    for cause in causes(error).filter(|c| !error.to_string().contains(c)) {
        text = format!("{text}: {cause}");
    }
    text.replace('\n', " ")
}

/// What is behind an error. Unlike its own text these name no URL, in which any word or number may stand.
fn causes(error: &RegistryError) -> impl Iterator<Item = String> {
    std::iter::successors(std::error::Error::source(error), |e| e.source()).map(ToString::to_string)
}

/// The HTTP status that a registry answered, in whichever form.
fn status(error: &RegistryError) -> Option<u16> {
    match error {
        RegistryError::UnauthorizedError { .. } | RegistryError::AuthenticationFailure(_) => Some(401),
        RegistryError::ImageManifestNotFoundError(_) => Some(404),
        RegistryError::ServerError { code, .. } => Some(*code),
        RegistryError::RequestError(e) => e.status().map(|s| s.as_u16()),
        RegistryError::RegistryError { envelope, .. } => envelope.errors.iter().find_map(|e| match e.code {
            OciErrorCode::Unauthorized => Some(401),
            OciErrorCode::Denied => Some(403),
            OciErrorCode::ManifestUnknown | OciErrorCode::NameUnknown | OciErrorCode::BlobUnknown | OciErrorCode::NotFound => Some(404),
            _ => None,
        }),
        _ => None,
    }
}

/// What to do about it.
pub(super) fn remedy(error: &RegistryError, auth: &RegistryAuth) -> &'static str {
    let because = |words: &[&str]| causes(error).any(|c| words.iter().any(|w| c.contains(w)));
    match status(error) {
        Some(401) if matches!(auth, RegistryAuth::Anonymous) => "log in with podman login or docker login",
        Some(401) => "the stored credentials were not accepted, log in again",
        Some(403) => "the account may not do this",
        Some(404) => "check name and tag",
        _ if because(&["certificate", "UnknownIssuer"]) => "name the registry's certificate authority with --registry-ca FILE",
        _ if because(&["InvalidContentType", "corrupt message"]) => "if the registry speaks plain HTTP, say so with --plain-http HOST",
        _ if matches!(error, RegistryError::RequestError(e) if e.is_connect()) => "check the host's name and that it can be reached",
        _ => "try again later, a download goes on where it stopped",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remedy_follows_from_the_answer_and_not_from_digits_in_a_name() {
        let server = |code, url: &str| RegistryError::ServerError { code, url: url.into(), message: "denied 401 unknown".into() };
        let remedy = |error: &RegistryError| remedy(error, &RegistryAuth::Anonymous);
        assert!(remedy(&server(502, "http://h:40301/v2/unknown/manifests/sha256:0340371404")).starts_with("try again"));
        assert!(remedy(&server(403, "http://h/v2/a")).contains("may not"));
        assert!(remedy(&server(404, "http://h/v2/a")).contains("name and tag"));
        let unauthorized = RegistryError::UnauthorizedError { url: "http://h/404".into() };
        assert!(remedy(&unauthorized).contains("podman login"));
        let stored = RegistryAuth::Basic("u".into(), "p".into());
        assert!(super::remedy(&unauthorized, &stored).contains("not accepted"));
        let envelope = serde_json::from_str(r#"{"errors":[{"code":"DENIED","message":"404"}]}"#).unwrap();
        assert!(remedy(&RegistryError::RegistryError { envelope, url: "http://h".into() }).contains("may not"));
    }
}
