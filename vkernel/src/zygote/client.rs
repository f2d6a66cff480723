//! The caller's side of a ready container: asking for one, and standing for it until its end.
//!
//! The facts a newcomer gets wrong: most of what a start costs its caller is this process, so it reads no command line, which the daemon does; and whenever anything is not as it should be, before the guest has begun, the caller starts the
//! container itself, as if there were no daemon.

use super::wish::OWN;
use super::{Asked, Caller, Told, Wanted};
use crate::failure::Failure;
use crate::serve::passing;
use crate::signals::Signals;
use crate::sys::identity;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, Shutdown, send, shutdown};
use nix::sys::stat::SFlag;
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;
use vkernel_client::{Client, LARGEST_LINE_BYTES, Reply, Request, SOCKET};

/// Longer than a daemon that is well takes to say whether it can.
const ATTENTION: Duration = Duration::from_secs(3);
/// Longer than a zygote and its first container take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Has a ready container run what this command line (without the program's name) says, and stands for it: its exit code. `None`: nothing has begun; the caller starts one itself, if that is what the line says, and with this program.
pub fn ask(words: Vec<String>, program: &Path) -> Option<Result<i32, Failure>> {
    let socket = socket(&words)?.to_owned();
    let streams = streams()?;
    let mut client = Client::connect(socket.as_ref()).ok()?;
    let directory = std::env::current_dir().ok()?;
    let asked = Asked { words, directory, socket: socket.into(), reads_file: is_file(streams[0]), caller: Caller::here() };
    let request = line(&Request::Take { wish: serde_json::to_value(asked).ok()? })?;
    // From here on a signal is the container's.
    let signals = Signals::take_over().ok()?;
    if begun(&mut client, &request, program, streams).is_none() {
        signals.give_back();
        return None;
    }
    Some(stand_for(&mut client, &signals))
}

/// `None`: it has not, and will not.
fn begun(client: &mut Client, request: &[u8], program: &Path, streams: [BorrowedFd<'_>; 3]) -> Option<()> {
    client.set_timeout(Some(ATTENTION)).and_then(|()| passing::send(client.as_fd(), request, &[])).ok()?;
    let wanted: Wanted = serde_json::from_value(event(client.answer())?).ok()?;
    let place = |path: &PathBuf| identity(if path == Path::new(OWN) { program } else { path });
    let told = line(&Told { same: wanted.places.iter().map(place).collect(), variables: wanted.variables.iter().map(|name| std::env::var(name).ok()).collect() })?;
    let given = client.set_timeout(Some(PATIENCE)).and_then(|()| passing::send(client.as_fd(), &told, &streams));
    let mut answer = given.and_then(|()| client.answer());
    if answer.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock) {
        // From here on nobody can say `begun`, and so nobody begins; it may have been said a moment ago.
        let _ = shutdown(client.as_fd().as_raw_fd(), Shutdown::Read);
        answer = client.answer();
    }
    event(answer)?;
    let _ = client.set_timeout(None);
    Some(())
}

fn event(answer: io::Result<vkernel_client::Answer>) -> Option<serde_json::Value> {
    match answer.ok()?.reply {
        Reply::Event { event } => Some(event),
        _ => None,
    }
}

fn line(of: &impl serde::Serialize) -> Option<Vec<u8>> {
    let mut line = serde_json::to_vec(of).ok()?;
    line.push(b'\n');
    (line.len() <= LARGEST_LINE_BYTES).then_some(line)
}

/// Where the daemon is that this line means, if it may be one that runs something. Who reads the whole line says whether that was so.
fn socket(words: &[String]) -> Option<&str> {
    let options = || words.iter().map(String::as_str).take_while(|word| *word != "--");
    let mut named = options().skip_while(|word| *word != "--socket");
    let joined = options().find_map(|word| word.strip_prefix("--socket="));
    options().any(|word| word == "run").then(|| joined.or(named.nth(1)).unwrap_or(SOCKET))
}

fn is_file(stream: BorrowedFd<'_>) -> bool {
    nix::sys::stat::fstat(stream).is_ok_and(|st| matches!(SFlag::from_bits_truncate(st.st_mode) & SFlag::S_IFMT, SFlag::S_IFREG | SFlag::S_IFBLK))
}

/// The standard streams, if a process of another session can have them.
fn streams() -> Option<[BorrowedFd<'static>; 3]> {
    let all = crate::streams::all();
    let fit = |fd: &BorrowedFd<'_>| nix::sys::stat::fstat(fd).is_ok_and(|st| SFlag::from_bits_truncate(st.st_mode) & SFlag::S_IFMT != SFlag::S_IFDIR) && !fd.is_terminal();
    all.iter().all(fit).then_some(all)
}

/// Signals go there as bytes, its end comes from there; when this process ends, so does the container.
fn stand_for(client: &mut Client, signals: &Signals) -> Result<i32, Failure> {
    let lost = |e: io::Error| Failure::new("the container", format!("its supervisor is gone: {e}"), "see the daemon's log");
    while !client.has_more() {
        let mut fds = [PollFd::new(client.as_fd(), PollFlags::POLLIN), PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(e) => return Err(lost(e.into())),
        }
        let ready = |i: usize| fds[i].revents().is_some_and(|r| !r.is_empty());
        if ready(0) {
            break;
        }
        if ready(1) {
            let arrived = signals.arrived();
            // Who ends meanwhile says so in the answer.
            let _ = send(client.as_fd().as_raw_fd(), &arrived, MsgFlags::MSG_NOSIGNAL);
        }
    }
    match client.answer().map_err(lost)?.reply {
        Reply::Ok { result, .. } => Ok(result["exit_code"].as_i64().and_then(|code| code.try_into().ok()).unwrap_or(255)),
        Reply::Error { what, why, advice } => Err(Failure::new(what, why, advice)),
        other => Err(lost(io::Error::other(format!("it answered {other:?}")))),
    }
}

#[cfg(test)]
mod tests {
    use super::socket;
    use vkernel_client::SOCKET;

    #[test]
    fn the_socket_is_found_in_a_line_that_is_not_read() {
        let found = |line: &str| socket(&line.split(' ').map(str::to_owned).collect::<Vec<_>>()).map(str::to_owned);
        assert_eq!(found("run m.json -- true"), Some(SOCKET.into()));
        assert_eq!(found("--socket /s run m.json -- true --socket /other"), Some("/s".into()));
        assert_eq!(found("run m.json --socket=/s -- true"), Some("/s".into()));
        assert_eq!(found("exec web -- run"), None);
        assert_eq!(found("ps"), None);
    }
}
