//! The terminal while something is shown on it: raw, and its other screen. Owns giving it back on every way out: a result, a panic of any thread.
//!
//! The fact a newcomer gets wrong: the panic's text must come after the terminal was given back, or it is lost with the other screen. `ratatui::try_init` sees to that with a hook.

use std::io;

pub(super) type Terminal = ratatui::DefaultTerminal;

/// Gives the terminal back however the scope is left.
struct Shown;

impl Drop for Shown {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

pub(super) fn shown<T>(work: impl FnOnce(&mut Terminal) -> T) -> io::Result<T> {
    let _shown = Shown;
    let mut terminal = ratatui::try_init()?;
    Ok(work(&mut terminal))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Read;
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

    fn is_cooked(terminal: &OwnedFd) -> bool {
        // SAFETY: room for the settings of an open terminal.
        let settings = unsafe {
            let mut settings: libc::termios = std::mem::zeroed();
            assert_eq!(libc::tcgetattr(terminal.as_raw_fd(), &mut settings), 0);
            settings
        };
        settings.c_lflag & (libc::ICANON | libc::ECHO | libc::ISIG) == libc::ICANON | libc::ECHO | libc::ISIG
    }

    /// What a child on a terminal of its own writes, and whether the terminal is as it was.
    fn on_a_terminal(work: fn()) -> (String, bool) {
        let (mut master, mut slave) = (-1, -1);
        // SAFETY: two places for descriptors; no name, settings or size.
        let made = unsafe { libc::openpty(&mut master, &mut slave, std::ptr::null_mut(), std::ptr::null(), std::ptr::null()) };
        assert_eq!(made, 0);
        // SAFETY: two descriptors just made.
        let (mut master, slave) = unsafe { (File::from_raw_fd(master), OwnedFd::from_raw_fd(slave)) };
        assert!(is_cooked(&slave));
        // SAFETY: the child only runs `work` on a terminal of its own and ends in `_exit`; libc's fork keeps the allocator usable in it.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: descriptors of this process.
            unsafe {
                libc::setsid();
                libc::ioctl(slave.as_raw_fd(), libc::TIOCSCTTY, 0);
                for n in 0..3 {
                    libc::dup2(slave.as_raw_fd(), n);
                }
            }
            let _ = std::panic::catch_unwind(work);
            // SAFETY: ends the child.
            unsafe { libc::_exit(0) }
        }
        let mut status = 0;
        // SAFETY: our child.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        let mut seen = vec![0; 1 << 16];
        let n = master.read(&mut seen).unwrap();
        (String::from_utf8_lossy(&seen[..n]).into_owned(), is_cooked(&slave))
    }

    #[test]
    fn the_terminal_is_given_back_after_a_result_and_after_a_panic_whose_text_is_seen() {
        const LEFT: &str = "\x1b[?1049l";
        let (seen, cooked) = on_a_terminal(|| shown(|_| ()).unwrap());
        assert!(cooked && seen.contains("\x1b[?1049h") && seen.contains(LEFT), "{seen:?}");
        let (seen, cooked) = on_a_terminal(|| shown(|_| panic!("of a test")).unwrap());
        assert!(cooked, "{seen:?}");
        let (left, told) = (seen.find(LEFT), seen.find("of a test"));
        // The hook of the test harness may keep the text to itself; if it is there, it comes after the screen.
        assert!(left.is_some() && told.is_none_or(|told| left < Some(told)), "{seen:?}");
    }
}
