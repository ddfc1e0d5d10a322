//! Where a server listens or an upstream is: `host:port`, or `unix:/path`.
//!
//! It does not resolve names: that happens when a connection is made.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

/// A TCP `host:port` (`[::1]:80` for IPv6 literals), or `unix:/absolute/path`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// A host name or IP literal (without brackets) and a port.
    Tcp {
        /// Name or IP literal, without brackets.
        host: Arc<str>,
        /// TCP port.
        port: u16,
    },
    /// A unix-domain stream socket.
    Unix(Arc<Path>),
}

/// What is wrong with an address, in words a user can act on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not an address: {why}")]
pub struct AddressError {
    given: String,
    why: &'static str,
}

impl Address {
    /// A TCP address from its parts.
    pub fn tcp(host: &str, port: u16) -> Address {
        Address::Tcp {
            host: Arc::from(host),
            port,
        }
    }

    /// The port, for TCP addresses.
    pub fn port(&self) -> Option<u16> {
        match self {
            Address::Tcp { port, .. } => Some(*port),
            Address::Unix(_) => None,
        }
    }

    /// The host name or literal, for TCP addresses.
    pub fn host(&self) -> Option<&str> {
        match self {
            Address::Tcp { host, .. } => Some(host),
            Address::Unix(_) => None,
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Address {
        Address::tcp(&address.ip().to_string(), address.port())
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Address, AddressError> {
        let fail = |why| {
            Err(AddressError {
                given: text.to_owned(),
                why,
            })
        };
        if let Some(path) = text.strip_prefix("unix:") {
            if !path.starts_with('/') {
                return fail("a unix socket needs an absolute path, as in unix:/run/app.sock");
            }
            return Ok(Address::Unix(Arc::from(PathBuf::from(path))));
        }
        if text.contains("://") {
            return fail("write host:port without a scheme, as in 127.0.0.1:8000");
        }
        let Some((host, port)) = text.rsplit_once(':') else {
            return fail("the port is missing, write host:port as in 127.0.0.1:8000");
        };
        let Ok(port) = port.parse::<u16>() else {
            return fail("the port must be a number from 0 to 65535");
        };
        let host = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
            Some(literal) if literal.parse::<std::net::Ipv6Addr>().is_ok() => literal,
            Some(_) => return fail("only an IPv6 address goes in brackets"),
            None if host.contains(':') => {
                return fail("an IPv6 address goes in brackets, as in [::1]:8000");
            }
            None => host,
        };
        if host.is_empty() {
            return fail("the host is missing, write host:port as in 127.0.0.1:8000");
        }
        if host
            .bytes()
            .any(|b| b.is_ascii_whitespace() || b == b'/' || b == b'@')
        {
            return fail("a host name has no spaces, slashes or @");
        }
        Ok(Address::tcp(host, port))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Address::Tcp { host, port } => write!(f, "{host}:{port}"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl<'de> serde::Deserialize<'de> for Address {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Address, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl serde::Serialize for Address {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_what_it_parsed() {
        for text in [
            "127.0.0.1:8000",
            "[::1]:80",
            "payment-service:80",
            "unix:/run/app.sock",
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn refuses_with_advice() {
        for (text, advice) in [
            ("8000", "port is missing"),
            ("http://x:1", "without a scheme"),
            ("::1:80", "brackets"),
            ("x:99999", "0 to 65535"),
            (":80", "host is missing"),
            ("unix:app.sock", "absolute path"),
        ] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains(advice), "{text}: {error}");
        }
    }
}
