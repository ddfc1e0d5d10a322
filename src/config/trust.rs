//! Whose trace context is continued: everybody's, nobody's, or that of networks and of clients by their certificates.

use std::borrow::Cow;
use std::fmt;

use ipnet::IpNet;
use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeSeq, Serializer};

use super::advice::Advice;
use super::network;

/// Whose trace context is continued.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// Everybody's (W3C's default behaviour).
    #[default]
    All,
    /// Nobody's: each request begins a trace.
    None,
    /// That of these.
    Some(Vec<Trusted>),
}

/// One of those who are trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trusted {
    /// Peers with these addresses.
    Network(IpNet),
    /// Clients with such a certificate: `san:NAME` or `subject:NAME`, as written; compiled by whoever asks.
    Certificate(String),
}

impl Trusted {
    fn parse(text: &str) -> Result<Trusted, Advice> {
        match text.split_once(':') {
            Some(("san" | "subject", name)) if is_pattern(name) => {
                Ok(Trusted::Certificate(text.to_owned()))
            }
            Some(("san" | "subject", _)) => Err(Advice::new(
                format!("`{text}` names no certificate"),
                "write a name with one * at most, as in 'san:frontend.shop.svc' or 'san:spiffe://shop/*'",
            )),
            _ => network::parse(text).map(Trusted::Network),
        }
    }
}

fn is_pattern(name: &str) -> bool {
    !name.is_empty() && name.matches('*').count() <= 1
}

impl<'de> Deserialize<'de> for Trusted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Trusted, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        Trusted::parse(&text).map_err(serde::de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Trust {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Trust, D::Error> {
        struct Choice;
        impl<'de> Visitor<'de> for Choice {
            type Value = Trust;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`all`, `none` or a list of networks")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Trust, E> {
                match text {
                    "all" => Ok(Trust::All),
                    "none" => Ok(Trust::None),
                    text => Trusted::parse(text)
                        .map(|one| Trust::Some(vec![one]))
                        .map_err(|advice| E::custom(advice.or("`all`, or `none`"))),
                }
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Trust, A::Error> {
                let mut all = Vec::new();
                while let Some(one) = items.next_element()? {
                    all.push(one);
                }
                Ok(Trust::Some(all))
            }
        }
        deserializer.deserialize_any(Choice)
    }
}

impl Serialize for Trust {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let all = match self {
            Trust::All => return serializer.serialize_str("all"),
            Trust::None => return serializer.serialize_str("none"),
            Trust::Some(all) => all,
        };
        let mut list = serializer.serialize_seq(Some(all.len()))?;
        for one in all {
            match one {
                Trusted::Network(network) => list.serialize_element(network)?,
                Trusted::Certificate(text) => list.serialize_element(text)?,
            }
        }
        list.end()
    }
}
