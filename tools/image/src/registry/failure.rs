//! What went wrong between here and a registry, whether it may pass, and what to do.
//!
//! Owns the texts: one table of remedies, by what was being done and what went wrong. The fact a newcomer gets wrong: registries answer "not found" where they mean "not yours to see", and proxies answer in a registry's place; the
//! remedy follows from whether there were credentials, and from what was asked for.

use oci_client::errors::{OciDistributionError as RegistryError, OciErrorCode};
use std::error::Error;

/// Enough for every reason that was meant to be read; an answer may be a whole page.
const MOST_CHARS: usize = 600;

/// What was being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// Getting the manifest that the user named.
    Named,
    /// Getting what a manifest names, or what refers to it.
    Part,
    Push,
}

/// What went wrong, whichever form the answer came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    Status(u16),
    Certificate,
    NoTls,
    Unreachable,
    Redirects,
    /// An answer that no registry gives.
    Foreign,
    /// Other bytes than a digest, or a size, says.
    Forged,
    /// A connection that broke, and everything else.
    Broken,
}

impl Cause {
    pub(super) fn of(error: &RegistryError) -> Cause {
        let because = |words: &[&str]| behind(error).any(|c| words.iter().any(|w| c.contains(w)));
        match error {
            RegistryError::UnauthorizedError { .. } | RegistryError::AuthenticationFailure(_) => Cause::Status(401),
            RegistryError::ImageManifestNotFoundError(_) => Cause::Status(404),
            RegistryError::ServerError { code, .. } => Cause::Status(*code),
            RegistryError::RegistryError { envelope, .. } => Cause::Status(envelope.errors.iter().find_map(|e| status(&e.code)).unwrap_or(400)),
            RegistryError::RequestError(e) if e.status().is_some() => Cause::Status(e.status().map_or(0, |s| s.as_u16())),
            RegistryError::RequestError(e) if e.is_redirect() => Cause::Redirects,
            _ if because(&["certificate", "UnknownIssuer"]) => Cause::Certificate,
            _ if because(&["InvalidContentType", "corrupt message"]) => Cause::NoTls,
            RegistryError::RequestError(e) if e.is_connect() => Cause::Unreachable,
            RegistryError::DigestError(_) => Cause::Forged,
            RegistryError::RequestError(e) if e.is_builder() => Cause::Foreign,
            RegistryError::RequestError(_) | RegistryError::IoError(_) => Cause::Broken,
            _ => Cause::Foreign,
        }
    }

    /// Whether trying again can help.
    pub(super) fn may_pass(self) -> bool {
        match self {
            // Not implemented, wrong version, full disk, a loop: none is there for a moment only.
            Cause::Status(501 | 505 | 507 | 508) => false,
            Cause::Status(code) => code >= 500 || code == 429 || code == 408,
            Cause::Unreachable | Cause::NoTls | Cause::Broken => true,
            Cause::Certificate | Cause::Redirects | Cause::Foreign | Cause::Forged => false,
        }
    }

    /// Whether a registry has said that it will not send a blob from the middle. Some put their reason into an envelope, whose words for it are their own.
    pub(super) fn refuses_range(self) -> bool {
        matches!(self, Cause::Status(400 | 416))
    }

    /// What to do about it.
    pub(super) fn remedy(self, act: Act, anonymous: bool) -> &'static str {
        match (self, act) {
            (Cause::Status(401), _) if anonymous => "log in with podman login or docker login",
            (Cause::Status(401), _) => "the stored credentials were not accepted, log in again",
            (Cause::Status(403), _) => "the account may not do this",
            (Cause::Status(404), Act::Named) => "check name and tag",
            (Cause::Status(404), Act::Part) => "the registry lacks a part of the image, have it pushed again",
            (Cause::Status(404), Act::Push) => "check the name: there may have to be a repository or project of that name first",
            (Cause::Status(405), Act::Push) => "the registry takes no pushes here, it may be a mirror or read-only: push to another one",
            (Cause::Status(413), Act::Push) => "the registry, or a proxy before it, takes no uploads of this size: have its limit raised",
            (Cause::Status(429), _) if anonymous => "the registry has had too many requests: log in with podman login or docker login, or try again later",
            (Cause::Status(429), _) => "the registry has had too many requests: try again later",
            (Cause::Status(507), _) => "the registry's disk is full: have room made on it",
            (Cause::Status(code), _) if (400..500).contains(&code) && code != 408 => "the registry will not do this, ask whoever runs it",
            (Cause::Status(300..=399), _) | (Cause::Redirects, _) => "the host sends requests elsewhere and never answers: check its name, or ask whoever runs it",
            (Cause::Certificate, _) => "name the registry's certificate authority with --registry-ca FILE",
            (Cause::NoTls, _) => "if the registry speaks plain HTTP, say so with --plain-http HOST",
            (Cause::Unreachable, _) => "check the host's name and that it can be reached",
            (Cause::Foreign, _) => "no registry answers like this: check the host's name, and whether a proxy or a login page answers in its place",
            (Cause::Forged, _) => "do not trust it",
            (Cause::Status(_) | Cause::Broken, Act::Named) => "try again later",
            (Cause::Status(_) | Cause::Broken, Act::Part) => "try again later, a download goes on where it stopped",
            (Cause::Status(_) | Cause::Broken, Act::Push) => "try again later, what the registry has is not sent again",
        }
    }
}

