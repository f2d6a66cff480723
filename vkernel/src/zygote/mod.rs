//! Containers that are ready before anybody asks for them: a *zygote* is a process of the daemon's that keeps a few of one kind, which wait, locked down, for what they are to run. Owns nothing but the parts: `client` asks and stands for the
//! container, `wish` is what is asked for, `process` keeps containers, `reserve` is one of them, `orders` and `taken` are how it is told, `caller` is what it would have inherited.
//!
//! The facts a newcomer gets wrong: what was looked at when the container was made must be unchanged when it is taken (`Wish::same`, `keys::Basis`); and whenever anything is not as it should be, before the guest has begun, the caller starts the
//! container itself, as if there were no daemon.

mod caller;
mod client;
mod orders;
mod process;
mod reserve;
mod taken;
mod wish;

pub use caller::Caller;
pub use client::ask;
pub use orders::{Order, Orders, pair, send};
pub use process::zygote;
pub use taken::Taken;
pub use wish::{Asked, Beginning, Lines, Told, Understood, Wanted, Wish};

use std::io::{self, Write};
use vkernel_client::{Answer, Reply};

/// Tells a client.
fn tell(mut client: impl Write, reply: Reply) -> io::Result<()> {
    let mut line = serde_json::to_vec(&Answer { id: None, reply })?;
    line.push(b'\n');
    client.write_all(&line)
}
