//! Each limit of `limits:` and each wait of `timeouts:` that bounds what one peer can cost, at its edge: what still
//! passes, what no longer does, and which metric says so.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::support::app::{self, ReplyExt};
use crate::support::journal::Journal;
use crate::support::message::Response;
use crate::support::sidecar;
use crate::support::{binary, client, h2, raw, within};

const TOO_LARGE: &str = "hopspan_client_protocol_errors_total{reason=\"too_large\"}";
const BAD_REQUEST: &str = "hopspan_proxy_errors_total{reason=\"http_request_error\"}";
const BAD_RESPONSE: &str =
    "hopspan_proxy_errors_total{reason=\"http_response_header_section_size\"}";

/// A path whose target is `bytes` long.
fn target(bytes: usize) -> String {
    format!("/{}?{}", "p".repeat(100), "q".repeat(bytes - 102))
}

#[tokio::test]
async fn heads_of_requests() {
    // An app that takes more than hopspan does.
    let reached = Journal::default();
    let journal = reached.clone();
    let app = raw::server(move |mut peer| {
        let journal = journal.clone();
        async move {
            while peer.try_head().await.is_some() {
                journal.push(());
                peer.try_write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                    .await;
            }
        }
    })
    .await;
    let hopspan = sidecar::to(app.address).run().await;
    // Name and value together; the colon, the space and the line end are not counted.
    let field = |bytes: usize| ("x-y".to_owned(), "v".repeat(bytes - 3));
    let fields = |count: usize, bytes: usize| -> Vec<(String, String)> {
        let field = |number| (format!("x-{number}"), "v".repeat(bytes));
        (0..count).map(field).collect()
    };
    let rows = [
        (
            "a target of 8190",
            target(8190),
            vec![],
            200,
            BAD_REQUEST,
            0.0,
        ),
        (
            "a target of 8191",
            target(8191),
            vec![],
            414,
            BAD_REQUEST,
            1.0,
        ),
        (
            "a field of 8 KiB",
            target(200),
            vec![field(8192)],
            200,
            BAD_REQUEST,
            1.0,
        ),
        (
            "a field above",
            target(200),
            vec![field(8193)],
            431,
            BAD_REQUEST,
            2.0,
        ),
        // Host is one.
        (
            "100 fields",
            target(200),
            fields(99, 1),
            200,
            TOO_LARGE,
            0.0,
        ),
        (
            "101 fields",
            target(200),
            fields(100, 1),
            431,
            TOO_LARGE,
            1.0,
        ),
        (
            "a head of 32 KiB",
            target(200),
            fields(4, 8000),
            200,
            TOO_LARGE,
            1.0,
        ),
        (
            "a head above",
            target(200),
            fields(5, 8000),
            431,
            TOO_LARGE,
            2.0,
        ),
    ];
    let (mut ran, mut passed) = (0, 0);
    for (name, target, fields, status, metric, count) in &rows {
        let mut request = client::get(hopspan.inbound, target);
        for (name, value) in fields {
            request = request.header(name, value);
        }
        let answer = request.send().await;
        assert_eq!(answer.status, *status, "{name}");
        if *status != 200 {
            assert_eq!(answer.proxy_error(), Some("http_request_error"), "{name}");
        }
        passed += usize::from(*status == 200);
        hopspan.until(metric, *count).await;
        assert_eq!(reached.len(), passed, "{name}");
        ran += 1;
    }
    assert_eq!(ran, rows.len());
}

#[tokio::test]
async fn targets_and_fields_of_http2() {
    let app = app::service("ok").await;
    let hopspan = sidecar::to(app.address).run().await;
    let client = h2::connect(hopspan.inbound).await;
    for (bytes, field, status) in [
        (8190, 8192, 431),
        (8190, 1, 200),
        (8191, 1, 414),
        (9, 8192, 200),
        (9, 8193, 431),
    ] {
        let target = if bytes > 1000 {
            target(bytes)
        } else {
            "/".to_owned()
        };
        // 8190 and 8192 together are above the 16 KiB of a head.
        let request = client
            .request("GET", &target)
            .header("x", "v".repeat(field - 1));
        let answer = client.send(request.body(h2::empty()).unwrap()).await;
        assert_eq!(answer.status, status, "target {bytes}, field {field}");
    }
    assert_eq!(app.received.len(), 2);
}

