//! The words of the daemon's socket, and a connection that speaks them. Owns the shape of requests and replies: the daemon reads the very types that clients write, and the schema is made from them.
//!
//! One JSON object per line in both directions. The facts a newcomer gets wrong: a request that is refused or wrong ends nothing, the connection lives on; and whoever can open the socket is as
//! good as root on the host, so it is never shown to a container.
//!
//! ```no_run
//! use vkernel_client::{Client, Request};
//! let mut client = Client::connect(vkernel_client::SOCKET.as_ref())?;
//! let containers = client.result(&Request::Ps { all: true })?;
//! println!("{containers:#}");
//! # Ok::<(), vkernel_client::Error>(())
//! ```

#![forbid(unsafe_code)]

mod calls;
mod connection;
mod words;

pub use calls::{Argument, Invocation, Outcome, Output};
pub use connection::{Client, Error};
pub use words::{Answer, Call, Reply, Request, schema};

/// Where the daemon listens unless it was told otherwise.
pub const SOCKET: &str = "/run/vkernel/vkernel.sock";

/// A longer line is no request and no reply.
pub const LARGEST_LINE_BYTES: usize = 1 << 20;
