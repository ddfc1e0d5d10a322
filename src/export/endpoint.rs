//! Which address spans are sent to, by the OTLP exporter specification.
//!
//! HTTP: `OTEL_EXPORTER_OTLP_ENDPOINT` is a base and gets `/v1/traces`; `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` is used as
//! it is; the default is `http://localhost:4318`. gRPC: scheme, host and port count, a path does not; the default is
//! `http://localhost:4317`. A gRPC endpoint without a scheme (`collector:4317`) means TLS unless
//! `OTEL_EXPORTER_OTLP_INSECURE=true`, as the specification has it; with a scheme that variable is ignored.

use http::Uri;

use super::ExportError;
use crate::config::{Export, Protocol};

const HTTP_DEFAULT: &str = "http://localhost:4318";
const GRPC_DEFAULT: &str = "http://localhost:4317";
const TRACES_PATH: &str = "/v1/traces";

/// A resolved endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// How to talk to it.
    pub(super) protocol: Protocol,
    /// Whether TLS is spoken.
    pub(super) tls: bool,
    /// Name or IP literal, without brackets.
    pub(super) host: String,
    /// TCP port.
    pub(super) port: u16,
    /// `host[:port]` as written, for Host and `:authority`.
    pub(super) authority: String,
    /// Path and query of the HTTP request; of no use to gRPC.
    pub(super) path: String,
}

impl Endpoint {
    /// Applies the specification's rules to the settings.
    pub(super) fn resolve(settings: &Export) -> Result<Endpoint, ExportError> {
        match settings.protocol {
            Protocol::HttpProtobuf => http_endpoint(settings),
            Protocol::Grpc => grpc_endpoint(settings),
        }
    }

    /// The URL for people: without the query, which may hold a key.
    pub(super) fn shown(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        let path = match self.protocol {
            Protocol::HttpProtobuf => self.path.split('?').next().unwrap_or_default(),
            Protocol::Grpc => "",
        };
        format!("{scheme}://{}{path}", self.authority)
    }
}

fn http_endpoint(settings: &Export) -> Result<Endpoint, ExportError> {
    let set = |url: &Option<String>| url.clone().filter(|url| !url.trim().is_empty());
    if let Some(url) = set(&settings.traces_endpoint) {
        return parse(&url, Protocol::HttpProtobuf);
    }
    let base = set(&settings.endpoint).unwrap_or_else(|| HTTP_DEFAULT.to_owned());
    let mut endpoint = parse(&base, Protocol::HttpProtobuf)?;
    let (path, query) = match endpoint.path.split_once('?') {
        Some((path, query)) => (path, format!("?{query}")),
        None => (&*endpoint.path, String::new()),
    };
    endpoint.path = format!("{}{TRACES_PATH}{query}", path.trim_end_matches('/'));
    Ok(endpoint)
}

fn grpc_endpoint(settings: &Export) -> Result<Endpoint, ExportError> {
    let given = [&settings.traces_endpoint, &settings.endpoint];
    let given = given
        .into_iter()
        .flatten()
        .map(|url| url.trim())
        .find(|url| !url.is_empty())
        .unwrap_or(GRPC_DEFAULT);
    if given.contains("://") {
        return parse(given, Protocol::Grpc);
    }
    let scheme = match settings.insecure {
        Some(true) => "http",
        _ => "https",
    };
    let port = match given.parse::<http::uri::Authority>() {
        Ok(authority) if authority.port().is_none() => ":4317",
        _ => "",
    };
    parse(&format!("{scheme}://{given}{port}"), Protocol::Grpc)
}

fn parse(given: &str, protocol: Protocol) -> Result<Endpoint, ExportError> {
    let fail = |why: &str| ExportError::Endpoint {
        // A URL may hold a password or a key: show neither.
        given: crate::trace::redact::userinfo(given.split('?').next().unwrap_or_default())
            .into_owned(),
        why: why.to_owned(),
    };
    let example = match protocol {
        Protocol::HttpProtobuf => HTTP_DEFAULT,
        Protocol::Grpc => GRPC_DEFAULT,
    };
    let uri: Uri = given
        .trim()
        .parse()
        .map_err(|error| fail(&format!("{error}; write a URL as in {example}")))?;
    let tls = match uri.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => {
            return Err(fail(&format!(
                "write http:// or https:// before the host, as in {example}"
            )));
        }
    };
    let Some(authority) = uri.authority() else {
        return Err(fail(&format!(
            "the host is missing, write it as in {example}"
        )));
    };
    if authority.as_str().contains('@') {
        return Err(fail(
            "credentials go in OTEL_EXPORTER_OTLP_HEADERS, as in authorization=Basic%20...",
        ));
    }
    let host = authority.host();
    let host = host
        .strip_prefix('[')
        .and_then(|h| h.strip_suffix(']'))
        .unwrap_or(host);
    if host.is_empty() {
        return Err(fail(&format!(
            "the host is missing, write it as in {example}"
        )));
    }
    let port = match (authority.port_u16(), tls) {
        (Some(port), _) => port,
        // There is something behind the host, and it is no port.
        (None, _) if authority.as_str().len() > authority.host().len() => {
            return Err(fail("the port must be a number from 0 to 65535"));
        }
        (None, true) => 443,
        (None, false) => 80,
    };
    Ok(Endpoint {
        protocol,
        tls,
        host: host.to_owned(),
        port,
        authority: authority.as_str().to_owned(),
        path: uri
            .path_and_query()
            .map_or("/", |path| path.as_str())
            .to_owned(),
    })
}

#[cfg(test)]
mod tests;
