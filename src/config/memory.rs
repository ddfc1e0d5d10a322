//! What memory hopspan may have: `auto`, `off`, or a size.

use std::borrow::Cow;

use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Serialize, Serializer};

use super::size;

/// `limits.memory`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MemoryLimit {
    /// What the control group has, where it has a limit.
    #[default]
    Auto,
    /// Any amount.
    Off,
    /// So many bytes.
    Bytes(usize),
}

impl<'de> Deserialize<'de> for MemoryLimit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<MemoryLimit, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        match text.trim() {
            "auto" => Ok(MemoryLimit::Auto),
            "off" => Ok(MemoryLimit::Off),
            size => size::parse(size)
                .map(MemoryLimit::Bytes)
                .map_err(|advice| advice.or("`auto` for the control group's limit, or `off`"))
                .map_err(D::Error::custom),
        }
    }
}

impl Serialize for MemoryLimit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            MemoryLimit::Auto => serializer.serialize_str("auto"),
            MemoryLimit::Off => serializer.serialize_str("off"),
            MemoryLimit::Bytes(bytes) => size::serialize(bytes, serializer),
        }
    }
}
