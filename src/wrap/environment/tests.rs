//! Table tests of the child's proxy variables.

use super::*;

fn options() -> WrapOptions {
    WrapOptions::new("0.0.0.0:8081".parse().unwrap())
}

fn prepare(options: &WrapOptions, present: &[(&str, &str)]) -> Result<Environment, ProxyConflict> {
    Environment::prepare(options, |name| {
        present
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| OsString::from(value))
    })
}

fn value(environment: &Environment, name: &str) -> Option<String> {
    environment
        .set
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, value)| value.to_string_lossy().into_owned())
}

#[test]
fn http_only_unless_asked() {
    let plain = prepare(&options(), &[]).unwrap();
    for name in ["http_proxy", "HTTP_PROXY"] {
        assert_eq!(value(&plain, name).unwrap(), "http://127.0.0.1:8081");
    }
    assert_eq!(value(&plain, "HTTPS_PROXY"), None);
    assert_eq!(value(&plain, "https_proxy"), None);

    let asked = WrapOptions {
        https_proxy: true,
        ..options()
    };
    let asked = prepare(&asked, &[]).unwrap();
    assert_eq!(
        value(&asked, "HTTPS_PROXY").unwrap(),
        "http://127.0.0.1:8081"
    );
}

#[test]
fn unspecified_addresses_become_loopback() {
    let rows = [
        ("0.0.0.0:81", "http://127.0.0.1:81"),
        ("[::]:81", "http://[::1]:81"),
        ("10.0.0.1:81", "http://10.0.0.1:81"),
    ];
    for (address, url) in rows {
        assert_eq!(proxy_url(address.parse().unwrap()), url);
    }
}

#[test]
fn no_proxy_keeps_what_is_there() {
    let rows: &[(&[(&str, &str)], &str)] = &[
        (&[], "169.254.169.254,"),
        (&[("NO_PROXY", "db,.corp")], "db,.corp,169.254.169.254,"),
        (&[("no_proxy", "db")], "db,169.254.169.254,"),
        (
            &[("no_proxy", "db, 169.254.169.254")],
            "db, 169.254.169.254,169.254.170.2,",
        ),
    ];
    for (present, start) in rows {
        let environment = prepare(&options(), present).unwrap();
        for name in ["no_proxy", "NO_PROXY"] {
            let list = value(&environment, name).unwrap();
            assert!(list.starts_with(start), "{present:?}: {list}");
            assert!(list.contains("fd00:ec2::254"), "{list}");
            assert!(!list.contains('['), "httpx would raise: {list}");
            assert_eq!(list.matches("169.254.169.254").count(), 1, "{list}");
        }
    }
}

#[test]
fn a_star_stays_a_star_and_is_said() {
    let environment = prepare(&options(), &[("NO_PROXY", "*")]).unwrap();
    assert_eq!(value(&environment, "NO_PROXY"), None);
    assert_eq!(environment.notes.len(), 1);
}

#[test]
fn a_proxy_that_is_set_is_an_error_with_a_way_out() {
    for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        let present = [(name, "http://ann:secret@corp:3128")];
        let error = prepare(&options(), &present).unwrap_err();
        let text = error.to_string();
        assert_eq!(error.name, name);
        assert!(text.contains("http://***@corp:3128"), "{text}");
        assert!(!text.contains("secret"), "{text}");
        assert!(
            text.contains("--keep-proxy") && text.contains("env -u"),
            "{text}"
        );

        let keep = WrapOptions {
            keep_proxy: true,
            ..options()
        };
        let kept = prepare(&keep, &present).unwrap();
        assert!(kept.set.is_empty(), "{kept:?}");
        assert!(kept.notes[0].contains("bypass hopspan"), "{kept:?}");
    }
}

#[test]
fn empty_or_our_own_value_is_no_conflict() {
    let own = "http://127.0.0.1:8081";
    for present in [[("HTTP_PROXY", "")], [("http_proxy", own)]] {
        assert!(prepare(&options(), &present).is_ok());
    }
    assert!(prepare(&options(), &[("HTTPS_PROXY", "http://corp:1")]).is_ok());
}
