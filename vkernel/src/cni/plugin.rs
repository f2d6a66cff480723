//! One call of a CNI plugin: parameters in its environment, configuration on its standard input, result or error as JSON on its standard output. Owns this protocol and the plugins' places.
//!
//! The fact a newcomer gets wrong: a plugin's error is on standard *output*, and some say nothing at all when they have done their work.

use crate::child;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Where distributions and Kubernetes keep plugins.
pub const DIRECTORIES: [&str; 3] = ["/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"];
/// The container's interface.
const INTERFACE: &str = "eth0";
/// Longer than what waits for a firewall's lock, or for an address by DHCP.
const LIMIT: Duration = Duration::from_secs(60);
/// What plugins call: iptables, sysctl.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The program of a name that is no path: it may come from a record.
pub(super) fn find(name: &str) -> Option<PathBuf> {
    if !is_name(name) {
        return None;
    }
    DIRECTORIES.iter().map(|d| Path::new(d).join(name)).find(|p| p.is_file())
}

/// Of a plugin or a network: it becomes part of a path.
pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
}

/// What a plugin is told beside its configuration.
pub(super) struct Call<'a> {
    pub(super) command: &'a str,
    pub(super) container: &'a str,
    /// Without one, what is in it is gone.
    pub(super) namespace: Option<&'a Path>,
    pub(super) program: PathBuf,
}

impl Call<'_> {
    /// Its result: what it said, or what was said before it.
    pub(super) fn run(&self, configuration: &Value) -> Result<Value, String> {
        let mut command = Command::new(&self.program);
        command
            .env_clear()
            .env("PATH", PATH)
            .env("CNI_COMMAND", self.command)
            .env("CNI_CONTAINERID", self.container)
            .env("CNI_IFNAME", INTERFACE)
            .env("CNI_PATH", DIRECTORIES.join(":"));
        command.env("CNI_NETNS", self.namespace.unwrap_or(Path::new("")));
        let out = child::run(command.stdout(Stdio::piped()), configuration.to_string().as_bytes(), Some(LIMIT))?;
        let said: Option<Value> = serde_json::from_slice(&out.said).ok();
        if out.status.success() {
            return Ok(said.unwrap_or_else(|| configuration["prevResult"].clone()));
        }
        let word = |key: &str| said.as_ref().and_then(|v| v[key].as_str()).unwrap_or_default().to_owned();
        let told = [word("msg"), word("details"), String::from_utf8_lossy(&out.errors).trim().to_owned()];
        let told: Vec<String> = told.into_iter().filter(|t| !t.is_empty()).collect();
        Err(if told.is_empty() { out.status.to_string() } else { told.join(": ") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::os::unix::fs::PermissionsExt;

    fn call(script: &str, configuration: &Value) -> Result<Value, String> {
        let dir = std::env::temp_dir().join(format!("vkernel-plugin-{}-{:?}", std::process::id(), std::thread::current().id()));
        std::fs::create_dir_all(&dir).unwrap();
        let program = dir.join("plugin");
        // Written by another process: no descriptor of it is open for writing when it is executed.
        let made = Command::new("sh").args(["-c", "printf '%s' \"$1\" > \"$2\"", "sh", &format!("#!/bin/sh\n{script}\n")]).arg(&program).status().unwrap();
        assert!(made.success());
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        let result = Call { command: "ADD", container: "c1", namespace: Some(Path::new("/proc/1/ns/net")), program }.run(configuration);
        std::fs::remove_dir_all(&dir).unwrap();
        result
    }

    #[test]
    fn a_plugin_is_told_what_it_must_know_and_believed_what_it_says() {
        let echo = r#"in=$(cat); echo "{\"told\": \"$CNI_COMMAND $CNI_CONTAINERID $CNI_NETNS $CNI_IFNAME\", \"in\": $in}""#;
        let said = call(echo, &json!({"name": "n"})).unwrap();
        assert_eq!(said, json!({"told": "ADD c1 /proc/1/ns/net eth0", "in": {"name": "n"}}));
        assert_eq!(call("cat > /dev/null", &json!({"prevResult": {"x": 1}})).unwrap(), json!({"x": 1}));
    }

    #[test]
    fn a_name_is_no_path() {
        assert!(is_name("host-local") && is_name("ptp_2.1"));
        assert!(["/bin/true", "../../bin/true", "..", "", "a/b"].iter().all(|name| !is_name(name) && find(name).is_none()));
    }

    #[test]
    fn a_plugins_error_is_told_in_its_own_words() {
        assert_eq!(call(r#"echo '{"code": 7, "msg": "no room", "details": "all 4 taken"}'; exit 1"#, &json!({})), Err("no room: all 4 taken".into()));
        assert_eq!(call("echo torn >&2; exit 3", &json!({})), Err("torn".into()));
        assert!(call("exit 3", &json!({})).unwrap_err().contains('3'));
    }
}
