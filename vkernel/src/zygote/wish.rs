//! What a client asks for, from its command line to an order. Owns which runs a ready container can stand for, and what client, daemon and container must mean alike.
//!
//! The fact a newcomer gets wrong: paths are the client's, and it alone knows which files it means. So the daemon reads the command line, and asks the client which files lie at the paths that it found there.

use super::Caller;
use crate::audit::Destination;
use crate::cli::{Cli, Command, NetworkChoice, Run};
use crate::keys;
use crate::rootfs;
use crate::sys::identity;
use clap::Parser;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// This program; a client answers for the one that it would start a container with.
pub(super) const OWN: &str = "/proc/self/exe";

/// What a client says first, as `Request::Take` carries it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Asked {
    /// Its command line, without the program's name.
    pub words: Vec<String>,
    /// Where relative paths begin.
    pub directory: PathBuf,
    /// Where it has found this daemon.
    pub socket: PathBuf,
    /// Its standard input is a file, which is given to the guest through a mount of its own, which only its own mount namespace can make.
    pub reads_file: bool,
    pub caller: Caller,
}

/// What it is asked then.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Wanted {
    pub places: Vec<PathBuf>,
    pub variables: Vec<String>,
}

/// What it answers, with its streams: which file lies at each place, by device and inode, and what each variable says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Told {
    pub same: Vec<Option<(u64, u64)>>,
    pub variables: Vec<Option<String>>,
}

/// A wish that a ready container can fulfil, if the client means the same by it.
#[derive(Clone, Debug)]
pub struct Understood {
    wish: Wish,
    pub wanted: Wanted,
    /// Of the places that the client is asked about, those that the container was made from; the others count at this moment only.
    lasting: usize,
}

/// What is to be run, by whom.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Paths in it are absolute.
    pub run: Run,
    /// Where records are.
    pub root: PathBuf,
    pub caller: Caller,
    /// What must be the same for the container that waits, which was made before: device and inode, or nothing.
    pub same: Vec<(PathBuf, Option<(u64, u64)>)>,
}

/// What a container that waits is not told before: the rest is its kind.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Beginning {
    command: Vec<String>,
    env: Vec<String>,
    env_file: Vec<PathBuf>,
    pub caller: Caller,
}

impl Beginning {
    /// The options of its kind with it.
    pub fn of(&self, kind: &Run) -> Run {
        let mut run = kind.clone();
        run.command.clone_from(&self.command);
        run.shape.env.clone_from(&self.env);
        run.shape.env_file.clone_from(&self.env_file);
        run
    }
}

impl Asked {
    /// What it means; an error if that is nothing for a ready container, or nothing at all.
    pub fn understood(self, lines: &Lines) -> io::Result<Understood> {
        let read = lines.read(&self.words)?;
        if read.socket != self.socket {
            return Err(io::Error::other("another daemon is meant"));
        }
        if !self.caller.may_all_that_this_process_may() {
            return Err(io::Error::other("the caller may less than this daemon"));
        }
        understood(read.run, &read.root, &self.directory, self.reads_file, self.caller)
    }
}

/// A command line that runs something.
#[derive(Clone, Debug)]
struct Read {
    run: Run,
    root: PathBuf,
    socket: PathBuf,
}

impl Read {
    fn new(words: &[String]) -> io::Result<Self> {
        let cli = Cli::try_parse_from(std::iter::once("vkernel").chain(words.iter().map(String::as_str))).map_err(io::Error::other)?;
        let Command::Run(run) = cli.command else { return Err(io::Error::other("it runs nothing")) };
        Ok(Self { run, root: cli.root, socket: cli.socket })
    }
}

/// Command lines that were read last: to read one takes longer than all else that a daemon does for a start. What a line says up to the mark before the program, it says whatever is run.
#[derive(Default)]
pub struct Lines(Mutex<Vec<(Vec<String>, Read)>>);

impl Lines {
    const MOST: usize = 32;

    fn read(&self, words: &[String]) -> io::Result<Read> {
        let mark = words.iter().position(|word| word == "--").ok_or_else(|| io::Error::other("it names no program"))?;
        let (options, command) = (&words[..mark], &words[mark + 1..]);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = known.iter().position(|(line, _)| line == options).filter(|_| !command.is_empty()) {
            let line = known.remove(at);
            let mut read = line.1.clone();
            known.push(line);
            read.run.command = command.to_vec();
            return Ok(read);
        }
        drop(known);
        let read = Read::new(words)?;
        // An option may have taken the first mark for its value.
        if read.run.command == command {
            let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if known.len() >= Self::MOST {
                known.remove(0);
            }
            known.push((options.to_vec(), read.clone()));
        }
        Ok(read)
    }
}