#[tokio::test]
async fn calls_of_the_app_may_have_any_target_that_a_head_has_room_for() {
    let service = app::service("called").await;
    let hopspan = sidecar::to(raw::closed_port()).run().await;
    let url = format!("http://{}{}", service.address, target(20_000));
    let answer = client::get(hopspan.outbound, &url)
        .header("authorization", &"t".repeat(9_000))
        .send()
        .await;
    assert_eq!((answer.status, &*answer.text()), (200, "called"));
}

#[tokio::test]
async fn heads_of_responses() {
    // The path says how many fields of how many bytes.
    let app = app::http()
        .any(|asked| async move {
            let (count, bytes) = asked.path()[1..].split_once('/').unwrap();
            let mut reply = app::reply(200);
            for number in 0..count.parse().unwrap() {
                let name = format!("x-{number}").parse::<http::HeaderName>().unwrap();
                let value = "v".repeat(bytes.parse().unwrap());
                reply.headers_mut().append(name, value.parse().unwrap());
            }
            reply.text("ok")
        })
        .run()
        .await;
    let hopspan = sidecar::to(app.address).run().await;
    let (mut ran, mut refused) = (0, 0.0);
    for (path, status) in [
        ("/4/8000", 200),
        ("/5/8000", 502),
        ("/1/31000", 200),
        ("/1/33000", 502),
        ("/90/1", 200),
        ("/101/1", 502),
    ] {
        let answer = client::get(hopspan.inbound, path).send().await;
        assert_eq!(answer.status, status, "{path}");
        if status == 502 {
            refused += 1.0;
            assert_eq!(
                answer.proxy_error(),
                Some("http_response_header_section_size")
            );
        }
        assert_eq!(hopspan.metric(BAD_RESPONSE).await, refused, "{path}");
        ran += 1;
    }
    assert_eq!(ran, 6);
}

#[tokio::test]
async fn limits_are_settings() {
    let app = app::service("ok").await;
    let hopspan = sidecar::to(app.address)
        .set("limits.target_bytes", json!("20"))
        .set("limits.field_bytes", json!("100B"))
        .set("limits.headers", json!("8"))
        .set("limits.head_bytes", json!("600B"))
        .run()
        .await;
    let get = |target: &str| client::get(hopspan.inbound, target);
    let many = (0..8).fold(get("/"), |get, number| {
        get.header(&format!("x-{number}"), "1")
    });
    let long = |count: usize| {
        let value = "v".repeat(95);
        (0..count).fold(get("/"), |get, number| {
            get.header(&format!("x-{number}"), &value)
        })
    };
    for (request, status) in [
        (long(5), 200),
        (long(6), 431),
        (get("/0123456789012345678"), 200),
        (get("/01234567890123456789"), 414),
        (get("/").header("x", &"v".repeat(99)), 200),
        (get("/").header("x", &"v".repeat(100)), 431),
        (many, 431),
    ] {
        assert_eq!(request.send().await.status, status, "{request:?}");
    }
}

/// Asks again and again until there is a place: each who comes may cost one that is idle his, and be sent away himself.
async fn newcomer(inbound: SocketAddr) -> Response {
    let asking = async {
        loop {
            let mut peer = raw::connect(inbound).await;
            peer.try_write("GET / HTTP/1.1\r\nHost: shop\r\n\r\n").await;
            if let Some(answer) = peer.try_response_to("GET").await {
                break answer;
            }
        }
    };
    within("a place", asking).await
}

#[tokio::test]
async fn idle_connections_make_room_and_those_in_use_do_not() {
    let gate = Arc::new(Semaphore::new(0));
    let at_app = gate.clone();
    let app = app::http().route("/held", move |_| {
        let gate = at_app.clone();
        async move {
            gate.acquire().await.unwrap().forget();
            app::reply(200).text("at last")
        }
    });
    let app = app
        .any(|_| async { app::reply(200).text("ok") })
        .run()
        .await;
    let hopspan = sidecar::to(app.address)
        .set("limits.connections", json!(4))
        .run()
        .await;
    let inbound = hopspan.inbound;
    let mut peers = Vec::new();
    for number in 1..=4 {
        let mut peer = raw::connect(inbound).await;
        peer.write("GET /held HTTP/1.1\r\nHost: shop\r\n\r\n").await;
        app.received(number).await;
        peers.push(peer);
    }
    // Four places, all in use: there is no fifth.
    assert!(raw::connect(inbound).await.rest().await.is_empty());
    let refused = "hopspan_connections_refused_total{reason=\"limit\"}";
    assert_eq!(hopspan.metric(refused).await, 1.0);
    assert_eq!(
        hopspan.metric("hopspan_connections_evicted_total").await,
        0.0
    );
    // Three are done, one after the other. From when they have been idle for a second, who comes costs the one that has
    // been for longest its place.
    for peer in &mut peers[..3] {
        gate.add_permits(1);
        assert_eq!(peer.response().await.text(), "at last");
    }
    assert_eq!(newcomer(inbound).await.status, 200);
    assert!(hopspan.metric("hopspan_connections_evicted_total").await >= 1.0);
    within("the end of the oldest", peers[0].closed()).await;
    gate.add_permits(1);
    assert_eq!(peers[3].response().await.text(), "at last");
}

