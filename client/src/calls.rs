//! System calls as a `syscall` request names them, and what became of them. Owns these words; which calls can be asked for, and how large anything may be, is the daemon's.
//!
//! The fact a newcomer gets wrong: JSON has no bytes. What goes in and what comes out is text where it is text, and Base64 (RFC 4648, with padding) where it is not.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Invocation {
    /// Of the system call, as vkernel-syscalls(7) lists it.
    pub name: String,
    /// Its arguments; those that are left out are 0.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<Argument>,
}

impl Invocation {
    pub fn new(name: &str, args: impl IntoIterator<Item = Argument>) -> Self {
        Self { name: name.to_owned(), args: args.into_iter().collect() }
    }
}

/// An argument of a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, deny_unknown_fields, expecting = "an argument is a whole number, a string, {\"text\": …}, {\"base64\": …}, {\"out\": BYTES} or {\"result\": CALL}")]
pub enum Argument {
    /// A whole number.
    Number(i64),
    /// One that is larger than a signed number of 64 bits can be.
    Large(u64),
    /// A string, for instance a path. The call gets its address; a zero byte ends it.
    Name(String),
    /// A buffer with this text, without a zero byte at its end. The call gets its address.
    Text { text: String },
    /// A buffer with these bytes. The call gets its address.
    Base64 { base64: String },
    /// A buffer of so many bytes for the call to write to. The call gets its address, the reply its content.
    Out { out: u32 },
    /// What the call with this position in the request answered, counted from 0.
    Result { result: u32 },
}

impl Argument {
    /// A buffer for the call to write to.
    pub fn out(bytes: u32) -> Self {
        Self::Out { out: bytes }
    }

    /// What an earlier call answered.
    pub fn result(call: u32) -> Self {
        Self::Result { result: call }
    }

    /// A buffer with a text.
    pub fn text(text: &str) -> Self {
        Self::Text { text: text.to_owned() }
    }
}

impl From<i64> for Argument {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<&str> for Argument {
    fn from(name: &str) -> Self {
        Self::Name(name.to_owned())
    }
}

/// What became of a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, deny_unknown_fields)]
pub enum Outcome {
    /// It answered.
    Done {
        /// As the kernel gives it.
        result: i64,
        /// Of each `out` among the arguments, in their order: of what read(2) and its like fill, the bytes that were written, else the whole buffer.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        out: Vec<Output>,
    },
    /// It failed.
    Failed {
        /// The error's name, see errno(3). ECANCELED: not made, because it was to use the result of a call that failed.
        errno: String,
    },
}

/// What a call wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, deny_unknown_fields)]
pub enum Output {
    /// It is UTF-8, without control characters but tab, line feed and carriage return.
    Text { text: String },
    /// It is anything else.
    Base64 { base64: String },
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn arguments_are_what_they_look_like() {
        let words = json!([-100, u64::MAX, "/etc", {"text": "a"}, {"base64": "AA=="}, {"out": 4}, {"result": 0}]);
        let read: Vec<Argument> = serde_json::from_value(words.clone()).unwrap();
        let rest = [Argument::text("a"), Argument::Base64 { base64: "AA==".into() }, Argument::out(4), Argument::result(0)];
        assert_eq!((&read[..3], &read[3..]), (&[Argument::from(-100), Argument::Large(u64::MAX), Argument::from("/etc")][..], &rest[..]));
        assert_eq!(serde_json::to_value(&read).unwrap(), words);
        for wrong in [
            json!(null),
            json!(1.5),
            json!(1e20),
            json!([1]),
            json!({"out": -1}),
            json!({"out": 1, "in": 2}),
            json!({"result": "0"}),
            json!({}),
            json!(true),
            json!({"text": "a", "base64": ""}),
        ] {
            let why = serde_json::from_value::<Argument>(wrong.clone()).unwrap_err().to_string();
            assert!(why.contains("an argument is"), "{wrong}: {why}");
        }
    }

    #[test]
    fn outcomes_survive_the_line() {
        let all = vec![
            Outcome::Done { result: -1, out: vec![] },
            Outcome::Done { result: 2, out: vec![Output::Text { text: "a\n".into() }, Output::Base64 { base64: "AA==".into() }] },
            Outcome::Failed { errno: "ENOENT".into() },
        ];
        let line = serde_json::to_string(&all).unwrap();
        assert_eq!(line, r#"[{"result":-1},{"result":2,"out":[{"text":"a\n"},{"base64":"AA=="}]},{"errno":"ENOENT"}]"#);
        assert_eq!(serde_json::from_str::<Vec<Outcome>>(&line).unwrap(), all);
    }
}
