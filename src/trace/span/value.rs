//! Names and values of span attributes, cheap where they are constants or shared with the snapshot.

use std::borrow::Cow;
use std::sync::Arc;

/// An attribute value. `Static` and `Shared` cost no allocation.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A constant.
    Static(&'static str),
    /// Text shared with a snapshot.
    Shared(Arc<str>),
    /// Text of this request.
    Text(String),
    /// A whole number.
    Int(i64),
    /// A number.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// Several texts (captured headers).
    List(Vec<String>),
}

impl Value {
    /// Bytes of this request's text in it.
    pub(super) fn text_bytes(&self) -> usize {
        match self {
            Value::Text(text) => text.len(),
            Value::List(texts) => texts.iter().map(String::len).sum(),
            _ => 0,
        }
    }
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Value {
        Value::Static(text)
    }
}
impl From<Arc<str>> for Value {
    fn from(text: Arc<str>) -> Value {
        Value::Shared(text)
    }
}
impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::Text(text)
    }
}
impl From<i64> for Value {
    fn from(number: i64) -> Value {
        Value::Int(number)
    }
}
impl From<u16> for Value {
    fn from(number: u16) -> Value {
        Value::Int(i64::from(number))
    }
}
impl From<bool> for Value {
    fn from(truth: bool) -> Value {
        Value::Bool(truth)
    }
}
impl From<f64> for Value {
    fn from(number: f64) -> Value {
        Value::Float(number)
    }
}

/// An attribute name: a constant, or one compiled into a snapshot (captured headers).
#[derive(Clone, Debug, PartialEq)]
pub enum Key {
    /// A semantic-convention constant.
    Static(&'static str),
    /// A name made from the configuration.
    Shared(Arc<str>),
}

impl Key {
    /// The name.
    pub fn as_str(&self) -> &str {
        match self {
            Key::Static(name) => name,
            Key::Shared(name) => name,
        }
    }
}

impl From<&'static str> for Key {
    fn from(name: &'static str) -> Key {
        Key::Static(name)
    }
}
impl From<Arc<str>> for Key {
    fn from(name: Arc<str>) -> Key {
        Key::Shared(name)
    }
}

/// Span name by the HTTP conventions: `{method} {target}`, or `{method}` alone.
#[derive(Clone, Debug, PartialEq)]
pub struct Name {
    /// A known method, or `HTTP` for any other.
    pub method: &'static str,
    /// `http.route` or another low-cardinality target.
    pub target: Option<Arc<str>>,
}

impl Name {
    /// The name as exported.
    pub fn text(&self) -> Cow<'static, str> {
        match &self.target {
            Some(target) => Cow::Owned(format!("{} {target}", self.method)),
            None => Cow::Borrowed(self.method),
        }
    }
}

/// Keeps the first `limit` bytes of each text, to a character.
pub(super) fn cut(value: Value, limit: usize) -> Value {
    match value {
        Value::Text(text) => Value::Text(cut_text(text, limit)),
        Value::List(texts) => Value::List(
            texts
                .into_iter()
                .map(|text| cut_text(text, limit))
                .collect(),
        ),
        other => other,
    }
}

fn cut_text(mut text: String, limit: usize) -> String {
    if text.len() > limit {
        let end = (0..=limit)
            .rev()
            .find(|at| text.is_char_boundary(*at))
            .unwrap_or(0);
        text.truncate(end);
    }
    text
}
