//! Parts of a manifest that nobody acts upon, kept as they are written until somebody shows them.
//!
//! Owns that they are read late. The fact a newcomer gets wrong: three quarters of a manifest are such parts, ten thousand names of system calls, and a host would read them at every start. They are signed like the rest,
//! but a `Verified` says nothing of what they mean.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::marker::PhantomData;

/// A `T` as JSON.
#[derive(Clone, Debug)]
pub struct Unread<T> {
    text: Box<RawValue>,
    kind: PhantomData<fn() -> T>,
}

impl<T: Serialize + DeserializeOwned> Unread<T> {
    pub fn of(value: &T) -> Self {
        Self { text: serde_json::value::to_raw_value(value).expect("rows are plain JSON"), kind: PhantomData }
    }

    /// What is written may be no `T`.
    pub fn read(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.text.get())
    }
}

impl<T> PartialEq for Unread<T> {
    fn eq(&self, other: &Self) -> bool {
        self.text.get() == other.text.get()
    }
}

impl<T> Eq for Unread<T> {}

impl<'de, T> Deserialize<'de> for Unread<T> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Ok(Self { text: Box::<RawValue>::deserialize(d)?, kind: PhantomData })
    }
}

impl<T> Serialize for Unread<T> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.text.serialize(s)
    }
}

impl<T: JsonSchema> JsonSchema for Unread<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn is_what_it_was_made_of_whatever_it_goes_through() {
        let names = BTreeMap::from([("a".to_owned(), vec![1, 2]), ("b\"".to_owned(), vec![])]);
        let unread = Unread::of(&names);
        assert_eq!(unread.read().unwrap(), names);
        let text = serde_json::to_string(&unread).unwrap();
        assert_eq!(text, serde_json::to_string(&names).unwrap());
        assert!(serde_json::from_str::<Unread<BTreeMap<String, Vec<u8>>>>(&text).unwrap() == unread);
        let tree = serde_json::to_value(&unread).unwrap();
        assert_eq!(tree, serde_json::to_value(&names).unwrap());
        assert!(Unread::deserialize(&tree).unwrap() == unread);
        assert!(serde_json::from_str::<Unread<BTreeMap<String, Vec<u8>>>>("[7]").unwrap().read().is_err());
    }
}
