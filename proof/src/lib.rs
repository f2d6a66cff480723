//! Proofs: signed records of what commands of a release did natively, and asking a runtime again.
//!
//! Owns the record (`manifest.proof.json`, and the bytes by digest in `manifest.proof/`), reading one that is believed, and replaying it. Refuses to own making proofs and the native side: they are `recompiler-build`'s. The fact a newcomer gets wrong:
//! a proof is not that the release is right, only that these commands came out alike; and what is replayed is asked of the image as it is now, so a changed image does not come out as proved.

#![forbid(unsafe_code)]

mod command;
mod error;
mod guest;
mod record;
mod replay;

pub use command::{Came, run};
pub use error::ProofError;
pub use guest::Guest;
pub use record::{Proof, Row, blobs, path, release};
pub use replay::{Replayed, check, of_another_release, replay};
