//! `vkernel top`: containers on a terminal, looked at again and again. Owns the loop and what ends it; what is seen is `sample`'s and `feed`'s, how it looks `view`'s, the terminal `screen`'s.
//!
//! The fact a newcomer gets wrong: in raw mode Ctrl-C is a key. Signals that somebody sends are read from a descriptor, so that every way out gives the terminal back.

pub mod feed;
pub mod sample;
mod screen;
mod view;

use crate::cli::watch::Top;
use crate::failure::Failure;
use crate::signals;
use feed::Feed;
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use ratatui::crossterm::event::{self, Event};
use sample::{Sample, readings};
use std::io::IsTerminal;
use std::path::Path;
use std::time::{Duration, Instant};
use view::{Told, View};

/// How soon a key or a signal is noticed.
const GLANCE: Duration = Duration::from_millis(100);
/// Between the two looks of which one sample is made.
const MOMENT: Duration = Duration::from_millis(250);

fn failure(e: impl std::fmt::Display) -> Failure {
    Failure::new("vkernel top", e, "use --once where there is no terminal")
}

/// The exit code, and what is to be printed.
pub fn top(options: &Top, root: &Path, socket: &Path) -> Result<(String, i32), Failure> {
    let is_terminal = std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
    // Before there is another thread, which would get them.
    let signals = signals::arriving(&[Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT])?;
    let feed = Feed::follow(socket);
    if options.once || options.json || !is_terminal {
        feed.wait_until_connected(MOMENT);
        let before = Sample::take(root, &feed.counts());
        std::thread::sleep(MOMENT);
        let now = Sample::take(root, &feed.counts());
        let all = readings(&before, &now);
        let text = if options.json { format!("{:#}\n", sample::json(&all, feed.is_connected())) } else { view::table(&all) };
        return Ok((text, 0));
    }
    let code = screen::shown(|terminal| live(options, root, &feed, &signals, terminal)).map_err(failure)??;
    Ok((String::new(), code))
}

fn live(options: &Top, root: &Path, feed: &Feed, signals: &SignalFd, terminal: &mut screen::Terminal) -> Result<i32, Failure> {
    let interval = Duration::from_secs_f64(options.interval);
    let mut view = View::default();
    let mut before = Sample::take(root, &feed.counts());
    let mut all = readings(&before, &before);
    let mut next = Instant::now() + MOMENT.min(interval);
    loop {
        terminal.draw(|frame| view.draw(frame, &all, &feed.recent(), feed.is_connected())).map_err(failure)?;
        if event::poll(GLANCE).map_err(failure)? {
            match event::read().map_err(failure)? {
                Event::Key(key) if view.key(key) == Told::End => return Ok(0),
                _ => {}
            }
        }
        if let Ok(Some(signal)) = signals.read_signal() {
            return Ok(128 + signal.ssi_signo as i32);
        }
        if Instant::now() >= next {
            let now = Sample::take(root, &feed.counts());
            all = readings(&before, &now);
            before = now;
            next = Instant::now() + interval;
        }
    }
}
