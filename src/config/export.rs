//! Where and how spans are sent: the values behind `OTEL_EXPORTER_OTLP_*`, `OTEL_BSP_*` and the file's `export:`.
//!
//! Follows the OTLP exporter specification (names, defaults, which endpoint gets a path) and leaves resolving and
//! connecting to [`crate::export`]. Header values are secrets: `Debug` does not show them.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};

use super::advice::Advice;
use super::{Address, count, duration, size};

/// OTLP transport (`OTEL_EXPORTER_OTLP_PROTOCOL`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protocol {
    /// `http/protobuf`, the specification's default.
    #[default]
    #[serde(rename = "http/protobuf")]
    HttpProtobuf,
    /// `grpc`.
    #[serde(rename = "grpc")]
    Grpc,
}

impl Protocol {
    /// The name as the specification writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::HttpProtobuf => "http/protobuf",
            Protocol::Grpc => "grpc",
        }
    }
}

impl std::str::FromStr for Protocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Protocol, String> {
        match text {
            "http/protobuf" => Ok(Protocol::HttpProtobuf),
            "grpc" => Ok(Protocol::Grpc),
            other => Err(format!(
                "`{other}` is not an OTLP protocol hopspan has: write grpc or http/protobuf"
            )),
        }
    }
}

/// Settings of the span exporter. Serialised, it shows no secret: header values and userinfo are masked.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Export {
    /// Nothing is sent (`OTEL_SDK_DISABLED=true`, `OTEL_TRACES_EXPORTER=none`).
    pub disabled: bool,
    /// Base URL (`OTEL_EXPORTER_OTLP_ENDPOINT`): over HTTP `/v1/traces` is added to its path.
    #[serde(with = "endpoint")]
    pub endpoint: Option<String>,
    /// URL for traces (`OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`), used as it is; wins over `endpoint`.
    #[serde(with = "endpoint")]
    pub traces_endpoint: Option<String>,
    /// Transport.
    pub protocol: Protocol,
    /// Sent with every request; values are already percent-decoded.
    #[serde(with = "headers")]
    pub headers: Vec<(String, String)>,
    /// How long one export attempt may take.
    #[serde(with = "duration")]
    pub timeout: Duration,
    /// Whether request bodies are compressed with gzip.
    #[serde(with = "compression")]
    pub compression: bool,
    /// How long a span waits for others at most (`OTEL_BSP_SCHEDULE_DELAY`).
    #[serde(with = "duration")]
    pub schedule_delay: Duration,
    /// Spans in one request at most (`OTEL_BSP_MAX_EXPORT_BATCH_SIZE`).
    #[serde(with = "count")]
    pub max_batch: usize,
    /// Spans waiting at most (`OTEL_BSP_MAX_QUEUE_SIZE`).
    #[serde(with = "count")]
    pub queue_spans: usize,
    /// Bytes waiting at most, encoded.
    #[serde(with = "size")]
    pub queue_bytes: usize,
    /// After a failure, until the next attempt; half as long again after each that follows it.
    #[serde(with = "duration")]
    pub retry_initial_interval: Duration,
    /// What these waits grow to.
    #[serde(with = "duration")]
    pub retry_max_interval: Duration,
    /// A batch that cannot be delivered for so long is dropped and counted.
    #[serde(with = "duration")]
    pub give_up: Duration,
    /// For gRPC endpoints without a scheme: `true` is plain text, else TLS (`OTEL_EXPORTER_OTLP_INSECURE`).
    pub insecure: Option<bool>,
    /// PEM file of the roots to trust instead of the system's (`OTEL_EXPORTER_OTLP_CERTIFICATE`).
    pub certificate: Option<PathBuf>,
    /// PEM file of the client's certificate chain (`OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE`).
    pub client_certificate: Option<PathBuf>,
    /// PEM file of the client's private key (`OTEL_EXPORTER_OTLP_CLIENT_KEY`).
    pub client_key: Option<PathBuf>,
}

