//! A signed document as it lies in a file: checked to be canonical while it is read once, and never made into a tree.
//!
//! Owns the quick way for the one reader that is in a hurry, a host that starts a container. What it accepts is what `canonical::parse_canonical` accepts; errors are that one's, which says more. The fact a newcomer
//! gets wrong: a manifest has hundreds of thousands of bytes, and a tree of them costs a start more than checking its signature does.

use crate::canonical::{self, JsonError, Plain};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

/// A document in canonical form (RFC 8785).
#[derive(Debug)]
pub struct Document<'a> {
    text: &'a [u8],
    /// Of an object: name, where its text begins, and where its value does and ends.
    members: Vec<(String, usize, Range<usize>)>,
}

impl<'a> Document<'a> {
    pub fn read(text: &'a [u8]) -> Result<Self, JsonError> {
        let again = |e| canonical::parse_canonical(text).err().unwrap_or(e);
        if text.len() > canonical::MAX_BYTES {
            return Err(JsonError::TooLarge { bytes: text.len() });
        }
        let mut writer = Writer { out: Vec::with_capacity(text.len()), depth: 0, members: Vec::new() };
        let mut reader = serde_json::Deserializer::from_slice(text);
        (&mut writer).deserialize(&mut reader).and_then(|()| reader.end()).map_err(|e| again(JsonError::Syntax(e)))?;
        if writer.out != text {
            return Err(again(JsonError::not_canonical(&writer.out, text)));
        }
        Ok(Self { text, members: writer.members })
    }

    pub fn text(&self) -> &'a [u8] {
        self.text
    }

    /// The text of a member of the outermost object.
    pub fn member(&self, name: &str) -> Option<&'a [u8]> {
        self.members.iter().find(|m| m.0 == name).map(|m| &self.text[m.2.clone()])
    }

    /// The text without one of the outermost members, behind `prefix`: what `canonical::without` gives.
    pub fn without(&self, name: &str, prefix: &[u8]) -> Vec<u8> {
        let (before, after) = match self.members.iter().position(|m| m.0 == name) {
            None => (self.text.len(), self.text.len()),
            Some(i) => match self.members.get(i + 1) {
                Some(next) => (self.members[i].1, next.1),
                // The last one goes with the comma before it.
                None => (self.members[i].1 - usize::from(i > 0), self.members[i].2.end),
            },
        };
        [prefix, &self.text[..before], &self.text[after..]].concat()
    }
}

/// Writes what it visits in canonical form; refuses members that are not in order, which duplicates are not.
struct Writer {
    out: Vec<u8>,
    depth: usize,
    members: Vec<(String, usize, Range<usize>)>,
}

impl<'de> DeserializeSeed<'de> for &mut Writer {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &mut Writer {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Plain.expecting(f)
    }

    fn visit_bool<E: Error>(self, b: bool) -> Result<(), E> {
        canonical::write(&Plain.visit_bool(b)?, &mut self.out);
        Ok(())
    }

    fn visit_u64<E: Error>(self, n: u64) -> Result<(), E> {
        canonical::write(&Plain.visit_u64(n)?, &mut self.out);
        Ok(())
    }

    fn visit_i64<E: Error>(self, n: i64) -> Result<(), E> {
        canonical::write(&Plain.visit_i64(n)?, &mut self.out);
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        canonical::write_string(text, &mut self.out);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        self.depth += 1;
        self.out.push(b'[');
        let start = self.out.len();
        loop {
            let end = self.out.len();
            if end > start {
                self.out.push(b',');
            }
            if items.next_element_seed(&mut *self)?.is_none() {
                self.out.truncate(end);
                break;
            }
        }
        self.out.push(b']');
        self.depth -= 1;
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        self.depth += 1;
        self.out.push(b'{');
        let mut last: Option<Cow<'de, str>> = None;
        while let Some(Name(name)) = map.next_key()? {
            if last.as_ref().is_some_and(|last| !canonical::in_order(last, &name)) {
                return Err(A::Error::custom(format_args!("{name:?} is out of order")));
            }
            if last.is_some() {
                self.out.push(b',');
            }
            let start = self.out.len();
            canonical::write_string(&name, &mut self.out);
            self.out.push(b':');
            let value = self.out.len();
            map.next_value_seed(&mut *self)?;
            if self.depth == 1 {
                self.members.push((name.clone().into_owned(), start, value..self.out.len()));
            }
            last = Some(name);
        }
        self.out.push(b'}');
        self.depth -= 1;
        Ok(())
    }
}

/// A member's name, borrowed unless it is written with escapes.
#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    const TEXTS: [&str; 12] = [
        "{}",
        "[]",
        "true",
        "[1,[],{},-7,\"x\\n\"]",
        r#"{"a":1,"b":{"c":[],"d":"é"}}"#,
        r#"{"signatures":1}"#,
        r#"{"a":1,"signatures":[{"signatures":2}]}"#,
        r#"{"signatures":{},"z":1}"#,
        r#"{"a":1,"signatures":{},"z":1}"#,
        "{\"\u{1f600}\":2,\"\u{fb33}\":1}",
        r#"{"a":{"b":1,"c":2},"c":{"b":1}}"#,
        r#"{"":1,"a\"b":2}"#,
    ];

    #[test]
    fn reads_what_the_tree_reads_and_leaves_out_what_it_leaves_out() {
        for text in TEXTS {
            let (value, document) = (canonical::parse_canonical(text.as_bytes()).unwrap(), Document::read(text.as_bytes()).unwrap());
            assert_eq!(document.text(), text.as_bytes());
            for name in ["signatures", "a", "z", "none"] {
                assert_eq!(document.without(name, b"p"), canonical::without(&value, name, b"p"), "{name} of {text}");
                let member = value.as_object().and_then(|members| members.get(name)).map(canonical::to_bytes);
                assert_eq!(document.member(name).map(<[u8]>::to_vec), member, "{name} of {text}");
            }
        }
    }

    #[test]
    fn refuses_what_the_tree_refuses_with_its_words() {
        let bad = [
            r#"{"b":1,"a":2}"#,
            r#"{"a":1,"a":2}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"x":{"b":1,"a":2}}"#,
            r#"{"a": 1}"#,
            "{}\n",
            "[1,]",
            "1.0",
            "1e2",
            "null",
            "9007199254740993",
            "-9007199254740993",
            r#"["\u0078"]"#,
            r#""\ud800""#,
            "",
            "{\"\u{fb33}\":1,\"\u{1f600}\":2}",
        ];
        for text in bad {
            let (slow, quick) = (canonical::parse_canonical(text.as_bytes()).unwrap_err(), Document::read(text.as_bytes()).unwrap_err());
            assert_eq!(slow.to_string(), quick.to_string(), "{text}");
        }
        assert!(Document::read("[".repeat(1000).as_bytes()).is_err() && Document::read(&[b'"', 0xff, b'"']).is_err());
        assert!(matches!(Document::read(&vec![b' '; canonical::MAX_BYTES + 1]), Err(JsonError::TooLarge { .. })));
    }
}
