//! Networks as written (`10.0.0.0/8`, `fd00::/8`, or one address).
//!
//! For serde: `#[serde(with = "network")]` on a `Vec<IpNet>`.

use std::borrow::Cow;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::de::{Deserialize, Deserializer, Error as _};
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
