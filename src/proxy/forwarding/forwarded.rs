//! Who called: `X-Forwarded-For`, `-Proto`, `-Host`, and `Forwarded` (RFC 7239). Inbound only.
//!
//! An app behind a sidecar sees every request come from 127.0.0.1, which gunicorn and others trust by default. So what
//! an untrusted client sent in these fields must not reach it, in no spelling: WSGI makes the same variable of
//! `X-Forwarded-For`, `X_Forwarded_For` and (some servers) `X.Forwarded.For`, so names are compared folded.

use std::net::IpAddr;

use bytes::{BufMut, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, header};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Who called, as these fields name it. Made once for a connection, not for each of its requests.
#[derive(Clone, Debug)]
pub struct Caller {
    address: IpAddr,
    text: HeaderValue,
}

impl From<IpAddr> for Caller {
    fn from(address: IpAddr) -> Caller {
        let address = address.to_canonical();
        Caller {
            address,
            // An address is a field value, always.
            text: HeaderValue::try_from(address.to_string())
                .unwrap_or(HeaderValue::from_static("")),
        }
    }
}

/// Adds the hop from `peer` to these fields. A `trusted` peer's are appended to; another's are replaced.
///
/// `scheme`: `http` or `https`, as the client spoke to us. `Forwarded` is written only where the client sent one: an
/// app that prefers it would otherwise take the load balancer that knows only `X-Forwarded-For` for the client.
pub fn add(headers: &mut HeaderMap, peer: &Caller, scheme: &'static str, trusted: bool) {
    // Most requests have none of these fields: then nothing is looked for below.
    let some = headers.keys().any(|name| tells_who_called(name.as_str()));
    let had_forwarded = some && headers.contains_key(header::FORWARDED);
    if some {
        drop_untrusted(headers, trusted);
    }
    append_for(headers, peer, some);
    if had_forwarded {
        append_forwarded(headers, peer.address, scheme);
    }
    if !some || !headers.contains_key(X_FORWARDED_PROTO) {
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(scheme));
    }
    if (!some || !headers.contains_key(X_FORWARDED_HOST))
        && let Some(host) = headers.get(header::HOST).cloned()
    {
        headers.insert(X_FORWARDED_HOST, host);
    }
}

/// From a trusted peer: other spellings only, which no proxy means. From others: all of them.
fn drop_untrusted(headers: &mut HeaderMap, trusted: bool) {
    let unwanted: Vec<HeaderName> = headers
        .keys()
        .filter(|name| {
            let name = name.as_str();
            tells_who_called(name) && !(trusted && is_plain(name))
        })
        .cloned()
        .collect();
    for name in unwanted {
        headers.remove(name);
    }
}

fn is_plain(name: &str) -> bool {
    !name.contains(['_', '.'])
}

/// Whether an app that trusts its proxy would believe a field of this name, however it is spelt.
fn tells_who_called(name: &str) -> bool {
    // `SCRIPT_NAME` and `PATH_INFO`: gunicorn takes them from 127.0.0.1 (its `forwarder_headers`).
    let starts = matches!(name.as_bytes().first(), Some(b'f' | b'x' | b's' | b'p'));
    starts
        && (folded_starts(name, "x-forwarded-")
            || folded_is(name, "forwarded")
            || folded_is(name, "x-real-ip")
            || folded_is(name, "script-name")
            || folded_is(name, "path-info"))
}

fn folded_is(name: &str, wanted: &str) -> bool {
    name.len() == wanted.len() && folded_starts(name, wanted)
}

/// Names are in lower case already; `_` and `.` count as `-`.
fn folded_starts(name: &str, wanted: &str) -> bool {
    name.len() >= wanted.len()
        && name.bytes().zip(wanted.bytes()).all(|(has, wants)| {
            let has = if matches!(has, b'_' | b'.') {
                b'-'
            } else {
                has
            };
            has == wants
        })
}

fn append_for(headers: &mut HeaderMap, peer: &Caller, some: bool) {
    if some && headers.contains_key(X_FORWARDED_FOR) {
        let mut value = BytesMut::with_capacity(128);
        join(&mut value, headers, &X_FORWARDED_FOR);
        value.put_slice(peer.text.as_bytes());
        set(headers, X_FORWARDED_FOR, value);
    } else {
        headers.insert(X_FORWARDED_FOR, peer.text.clone());
    }
}

