use super::*;

/// What should happen at once does so within this, also on a busy machine.
const SOON: Duration = Duration::from_secs(60);

const METRICS: &str = r#"# TYPE hopspan_context_malformed counter
hopspan_context_malformed_total{reason="version"} 2
hopspan_context_malformed_total{reason="length"} 0
http_server_request_duration_seconds_sum{http_route="a b"} 3.5
http_server_request_duration_seconds_count{http_route="a b"} 7
http_server_request_duration_seconds_count{http_route=""} 2
http_server_request_duration_seconds_bucket{le="1.0"} 9 # {trace_id="ab"} 0.5
# EOF
"#;

#[test]
fn counters_are_read_from_the_exposition() {
    let counts = counts(METRICS);
    assert_eq!(counts.requests, 9);
    assert_eq!(
        counts.malformed.into_iter().collect::<Vec<_>>(),
        [("version".to_owned(), 2)]
    );
}

#[test]
fn settings_are_read_from_what_config_writes() {
    let settings = Settings::read(&Config::default().to_json());
    let expected = Settings {
        outbound: "127.0.0.1:8081".to_owned(),
        admin: "127.0.0.1:9465".to_owned(),
        tracecontext: true,
        ratio: 1.0,
        ..Settings::default()
    };
    assert_eq!(settings, expected);
}

#[tokio::test]
async fn doors_are_told_apart() {
    let open = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: Address = open.local_addr().unwrap().to_string().parse().unwrap();
    assert_eq!(door(Some(&address), SOON).await, Door::Open);
    // Bound, and not listening: dropping `open` would not close it where another test forks just now.
    let closed = tokio::net::TcpSocket::new_v4().unwrap();
    closed.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let address: Address = closed.local_addr().unwrap().to_string().parse().unwrap();
    assert_eq!(door(Some(&address), SOON).await, Door::Refused);
    // A label of more than 63 bytes is no name (RFC 1035 section 2.3.4): no server is asked.
    let nameless = format!("{}.invalid:80", "a".repeat(64)).parse().unwrap();
    let found = door(Some(&nameless), SOON).await;
    assert!(matches!(found, Door::Nameless(_)), "{found:?}");
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("app.sock");
    let unix: Address = format!("unix:{}", socket.display()).parse().unwrap();
    assert_eq!(door(Some(&unix), SOON).await, Door::Refused);
    let _listener = tokio::net::UnixListener::bind(&socket).unwrap();
    assert_eq!(door(Some(&unix), SOON).await, Door::Open);
}

#[tokio::test]
async fn a_full_accept_queue_is_a_timeout() {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let app: Address = address.to_string().parse().unwrap();
    // The queue takes two, who leaves stays in it, and what comes after is dropped by the kernel.
    let mut opened = 0;
    let found = loop {
        match door(Some(&app), Duration::from_millis(200)).await {
            Door::Open => opened += 1,
            other => break other,
        }
        assert!(opened < 16, "the queue has no end");
    };
    assert_eq!(found, Door::TimedOut);
}
