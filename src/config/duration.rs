//! Waits as written: `150ms`, `2s`, `1m30s`, `2h`; and `off` where a wait is optional.
//!
//! For serde: `#[serde(with = "duration")]` on a [`Duration`], `#[serde(with = "duration::optional")]` on an
//! `Option<Duration>`.

use std::borrow::Cow;
use std::time::Duration;

use serde::de::Error as _;

use super::advice::Advice;

/// Units, longest first, with their length in nanoseconds.
const UNITS: [(&str, u64); 6] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
];

/// Parses `2s`, `150ms`, `1.5s`, `1m30s`.
///
/// # Errors
/// Says what is wrong and what to write.
pub fn parse(text: &str) -> Result<Duration, Advice> {
    let wrong = |why: &str| {
        Advice::new(
            format!("`{text}` is not a duration{why}"),
            "write a number and its unit: ms, s, m, h or d, as in 150ms, 5s or 1m30s",
        )
    };
    let mut rest = text.trim();
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() || rest.starts_with('-') {
        return Err(wrong(""));
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(|| wrong(": the unit is missing"))?;
        let (number, tail) = rest.split_at(digits);
        let number: f64 = number.parse().map_err(|_| wrong(""))?;
        let tail = tail.trim_start();
        let letters = tail
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let nanos = UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .ok_or_else(|| wrong(&format!(": there is no unit `{unit}`")))?
            .1;
        let seconds = number * nanos as f64 / 1e9;
        let part = Duration::try_from_secs_f64(seconds).map_err(|_| wrong(": it is too long"))?;
        total = total
            .checked_add(part)
            .filter(|total| total.as_secs() < 10 * 365 * 86_400)
            .ok_or_else(|| wrong(": it is too long"))?;
        rest = tail;
    }
    Ok(total)
}

/// What is said of a wait that is over before it began, which others write for none. `help`: what to write instead.
pub(super) fn no_wait(wait: &str, help: impl Into<String>) -> Advice {
    let wrong = format!("{wait} is over before it began: nobody would be served");
    Advice::new(wrong, help)
}

/// The shortest spelling that [`parse`] reads back.
pub fn show(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    if nanos == 0 {
        return "0s".to_owned();
    }
    for (unit, size) in UNITS {
        let size = u128::from(size);
        if nanos >= size && nanos.is_multiple_of(size) {
            return format!("{}{unit}", nanos / size);
        }
    }
    format!("{}s", duration.as_secs_f64())
}

/// Serde: reads a duration.
///
/// # Errors
/// Where the text is not a duration.
pub fn deserialize<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Duration, D::Error> {
    let text = <Cow<'de, str> as serde::Deserialize>::deserialize(deserializer)?;
    parse(&text).map_err(D::Error::custom)
}

/// Serde: writes a duration.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<S: serde::Serializer>(
    duration: &Duration,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&show(*duration))
}

/// Serde for `Option<Duration>`: `off` (or nothing) is none.
pub mod optional {
    use std::time::Duration;

    use crate::config::off;

    /// Serde: reads a duration, or `off`. 0 is neither.
    ///
    /// # Errors
    /// Where the text is neither.
    pub fn deserialize<'de, D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        off::deserialize(deserializer, |text| match super::parse(text)? {
            Duration::ZERO => Err(super::no_wait(text, "write how long, as in 30s")),
            wait => Ok(wait),
        })
    }

    /// Serde: writes a duration, or `off`.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: serde::Serializer>(
        duration: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        off::serialize(duration.as_ref(), serializer, super::serialize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes() {
        let rows = [
            ("2s", 2_000, "2s"),
            ("150ms", 150, "150ms"),
            ("1m", 60_000, "1m"),
            ("90s", 90_000, "90s"),
            ("1m30s", 90_000, "90s"),
            ("1.5s", 1_500, "1500ms"),
            ("5 s", 5_000, "5s"),
            ("2h", 7_200_000, "2h"),
            ("0", 0, "0s"),
            ("0s", 0, "0s"),
            ("1d", 86_400_000, "1d"),
        ];
        for (text, millis, shown) in rows {
            let duration = parse(text).unwrap();
            assert_eq!(duration, Duration::from_millis(millis), "{text}");
            assert_eq!(show(duration), shown);
            assert_eq!(parse(&show(duration)).unwrap(), duration);
        }
    }

    #[test]
    fn refuses_with_advice() {
        for (text, why) in [
            ("5", "unit is missing"),
            ("5 seconds", "no unit `seconds`"),
            ("5sec", "no unit `sec`"),
            ("-1s", "not a duration"),
            ("1e300s", "no unit `e`"),
            ("999999999d", "too long"),
            ("..s", "not a duration"),
            ("", "not a duration"),
        ] {
            let advice = parse(text).unwrap_err();
            assert!(advice.message.contains(why), "{text}: {}", advice.message);
            assert!(advice.help.contains("150ms"));
        }
    }
}
