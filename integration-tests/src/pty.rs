//! A pseudo-terminal of a test's own, with a command in a session on it.

use crate::Running;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// Its master side, its other side, and what runs on it.
pub struct Pty {
    pub master: File,
    pub slave: OwnedFd,
    pub run: Running,
}

impl Pty {
    /// Starts `command` on a terminal of 24 rows.
    pub fn start(mut command: Command, columns: u16) -> Pty {
        let (mut master, mut slave) = (-1, -1);
        let size = libc::winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: two places for descriptors, no name, no settings, a valid size.
        let made = unsafe { libc::openpty(&mut master, &mut slave, std::ptr::null_mut(), std::ptr::null(), &size) };
        assert_eq!(made, 0, "a terminal can be made");
        // SAFETY: two descriptors just made.
        let (master, slave) = unsafe { (File::from_raw_fd(master), OwnedFd::from_raw_fd(slave)) };
        let side = || Stdio::from(slave.try_clone().expect("descriptors are left"));
        command.stdin(side()).stdout(side()).stderr(side());
        // SAFETY: two system calls, both safe after fork.
        unsafe {
            command.pre_exec(|| {
                libc::setsid();
                if libc::ioctl(0, libc::TIOCSCTTY, 0) == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
            })
        };
        let run = Running::with_output(command, master.try_clone().expect("descriptors are left"));
        Pty { master, slave, run }
    }

    pub fn send(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).expect("a terminal");
    }

    pub fn resize(&self, rows: u16, columns: u16) {
        let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: a valid size.
        assert_eq!(unsafe { libc::ioctl(self.master.as_raw_fd(), libc::TIOCSWINSZ, &size) }, 0);
    }

    /// Does the terminal collect lines and echo, as shells expect it?
    pub fn is_cooked(&self) -> bool {
        // SAFETY: room for the settings of an open terminal.
        let settings = unsafe {
            let mut settings: libc::termios = std::mem::zeroed();
            assert_eq!(libc::tcgetattr(self.slave.as_raw_fd(), &mut settings), 0);
            settings
        };
        settings.c_lflag & (libc::ICANON | libc::ECHO | libc::ISIG) == libc::ICANON | libc::ECHO | libc::ISIG
    }
}
