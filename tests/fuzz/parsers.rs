//! Parsers that are functions: trace context, baggage, targets, query strings, the config and its patterns.

use http::{HeaderMap, HeaderValue, Request, Uri};

use hopspan::config::{Config, Source};
use hopspan::proxy::forwarding::request;
use hopspan::routing::pattern::Pattern;
use hopspan::trace::w3c::{self, Extracted};
use hopspan::trace::{baggage, redact};

use super::{corpus, feed};
use crate::smuggling::blocks;

/// Lines as values of fields; what is none cannot come from a socket.
fn values(input: &[u8]) -> impl Iterator<Item = HeaderValue> {
    let lines = input.split(|byte| *byte == b'\n');
    lines.filter_map(|line| HeaderValue::from_bytes(line).ok())
}

#[test]
fn trace_context() {
    let mut seeds = corpus(include_str!("corpus/trace.txt"));
    for version in ["00", "01", "cc", "ff"] {
        for flags in ["00", "01", "03", "ff"] {
            for state in [
                "",
                "\nvendor=1",
                "\na=1,b=2\nc@d=3",
                "\nrojo=00f067aa0ba902b7,,congo=t61",
            ] {
                let ids = "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331";
                seeds.push(format!("{version}-{ids}-{flags}{state}").into_bytes());
            }
        }
    }
    feed("trace", &seeds, |input| {
        let mut headers = HeaderMap::new();
        for (at, value) in values(input).enumerate() {
            headers.append(
                if at == 0 {
                    w3c::TRACEPARENT
                } else {
                    w3c::TRACESTATE
                },
                value,
            );
        }
        let Extracted::Valid(context) = w3c::extract(&headers) else {
            return false;
        };
        let mut sent = HeaderMap::new();
        w3c::inject(&mut sent, &context);
        assert_eq!(w3c::extract(&sent), Extracted::Valid(context));
        // What leaves is version 00, letter by letter.
        let line = sent[w3c::TRACEPARENT].as_bytes();
        let is_hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-');
        assert!(line.len() == 55 && line.starts_with(b"00-") && line.iter().all(is_hex));
        let state = sent
            .get(w3c::TRACESTATE)
            .map_or(&b""[..], HeaderValue::as_bytes);
        assert!(state.len() <= w3c::MAX_TRACESTATE_BYTES);
        // Empty members are none (level 2, 3.3.1.1).
        let members = state
            .split(|byte| *byte == b',')
            .filter(|member| !member.trim_ascii().is_empty());
        assert!(members.count() <= 32);
        true
    });
}

#[test]
fn baggage_lines() {
    let mut seeds = corpus(include_str!("corpus/baggage.txt"));
    for members in [1, 2, 63, 64, 65] {
        let line: Vec<String> = (0..members)
            .map(|n| format!("key{n}=value{n};p={n}"))
            .collect();
        seeds.push(line.join(",").into_bytes());
        seeds.push(line.join("\n").into_bytes());
    }
    feed("baggage", &seeds, |input| {
        let mut headers = HeaderMap::new();
        for value in values(input) {
            headers.append(baggage::BAGGAGE, value);
        }
        let (Some(kept), None) = baggage::extract(&headers) else {
            return false;
        };
        assert!(kept.len() <= baggage::MAX_BYTES);
        let again: HeaderMap = [(baggage::BAGGAGE, kept.clone())].into_iter().collect();
        assert_eq!(baggage::extract(&again), (Some(kept), None));
        true
    });
}