fn append_forwarded(headers: &mut HeaderMap, peer: IpAddr, scheme: &str) {
    let mut value = BytesMut::with_capacity(128);
    join(&mut value, headers, &header::FORWARDED);
    let _ = match peer {
        IpAddr::V4(peer) => std::fmt::write(&mut value, format_args!("for={peer}")),
        IpAddr::V6(peer) => std::fmt::write(&mut value, format_args!("for=\"[{peer}]\"")),
    };
    if let Some(host) = headers.get(header::HOST) {
        value.put_slice(b";host=\"");
        value.put_slice(host.as_bytes());
        value.put_slice(b"\"");
    }
    value.put_slice(b";proto=");
    value.put_slice(scheme.as_bytes());
    set(headers, header::FORWARDED, value);
}

/// All lines of a field so far, each with the comma that the next member needs.
fn join(value: &mut BytesMut, headers: &HeaderMap, name: &HeaderName) {
    for line in headers.get_all(name) {
        value.put_slice(line.as_bytes());
        value.put_slice(b", ");
    }
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: BytesMut) {
    // Made of field values and ASCII, so it is one.
    if let Ok(value) = HeaderValue::from_maybe_shared(value.freeze()) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    fn all<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a str> {
        let values = headers.get_all(name).iter();
        values.map(|value| value.to_str().unwrap()).collect()
    }

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 7));

    #[test]
    fn a_plain_request_gets_three_fields_and_no_forwarded() {
        let mut headers = headers(&[("host", "shop:8080")]);
        add(&mut headers, &PEER.into(), "http", false);
        assert_eq!(all(&headers, "x-forwarded-for"), ["203.0.113.7"]);
        assert_eq!(all(&headers, "x-forwarded-proto"), ["http"]);
        assert_eq!(all(&headers, "x-forwarded-host"), ["shop:8080"]);
        assert_eq!(headers.len(), 4);
    }

    #[test]
    fn a_trusted_peer_is_appended_to() {
        let mut headers = headers(&[
            ("host", "internal"),
            ("x-forwarded-for", "198.51.100.1"),
            ("x-forwarded-for", "10.0.0.9"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "shop.example"),
            ("x-real-ip", "198.51.100.1"),
            ("forwarded", "for=198.51.100.1;proto=https"),
        ]);
        let peer: IpAddr = "10.0.0.1".parse().unwrap();
        add(&mut headers, &peer.into(), "http", true);
        assert_eq!(
            all(&headers, "x-forwarded-for"),
            ["198.51.100.1, 10.0.0.9, 10.0.0.1"]
        );
        assert_eq!(all(&headers, "x-forwarded-proto"), ["https"]);
        assert_eq!(all(&headers, "x-forwarded-host"), ["shop.example"]);
        assert_eq!(all(&headers, "x-real-ip"), ["198.51.100.1"]);
        assert_eq!(
            all(&headers, "forwarded"),
            ["for=198.51.100.1;proto=https, for=10.0.0.1;host=\"internal\";proto=http"]
        );
    }

    #[test]
    fn an_untrusted_peer_is_replaced() {
        let mut headers = headers(&[
            ("host", "shop"),
            ("x-forwarded-for", "127.0.0.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-ssl", "on"),
            ("x-forwarded-prefix", "/admin"),
            ("x-real-ip", "127.0.0.1"),
            ("forwarded", "for=127.0.0.1"),
            ("x-request-id", "kept"),
        ]);
        let peer: IpAddr = "2001:db8::7".parse().unwrap();
        add(&mut headers, &peer.into(), "http", false);
        assert_eq!(all(&headers, "x-forwarded-for"), ["2001:db8::7"]);
        assert_eq!(all(&headers, "x-forwarded-proto"), ["http"]);
        assert_eq!(
            all(&headers, "forwarded"),
            ["for=\"[2001:db8::7]\";host=\"shop\";proto=http"]
        );
        for gone in ["x-forwarded-ssl", "x-forwarded-prefix", "x-real-ip"] {
            assert!(!headers.contains_key(gone), "{gone}");
        }
        assert_eq!(all(&headers, "x-request-id"), ["kept"]);
    }

    #[test]
    fn other_spellings_never_pass() {
        let spellings = [
            "x_forwarded_for",
            "x-forwarded_for",
            "x.forwarded.proto",
            "x_forwarded_host",
            "x_real_ip",
        ];
        for trusted in [true, false] {
            for name in spellings {
                let mut headers = headers(&[("host", "shop"), (name, "forged")]);
                add(&mut headers, &PEER.into(), "http", trusted);
                assert!(!headers.contains_key(name), "{name}");
            }
        }
        for name in ["script_name", "path_info", "script-name"] {
            let mut headers = headers(&[("host", "shop"), (name, "/forged")]);
            add(&mut headers, &PEER.into(), "http", false);
            assert!(!headers.contains_key(name), "{name}");
        }
    }
}