impl Default for Export {
    fn default() -> Export {
        Export {
            disabled: false,
            endpoint: None,
            traces_endpoint: None,
            protocol: Protocol::default(),
            headers: Vec::new(),
            timeout: Duration::from_secs(10),
            compression: false,
            schedule_delay: Duration::from_secs(1),
            max_batch: 512,
            queue_spans: 8192,
            queue_bytes: 16 * 1024 * 1024,
            retry_initial_interval: Duration::from_secs(1),
            retry_max_interval: Duration::from_secs(30),
            give_up: Duration::from_secs(300),
            insecure: None,
            certificate: None,
            client_certificate: None,
            client_key: None,
        }
    }
}

/// Less would be a collector under fire from every sidecar it has.
const LEAST_RETRY: Duration = Duration::from_millis(10);

impl Export {
    /// Values that are each right but cannot be together, or would not let a collector recover: the key, and what is
    /// wrong with its value.
    pub(super) fn contradictions(&self) -> impl Iterator<Item = (&'static str, Advice)> {
        let (initial, max) = (self.retry_initial_interval, self.retry_max_interval);
        let batch = (self.max_batch > self.queue_spans).then(|| {
            let help = format!("write at most export.queue_spans, {}", self.queue_spans);
            let wrong = Advice::new("a batch cannot be larger than the queue", help);
            ("export.max_batch", wrong)
        });
        let none = (initial < LEAST_RETRY).then(|| {
            let wrong = format!("{} between attempts is no wait", duration::show(initial));
            let help = format!("write {} or more", duration::show(LEAST_RETRY));
            ("export.retry_initial_interval", Advice::new(wrong, help))
        });
        let crossed = (max < initial).then(|| {
            let wrong = "the first wait between attempts cannot be above the longest";
            // Point at the one that is written, not at a default.
            let (key, at, other, bound) = match max == Export::default().retry_max_interval {
                true => ("export.retry_initial_interval", "most", "max", max),
                false => ("export.retry_max_interval", "least", "initial", initial),
            };
            let bound = duration::show(bound);
            let help = format!("write at {at} export.retry_{other}_interval, {bound}");
            (key, Advice::new(wrong, help))
        });
        [batch, none, crossed].into_iter().flatten()
    }
}

impl fmt::Debug for Export {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let masked = |endpoint: &Option<String>| endpoint.as_deref().map(mask_userinfo);
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Export")
            .field("disabled", &self.disabled)
            .field("endpoint", &masked(&self.endpoint))
            .field("traces_endpoint", &masked(&self.traces_endpoint))
            .field("protocol", &self.protocol)
            .field("headers", &names)
            .field("timeout", &self.timeout)
            .field("compression", &self.compression)
            .field("schedule_delay", &self.schedule_delay)
            .field("max_batch", &self.max_batch)
            .field("queue_spans", &self.queue_spans)
            .field("queue_bytes", &self.queue_bytes)
            .field("retry_initial_interval", &self.retry_initial_interval)
            .field("retry_max_interval", &self.retry_max_interval)
            .field("give_up", &self.give_up)
            .field("insecure", &self.insecure)
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}

/// Headers as `OTEL_EXPORTER_OTLP_HEADERS` writes them: `name=value,name=value`, values percent-encoded.
///
/// The names are lower-cased. Fails with words for the user; a message never holds a value, since those are secrets.
pub fn parse_headers(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut headers = Vec::new();
    for member in text.split(',').map(str::trim).filter(|m| !m.is_empty()) {
        let Some((name, value)) = member.split_once('=') else {
            return Err("a header lacks `=`: write name=value,name=value".to_owned());
        };
        let name = name.trim().to_ascii_lowercase();
        if http::HeaderName::from_bytes(name.as_bytes()).is_err() {
            return Err(format!("`{name}` is not a header name"));
        }
        let Ok(value) = percent_decode_str(value.trim()).decode_utf8() else {
            return Err(format!("the value of header `{name}` is not UTF-8"));
        };
        if http::HeaderValue::from_str(&value).is_err() {
            return Err(format!(
                "the value of header `{name}` has control characters"
            ));
        }
        headers.push((name, value.into_owned()));
    }
    Ok(headers)
}

