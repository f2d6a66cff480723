//! How vkernel's own failures look to the person at the terminal. Owns the one-line shape `what: why: what to do` and the exit codes of
//! `podman run` (125 vkernel's own failure, 126 not executable, 127 not found). The fact a newcomer gets wrong: the guest's exit code is
//! never a `Failure`, even when it is 125.

use std::fmt;

/// vkernel itself could not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub what: String,
    pub why: String,
    pub advice: String,
    pub code: u8,
}

impl Failure {
    /// A failure of vkernel: exit code 125.
    pub fn new(what: impl Into<String>, why: impl fmt::Display, advice: impl Into<String>) -> Self {
        Self { what: what.into(), why: why.to_string(), advice: advice.into(), code: 125 }
    }

    pub fn with_code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }

    /// For the socket between a container's init and its supervisor.
    pub fn encode(&self) -> Vec<u8> {
        format!("{}\0{}\0{}\0{}", self.code, self.what, self.why, self.advice).into_bytes()
    }

    pub fn decode(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let mut parts = text.splitn(4, '\0').map(str::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        let code = next().parse().unwrap_or(125);
        Self { code, what: next(), why: next(), advice: next() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.why)?;
        if self.advice.is_empty() { Ok(()) } else { write!(f, ": {}", self.advice) }
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_survives_the_socket() {
        let f = Failure::new("mount /proc", "EPERM", "run as root").with_code(126);
        assert_eq!(Failure::decode(&f.encode()), f);
        assert_eq!(f.to_string(), "mount /proc: EPERM: run as root");
    }
}