/// The HTTP status that goes with a registry's own word.
fn status(code: &OciErrorCode) -> Option<u16> {
    match code {
        OciErrorCode::Unauthorized => Some(401),
        OciErrorCode::Denied => Some(403),
        OciErrorCode::ManifestUnknown | OciErrorCode::NameUnknown | OciErrorCode::NameInvalid | OciErrorCode::BlobUnknown | OciErrorCode::NotFound => Some(404),
        OciErrorCode::Unsupported => Some(405),
        OciErrorCode::Toomanyrequests => Some(429),
        _ => None,
    }
}

/// The whole story in one line: reqwest hides the reason in sources, and strangers wrote the answer.
pub(super) fn chain(error: &RegistryError) -> String {
    let mut text = error.to_string();
    for cause in behind(error).filter(|c| !error.to_string().contains(c)) {
        text = format!("{text}: {cause}");
    }
    shown(&text)
}

/// A stranger's words as a piece of a line.
pub(super) fn shown(text: &str) -> String {
    let mut chars = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let start: String = chars.by_ref().take(MOST_CHARS).collect();
    if chars.next().is_some() { start + " …" } else { start }
}

/// What is behind an error. Unlike its own text these name no URL, in which any word or number may stand.
fn behind(error: &RegistryError) -> impl Iterator<Item = String> {
    std::iter::successors(error.source(), |e| (*e).source()).map(ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remedy_follows_from_the_answer_and_not_from_digits_in_a_name() {
        let url = || "http://h:40301/v2/unknown/manifests/sha256:0340371404".to_owned();
        let server = |code| RegistryError::ServerError { code, url: url(), message: "denied 401 unknown".into() };
        let envelope = |code: &str| {
            let envelope = serde_json::from_str(&format!(r#"{{"errors":[{{"code":"{code}","message":"404"}}]}}"#)).unwrap();
            RegistryError::RegistryError { envelope, url: url() }
        };
        let foreign = RegistryError::ManifestParsingError("404".into());
        let cut = RegistryError::IoError(std::io::ErrorKind::UnexpectedEof.into());
        // What went wrong, whether it may pass, and the remedy for the manifest that was named, for its parts, and for a push.
        let rows: &[(RegistryError, bool, [&str; 3])] = &[
            (RegistryError::UnauthorizedError { url: url() }, false, ["log in with podman"; 3]),
            (server(403), false, ["may not do this"; 3]),
            (envelope("DENIED"), false, ["may not do this"; 3]),
            (server(404), false, ["check name and tag", "lacks a part", "project of that name"]),
            (envelope("NAME_UNKNOWN"), false, ["check name and tag", "lacks a part", "project of that name"]),
            (server(405), false, ["ask whoever runs it", "ask whoever runs it", "takes no pushes"]),
            (envelope("UNSUPPORTED"), false, ["ask whoever runs it", "ask whoever runs it", "takes no pushes"]),
            (server(413), false, ["ask whoever runs it", "ask whoever runs it", "limit raised"]),
            (server(416), false, ["ask whoever runs it"; 3]),
            (envelope("OF_OUR_OWN"), false, ["ask whoever runs it"; 3]),
            (server(429), true, ["too many requests: log in"; 3]),
            (envelope("TOOMANYREQUESTS"), true, ["too many requests: log in"; 3]),
            (server(302), false, ["sends requests elsewhere"; 3]),
            (server(408), true, ["try again later", "goes on where it stopped", "is not sent again"]),
            (server(502), true, ["try again later", "goes on where it stopped", "is not sent again"]),
            (cut, true, ["try again later", "goes on where it stopped", "is not sent again"]),
            (server(507), false, ["disk is full"; 3]),
            (foreign, false, ["no registry answers like this"; 3]),
        ];
        for (error, may_pass, remedies) in rows {
            let cause = Cause::of(error);
            assert_eq!(cause.may_pass(), *may_pass, "{error}");
            for (act, words) in [Act::Named, Act::Part, Act::Push].into_iter().zip(remedies) {
                let remedy = cause.remedy(act, true);
                assert!(remedy.contains(words), "{error}: {act:?}: {remedy}");
                assert!(act == Act::Part || !remedy.contains("download"), "{error}: {act:?}: {remedy}");
            }
        }
        assert!(Cause::Status(401).remedy(Act::Push, false).contains("not accepted"));
        assert!(!Cause::Status(429).remedy(Act::Named, false).contains("log in"));
    }

    #[test]
    fn an_answer_is_shown_as_a_piece_of_one_line() {
        let server = |message: String| chain(&RegistryError::ServerError { code: 500, url: "u".into(), message });
        assert_eq!(server("a\n\u{1b}[2Jb".into()), "Server error: url u, code: 500, message: a  [2Jb");
        assert!(server("x".repeat(1 << 20)).chars().count() < MOST_CHARS + 3);
    }
}
