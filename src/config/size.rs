//! Byte sizes as written: `16KiB`, `1MiB`, or a plain number of bytes.
//!
//! For serde: `#[serde(with = "size")]` on a `usize`.

use std::borrow::Cow;

use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::Serializer;

use super::advice::Advice;

const UNITS: [(&str, usize); 4] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

/// Parses a size.
///
/// # Errors
/// Says what is wrong and what to write.
pub fn parse(text: &str) -> Result<usize, Advice> {
    let wrong = |why: String| {
        Advice::new(
            format!("`{text}` is not a size{why}"),
            "write a number and its unit: B, KiB, MiB or GiB, as in 16KiB",
        )
    };
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: usize = number.parse().map_err(|_| wrong(String::new()))?;
    let unit = unit.trim_start();
    // Kubernetes writes 16Mi for the same.
    let size = UNITS
        .iter()
        .find(|(name, _)| *name == unit || (unit.len() == 2 && *name == format!("{unit}B")))
        .map(|(_, size)| *size)
        .or_else(|| unit.is_empty().then_some(1))
        .ok_or_else(|| wrong(format!(": there is no unit `{unit}`")))?;
    number
        .checked_mul(size)
        .ok_or_else(|| wrong(": it is too large".to_owned()))
}

/// The shortest spelling that [`parse`] reads back.
pub fn show(bytes: usize) -> String {
    UNITS
        .iter()
        .find(|(_, size)| bytes >= *size && bytes.is_multiple_of(*size))
        .map_or_else(
            || "0B".to_owned(),
            |(unit, size)| format!("{}{unit}", bytes / size),
        )
}

/// Serde: reads a size.
///
/// # Errors
/// Where the text is not a size.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    parse(&Cow::<'de, str>::deserialize(deserializer)?).map_err(D::Error::custom)
}

/// Serde: writes a size.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<S: Serializer>(bytes: &usize, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&show(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes() {
        let rows = [
            ("16KiB", 16_384, "16KiB"),
            ("16Ki", 16_384, "16KiB"),
            ("1 MiB", 1_048_576, "1MiB"),
            ("100", 100, "100B"),
            ("1536", 1536, "1536B"),
            ("0", 0, "0B"),
        ];
        for (text, bytes, shown) in rows {
            assert_eq!(parse(text).unwrap(), bytes, "{text}");
            assert_eq!(show(bytes), shown);
            assert_eq!(parse(shown).unwrap(), bytes);
        }
        for wrong in ["16KB", "16k", "", "-1", "1.5MiB", "99999999999GiB", "KiB"] {
            assert!(parse(wrong).unwrap_err().help.contains("16KiB"), "{wrong}");
        }
    }
}
