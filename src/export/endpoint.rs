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
mod tests {
    use super::*;

    /// (protocol, endpoint, traces endpoint, insecure, what it means or what is wrong)
    #[test]
    fn endpoints_by_the_specification() {
        use Protocol::{Grpc, HttpProtobuf as Http};
        type Row = (
            Protocol,
            &'static str,
            &'static str,
            Option<bool>,
            Result<(&'static str, u16), &'static str>,
        );
        let rows: &[Row] = &[
            (
                Http,
                "",
                "",
                None,
                Ok(("http://localhost:4318/v1/traces", 4318)),
            ),
            (
                Http,
                "http://c:4318",
                "",
                None,
                Ok(("http://c:4318/v1/traces", 4318)),
            ),
            (
                Http,
                "http://c:4318/",
                "",
                None,
                Ok(("http://c:4318/v1/traces", 4318)),
            ),
            (
                Http,
                "https://c/otlp/",
                "",
                None,
                Ok(("https://c/otlp/v1/traces", 443)),
            ),
            (Http, "http://c", "", None, Ok(("http://c/v1/traces", 80))),
            (
                Http,
                "http://x",
                "http://c:1/mine",
                None,
                Ok(("http://c:1/mine", 1)),
            ),
            (Http, "", "http://c:1", None, Ok(("http://c:1/", 1))),
            (
                Http,
                "",
                "http://c:1/t/?key=secret",
                None,
                Ok(("http://c:1/t/", 1)),
            ),
            (
                Http,
                "http://[::1]:4318",
                "",
                None,
                Ok(("http://[::1]:4318/v1/traces", 4318)),
            ),
            (Http, "c:4318", "", None, Err("write http:// or https://")),
            (Http, "ftp://c", "", None, Err("write http:// or https://")),
            (
                Http,
                "http://user:pass@c",
                "",
                None,
                Err("OTEL_EXPORTER_OTLP_HEADERS"),
            ),
            (Http, "http://", "", None, Err("write a URL")),
            (Http, "http://c:99999", "", None, Err("0 to 65535")),
            (Grpc, "", "", None, Ok(("http://localhost:4317", 4317))),
            (Grpc, "http://c:4317", "", None, Ok(("http://c:4317", 4317))),
            (
                Grpc,
                "https://c:4317",
                "",
                Some(true),
                Ok(("https://c:4317", 4317)),
            ),
            (
                Grpc,
                "http://c:4317/ignored",
                "",
                None,
                Ok(("http://c:4317", 4317)),
            ),
            (Grpc, "c:4317", "", None, Ok(("https://c:4317", 4317))),
            (
                Grpc,
                "c:4317",
                "",
                Some(false),
                Ok(("https://c:4317", 4317)),
            ),
            (Grpc, "c:4317", "", Some(true), Ok(("http://c:4317", 4317))),
            (Grpc, "c", "", Some(true), Ok(("http://c:4317", 4317))),
            (Grpc, "http://x", "http://c:1", None, Ok(("http://c:1", 1))),
        ];
        let mut ran = 0;
        for (protocol, endpoint, traces, insecure, want) in rows {
            let settings = Export {
                protocol: *protocol,
                endpoint: Some((*endpoint).to_owned()),
                traces_endpoint: Some((*traces).to_owned()),
                insecure: *insecure,
                ..Export::default()
            };
            match (Endpoint::resolve(&settings), want) {
                (Ok(have), Ok((shown, port))) => {
                    assert_eq!((&*have.shown(), have.port), (*shown, *port));
                }
                (Err(have), Err(why)) => {
                    let text = have.to_string();
                    assert!(
                        text.contains(why) && !text.contains("pass"),
                        "{endpoint}: {text}"
                    );
                }
                (have, _) => panic!("{endpoint} {traces}: {have:?}"),
            }
            ran += 1;
        }
        assert_eq!(ran, 23);
    }

    #[test]
    fn the_query_is_sent_but_not_shown() {
        let settings = Export {
            endpoint: Some("http://c/base/?key=secret".to_owned()),
            ..Export::default()
        };
        let endpoint = Endpoint::resolve(&settings).unwrap();
        assert_eq!(endpoint.path, "/base/v1/traces?key=secret");
        assert_eq!(endpoint.shown(), "http://c/base/v1/traces");
    }
}
