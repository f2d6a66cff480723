//! Requests and replies. Owns their names and members, and what each means; the manual page vkernel-api(7) and the JSON Schema are made from the doc comments here.
//!
//! The fact a newcomer gets wrong: an unknown member is an error, not ignored. A request that was half understood would do half of what was asked.

use crate::calls::{Argument, Invocation, Outcome};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

fn is_false(value: &bool) -> bool {
    !*value
}

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// May this file run in the container? By `hash` of a file, or by `path` in the container, which is then hashed. Nothing is executed. Answered with `ok` and `entry_point`, or with `denied` and `reason`.
    Exec {
        /// Id or name.
        container: String,
        /// A path in the container; not looked at if there is a `hash`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        path: Option<String>,
        /// `blake3:…` or `sha256:…`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hash: Option<String>,
        /// Of the file in bytes, with `hash`: one that differs from the signed size is refused.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        size: Option<u64>,
        /// Ask about mapping it executable instead.
        #[serde(default, skip_serializing_if = "is_false")]
        library: bool,
    },
    /// Make system calls in a running container, without a program of it: one by `name` and `args`, or several in `calls`. A process is started there for them as by `vkernel exec`, with the container's user and capabilities,
    /// locked down like any other, and ends with the request, and with it every descriptor that they opened. Where serve.toml does not say `syscall_requests = true`, this is refused.
    /// Calls that make processes, change who the process is, wait for signals, or concern its own memory and threads cannot be asked for; a call that the release's list lacks answers EPERM and is audited. The result is an array with one member
    /// for each call that was made: `{"result": NUMBER}`, with `out`, an array of `{"text": …}` or `{"base64": …}`, if arguments were buffers to write to; or `{"errno": NAME}`, which ends the request unless it says `keep_going`.
    Syscall {
        /// Id or name.
        container: String,
        /// Of the call, if there is only one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// Its arguments: a number; a string, which becomes an address, with a zero byte at the end; `{"text": …}` or `{"base64": …}`, bytes that become an address; `{"out": N}`, an address of N bytes to write to, at most 65536, together 262144;
        /// `{"result": N}`, what call N of the request answered, counted from 0. Those that are left out are 0.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        args: Vec<Argument>,
        /// Up to 64 calls, made in their order: objects with `name` and `args`.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        calls: Vec<Invocation>,
        /// Make the next calls although one failed.
        #[serde(default, skip_serializing_if = "is_false")]
        keep_going: bool,
        /// A program of the release, by path or hash: its list of system calls counts, not only the one that holds for every program.
        #[serde(rename = "as", default, skip_serializing_if = "Option::is_none")]
        program: Option<String>,
        /// USER[:GROUP]; the container's if left out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        user: Option<String>,
        /// Working directory; the container's if left out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cwd: Option<String>,
        /// Seconds until the calls are given up, 1 to 60; 10 if left out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seconds: Option<u32>,
    },
    /// Start a container in the background. The result is its id.
    Run {
        /// Manifest or image, as for `vkernel run`.
        manifest: String,
        /// Options of `vkernel run`, each word by itself; `--detach` is understood.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        options: Vec<String>,
        /// The program and its arguments.
        command: Vec<String>,
    },
    /// List containers. The result is an array.
    Ps {
        /// Also those that have ended.
        #[serde(default, skip_serializing_if = "is_false")]
        all: bool,
    },
    /// Everything that is known of a container, but for the values in its environment.
    Inspect {
        /// Id or name.
        container: String,
    },
    /// Answered when the container has ended. The result is its exit code.
    Wait {
        /// Id or name.
        container: String,
    },
    /// Let a container that was created begin.
    Start {
        /// Id or name.
        container: String,
    },
    /// Send a signal to the container's first program.
    Kill {
        /// Id or name.
        container: String,
        /// Name or number; SIGTERM if left out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signal: Option<String>,
        /// To every process of the container.
        #[serde(default, skip_serializing_if = "is_false")]
        all: bool,
    },
    /// Ask a container to end, and kill it after some time.
    Stop {
        /// Id or name.
        container: String,
        /// Seconds until it is killed; 10 if left out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seconds: Option<u32>,
    },
    /// Remove a container that has ended.
    Rm {
        /// Id or name.
        container: String,
        /// Even if it runs.
        #[serde(default, skip_serializing_if = "is_false")]
        force: bool,
    },
    /// What a detached container has written: one `event` per line, with the members time, stream, whole and text; then `ok`.
    Logs {
        /// Id or name.
        container: String,
        /// Only the last lines.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tail: Option<usize>,
        /// Go on until the container ends.
        #[serde(default, skip_serializing_if = "is_false")]
        follow: bool,
    },
    /// What a container uses: memory, processes, CPU time.
    Stats {
        /// Id or name.
        container: String,
    },
    /// Decisions about the containers that the daemon serves, as they are made: one `event` per audit record. Never ends by itself. A client that reads too slowly is told how many it missed.
    Events {
        /// Of one container only: its whole id.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        container: Option<String>,
    },
    /// Read keys, revocations and settings again. If anything is wrong with them, the error says so and the old ones stay in force.
    Reload,
    /// The daemon's version, process, and what it serves.
    Status,
    /// The command line's own: descriptors of a container that was just made come with this line, and the daemon answers its execs from now on.
    Adopt {
        /// Its whole id.
        container: String,
        /// Directory of its record.
        root: String,
        /// It waits for `go`.
        #[serde(default, skip_serializing_if = "is_false")]
        waits: bool,
        /// A further process of a container that runs, not its first.
        #[serde(default, skip_serializing_if = "is_false")]
        further: bool,
    },
    /// The command line's own: a container that was made ready runs what it asks for. An `event` asks which files it means by some paths, and what some variables say; the line that says so comes with its standard streams. The answers
    /// from then on are that container's: an `event` when it begins, then `ok` with its exit code. Signals are sent to it as bytes.
    Take {
        /// Its command line, where its paths begin, and what a child would inherit.
        wish: Value,
    },
    /// The command line's own: let a container begin that was adopted so.
    Go {
        /// Its whole id.
        container: String,
        /// Directory of its record.
        root: String,
    },
}

