//! Where a server listens or an upstream is: `host:port`, or `unix:/path`.
//!
//! It does not resolve names: that happens when a connection is made.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use super::advice::Advice;

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
#[error("`{given}` is not an address: {why}, {help}")]
pub struct AddressError {
    given: String,
    why: &'static str,
    help: String,
}

impl AddressError {
    /// What is wrong, in a few words.
    pub fn why(&self) -> &'static str {
        self.why
    }
}

impl Address {
    /// A TCP address from its parts.
    pub fn tcp(host: &str, port: u16) -> Address {
        Address::Tcp {
            host: Arc::from(host),
            port,
        }
    }

    /// Reads `host` or `host:port`, as URLs have them.
    ///
    /// # Errors
    /// As for [`Address::from_str`], or where the host is no host of a URL.
    pub fn of_url(authority: &str, default_port: u16) -> Result<Address, AddressError> {
        let past_literal = authority.rsplit(']').next().unwrap_or(authority);
        let address = if past_literal.contains(':') {
            authority.parse()
        } else {
            format!("{authority}:{default_port}").parse()
        };
        match (address, authority.parse::<http::uri::Authority>()) {
            (Ok(address @ Address::Tcp { .. }), Ok(_)) => Ok(address),
            (Err(error), _) => Err(error),
            _ => Err(AddressError {
                given: authority.to_owned(),
                why: "the host makes no sense",
                help: "write host:port, as in 127.0.0.1:8000".to_owned(),
            }),
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
        let fail = |why, help: String| {
            Err(AddressError {
                given: text.to_owned(),
                why,
                help,
            })
        };
        let as_in = || "write host:port, as in 127.0.0.1:8000".to_owned();
        if let Some(path) = text.strip_prefix("unix:") {
            if !path.starts_with('/') {
                return fail(
                    "a unix socket needs an absolute path",
                    "write unix:/run/app.sock".to_owned(),
                );
            }
            return Ok(Address::Unix(Arc::from(PathBuf::from(path))));
        }
        if let Some((_, rest)) = text.split_once("://") {
            return match rest.parse::<Address>() {
                Ok(meant) => fail("an address has no scheme", format!("write {meant}")),
                Err(_) => fail("an address has no scheme", as_in()),
            };
        }
        let Some((host, port)) = text.rsplit_once(':') else {
            return match text.parse::<u16>() {
                Ok(port) => fail("the host is missing", format!("write 127.0.0.1:{port}")),
                Err(_) => fail("the port is missing", as_in()),
            };
        };
        let Ok(port) = port.parse::<u16>() else {
            return fail("the port is no number from 0 to 65535", as_in());
        };
        let host = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
            Some(literal) if literal.parse::<std::net::Ipv6Addr>().is_ok() => literal,
            Some(_) => return fail("only an IPv6 address goes in brackets", as_in()),
            None if host.parse::<std::net::Ipv6Addr>().is_ok() => {
                return fail(
                    "an IPv6 address goes in brackets",
                    format!("write [{host}]:{port}"),
                );
            }
            None if host.contains(':') => return fail("there are too many colons", as_in()),
            None => host,
        };
        if host.is_empty() {
            return fail("the host is missing", format!("write 127.0.0.1:{port}"));
        }
        if host
            .bytes()
            .any(|b| b.is_ascii_whitespace() || b == b'/' || b == b'@')
        {
            return fail("a host has no spaces, slashes or @", as_in());
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
        text.parse()
            .map_err(|error: AddressError| serde::de::Error::custom(Advice::from(error)))
    }
}

impl From<AddressError> for Advice {
    fn from(error: AddressError) -> Advice {
        let message = format!("`{}` is not an address: {}", error.given, error.why);
        Advice::new(message, error.help)
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
            ("8000", "host is missing, write 127.0.0.1:8000"),
            ("app", "port is missing, write host:port"),
            ("http://x:1", "no scheme, write x:1"),
            ("http://x", "no scheme, write host:port"),
            ("::1:80", "brackets, write [::1]:80"),
            ("x:99999", "0 to 65535"),
            ("1:2:3", "too many colons"),
            ("[x]:3", "only an IPv6"),
            (":80", "host is missing"),
            ("a b:80", "no spaces"),
            ("unix:app.sock", "absolute path"),
        ] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains(advice), "{text}: {error}");
        }
    }
}
