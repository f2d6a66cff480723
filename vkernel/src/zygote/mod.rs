//! Containers that are ready before anybody asks for them: a *zygote* is a process of the daemon's that keeps a few of one kind, which wait, locked down, for what they are to run. Owns which runs can be served so, and the caller's side: asking, and
//! standing for the container until its end.
//!
//! The facts a newcomer gets wrong: what was looked at when the container was made must be unchanged when it is taken (`Wish::same`, `keys::Basis`); and whenever anything is not as it should be, before the guest has begun, the caller starts the container itself, as if
//! there were no daemon.

mod caller;
mod orders;
mod process;
mod reserve;
mod taken;

pub use caller::Caller;
pub use orders::{Order, Orders, pair, send};
pub use process::zygote;
pub use taken::Taken;

use crate::audit::Destination;
use crate::cli::{NetworkChoice, Run};
use crate::failure::Failure;
use crate::keys;
use crate::rootfs;
use crate::serve::passing;
use crate::signals::Signals;
use crate::sys::identity;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{Shutdown, shutdown};
use nix::sys::stat::SFlag;
use serde::{Deserialize, Serialize};
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;
use vkernel_client::{Client, LARGEST_LINE_BYTES, Reply, Request};

/// Longer than a daemon that is well takes to say whether it can.
const ATTENTION: Duration = Duration::from_secs(3);
/// Longer than a zygote and its first container take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a client asks for, as `Request::Take` carries it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Wish {
    /// Paths in it are absolute.
    pub run: Run,
    /// Where records are.
    pub root: PathBuf,
    pub caller: Caller,
    /// What must be the same for the daemon, which may have other mounts, and for the container that waits, which was made before: device and inode, or nothing.
    pub same: Vec<(PathBuf, Option<(u64, u64)>)>,
}

impl Wish {
    fn new(options: &Run, root: &Path) -> io::Result<Self> {
        let mut run = options.clone();
        let absolute = |path: &mut PathBuf| std::path::absolute(&*path).map(|found| *path = found);
        let image = run.shape.rootfs.get_or_insert_with(|| rootfs::beside(&options.manifest));
        absolute(image)?;
        let mut places = vec![image.clone()];
        for path in [&mut run.manifest, &mut run.release.store, &mut run.release.serials].into_iter().chain(&mut run.release.trust.keys) {
            absolute(path)?;
            places.push(path.clone());
        }
        if let Some(audit) = &run.release.audit {
            let audit = audit.absolute()?;
            // The file itself may be another by the time that it is written to: logs are rotated.
            places.extend(audit.file().and_then(Path::parent).map(Path::to_owned));
            run.release.audit = Some(audit);
        }
        for file in &mut run.shape.env_file {
            absolute(file)?;
        }
        let root = std::path::absolute(root)?;
        let network = options.shape.network.as_ref().is_none_or(|n| *n == NetworkChoice::Host).then_some("net");
        // A file is given to the guest through a mount of its own, which only its own mount namespace can make.
        let is_file = |stream| nix::sys::stat::fstat(stream).is_ok_and(|st| matches!(SFlag::from_bits_truncate(st.st_mode) & SFlag::S_IFMT, SFlag::S_IFREG | SFlag::S_IFBLK));
        let mounts = (is_file(crate::streams::all()[0]) || !run.shape.env_file.is_empty()).then_some("mnt");
        places.extend(["user", "pid"].into_iter().chain(network).chain(mounts).map(|kind| Path::new("/proc/self/ns").join(kind)));
        // The program too: a daemon that was not started again since it was replaced understands other options.
        places.extend([root.clone(), keys::KEYS.into(), keys::REVOKED.into(), "/proc/self/exe".into()]);
        let same = places
            .into_iter()
            .map(|path| {
                let found = identity(&path);
                (path, found)
            })
            .collect();
        Ok(Self { caller: Caller::here(&run), run, root, same })
    }

    /// Whether this process means the same files and namespaces by these names, and has no power that the caller has not.
    pub fn is_meant_here(&self) -> bool {
        // Records are made in a directory that is made with the first of them.
        let same = |(path, found): &(PathBuf, Option<(u64, u64)>)| identity(path) == *found || (*path == self.root && found.is_none());
        self.same.iter().all(same) && self.caller.may_all_that_this_process_may()
    }

    /// What containers that are made ready for one wish have in common with those for another: all but what they run, and with which variables.
    pub fn kind(&self) -> serde_json::Result<String> {
        let mut run = self.run.clone();
        // A description names a program; this one is never run.
        run.command = vec!["true".into()];
        run.shape.env.clear();
        run.shape.env_file.clear();
        serde_json::to_string(&(run, &self.root))
    }
}

/// Whether a ready container can stand for what these options say. Others have something of their caller's (a terminal, a directory of its choice), or are looked after in another way.
pub fn suits(options: &Run) -> bool {
    let (shape, life, release) = (&options.shape, &options.life, &options.release);
    let own = life.detach || life.tty || life.name.is_some() || life.pid_file.is_some() || options.strace;
    let places = [&shape.volume, &shape.mount, &shape.device].into_iter().any(|list| !list.is_empty());
    let network = matches!(shape.network, Some(NetworkChoice::Bridge(_) | NetworkChoice::Namespace(_))) || !shape.publish.is_empty();
    let said_aloud = release.permissive || release.record_syscalls || release.allow_rollback;
    // What is read once only is its caller's to read, and what is written may be a stream of the caller's.
    let files = shape.env_file.iter().all(|file| file.is_file()) && release.audit.as_ref().and_then(Destination::file).is_none_or(|log| log.is_file() || !log.exists());
    !(own || places || network || said_aloud || shape.userns.is_some()) && files && options.manifest.is_file()
}