/// A request as it stands in a line.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// Whatever the client likes; the answers carry it too.
    pub id: Option<Value>,
    pub request: Request,
}

impl Call {
    /// Reads a line; what is wrong with it is said with the id that it had.
    pub fn parse(line: &[u8]) -> Result<Self, (Option<Value>, String)> {
        let value: Value = serde_json::from_slice(line).map_err(|e| (None, e.to_string()))?;
        let Value::Object(mut members) = value else { return Err((None, "is no JSON object".into())) };
        let id = members.remove("id");
        match serde_json::from_value(Value::Object(members)) {
            Ok(request) => Ok(Self { id, request }),
            Err(e) => Err((id, e.to_string())),
        }
    }
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "status", rename_all = "kebab-case")]
pub enum Reply {
    /// It was done.
    Ok {
        /// Of `exec`: the number of the entry that the file would become.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        entry_point: Option<u32>,
        /// Of everything else that has one.
        #[serde(default, skip_serializing_if = "Value::is_null")]
        result: Value,
    },
    /// `exec`: it would be refused. `syscall`: nothing was called.
    Denied {
        /// A code, see vkernel(1).
        reason: String,
    },
    /// It could not be done.
    Error {
        /// What failed.
        what: String,
        /// Why.
        why: String,
        /// What to do about it; may be empty.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        advice: String,
    },
    /// One of several answers; more follow.
    Event {
        /// Its content.
        event: Value,
    },
}

/// A reply as it stands in a line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Answer {
    /// That of the request, if it had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Value>,
    #[serde(flatten)]
    pub reply: Reply,
}

