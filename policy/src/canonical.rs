//! Strict JSON in, canonical JSON (RFC 8785) out.
//!
//! Owns the one way a signed document may be spelled. Accepts only what a manifest needs: strings, integers up to 2^53, booleans, arrays, objects. The fact
//! a newcomer gets wrong: duplicate keys are looked for after unescaping (`"a"` and `"\u0061"` are one key), so this is done while parsing, not on the text.

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::fmt;
use std::io::{self, Read};
use thiserror::Error;

/// Larger documents are refused unread.
pub const MAX_BYTES: usize = 64 << 20;

/// Integers above this differ between JSON readers.
const MAX_INTEGER: u64 = 1 << 53;

#[derive(Debug, Error)]
pub enum JsonError {
    #[error("{bytes} bytes are more than the 64 MiB a document may have: split the image")]
    TooLarge { bytes: usize },
    #[error("not the strict JSON that signed documents need: {0}")]
    Syntax(serde_json::Error),
    #[error("not in canonical form (RFC 8785), first difference at byte {offset}: sign it again")]
    NotCanonical { offset: usize },
}

/// A document's bytes, at most one more than it may have: enough for `parse` to refuse it.
pub fn bytes(from: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Parses a document strictly.
pub fn parse(bytes: &[u8]) -> Result<Value, JsonError> {
    if bytes.len() > MAX_BYTES {
        return Err(JsonError::TooLarge { bytes: bytes.len() });
    }
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Plain.deserialize(&mut reader).map_err(JsonError::Syntax)?;
    reader.end().map_err(JsonError::Syntax)?;
    Ok(value)
}

/// Parses a document that must already be in canonical form.
pub fn parse_canonical(bytes: &[u8]) -> Result<Value, JsonError> {
    let value = parse(bytes)?;
    let canonical = to_bytes(&value);
    if canonical == bytes { Ok(value) } else { Err(JsonError::not_canonical(&canonical, bytes)) }
}

impl JsonError {
    /// Of a text that is not its own canonical form.
    pub(crate) fn not_canonical(canonical: &[u8], text: &[u8]) -> Self {
        JsonError::NotCanonical { offset: canonical.iter().zip(text).take_while(|(a, b)| a == b).count() }
    }
}

/// The canonical form of a value that `parse` could have made.
pub fn to_bytes(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    write(value, &mut out);
    out
}

/// The canonical form of an object without one of its members, behind `prefix`.
pub fn without(value: &Value, left_out: &str, prefix: &[u8]) -> Vec<u8> {
    let mut out = prefix.to_vec();
    match value {
        Value::Object(members) => write_members(members.iter().filter(|(key, _)| *key != left_out), &mut out),
        other => write(other, &mut out),
    }
    out
}

pub(crate) fn write(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Array(items) => write_list(b"[]", items, out, write),
        Value::Object(members) => write_members(members.iter(), out),
        Value::String(text) => write_string(text, out),
        Value::Null | Value::Bool(_) | Value::Number(_) => out.extend(value.to_string().bytes()),
    }
}

fn write_members<'a>(members: impl Iterator<Item = (&'a String, &'a Value)>, out: &mut Vec<u8>) {
    let mut members: Vec<_> = members.collect();
    if !members.is_sorted_by(|a, b| in_order(a.0, b.0)) {
        members.sort_by(|a, b| a.0.encode_utf16().cmp(b.0.encode_utf16()));
    }
    write_list(b"{}", members, out, |(key, item), out| {
        write_string(key, out);
        out.push(b':');
        write(item, out);
    });
}

/// RFC 8785 section 3.2.3: members stand in the order of their names' UTF-16 code units, which differs from byte order above U+FFFF; no two have one name.
pub(crate) fn in_order(a: &str, b: &str) -> bool {
    if a.is_ascii() && b.is_ascii() { a < b } else { a.encode_utf16().lt(b.encode_utf16()) }
}

fn write_list<T>(brackets: &[u8; 2], items: impl IntoIterator<Item = T>, out: &mut Vec<u8>, one: impl Fn(T, &mut Vec<u8>)) {
    out.push(brackets[0]);
    for (i, item) in items.into_iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        one(item, out);
    }
    out.push(brackets[1]);
}

