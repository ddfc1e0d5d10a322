//! Networks as written (`10.0.0.0/8`, `fd00::/8`, or one address), and whom to trust.
//!
//! For serde: `#[serde(with = "network")]` on a `Vec<IpNet>`.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::de::{Deserialize, Deserializer, Error as _, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};

use super::advice::Advice;

/// Parses `10.0.0.0/8`, or a single address.
///
/// # Errors
/// Says what is wrong and what to write; bits set beyond the prefix are a mistake, not a network.
pub fn parse(text: &str) -> Result<IpNet, Advice> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address));
    }
    let net: IpNet = text.parse().map_err(|_| {
        Advice::new(
            format!("`{text}` is not a network"),
            "write an address and a prefix length, as in 10.0.0.0/8 or fd00::/8",
        )
    })?;
    if net.trunc() != net {
        return Err(Advice::new(
            format!("`{text}` has bits set beyond its prefix"),
            format!("write {}", net.trunc()),
        ));
    }
    Ok(net)
}

/// One item that reads itself with [`parse`].
struct Network(IpNet);

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Network, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        parse(&text).map(Network).map_err(D::Error::custom)
    }
}

/// Serde: reads networks.
///
/// # Errors
/// Where one is none.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let networks = Vec::<Network>::deserialize(deserializer)?;
    Ok(networks.into_iter().map(|network| network.0).collect())
}

/// Serde: writes networks.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<S: Serializer>(networks: &[IpNet], serializer: S) -> Result<S::Ok, S::Error> {
    networks.serialize(serializer)
}

/// Whose trace context is continued.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// Everybody's (W3C's default behaviour).
    #[default]
    All,
    /// Nobody's: each request begins a trace.
    None,
    /// Of peers with these addresses.
    Networks(Vec<IpNet>),
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
                    text => parse(text)
                        .map(|network| Trust::Networks(vec![network]))
                        .map_err(|advice| E::custom(advice.or("`all`, or `none`"))),
                }
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Trust, A::Error> {
                let mut networks = Vec::new();
                while let Some(Network(network)) = items.next_element()? {
                    networks.push(network);
                }
                Ok(Trust::Networks(networks))
            }
        }
        deserializer.deserialize_any(Choice)
    }
}

impl Serialize for Trust {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Trust::All => serializer.serialize_str("all"),
            Trust::None => serializer.serialize_str("none"),
            Trust::Networks(networks) => networks.serialize(serializer),
        }
    }
}
