//! Running one command to its end. Owns the bounds of time and output. The fact a newcomer gets wrong: output goes through pipes even though files would be simpler, because programs can tell the two apart, and both sides of a proof must see the same.

use crate::ProofError;
use std::io::{Read, Seek, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// A command that takes longer is a failed one.
const LIMIT: Duration = Duration::from_secs(60);
/// So is one that writes more, per stream.
const MOST: u64 = 64 << 20;
/// Of `vkernel` and `chroot`: the command itself was not run.
const UNUSABLE: u32 = 125;

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Came {
    /// As a shell says it: 128 and more for a signal.
    pub status: u32,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

impl Came {
    /// In words, what differs from another.
    pub fn difference(&self, other: &Came) -> String {
        if self.status != other.status {
            return format!("status {}, not {}", self.status, other.status);
        }
        let (stream, a, b) = if self.stdout == other.stdout { ("stderr", &self.stderr, &other.stderr) } else { ("stdout", &self.stdout, &other.stdout) };
        let first = a.iter().zip(b).position(|(x, y)| x != y).unwrap_or(a.len().min(b.len()));
        format!("{stream} from byte {first}, {} and {} bytes", a.len(), b.len())
    }
}

/// Runs a command that starts something else, with an input.
pub fn run(c: Command, stdin: &[u8]) -> Result<Came, ProofError> {
    run_for(c, stdin, LIMIT)
}

fn run_for(mut c: Command, stdin: &[u8], limit: Duration) -> Result<Came, ProofError> {
    let mut input = tempfile::tempfile().map_err(ProofError::Temporary)?;
    input.write_all(stdin).and_then(|()| input.rewind()).map_err(ProofError::Temporary)?;
    let program = c.get_program().to_string_lossy().into_owned();
    let mut child = c.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(|cause| ProofError::Start { program: program.clone(), cause })?;
    let (stdout, stderr) = (reader(child.stdout.take().expect("is piped")), reader(child.stderr.take().expect("is piped")));
    let ended = waited(&mut child, limit).map_err(|cause| ProofError::Start { program, cause })?;
    let (stdout, stderr) = (stdout.join().expect("does not panic")?, stderr.join().expect("does not panic")?);
    let Some(status) = ended else { return Err(ProofError::Slow(limit.as_secs())) };
    let status = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)).unsigned_abs();
    if status == UNUSABLE {
        return Err(ProofError::Unusable(String::from_utf8_lossy(&stderr).trim().to_owned()));
    }
    Ok(Came { status, stdout, stderr })
}

/// Reads to the end, or until it is too much: then the pipe closes, and whoever writes into it ends.
fn reader(pipe: impl Read + Send + 'static) -> JoinHandle<Result<Vec<u8>, ProofError>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.take(MOST + 1).read_to_end(&mut bytes).map_err(ProofError::Temporary)?;
        if bytes.len() as u64 > MOST { Err(ProofError::Much(MOST)) } else { Ok(bytes) }
    })
}

/// None: killed, because its time was over.
fn waited(child: &mut Child, limit: Duration) -> std::io::Result<Option<ExitStatus>> {
    let end = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= end {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(2));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, stdin: &[u8], limit: Duration) -> Result<Came, ProofError> {
        let mut c = Command::new("sh");
        c.args(["-c", script]);
        run_for(c, stdin, limit)
    }

    #[test]
    fn what_came_of_a_command_is_its_status_and_both_streams() {
        let came = shell("cat; echo no >&2; exit 3", b"in\xff", LIMIT).unwrap();
        assert_eq!(came, Came { status: 3, stdout: b"in\xff".to_vec(), stderr: b"no\n".to_vec() });
        assert_eq!(shell("kill -9 $$", b"", LIMIT).unwrap().status, 137);
    }

    #[test]
    fn what_does_not_end_or_write_within_bounds_is_no_result() {
        let begin = Instant::now();
        assert!(matches!(shell("exec sleep 50", b"", Duration::from_millis(100)), Err(ProofError::Slow(0))));
        assert!(begin.elapsed() < Duration::from_secs(20));
        assert!(matches!(shell("exec yes", b"", LIMIT), Err(ProofError::Much(MOST))));
        assert!(shell("echo why >&2; exit 125", b"", LIMIT).unwrap_err().to_string().contains("could not be run: why"));
    }
}