/// Whether an endpoint can be used at all: a URL, or `host:port` for gRPC.
///
/// # Errors
/// Says what is wrong; the text itself is not repeated where it may hold a password.
pub fn check_endpoint(text: &str) -> Result<(), Advice> {
    let wrong = |why: &str| {
        Advice::new(
            format!("`{}` is not an endpoint: {why}", mask_userinfo(text)),
            "write a URL, as in http://collector:4318",
        )
    };
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (scheme.to_ascii_lowercase(), rest),
        None => (String::new(), text),
    };
    if !matches!(scheme.as_str(), "" | "http" | "https") {
        return Err(wrong("only http and https are known"));
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or("");
    let host = authority.rsplit('@').next().unwrap_or(authority);
    // Without a scheme it is for gRPC, and that needs the port.
    let address = match scheme.as_str() {
        "" => host.parse().and_then(|_: Address| Address::of_url(host, 0)),
        _ => Address::of_url(host, 80),
    };
    address.map(|_| ()).map_err(|error| wrong(error.why()))
}

/// `user:password@` as `***@`.
fn mask_userinfo(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    let Some((_, host)) = authority.rsplit_once('@') else {
        return url.to_owned();
    };
    let colon = if scheme.is_empty() { "" } else { "://" };
    format!("{scheme}{colon}***@{host}{tail}")
}

/// Serde for an endpoint: checked when read, userinfo masked when written.
mod endpoint {
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<String>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        if let Some(text) = &text {
            super::check_endpoint(text).map_err(D::Error::custom)?;
        }
        Ok(text)
    }
    pub(super) fn serialize<S: Serializer>(
        endpoint: &Option<String>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        endpoint
            .as_deref()
            .map(super::mask_userinfo)
            .serialize(serializer)
    }
}

/// Serde for headers: a mapping of name to value; values are masked when written.
mod headers {
    use std::collections::BTreeMap;

    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    use super::Advice;

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<(String, String)>, D::Error> {
        let map = BTreeMap::<String, String>::deserialize(deserializer)?;
        let mut headers = Vec::with_capacity(map.len());
        for (name, value) in map {
            let wrong = |why: &str| {
                D::Error::custom(Advice::new(
                    format!("`{name}` {why}"),
                    "write `name: value` lines, as in authorization: Bearer abc",
                ))
            };
            if http::HeaderName::from_bytes(name.as_bytes()).is_err() {
                return Err(wrong("is not a header name"));
            }
            if http::HeaderValue::from_str(&value).is_err() {
                return Err(wrong("has a value with control characters"));
            }
            headers.push((name.to_ascii_lowercase(), value));
        }
        Ok(headers)
    }

    pub(super) fn serialize<S: Serializer>(
        headers: &[(String, String)],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(headers.iter().map(|(name, _)| (name, "***")))
    }
}

/// Serde for compression: `gzip` or `none`.
mod compression {
    use std::borrow::Cow;

    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    use super::Advice;

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<bool, D::Error> {
        match Cow::<'de, str>::deserialize(deserializer)?.as_ref() {
            "gzip" => Ok(true),
            "none" => Ok(false),
            other => Err(D::Error::custom(Advice::new(
                format!("`{other}` is not a compression"),
                "write gzip or none",
            ))),
        }
    }

    pub(super) fn serialize<S: Serializer>(gzip: &bool, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(if *gzip { "gzip" } else { "none" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_decoded_and_secrets_stay_hidden() {
        let headers = parse_headers("Authorization=Basic%20abc%3D, x-team = a=b ,").unwrap();
        let want = [("authorization", "Basic abc="), ("x-team", "a=b")];
        let have: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (&**n, &**v)).collect();
        assert_eq!(have, want);
        let shown = format!(
            "{:?}",
            Export {
                headers,
                ..Export::default()
            }
        );
        assert!(shown.contains("authorization") && !shown.contains("abc"));
        for (wrong, why) in [
            ("abc", "lacks `=`"),
            ("a b=1", "not a header name"),
            ("a=%0d%0a", "control characters"),
            ("a=%ff", "not UTF-8"),
        ] {
            let error = parse_headers(wrong).unwrap_err();
            assert!(error.contains(why), "{wrong}: {error}");
        }
    }
}
