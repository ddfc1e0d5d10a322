//! Whole numbers of at least 1.
//!
//! For serde: `#[serde(with = "count")]` on a `usize`.

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
    match text.parse::<usize>() {
        Ok(count) if count > 0 => Ok(count),
        _ => Err(D::Error::custom(Advice::new(
            format!("`{text}` is not a count"),
            "write a whole number, 1 or more",
        ))),
    }
}

/// Serde: writes a count.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<S: Serializer>(count: &usize, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(*count as u64)
}
