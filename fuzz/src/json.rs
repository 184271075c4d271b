//! JSON as serde_json reads it, with nothing lost: what the targets compare with.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The fields of an object in their order, with all that came twice. A name is what no text can hold, if it has half of a
/// surrogate pair.
pub(crate) struct Fields<'a>(pub(crate) Vec<(&'a RawValue, &'a RawValue)>);

impl<'a> Fields<'a> {
    pub(crate) fn of(raw: &'a RawValue) -> Option<Self> {
        serde_json::from_str(raw.get()).ok()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.0.iter().filter_map(|(name, _)| unquoted(name)).collect()
    }

    /// The field, if it came once.
    pub(crate) fn one(&self, name: &str) -> Option<&'a str> {
        let mut values = self
            .0
            .iter()
            .filter(|(field, _)| unquoted(field).as_deref() == Some(name));
        let (_, value) = values.next()?;
        values.next().is_none().then_some(value.get())
    }

    pub(crate) fn text(&self, name: &str) -> Option<String> {
        serde_json::from_str(self.one(name)?).ok()
    }
}

fn unquoted(text: &RawValue) -> Option<String> {
    serde_json::from_str(text.get()).ok()
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Fields<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Each)
    }
}

/// How deep the arrays and objects of a body are nested, read level by level; not JSON is not nested.
pub(crate) fn depth(body: &[u8]) -> usize {
    fn of(raw: &RawValue) -> usize {
        let inner: Vec<&RawValue> = match raw.get().as_bytes().first() {
            Some(b'[') => serde_json::from_str(raw.get()).expect("an array"),
            Some(b'{') => {
                let Fields(fields) = Fields::of(raw).expect("an object");
                fields.into_iter().map(|(_, value)| value).collect()
            }
            Some(_) | None => return 0,
        };
        1 + inner.into_iter().map(of).max().unwrap_or(0)
    }
    serde_json::from_slice(body).map_or(0, of)
}