#[tokio::test]
async fn an_http2_connection_without_streams_makes_room_too() {
    let app = app::service("ok").await;
    let hopspan = sidecar::to(app.address)
        .set("limits.connections", json!(1))
        .run()
        .await;
    let client = h2::connect(hopspan.inbound).await;
    assert_eq!(client.get("/").await.status, 200);
    assert_eq!(newcomer(hopspan.inbound).await.status, 200);
    within("the end of the idle one", async {
        while !client.is_closed() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_client_that_takes_no_bytes_is_cut_off_and_counted() {
    let app = app::http()
        .any(|_| async { app::reply(200).text(vec![b'x'; 16 << 20]) })
        .run()
        .await;
    let hopspan = sidecar::to(app.address)
        .set("timeouts.body_idle", json!("300ms"))
        .run()
        .await;
    let mut peer = raw::connect(hopspan.inbound).await;
    peer.write("GET / HTTP/1.1\r\nHost: shop\r\n\r\n").await;
    hopspan
        .until(
            "hopspan_client_protocol_errors_total{reason=\"stalled_client\"}",
            1.0,
        )
        .await;
    hopspan
        .until("hopspan_upstream_connections_open", 0.0)
        .await;
    let received = peer.skip().await;
    assert!(received < 16 << 20, "{received}");
}

/// The whole program with 64 descriptors: what is too much is refused, and what was refused does not stay so.
#[tokio::test]
async fn sixty_four_descriptors_are_enough_to_go_on() {
    let app = app::service("ok").await;
    let (folder, command) = binary::wrapping_command(&sidecar::to(app.address), &[], &[]);
    let mut limited = std::process::Command::new("sh");
    limited.args(["-c", "ulimit -n 64 && exec \"$0\" \"$@\""]);
    limited.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    let hopspan = binary::serving(folder, limited).await;
    assert!(
        hopspan.process.output().contains("ulimit -n"),
        "{}",
        hopspan.process.output()
    );
    // All at once, and nobody leaves. Some are not even accepted until others have.
    let (mut clients, outcomes) = (JoinSet::new(), Journal::default());
    for _ in 0..200 {
        let (outcomes, mut peer) = (outcomes.clone(), raw::connect(hopspan.inbound).await);
        clients.spawn(async move {
            peer.try_write("GET / HTTP/1.1\r\nHost: shop\r\n\r\n").await;
            let answer = peer.try_response_to("GET").await;
            outcomes.push(answer.map_or(0, |answer| answer.status));
            std::future::pending::<()>().await;
        });
    }
    let both = outcomes.until("some to be served and some not", |outcomes| {
        let served = outcomes.iter().filter(|status| **status == 200).count();
        let shed = outcomes.len() - served;
        (served > 0 && shed > 0).then_some((served, shed))
    });
    let (served, shed) = both.await;
    println!("64 descriptors, 200 clients: {served} served, {shed} shed at first");
    let sheds = |status: &u16| [0, 200, 503].contains(status);
    assert!(outcomes.all().iter().all(sheds), "{:?}", outcomes.all());
    clients.shutdown().await;
    within("it to recover", async {
        let ask = || async {
            let mut peer = raw::try_connect(hopspan.inbound).await.ok()?;
            peer.try_write("GET / HTTP/1.1\r\nHost: shop\r\n\r\n").await;
            peer.try_response_to("GET")
                .await
                .filter(|answer| answer.status == 200)
        };
        while ask().await.is_none() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let ready = client::get(hopspan.status, "/readyz").send().await;
    assert_eq!(ready.status, 200);
    hopspan.process.signal(15);
    assert_eq!(hopspan.process.exit().await, 0);
}
