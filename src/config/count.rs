//! Whole numbers of at least 1.
//!
//! For serde: `#[serde(with = "count")]` on a `usize`; `count::optional` on an `Option<usize>`, which may be `off`.

use std::borrow::Cow;

use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::Serializer;

use super::advice::Advice;

/// Serde: reads a count.
///
/// # Errors
/// Where it is no whole number above 0.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    let text = Cow::<'de, str>::deserialize(deserializer)?;
    parse(&text).map_err(D::Error::custom)
}

fn parse(text: &str) -> Result<usize, Advice> {
    match text.parse::<usize>() {
        Ok(count) if count > 0 => Ok(count),
        _ => Err(Advice::new(
            format!("`{text}` is not a count"),
            "write a whole number, 1 or more",
        )),
    }
}

/// Serde: writes a count.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<S: Serializer>(count: &usize, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(*count as u64)
}

/// Serde for `Option<usize>`: `off` (or nothing) is none.
pub mod optional {
    use serde::de::Deserializer;
    use serde::ser::Serializer;

    use crate::config::off;

    /// Serde: reads a count, or `off`.
    ///
    /// # Errors
    /// Where it is neither.
    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<usize>, D::Error> {
        off::deserialize(deserializer, super::parse)
    }

    /// Serde: writes a count, or `off`.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(
        count: &Option<usize>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        off::serialize(count.as_ref(), serializer, super::serialize)
    }
}