/// The standard streams, if a process of another session can have them.
fn streams() -> Option<[BorrowedFd<'static>; 3]> {
    let all = crate::streams::all();
    let fit = |fd: &BorrowedFd<'_>| nix::sys::stat::fstat(fd).is_ok_and(|st| SFlag::from_bits_truncate(st.st_mode) & SFlag::S_IFMT != SFlag::S_IFDIR) && !fd.is_terminal();
    all.iter().all(fit).then_some(all)
}

/// Has a ready container run it, and stands for it: its exit code. `None`: nothing has begun; the caller starts one itself.
pub fn ask(options: &Run, root: &Path, socket: &Path) -> Option<Result<i32, Failure>> {
    if !suits(options) {
        return None;
    }
    let streams = streams()?;
    let wish = serde_json::to_value(Wish::new(options, root).ok()?).ok()?;
    let mut line = serde_json::to_vec(&Request::Take { wish }).ok()?;
    line.push(b'\n');
    if line.len() > LARGEST_LINE_BYTES {
        return None;
    }
    let mut client = Client::connect(socket).ok()?;
    // From here on a signal is the container's.
    let signals = Signals::take_over().ok()?;
    let event = |answer: io::Result<vkernel_client::Answer>| answer.is_ok_and(|answer| matches!(answer.reply, Reply::Event { .. }));
    let asked = client.set_timeout(Some(ATTENTION)).and_then(|()| passing::send(client.as_fd(), &line, &[]));
    if !event(asked.and_then(|()| client.answer())) {
        signals.give_back();
        return None;
    }
    let given = client.set_timeout(Some(PATIENCE)).and_then(|()| passing::send(client.as_fd(), b"\n", &streams));
    let mut answer = given.and_then(|()| client.answer());
    if answer.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock) {
        // From here on nobody can say `begun`, and so nobody begins; it may have been said a moment ago.
        let _ = shutdown(client.as_fd().as_raw_fd(), Shutdown::Read);
        answer = client.answer();
    }
    if event(answer) {
        let _ = client.set_timeout(None);
        return Some(stand_for(&mut client, &signals));
    }
    signals.give_back();
    None
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
            let _ = nix::unistd::write(client.as_fd(), &arrived);
        }
    }
    match client.answer().map_err(lost)?.reply {
        Reply::Ok { result, .. } => Ok(result["exit_code"].as_i64().and_then(|code| code.try_into().ok()).unwrap_or(255)),
        Reply::Error { what, why, advice } => Err(Failure::new(what, why, advice)),
        other => Err(lost(io::Error::other(format!("it answered {other:?}")))),
    }
}

/// Tells a client.
fn tell(mut client: impl Write, reply: Reply) -> io::Result<()> {
    let mut line = serde_json::to_vec(&vkernel_client::Answer { id: None, reply })?;
    line.push(b'\n');
    client.write_all(&line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;

    fn run(options: &[&str]) -> Run {
        let manifest = std::env::current_exe().unwrap();
        let words = ["vkernel", "run", manifest.to_str().unwrap()].into_iter().chain(options.iter().copied()).chain(["--", "true"]);
        match Cli::try_parse_from(words).unwrap().command {
            Command::Run(run) => run,
            _ => unreachable!("`run` was parsed"),
        }
    }

    #[test]
    fn what_belongs_to_its_caller_is_started_by_its_caller() {
        assert!(suits(&run(&[])) && suits(&run(&["--memory", "64m", "--network", "none", "-e", "A=1", "--user", "7", "--rm", "--read-only"])));
        let own: [&[&str]; 9] = [
            &["--detach"],
            &["--tty"],
            &["--name", "x"],
            &["-v", "/srv:/srv"],
            &["--network", "netns:/x"],
            &["--publish", "80"],
            &["--strace"],
            &["--userns", "ns:/x"],
            &["--pid-file", "/x"],
        ];
        for options in own {
            assert!(!suits(&run(options)), "{options:?}");
        }
        let mut image = run(&[]);
        image.manifest = "registry.example/shop:1".into();
        assert!(!suits(&image));
    }

    #[test]
    fn wishes_differ_in_kind_by_everything_but_what_is_run() {
        let kind = |options: &[&str], root: &str| {
            let run = run(options);
            Wish::new(&run, Path::new(root)).unwrap().kind().unwrap()
        };
        assert_eq!(kind(&["-e", "A=1"], "/r"), kind(&["-e", "B=2"], "/r"));
        for (options, root) in [(&["--user", "7"][..], "/r"), (&["--workdir", "/tmp"], "/r"), (&["--memory", "1g"], "/r"), (&[], "/other")] {
            assert_ne!(kind(options, root), kind(&[], "/r"), "{options:?} {root}");
        }
    }

    #[test]
    fn another_file_of_the_same_name_is_not_what_was_meant() {
        let mut wish = Wish::new(&run(&[]), Path::new("/r")).unwrap();
        assert!(wish.is_meant_here() && wish.same.iter().any(|(path, ..)| path == Path::new("/proc/self/ns/net")));
        wish.same[0].1 = Some((0, 0));
        assert!(!wish.is_meant_here());
    }
}