#[test]
fn targets() {
    let mut seeds = corpus(include_str!("corpus/target.txt"));
    let hosts = [
        "a",
        "a:80",
        "a:",
        "[::1]",
        "[::1]:8080",
        "127.0.0.1:1",
        "xn--bcher-kva",
        "a.b.c.",
        "A%41",
        "_x",
    ];
    for host in hosts {
        for line in [
            "GET /p?q {}",
            "GET http://{}/p?q x",
            "CONNECT {} {}",
            "OPTIONS * {}",
            "GET http://{} {}",
        ] {
            seeds.push(line.replace("{}", host).into_bytes());
        }
    }
    feed("target", &seeds, |input| {
        let text = String::from_utf8_lossy(input);
        let mut words = text.splitn(3, ' ');
        let (method, target, host) = (words.next(), words.next(), words.next());
        let request = Request::builder().method(method.unwrap_or("GET"));
        let request = request
            .uri(target.unwrap_or("/"))
            .header("host", host.unwrap_or("").as_bytes());
        let Ok(request) = request.body(()) else {
            return false;
        };
        if request::validate(&request).is_err() || request::within(&request, 8190, 8192).is_err() {
            return false;
        }
        let Ok(wanted) = request::target(&request, false) else {
            return false;
        };
        assert!(!wanted.host.is_empty());
        assert!(
            !wanted
                .host
                .contains(['/', '?', '#', '@', ' ', '[', ']', '\r', '\n', '\\']),
            "{wanted:?}"
        );
        // Host and port, written as one would, are the same again.
        let literal = wanted.host.contains(':');
        let host = if literal {
            format!("[{}]", wanted.host)
        } else {
            wanted.host.to_owned()
        };
        let url = format!("http://{host}:{}/", wanted.port);
        // The library that writes URLs takes fewer characters in a host than RFC 3986 has.
        let Ok(url) = url.parse::<Uri>() else {
            return true;
        };
        let again = Request::get(url).body(()).unwrap();
        let again = request::target(&again, false).unwrap();
        assert_eq!((again.host, again.port), (wanted.host, wanted.port));
        true
    });
}

#[test]
fn query_strings() {
    let mut seeds = corpus(include_str!("corpus/query.txt"));
    for name in [
        "sig",
        "AWSAccessKeyId",
        "X-Goog-Signature",
        "token",
        "%73ig",
        "a",
    ] {
        seeds.push(format!("a=1&{name}=secret&b").into_bytes());
        seeds.push(format!("{name}=secret").into_bytes());
    }
    feed("query", &seeds, |input| {
        let text = String::from_utf8_lossy(input);
        let extra = ["token".to_owned()];
        let once = redact::query(&text, &extra).into_owned();
        assert_eq!(redact::query(&once, &extra), once);
        for part in once.split('&') {
            let secret = part.strip_prefix("sig=").or(part.strip_prefix("token="));
            assert!(
                secret.is_none_or(|value| matches!(value, "REDACTED" | "")),
                "{once}"
            );
        }
        let url = format!("http://{text}/");
        let once = redact::userinfo(&url).into_owned();
        assert_eq!(redact::userinfo(&once), once);
        true
    });
}

#[test]
fn configs() {
    let mut seeds = corpus(include_str!("corpus/config.txt"));
    let whole = include_str!("../../config/hopspan.yaml");
    seeds.push(whole.as_bytes().to_vec());
    // Its sections, and its commented examples.
    seeds.extend(
        whole
            .split("\n\n")
            .map(|section| section.as_bytes().to_vec()),
    );
    seeds.push(whole.replace("\n  #  ", "\n    ").into_bytes());
    let mistakes = include_str!("../it/config/mistakes.txt").split("====\n");
    seeds.extend(mistakes.map(|block| block.split("----\n").next().unwrap().as_bytes().to_vec()));
    feed("config", &seeds, |input| {
        let text = String::from_utf8_lossy(input).into_owned();
        match Config::parse(&Source::new("hopspan.yaml", text)) {
            Ok(config) => {
                let again = Config::parse(&Source::new("again", config.to_yaml()));
                assert_eq!(again.unwrap(), config);
                true
            }
            Err(errors) => {
                let told = errors.render(false);
                assert!(!told.is_empty() && told.len() < 1 << 20, "{}", told.len());
                assert!(!told.contains(['\0', '\x1b']), "{told:?}");
                false
            }
        }
    });
}

#[test]
fn route_patterns() {
    let mut seeds = corpus(include_str!("corpus/pattern.txt"));
    let table = include_str!("../it/routing/django.txt").lines();
    let patterns = table
        .filter_map(|line| line.split_once('\t'))
        .filter(|(kind, _)| matches!(*kind, "path" | "regex"));
    seeds.extend(patterns.map(|(_, pattern)| pattern.as_bytes().to_vec()));
    feed("pattern", &seeds, |input| {
        let text = String::from_utf8_lossy(input);
        // As Django's path() and as its re_path().
        let (path, regex) = (Pattern::path(&text), Pattern::regex(&text));
        path.is_ok() || regex.is_ok()
    });
}

/// Rows of a table of bytes.
pub(super) fn rows(table: &str) -> Vec<Vec<u8>> {
    let rows = blocks::read(table).into_iter();
    rows.map(|row| blocks::expand(&row.text, "row", "app"))
        .collect()
}