fn understood(mut run: Run, root: &Path, directory: &Path, reads_file: bool, caller: Caller) -> io::Result<Understood> {
    let absolute = |path: &Path| if path.as_os_str().is_empty() { Err(io::ErrorKind::InvalidInput.into()) } else { std::path::absolute(directory.join(path)) };
    let beside = rootfs::beside(&run.manifest);
    let mut places = Vec::new();
    for path in [run.shape.rootfs.get_or_insert(beside), &mut run.manifest, &mut run.release.store, &mut run.release.serials].into_iter().chain(&mut run.release.trust.keys) {
        *path = absolute(path)?;
        places.push(path.clone());
    }
    let mut momentary = Vec::new();
    if let Some(Destination::File(log)) = &mut run.release.audit {
        *log = absolute(log)?;
        // The file itself may be another by the time that it is written to: logs are rotated.
        places.extend(log.parent().map(Path::to_owned));
        momentary.push(log.clone());
    }
    for file in &mut run.shape.env_file {
        *file = absolute(file)?;
        momentary.push(file.clone());
    }
    if !suits(&run) {
        return Err(io::Error::other("a ready container cannot stand for it"));
    }
    let root = absolute(root)?;
    let network = run.shape.network.as_ref().is_none_or(|n| *n == NetworkChoice::Host).then_some("net");
    let mounts = (reads_file || !run.shape.env_file.is_empty()).then_some("mnt");
    places.extend(["user", "pid"].into_iter().chain(network).chain(mounts).map(|kind| Path::new("/proc/self/ns").join(kind)));
    // The program too: a daemon that was not started again since it was replaced understands other options.
    places.extend([root.clone(), keys::KEYS.into(), keys::REVOKED.into(), OWN.into()]);
    let lasting = places.len();
    places.extend(momentary);
    let variables = Caller::variables_of(&run);
    Ok(Understood { wish: Wish { run, root, caller, same: Vec::new() }, wanted: Wanted { places, variables }, lasting })
}

impl Understood {
    /// If this process means the same files and namespaces by these names.
    pub fn meant(self, told: Told) -> io::Result<Wish> {
        let Self { mut wish, wanted, lasting } = self;
        if told.same.len() != wanted.places.len() || told.variables.len() != wanted.variables.len() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut same: Vec<_> = wanted.places.into_iter().zip(told.same).collect();
        // Records are made in a directory that is made with the first of them.
        if !same.iter().all(|(path, found)| identity(path) == *found || (*path == wish.root && found.is_none())) {
            return Err(io::Error::other("other files are meant"));
        }
        same.truncate(lasting);
        wish.same = same;
        wish.caller.know(wanted.variables.into_iter().zip(told.variables).collect());
        Ok(wish)
    }
}

