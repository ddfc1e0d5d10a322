//! Settings that may be `off`: `None`, as is nothing at all.

use std::borrow::Cow;

use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::Serializer;

use super::advice::Advice;

/// Reads `off`, or what `parse` takes.
pub(super) fn deserialize<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    parse: impl FnOnce(&str) -> Result<T, Advice>,
) -> Result<Option<T>, D::Error> {
    match Option::<Cow<'de, str>>::deserialize(deserializer)? {
        None => Ok(None),
        Some(text) if text == "off" => Ok(None),
        Some(text) => parse(&text)
            .map(Some)
            .map_err(|advice| advice.or("`off` for no limit"))
            .map_err(D::Error::custom),
    }
}

/// Writes `off`, or a value as `write` does.
pub(super) fn serialize<S: Serializer, T>(
    value: Option<&T>,
    serializer: S,
    write: impl FnOnce(&T, S) -> Result<S::Ok, S::Error>,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => write(value, serializer),
        None => serializer.serialize_str("off"),
    }
}
