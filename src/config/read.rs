//! Serde's view of the tree: a deserializer whose errors know their node and speak of YAML, not of Rust.

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, Error, Expected, IntoDeserializer, MapAccess, SeqAccess,
    Unexpected, Visitor,
};
use serde::forward_to_deserialize_any;

use super::advice::Advice;
use super::tree::{Kind, Node};

/// What went wrong, and at which node.
#[derive(Debug)]
pub(crate) struct ReadError {
    pub(crate) node: Option<u32>,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
    /// The unknown word and the words known in its place.
    pub(crate) unknown: Option<(String, &'static [&'static str])>,
    /// The key that is missing.
    pub(crate) missing: Option<&'static str>,
}

impl ReadError {
    fn new(message: String, help: Option<String>) -> ReadError {
        ReadError {
            node: None,
            message,
            help,
            unknown: None,
            missing: None,
        }
    }

    /// Notes the node, unless a deeper one is noted already.
    fn at(mut self, node: &Node) -> ReadError {
        self.node.get_or_insert(node.id);
        self
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ReadError {}

impl Error for ReadError {
    fn custom<T: fmt::Display>(message: T) -> ReadError {
        let (message, help) = Advice::split(&message.to_string());
        ReadError::new(message, help)
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> ReadError {
        ReadError::new(format!("expected {expected}, found {}", name(&found)), None)
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> ReadError {
        ReadError::new(format!("expected {expected}, found {}", name(&found)), None)
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> ReadError {
        ReadError {
            unknown: Some((field.to_owned(), expected)),
            ..ReadError::new(format!("unknown key `{field}`"), None)
        }
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> ReadError {
        let allowed = expected.join(", ");
        ReadError::new(
            format!("`{variant}` is not known here"),
            Some(format!("write one of: {allowed}")),
        )
    }

    fn missing_field(field: &'static str) -> ReadError {
        ReadError {
            missing: Some(field),
            ..ReadError::new(
                format!("`{field}` is missing here"),
                Some(format!("add `{field}:`")),
            )
        }
    }
}

fn name(found: &Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(value) => format!("`{value}`"),
        Unexpected::Unsigned(value) => format!("`{value}`"),
        Unexpected::Signed(value) => format!("`{value}`"),
        Unexpected::Float(value) => format!("`{value}`"),
        Unexpected::Str(text) => format!("`{text}`"),
        Unexpected::Unit | Unexpected::Option => "nothing".to_owned(),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Map => "a mapping".to_owned(),
        other => other.to_string(),
    }
}

/// Reads one node.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'t>(&'t Node);

impl<'t> Reader<'t> {
    pub(crate) fn new(node: &'t Node) -> Reader<'t> {
        Reader(node)
    }

    fn found(self) -> String {
        match &self.0.kind {
            Kind::Null => "nothing".to_owned(),
            Kind::List(_) => "a list".to_owned(),
            Kind::Map(_) => "a mapping".to_owned(),
            _ => format!("`{}`", self.0.text),
        }
    }

    fn wrong<T>(self, expected: &str, help: Option<String>) -> Result<T, ReadError> {
        let message = format!("expected {expected}, found {}", self.found());
        Err(ReadError::new(message, help).at(self.0))
    }

    fn scalar<T>(
        self,
        expected: &str,
        visit: impl FnOnce(&'t str) -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        match &self.0.kind {
            Kind::Null | Kind::List(_) | Kind::Map(_) => self.wrong(expected, None),
            _ => visit(&self.0.text).map_err(|error| error.at(self.0)),
        }
    }
}

impl<'de> Deserializer<'de> for Reader<'de> {
    type Error = ReadError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        let read = match &self.0.kind {
            Kind::Null => visitor.visit_unit(),
            Kind::Bool(value) => visitor.visit_bool(*value),
            Kind::Integer(value) if *value < 0 => visitor.visit_i64(*value),
            Kind::Integer(value) => visitor.visit_u64(value.unsigned_abs()),
            Kind::Float(value) => visitor.visit_f64(*value),
            Kind::Text => visitor.visit_borrowed_str(&self.0.text),
            Kind::List(items) => visitor.visit_seq(Items(items.iter())),
            Kind::Map(entries) => visitor.visit_map(Entries(entries.iter(), None)),
        };
        read.map_err(|error| error.at(self.0))
    }

    // A number or boolean where a text is wanted is taken as spelled: `service.version: 1.20`.
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.scalar("a text", |text| visitor.visit_borrowed_str(text))
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.scalar("a key", |text| visitor.visit_borrowed_str(text))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.0.kind {
            Kind::Bool(value) => visitor
                .visit_bool(value)
                .map_err(|error: ReadError| error.at(self.0)),
            _ => self.wrong("true or false", Some("write true or false".to_owned())),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.0.kind {
            Kind::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
        .map_err(|error| error.at(self.0))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match &self.0.kind {
            Kind::Null => visitor.visit_seq(Items([].iter())),
            Kind::List(_) => self.deserialize_any(visitor),
            _ => self.wrong("a list", Some("begin each entry with `- `".to_owned())),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match &self.0.kind {
            Kind::Null => visitor.visit_map(Entries([].iter(), None)),
            Kind::Map(_) => self.deserialize_any(visitor),
            found => {
                // What is there instead may be a secret, as in `headers: authorization=…`.
                let found = match found {
                    Kind::List(_) => "a list",
                    _ => "a single value",
                };
                Err(ReadError::new(
                    format!("expected a mapping, found {found}"),
                    Some("write `key: value` lines below".to_owned()),
                ))
            }
        }
        .map_err(|error| error.at(self.0))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        match &self.0.kind {
            Kind::Null | Kind::Map(_) => self.deserialize_map(visitor),
            _ => {
                let keys = fields.join(", ");
                self.wrong("a mapping", Some(format!("its keys are: {keys}")))
            }
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        let choice: String = format!("one of {}", variants.join(", "));
        self.scalar(&choice, |text| {
            let text: StrDeserializer<'_, ReadError> = text.into_deserializer();
            visitor.visit_enum(text)
        })
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        visitor
            .visit_newtype_struct(self)
            .map_err(|error| error.at(self.0))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct
        tuple tuple_struct
    }
}

struct Items<'t>(std::slice::Iter<'t, Node>);

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = ReadError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, ReadError> {
        match self.0.next() {
            Some(node) => seed
                .deserialize(Reader(node))
                .map(Some)
                .map_err(|error| error.at(node)),
            None => Ok(None),
        }
    }
}

struct Entries<'t>(std::slice::Iter<'t, (Node, Node)>, Option<&'t Node>);

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = ReadError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, ReadError> {
        match self.0.next() {
            Some((key, value)) => {
                self.1 = Some(value);
                seed.deserialize(Reader(key))
                    .map(Some)
                    .map_err(|error| error.at(key))
            }
            None => Ok(None),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, ReadError> {
        match self.1.take() {
            Some(value) => seed
                .deserialize(Reader(value))
                .map_err(|error| error.at(value)),
            None => Err(ReadError::custom("a value without a key")),
        }
    }
}
