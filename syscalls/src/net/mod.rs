//! Sockets: UNIX, INET, INET6 and route netlink.
//!
//! Owns no call itself. The fact a newcomer gets wrong: addresses the kernel *reads* are copied once (07, S6), and lengths it reads and then
//! writes by (`socklen_t *`) are ours too, or a sibling thread could grow them between our check and the kernel's second look.

mod address;
mod message;
mod options;
mod socket;
#[cfg(test)]
mod tests;

pub use socket::SOCK_PACKET;

crate::pass::family! { socket::PASSED, socket::ROWS, message::ROWS, options::ROWS }