/// JSON Schema of a line in each direction, as `#/$defs/request` and `#/$defs/answer`.
pub fn schema() -> Value {
    let mut request = Value::from(schemars::schema_for!(Request));
    for variant in request["oneOf"].as_array_mut().into_iter().flatten() {
        variant["properties"]["id"] = json!({"description": "Whatever the client likes; the answers carry it too."});
    }
    let mut answer = Value::from(schemars::schema_for!(Answer));
    // What `syscall` answers, which stands in a member that can be anything.
    let mut outcomes = Value::from(schemars::schema_for!(Vec<Outcome>));
    let mut definitions = serde_json::Map::new();
    for part in [&mut request, &mut answer, &mut outcomes] {
        let Some(members) = part.as_object_mut() else { continue };
        members.remove("$schema");
        // References are to the whole document's.
        if let Some(Value::Object(inner)) = members.remove("$defs") {
            definitions.extend(inner);
        }
    }
    definitions.extend([("request".to_owned(), request), ("answer".to_owned(), answer), ("outcomes".to_owned(), outcomes)]);
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "The socket of vkernel serve: one JSON object per line",
        "$defs": definitions,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_keeps_its_id_and_an_unknown_member_is_refused() {
        let call = Call::parse(br#"{"id": 7, "type": "kill", "container": "web", "signal": "9"}"#).unwrap();
        assert_eq!((call.id, call.request), (Some(json!(7)), Request::Kill { container: "web".into(), signal: Some("9".into()), all: false }));
        let (id, why) = Call::parse(br#"{"id": 7, "type": "kill", "container": "web", "sgnal": "9"}"#).unwrap_err();
        assert!(id == Some(json!(7)) && why.contains("sgnal"), "{why}");
        for (wrong, says) in [(&b"[]"[..], "object"), (b"{", "EOF"), (br#"{"type": "fly"}"#, "fly"), (b"\xff", "expected"), (br#"{"type":"ps","type":"ps"}"#, "")] {
            let parsed = Call::parse(wrong);
            assert!(says.is_empty() || parsed.as_ref().is_err_and(|(_, why)| why.contains(says)), "{parsed:?}");
        }
    }

    #[test]
    fn the_schema_names_every_request_and_what_it_means() {
        let schema = schema();
        let variants = schema["$defs"]["request"]["oneOf"].as_array().unwrap();
        assert!(variants.len() > 10);
        for variant in variants {
            let described = |v: &Value| v["description"].as_str().is_some_and(|d| d.ends_with('.'));
            let properties = variant["properties"].as_object().unwrap();
            assert!(described(variant) && properties.contains_key("type") && properties.contains_key("id"), "{variant}");
            assert!(properties.iter().all(|(name, p)| name == "type" || described(p)), "{variant}");
        }
    }

    #[test]
    fn a_syscall_request_has_one_call_or_several() {
        let call = |line: &str| Call::parse(line.as_bytes()).map(|c| c.request).map_err(|(_, why)| why);
        let one = call(r#"{"type": "syscall", "container": "web", "name": "mkdir", "args": ["/tmp/a", 493], "as": "/usr/bin/mkdir"}"#).unwrap();
        let Request::Syscall { name: Some(name), args, program: Some(program), .. } = &one else { panic!("{one:?}") };
        assert_eq!((name.as_str(), &args[..], program.as_str()), ("mkdir", &["/tmp/a".into(), 493.into()][..], "/usr/bin/mkdir"));
        assert_eq!(call(&serde_json::to_string(&one).unwrap()).unwrap(), one);
        let several = call(r#"{"type": "syscall", "container": "web", "calls": [{"name": "open", "args": ["/a"]}, {"name": "close", "args": [{"result": 0}]}]}"#).unwrap();
        let Request::Syscall { calls, keep_going: false, .. } = &several else { panic!("{several:?}") };
        assert_eq!(calls[1], Invocation::new("close", [Argument::result(0)]));
        assert!(call(r#"{"type": "syscall", "container": "web", "calls": [{"name": "open", "arg": []}]}"#).unwrap_err().contains("arg"));
        assert!(call(r#"{"type": "syscall", "container": "web", "name": "open", "args": [{"in": 3}]}"#).unwrap_err().contains("an argument is"));
    }

    #[test]
    fn every_reference_of_the_schema_leads_somewhere() {
        let schema = schema();
        let text = schema.to_string();
        let names: Vec<&str> = text.split("\"#/$defs/").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert!(names.len() > 3, "{text}");
        assert!(names.iter().all(|name| schema["$defs"].get(name).is_some()), "{names:?}");
    }

    #[test]
    fn answers_survive_the_line() {
        for reply in [
            Reply::Ok { entry_point: Some(3), result: Value::Null },
            Reply::Ok { entry_point: None, result: json!([1]) },
            Reply::Denied { reason: "unknown-hash".into() },
            Reply::Error { what: "a".into(), why: "b".into(), advice: String::new() },
            Reply::Event { event: json!({"x": 1}) },
        ] {
            let answer = Answer { id: Some(json!("q")), reply };
            let line = serde_json::to_string(&answer).unwrap();
            assert_eq!(serde_json::from_str::<Answer>(&line).unwrap(), answer, "{line}");
        }
        assert_eq!(serde_json::to_string(&Reply::Ok { entry_point: Some(3), result: Value::Null }).unwrap(), r#"{"status":"ok","entry_point":3}"#);
    }
}
