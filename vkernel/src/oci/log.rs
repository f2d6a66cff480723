//! Where the runtime command line says what went wrong: standard error, and the caller's `--log` file in the caller's format. Owns the two formats of runc.

use crate::audit::timestamp;
use crate::failure::Failure;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::time::SystemTime;

/// The caller's log.
#[derive(Clone, Debug, Default)]
pub struct Log {
    pub file: Option<PathBuf>,
    pub json: bool,
}

impl Log {
    pub fn warn(&self, text: &str) {
        self.write("warning", text);
    }

    pub fn failure(&self, failure: &Failure) {
        self.write("error", &failure.to_string());
    }

    /// A log that cannot be written must not stop a container from being deleted.
    fn write(&self, level: &str, text: &str) {
        let Some(file) = &self.file else { return };
        let time = timestamp(SystemTime::now());
        let line = match self.json {
            true => serde_json::json!({"level": level, "msg": text, "time": time}).to_string(),
            false => format!("time=\"{time}\" level={level} msg={text:?}"),
        };
        let _ = OpenOptions::new().append(true).create(true).open(file).and_then(|mut f| writeln!(f, "{line}"));
    }
}
