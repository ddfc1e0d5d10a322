//! The specification's rules, a row each.

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
