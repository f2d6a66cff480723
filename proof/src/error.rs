//! What can be wrong with a proof or with running its commands. Owns the texts. The fact a newcomer gets wrong: they are whole without their sources, because one of the two programs prints a single line without a chain.

use policy::canonical::JsonError;
use policy::signature::SignatureError;
use std::io;
use std::path::PathBuf;
use thiserror::Error;

#[derive(Debug, Error)]
pub enum ProofError {
    #[error("cannot read {}: {cause}", path.display())]
    Read { path: PathBuf, cause: io::Error },
    #[error("{}: {cause}", path.display())]
    Json { path: PathBuf, cause: JsonError },
    #[error("{}: {cause}", path.display())]
    Signature { path: PathBuf, cause: SignatureError },
    #[error("{}: is no proof: {cause}", path.display())]
    Shape { path: PathBuf, cause: serde_json::Error },
    #[error("{}: is of another release", path.display())]
    OtherRelease { path: PathBuf },
    #[error("{}: is not what was proved: get the proof again", path.display())]
    Changed { path: PathBuf },
    #[error("cannot make a temporary file: {0}")]
    Temporary(io::Error),
    #[error("cannot start {program}: {cause}")]
    Start { program: String, cause: io::Error },
    #[error("did not end within {0} s")]
    Slow(u64),
    #[error("wrote more than {0} bytes")]
    Much(u64),
    #[error("could not be run: {0}")]
    Unusable(String),
    #[error("{test}: {cause}")]
    Test { test: String, cause: Box<ProofError> },
    #[error("does not come out as proved: {0}")]
    Different(String),
}
