//! Waiting for descriptors: poll, select, epoll, and the descriptors made for waiting (eventfd, signalfd, timerfd, inotify).
//!
//! Owns no call itself. What a signal does to a wait is `blocking`'s business. The fact a newcomer gets wrong: `epoll_event` is packed (12 bytes
//! on x86-64) and its data is opaque: guest pointers in it come back untouched.

mod epoll;
mod select;
#[cfg(test)]
mod tests;
mod watch;

crate::pass::family! {
    select::ROWS,
    epoll::PASSED,
    epoll::ROWS,
    epoll::REFUSED,
    watch::PASSED,
    watch::ROWS,
}
