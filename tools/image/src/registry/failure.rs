//! What went wrong between here and a registry, whether it may pass, and what to do.
//!
//! Owns the texts. The fact a newcomer gets wrong: registries answer "not found" where they mean "not yours to see"; the remedy follows from whether there were credentials.

use oci_client::errors::OciDistributionError as RegistryError;
use oci_client::secrets::RegistryAuth;

/// Whether trying again can help.
pub(super) fn may_pass(error: &RegistryError) -> bool {
    use oci_client::errors::OciErrorCode;
    match error {
        RegistryError::ServerError { code, .. } => *code >= 500 || *code == 429 || *code == 408,
        RegistryError::RequestError(e) => !e.is_builder() && e.status().is_none_or(|s| s.is_server_error() || s.as_u16() == 429) && !chain(error).contains("certificate"),
        RegistryError::IoError(_) => true,
        RegistryError::RegistryError { envelope, .. } => envelope.errors.iter().any(|e| matches!(e.code, OciErrorCode::Toomanyrequests)),
        _ => false,
    }
}

/// The whole story in one line: reqwest hides the reason in sources.
pub(super) fn chain(error: &RegistryError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(e) = source {
        let more = e.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = e.source();
    }
    text.replace('\n', " ")
}

/// What to do about it.
pub(super) fn remedy(error: &RegistryError, auth: &RegistryAuth) -> &'static str {
    let anonymous = matches!(auth, RegistryAuth::Anonymous);
    let text = chain(error);
    match error {
        RegistryError::UnauthorizedError { .. } | RegistryError::AuthenticationFailure(_) if anonymous => "log in with podman login or docker login",
        RegistryError::UnauthorizedError { .. } | RegistryError::AuthenticationFailure(_) => "the stored credentials were not accepted, log in again",
        RegistryError::ImageManifestNotFoundError(_) => "check name and tag",
        _ if text.contains("401") || text.contains("UNAUTHORIZED") || text.contains("authentication required") => "log in with podman login or docker login",
        _ if text.contains("403") || text.contains("denied") => "the account may not do this",
        _ if text.contains("404") || text.contains("unknown") => "check name and tag",
        _ if text.contains("certificate") || text.contains("UnknownIssuer") => "name the registry's certificate authority with --registry-ca FILE",
        _ if text.contains("InvalidContentType") || text.contains("corrupt message") => "if the registry speaks plain HTTP, say so with --plain-http HOST",
        RegistryError::RequestError(e) if e.is_connect() => "check the host's name and that it can be reached",
        _ => "try again later, a download goes on where it stopped",
    }
}
