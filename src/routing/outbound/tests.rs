use super::*;

#[test]
fn hosts_are_taken_apart() {
    let exact = |name: &str| Host::Exact(name.to_owned());
    let rows = [
        ("payment", exact("payment"), None),
        ("Payment.Example.", exact("payment.example"), None),
        ("payment:8080", exact("payment"), Some(8080)),
        ("*.internal", Host::Below("internal".to_owned()), None),
        (
            "*.internal:80",
            Host::Below("internal".to_owned()),
            Some(80),
        ),
        ("*", Host::Any, None),
        ("*:443", Host::Any, Some(443)),
        ("[::1]:80", exact("::1"), Some(80)),
        ("::1", exact("::1"), None),
        ("10.0.0.1", exact("10.0.0.1"), None),
    ];
    for (text, expected, port) in rows {
        assert_eq!(host(text).unwrap(), (expected, port), "{text}");
    }
    for (text, why) in [
        ("http://x", "not with its URL"),
        ("x/y", "not with its URL"),
        ("x:y", "the port"),
        ("x:70000", "the port"),
        ("", "it is empty"),
        ("a.*", "only at the beginning"),
        ("*internal", "only at the beginning"),
        ("a b", "letters, digits"),
    ] {
        let message = host(text).unwrap_err().message;
        assert!(message.contains(why), "{text}: {message}");
    }
}

#[test]
fn destinations_are_taken_apart() {
    for (text, shown) in [
        ("http://payment:8080", "http://payment:8080"),
        ("http://payment", "http://payment:80"),
        ("HTTP://api.example/", "http://api.example:80"),
        ("http://[::1]:8443/base/v1/", "http://[::1]:8443/base/v1"),
        ("unix:/run/payment.sock", "unix:/run/payment.sock"),
        ("https://api.example/v1", "https://api.example:443/v1"),
    ] {
        assert_eq!(destination(text).unwrap().to_string(), shown);
    }
    for (text, why) in [
        ("payment:8080", "scheme is missing"),
        ("ftp://x", "no scheme `ftp`"),
        ("unix:x", "absolute path"),
        ("http://", "host"),
        ("http://x:y", "port"),
        ("http://x:70000", "port"),
        ("http://u:p@x", "no user"),
        ("http://x/?a=1", "no query"),
        ("http://x/ y", "path"),
    ] {
        let message = destination(text).unwrap_err().message;
        assert!(message.contains(why), "{text}: {message}");
    }
}

fn table(hosts: &[&str]) -> (OutboundTable, Vec<Fault>) {
    let mut config = Config::default();
    for host in hosts {
        config.outbound.routes.push(crate::config::OutboundRoute {
            host: (*host).to_owned(),
            to: None,
            protocol: crate::config::HttpProtocol::Auto,
            tls: crate::config::ClientTls::default(),
            rewrite_host: false,
            propagate: true,
            trace: true,
            timeout: None,
            ratio: None,
        });
    }
    let mut faults = Vec::new();
    (OutboundTable::compile(&config, &mut faults), faults)
}

#[test]
fn the_first_route_that_fits_wins() {
    let (table, faults) = table(&[
        "payment:8080",
        "payment",
        "db.internal",
        "*.internal:80",
        "*.internal",
        "*:443",
        "*",
    ]);
    assert!(faults.is_empty(), "{faults:?}");
    let rows = [
        ("payment", 8080, "payment:8080"),
        ("PAYMENT.", 80, "payment"),
        ("db.internal", 80, "db.internal"),
        ("a.b.internal", 80, "*.internal:80"),
        ("a.internal", 81, "*.internal"),
        ("internal", 443, "*:443"),
        ("other", 80, "*"),
        ("[::1]", 80, "*"),
    ];
    for (host, port, expected) in rows {
        let name = table.route(host, port).name.clone();
        assert_eq!(name.as_deref(), Some(expected), "{host}:{port}");
    }
}

#[test]
fn without_a_fitting_route_there_is_the_default() {
    let (table, _) = table(&["payment"]);
    let route = table.route("elsewhere", 80);
    assert_eq!((route.name.as_deref(), route.propagate), (None, true));
}

#[test]
fn what_is_never_reached_is_a_fault() {
    for (hosts, reached) in [
        (["a", "a"], false),
        (["A.", "a:80"], false),
        (["a:80", "a"], true),
        (["*", "a"], false),
        (["*.b", "a.b"], false),
        (["*.c", "*.b.c"], false),
        (["*.b.c", "*.c"], true),
        (["*.b", "b"], true),
        (["*:80", "a"], true),
        (["*:80", "a:80"], false),
        (["a", "*"], true),
    ] {
        let (_, faults) = table(&hosts);
        assert_eq!(faults.is_empty(), reached, "{hosts:?}: {faults:?}");
    }
}