impl Wish {
    pub fn beginning(&self) -> Beginning {
        Beginning { command: self.run.command.clone(), env: self.run.shape.env.clone(), env_file: self.run.shape.env_file.clone(), caller: self.caller.clone() }
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
fn suits(options: &Run) -> bool {
    let (shape, life, release) = (&options.shape, &options.life, &options.release);
    let own = life.detach || life.tty || life.name.is_some() || life.pid_file.is_some() || options.strace;
    let places = [&shape.volume, &shape.mount, &shape.device].into_iter().any(|list| !list.is_empty());
    let network = matches!(shape.network, Some(NetworkChoice::Bridge(_) | NetworkChoice::Namespace(_))) || !shape.publish.is_empty();
    let said_aloud = release.permissive || release.record_syscalls || release.allow_rollback;
    // What is read once only is its caller's to read, and what is written may be a stream of the caller's.
    let plain = |path: &Path| !["/dev", "/proc"].iter().any(|special| path.starts_with(special));
    let log = release.audit.as_ref().and_then(Destination::file);
    let files = shape.env_file.iter().all(|file| plain(file) && file.is_file()) && log.is_none_or(|log| plain(log) && (log.is_file() || !log.exists()));
    !(own || places || network || said_aloud || shape.userns.is_some()) && files && options.manifest.is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(options: &[&str]) -> Run {
        let manifest = std::env::current_exe().unwrap();
        let words = ["vkernel", "run", manifest.to_str().unwrap()].into_iter().chain(options.iter().copied()).chain(["--", "true"]);
        match Cli::try_parse_from(words).unwrap().command {
            Command::Run(run) => run,
            _ => unreachable!("`run` was parsed"),
        }
    }

    fn wish(options: &[&str], root: &str) -> Understood {
        understood(run(options), Path::new(root), Path::new("/"), false, Caller::here()).unwrap()
    }

    fn told(wanted: &Wanted) -> Told {
        Told { same: wanted.places.iter().map(|path| identity(path)).collect(), variables: vec![None; wanted.variables.len()] }
    }

    #[test]
    fn what_belongs_to_its_caller_is_started_by_its_caller() {
        assert!(suits(&run(&[])) && suits(&run(&["--memory", "64m", "--network", "none", "-e", "A=1", "--user", "7", "--rm", "--read-only"])));
        let own: [&[&str]; 11] = [
            &["--detach"],
            &["--tty"],
            &["--name", "x"],
            &["-v", "/srv:/srv"],
            &["--network", "netns:/x"],
            &["--publish", "80"],
            &["--strace"],
            &["--userns", "ns:/x"],
            &["--pid-file", "/x"],
            &["--audit", "/dev/stdout"],
            &["--env-file", "/proc/self/fd/0"],
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
            let understood = wish(options, root);
            let told = told(&understood.wanted);
            understood.meant(told).unwrap().kind().unwrap()
        };
        assert_eq!(kind(&["-e", "A=1"], "/r"), kind(&["-e", "B=2"], "/r"));
        for (options, root) in [(&["--user", "7"][..], "/r"), (&["--workdir", "/tmp"], "/r"), (&["--memory", "1g"], "/r"), (&[], "/other")] {
            assert_ne!(kind(options, root), kind(&[], "/r"), "{options:?} {root}");
        }
    }

    #[test]
    fn another_file_of_the_same_name_is_not_what_was_meant() {
        let log = std::env::temp_dir().join(format!("vkernel-wish-{}", std::process::id()));
        let understood = wish(&["--audit", log.to_str().unwrap()], "/r");
        let good = told(&understood.wanted);
        let meant = understood.clone().meant(good.clone()).unwrap();
        assert!(meant.same.iter().any(|(path, ..)| path == Path::new("/proc/self/ns/net")));
        assert!(understood.wanted.places.contains(&log) && !meant.same.iter().any(|(path, ..)| *path == log), "a log is rotated");
        for at in 0..good.same.len() {
            let mut other = good.clone();
            other.same[at] = Some((0, 0));
            assert!(understood.clone().meant(other).is_err(), "{}", understood.wanted.places[at].display());
        }
        let mut fewer = good;
        fewer.same.pop();
        assert!(understood.meant(fewer).is_err());
    }

    #[test]
    fn a_line_that_was_read_before_says_the_same_again() {
        let (lines, line) = (Lines::default(), |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>());
        let read = |text: &str| lines.read(&line(text)).map(|read| serde_json::to_string(&(read.run, read.root, read.socket)).unwrap()).map_err(drop);
        let fresh = |text: &str| Lines::default().read(&line(text)).map(|read| serde_json::to_string(&(read.run, read.root, read.socket)).unwrap()).map_err(drop);
        let texts = [
            "run m -- true",
            "run m -- false -- x",
            "--root r run m -e A -- true",
            "run m --",
            "run m -- -x",
            "run m --memory-swap -- -- true",
            "run m --memory-swap -- true",
            "ps -- x",
            "run m",
        ];
        for text in texts.into_iter().chain(texts) {
            assert_eq!(read(text), fresh(text), "{text}");
        }
        (0..100).for_each(|n| drop(read(&format!("run m{n} -- true"))));
        assert_eq!(lines.0.lock().unwrap().len(), Lines::MOST);
        assert_eq!(read("run m -- true"), fresh("run m -- true"));
    }

    #[test]
    fn paths_are_the_clients() {
        let asked = |words: &[&str], directory: &Path, socket: &str| {
            let words = words.iter().map(|word| (*word).to_owned()).collect();
            Asked { words, directory: directory.into(), socket: socket.into(), reads_file: false, caller: Caller::here() }.understood(&Lines::default())
        };
        let program = std::env::current_exe().unwrap();
        let (directory, name) = (program.parent().unwrap(), program.file_name().unwrap().to_str().unwrap());
        let understood = asked(&["--socket", "s", "run", name, "--", "true"], directory, "s").unwrap();
        assert_eq!((&understood.wish.run.manifest, &understood.wish.run.shape.rootfs), (&program, &Some(directory.join("rootfs"))));
        assert!(asked(&["--socket", "s", "run", name, "--", "true"], directory, "other").is_err());
        assert!(asked(&["run", name, "--", "true"], Path::new("/nonexistent"), vkernel_client::SOCKET).is_err());
        assert!(asked(&["run", "--nonsense", name], directory, vkernel_client::SOCKET).is_err());
        assert!(asked(&["ps"], directory, vkernel_client::SOCKET).is_err());
    }
}
