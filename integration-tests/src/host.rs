//! A daemon for one test: a directory of its own with its socket, its settings, its containers and its log, and what is left of them counted. Owns how it is started and ended.

use crate::{Setup, finish, show, within};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;
use vkernel_client::{Client, Request};

/// A directory for a daemon, its containers and its settings.
pub struct Host {
    pub dir: tempfile::TempDir,
    pub daemon: Option<Child>,
}

impl Host {
    /// With a daemon that answers.
    pub fn started() -> Self {
        Self::with("")
    }

    pub fn with(settings: &str) -> Self {
        let mut host = Self::without();
        std::fs::write(host.path("etc/serve.toml"), settings).expect("written");
        host.start();
        host
    }

    pub fn without() -> Self {
        let dir = tempfile::tempdir().expect("a directory can be made");
        std::fs::create_dir_all(dir.path().join("etc/keys")).expect("made");
        Self { dir, daemon: None }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn socket(&self) -> PathBuf {
        self.path("vkernel.sock")
    }

    pub fn command(&self) -> Command {
        let mut c = Command::new(Setup::get().vkernel);
        c.arg("--root").arg(self.path("containers")).arg("--socket").arg(self.socket());
        c
    }

    pub fn start(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(self.path("serve.log")).expect("ours");
        let mut c = self.command();
        c.arg("serve").arg("--config").arg(self.path("etc")).stdin(Stdio::null()).stderr(log);
        self.daemon = Some(c.spawn().expect("the daemon starts"));
        soon("the daemon answers", || Client::connect(&self.socket()).is_ok_and(|mut c| c.result(&Request::Status).is_ok()));
    }

    pub fn signal(&self, signal: i32) {
        let pid = self.daemon.as_ref().expect("it runs").id() as i32;
        // SAFETY: plain numbers; the child is ours and not waited for yet.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    }

    /// Ends the daemon; its exit code, or minus the signal.
    pub fn end(&mut self, signal: i32) -> i32 {
        use std::os::unix::process::ExitStatusExt;
        self.signal(signal);
        let status = self.daemon.take().expect("it runs").wait().expect("our child");
        status.code().unwrap_or_else(|| -status.signal().unwrap_or(0))
    }

    pub fn client(&self) -> Client {
        let client = Client::connect(&self.socket()).expect("the daemon listens");
        client.set_timeout(Some(Duration::from_secs(30))).expect("set");
        client
    }

    pub fn ask(&self, request: &Request) -> Value {
        self.client().result(request).unwrap_or_else(|e| panic!("{request:?}: {e}"))
    }

    pub fn call(&self, args: &[&str]) -> Output {
        let mut c = self.command();
        c.args(args);
        finish(c)
    }

    /// A container in the background, with an audit log; its id.
    pub fn detach(&self, options: &[&str], script: &str) -> String {
        let setup = Setup::get();
        let audit = self.path("audit.jsonl");
        let mut c = self.command();
        c.arg("run").arg("-d").arg(&setup.manifest).arg("--rootfs").arg(&setup.rootfs).arg("--key").arg(&setup.key).arg("--audit").arg(audit);
        c.args(options).args(["--", "/bin/bash", "-c", script]);
        let out = finish(c);
        assert!(out.status.success(), "{}", show(&out));
        String::from_utf8(out.stdout).expect("an id").trim().to_owned()
    }

    pub fn logs(&self, id: &str) -> String {
        String::from_utf8(self.call(&["logs", id]).stdout).expect("text")
    }

    /// Every line of the audit log: none is broken.
    pub fn audit(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path("audit.jsonl")).unwrap_or_default();
        text.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"))).collect()
    }

    /// While somebody writes: of a line that crosses a page a reader may see the first part. `audit` asks for whole ones once nobody does.
    pub fn execs(&self) -> usize {
        let text = std::fs::read_to_string(self.path("audit.jsonl")).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let record = |l: &str| serde_json::from_str::<Value>(l).unwrap_or_else(|e| panic!("{e}: {l}"));
        whole.lines().filter(|l| record(l)["event"] == "exec").count()
    }

    pub fn undecided(&self) -> usize {
        self.audit().iter().filter(|r| r["reason"] == "supervisor-died").count()
    }

    pub fn processes(&self) -> Vec<String> {
        let ours = self.dir.path().to_string_lossy().into_owned();
        let all = std::fs::read_dir("/proc").expect("procfs").flatten().map(|e| e.path());
        let lines = all.filter_map(|p| std::fs::read(p.join("cmdline")).ok()).map(|c| String::from_utf8_lossy(&c).replace('\0', " "));
        lines.filter(|c| c.contains(&ours)).collect()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for id in String::from_utf8_lossy(&self.call(&["ps", "-a", "-q"]).stdout).lines() {
            self.call(&["rm", "-f", id]);
        }
        if self.daemon.is_some() {
            self.end(libc::SIGTERM);
        }
        // One that holds something for nobody ends by itself, but later.
        for holder in holders(&self.path("holder")) {
            // SAFETY: plain numbers; a process that has this test's socket.
            unsafe { libc::kill(holder, libc::SIGKILL) };
        }
        if std::thread::panicking() {
            eprintln!("--- serve.log\n{}", std::fs::read_to_string(self.path("serve.log")).unwrap_or_default());
        }
    }
}

/// Processes that have this socket as standard input.
pub fn holders(socket: &Path) -> Vec<i32> {
    let unix = std::fs::read_to_string("/proc/net/unix").expect("procfs");
    let inodes: Vec<String> =
        unix.lines().filter(|l| l.ends_with(&*socket.to_string_lossy())).filter_map(|l| l.split_whitespace().nth(6)).map(|i| format!("socket:[{i}]")).collect();
    let all = std::fs::read_dir("/proc").expect("procfs").flatten().filter_map(|e| e.file_name().to_string_lossy().parse().ok());
    let named = |pid: &i32| std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|c| c.trim() == "vkernel-holder");
    let has = |pid: &i32| {
        let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        fds.filter_map(|f| std::fs::read_link(f.path()).ok()).any(|l| inodes.iter().any(|i| *l == **i))
    };
    all.filter(named).filter(has).collect()
}

pub fn soon(what: &str, is: impl FnMut() -> bool) {
    within(15, what, is);
}
