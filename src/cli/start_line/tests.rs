use super::*;

fn told() -> Told {
    Told {
        generation: 1,
        config: "hopspan.yaml".to_owned(),
        inbound: "0.0.0.0:8080".to_owned(),
        app: "127.0.0.1:8000 (answers; gunicorn: threads)".to_owned(),
        outbound: "127.0.0.1:8081 (HTTP_PROXY of the command)".to_owned(),
        exporter: "http/protobuf http://localhost:4318/v1/traces (accepts connections)".to_owned(),
        joins: "header, serial".to_owned(),
        next: Some((
            Code::ThreadCapabilities,
            "thread: CAP_BPF is missing".to_owned(),
        )),
        status: "0.0.0.0:9464".to_owned(),
        admin: "127.0.0.1:9465".to_owned(),
        viewer: Some("http://127.0.0.1:4319".to_owned()),
        notes: Vec::new(),
    }
}

#[test]
fn a_terminal_gets_eight_lines_at_most() {
    let golden = format!(
        "hopspan {}  generation 1 (hopspan.yaml)\n",
        env!("CARGO_PKG_VERSION")
    ) + "  inbound   0.0.0.0:8080 -> app 127.0.0.1:8000 (answers; gunicorn: threads)
  outbound  127.0.0.1:8081 (HTTP_PROXY of the command)
  export    http/protobuf http://localhost:4318/v1/traces (accepts connections)
  joins     header, serial   more: thread: CAP_BPF is missing (hopspan explain HOP141)
  status    0.0.0.0:9464   admin 127.0.0.1:9465
  viewer    http://127.0.0.1:4319
";
    assert_eq!(told().text(), golden);
    assert!(golden.lines().count() <= 8);
}

#[test]
fn nothing_is_asked_for_where_nothing_is_missing() {
    let text = Told {
        next: None,
        viewer: None,
        ..told()
    }
    .text();
    assert!(text.contains("\n  joins     header, serial\n"), "{text}");
}
