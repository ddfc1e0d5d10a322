//! Where an upstream is and what is spoken to it, as written: `127.0.0.1:8000`, `unix:/run/app.sock`,
//! `https://127.0.0.1:8443`; HTTP/1.1 or HTTP/2.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Address;
use super::address::AddressError;
use super::advice::Advice;

/// Where the app listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct App {
    /// Where to connect.
    pub address: Address,
    /// Whether TLS is spoken there.
    pub tls: bool,
}

impl FromStr for App {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<App, AddressError> {
        let Some(authority) = text.strip_prefix("https://") else {
            let address = text.parse()?;
            return Ok(App {
                address,
                tls: false,
            });
        };
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        let address = Address::of_url(authority, 443)?;
        Ok(App { address, tls: true })
    }
}

impl fmt::Display for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https://" } else { "" };
        write!(f, "{scheme}{}", self.address)
    }
}

impl From<Address> for App {
    fn from(address: Address) -> App {
        App {
            address,
            tls: false,
        }
    }
}

impl<'de> Deserialize<'de> for App {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<App, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(|error: AddressError| {
            let advice = Advice::from(error);
            serde::de::Error::custom(advice)
        })
    }
}

impl Serialize for App {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Which HTTP is spoken to an upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum HttpProtocol {
    /// HTTP/2 for gRPC, which knows no other; else what TLS agrees on with a service, and HTTP/1.1 without TLS and to the
    /// app.
    #[default]
    #[serde(rename = "auto")]
    Auto,
    /// HTTP/1.1 only.
    #[serde(rename = "http/1.1")]
    Http1,
    /// HTTP/2 only; without TLS by prior knowledge.
    #[serde(rename = "h2")]
    Http2,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_is_an_address_or_an_https_url() {
        for (text, shown) in [
            ("127.0.0.1:8000", "127.0.0.1:8000"),
            ("unix:/run/app.sock", "unix:/run/app.sock"),
            ("https://app", "https://app:443"),
            ("https://[::1]:8443/", "https://[::1]:8443"),
        ] {
            assert_eq!(text.parse::<App>().unwrap().to_string(), shown);
        }
        for text in [
            "https://",
            "https://a/b",
            "http://a:1",
            "https://u@a",
            "https://unix:/a",
        ] {
            assert!(text.parse::<App>().is_err(), "{text}");
        }
    }
}
