//! Clocks, sleeping, interval and POSIX timers.
//!
//! Refuses to set any clock. The fact a newcomer gets wrong: `sigevent`'s value is opaque (it may be a guest pointer and comes back in siginfo),
//! but SIGEV_THREAD does not exist in the kernel: glibc builds it from SIGEV_THREAD_ID.

mod clocks;
mod timers;

pub use timers::exec_reset;

crate::pass::family! { clocks::PASSED, clocks::ROWS, clocks::REFUSED, timers::PASSED, timers::ROWS }