/// RFC 8785 section 3.2.2.2 asks for exactly what serde_json writes: short escapes, lower-case \u00xx for other controls, nothing else escaped.
pub(crate) fn write_string(text: &str, out: &mut Vec<u8>) {
    if text.bytes().all(|b| b >= b' ' && b != b'"' && b != b'\\') {
        // Nearly all: nothing to escape.
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        return out.push(b'"');
    }
    serde_json::to_writer(out, text).expect("a string can be written to memory");
}

/// Makes a tree of what a document may hold.
pub(crate) struct Plain;

impl<'de> DeserializeSeed<'de> for Plain {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Value, D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Plain {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, an integer, a boolean, an array or an object")
    }

    fn visit_bool<E>(self, b: bool) -> Result<Value, E> {
        Ok(b.into())
    }

    fn visit_u64<E: de::Error>(self, n: u64) -> Result<Value, E> {
        if n > MAX_INTEGER {
            return Err(E::custom(format!("integer {n} is above 2^53")));
        }
        Ok(n.into())
    }

    fn visit_i64<E: de::Error>(self, n: i64) -> Result<Value, E> {
        if n.unsigned_abs() > MAX_INTEGER {
            return Err(E::custom(format!("integer {n} is below -2^53")));
        }
        Ok(n.into())
    }

    fn visit_f64<E: de::Error>(self, n: f64) -> Result<Value, E> {
        Err(E::custom(format!("{n} is not an integer in plain notation")))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(Plain)? {
            items.push(item);
        }
        Ok(items.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let value = map.next_value_seed(Plain)?;
            if members.contains_key(&key) {
                return Err(de::Error::custom(format!("duplicate key {key:?}")));
            }
            members.insert(key, value);
        }
        Ok(members.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        parse(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn writes_keys_in_utf16_order_and_strings_with_the_shortest_escapes() {
        let v = parse("{ \"\u{fb33}\": 1, \"\u{1f600}\": 2, \"a\": [true, \"\\u000F\\n\\/\u{7f}é\"] }".as_bytes()).unwrap();
        assert_eq!(String::from_utf8(to_bytes(&v)).unwrap(), "{\"a\":[true,\"\\u000f\\n/\u{7f}é\"],\"\u{1f600}\":2,\"\u{fb33}\":1}");
    }

    #[test]
    fn an_object_without_a_member_is_spelled_as_if_it_never_had_one() {
        let with = parse("{\"b\":[1],\"signatures\":{\"a\":\"x\"},\"\u{1f600}\":2,\"\u{fb33}\":{\"signatures\":3}}".as_bytes()).unwrap();
        let mut members = with.as_object().unwrap().clone();
        members.remove("signatures");
        assert_eq!(without(&with, "signatures", b"p"), [b"p".as_slice(), &to_bytes(&members.into())].concat());
        assert_eq!(without(&parse(b"[1]").unwrap(), "signatures", b""), b"[1]");
    }

    #[test]
    fn refuses_keys_that_are_equal_after_unescaping() {
        assert!(refused(r#"{"a":1,"\u0061":2}"#).contains("duplicate key \"a\""));
        assert!(parse(br#"{"a":1,"\u0062":2}"#).is_ok());
    }

    #[test]
    fn refuses_floats_exponents_and_integers_that_readers_disagree_about() {
        for bad in ["1.0", "1e2", "-0", "9007199254740993", "-9007199254740993", "1e400"] {
            refused(bad);
        }
        assert!(parse(b"9007199254740992").is_ok());
    }

    #[test]
    fn refuses_lone_surrogates_null_and_trailing_text() {
        for bad in [r#""\ud800""#, r#""\udc00x""#, "null", "{} {}", "\"\u{1}\"", "[1,]"] {
            refused(bad);
        }
        assert!(parse(br#""\ud83d\ude00""#).is_ok());
    }

    #[test]
    fn a_canonical_document_has_no_other_spelling() {
        assert!(parse_canonical(br#"{"a":1,"b":"x"}"#).is_ok());
        for other in [r#"{"b":"x","a":1}"#, r#"{"a":1, "b":"x"}"#, "{\"a\":1,\"b\":\"x\"}\n", r#"{"a":1,"b":"\u0078"}"#] {
            assert!(matches!(parse_canonical(other.as_bytes()), Err(JsonError::NotCanonical { .. })), "{other}");
        }
    }

    #[test]
    fn refuses_a_document_above_the_size_limit_unread() {
        assert!(matches!(parse(&vec![b' '; MAX_BYTES + 1]), Err(JsonError::TooLarge { .. })));
    }
}
