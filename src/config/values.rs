//! Small values with a spelling of their own: shares (`10%`), rates (`50/s`), lists that may be a single item.
//!
//! Each complaint says what to write instead. Waits, sizes and networks have files of their own beside this one.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error as _, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeSeq, Serializer};

use super::advice::Advice;

type Text<'de> = Cow<'de, str>;

/// A share from 0 to 1 (`0.1`, `10%`).
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Ratio(f64);

impl Ratio {
    /// All.
    pub const ONE: Ratio = Ratio(1.0);

    /// A share; `None` outside 0 to 1.
    pub fn new(share: f64) -> Option<Ratio> {
        (0.0..=1.0).contains(&share).then_some(Ratio(share))
    }

    /// The share, from 0 to 1.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl<'de> Deserialize<'de> for Ratio {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Ratio, D::Error> {
        let text = Text::deserialize(deserializer)?;
        let share = match text.strip_suffix('%') {
            Some(percent) => percent.trim().parse::<f64>().map(|share| share / 100.0),
            None => text.parse::<f64>(),
        };
        share.ok().and_then(Ratio::new).ok_or_else(|| {
            D::Error::custom(Advice::new(
                format!("`{text}` is not a ratio"),
                "write a share from 0 to 1, as in 0.1 (or 10%)",
            ))
        })
    }
}

impl Serialize for Ratio {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0)
    }
}

/// Events per second: `50/s`, `6/m`.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Rate(f64);

impl Rate {
    /// Events per second, above 0.
    pub fn per_second(self) -> f64 {
        self.0
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Rate, D::Error> {
        let text = Text::deserialize(deserializer)?;
        let parts = text
            .split_once('/')
            .map(|(n, unit)| (n.trim(), unit.trim()));
        let seconds = match parts.map(|(_, unit)| unit) {
            Some("s") => Some(1.0),
            Some("m") => Some(60.0),
            Some("h") => Some(3600.0),
            _ => None,
        };
        let count = parts.and_then(|(count, _)| count.parse::<f64>().ok());
        match (count, seconds) {
            (Some(count), Some(seconds)) if count > 0.0 && count.is_finite() => {
                Ok(Rate(count / seconds))
            }
            _ => Err(D::Error::custom(Advice::new(
                format!("`{text}` is not a rate"),
                "write a number per second, minute or hour, as in 50/s",
            ))),
        }
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}/s", self.0))
    }
}

/// A list that may be written as its only item.
pub mod one_or_many {
    use super::{DeserializeOwned, Deserializer, Many, Serialize, SerializeSeq, Serializer};
    use std::marker::PhantomData;

    /// Serde: reads one item or a list of them.
    ///
    /// # Errors
    /// Those of the item.
    pub fn deserialize<'de, D: Deserializer<'de>, T: DeserializeOwned>(
        deserializer: D,
    ) -> Result<Vec<T>, D::Error> {
        deserializer.deserialize_any(Many(PhantomData))
    }

    /// Serde: writes one item, or a list.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer, T: Serialize>(
        items: &[T],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        if let [item] = items {
            return item.serialize(serializer);
        }
        let mut seq = serializer.serialize_seq(Some(items.len()))?;
        for item in items {
            seq.serialize_element(item)?;
        }
        seq.end()
    }
}

struct Many<T>(std::marker::PhantomData<T>);

impl<'de, T: DeserializeOwned> Visitor<'de> for Many<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("one value or a list of them")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Vec<T>, E> {
        let one = serde::de::value::StrDeserializer::<E>::new(text);
        T::deserialize(one).map(|item| vec![item])
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Vec<T>, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(items)
    }
}
