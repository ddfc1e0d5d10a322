//! hopspan is no open proxy: whom it calls for, where to, and that no spelling of a forbidden address passes.

use serde_json::json;

use crate::support::app;
use crate::support::message::Response;
use crate::support::sidecar::{self, Sidecar};
use crate::support::{client, raw};

mod admin;

/// Ways to write addresses of metadata services, as hosts of a URL.
const SPELLINGS: &[&str] = &[
    "169.254.169.254",
    "169.254.169.254:80",
    "169.254.169.254:8080",
    "169.254.170.2",
    "169.254.170.23",
    "169.254.0.1",
    "2852039166",
    "0xa9fea9fe",
    "0xA9FEA9FE",
    "0xa9.0xfe.0xa9.0xfe",
    "0xa9.254.169.254",
    "169.254.0xa9.254",
    "025177524776",
    "0251.0376.0251.0376",
    "0251.254.169.254",
    "00000251.0376.0251.0376",
    "169.254.43518",
    "169.16689662",
    "0xa9.16689662",
    "169.254.0124776",
    "169.0376.43518",
    "[::ffff:169.254.169.254]",
    "[::ffff:a9fe:a9fe]",
    "[::FFFF:A9FE:A9FE]",
    "[0:0:0:0:0:ffff:169.254.169.254]",
    "[0:0:0:0:0:ffff:a9fe:a9fe]",
    "[0000:0000:0000:0000:0000:ffff:a9fe:a9fe]",
    "[::169.254.169.254]",
    "[::a9fe:a9fe]",
    "[64:ff9b::169.254.169.254]",
    "[64:ff9b::a9fe:a9fe]",
    "[2002:a9fe:a9fe::]",
    "[2002:a9fe:a9fe::1]",
    "[fe80::a9fe:a9fe]",
    "[fd00:ec2::254]",
    "[fd00:ec2::254]:80",
    "[FD00:EC2::254]",
    "[fd00:0ec2:0:0:0:0:0:254]",
    "[fd00:ec2::23]",
    "[fd20:ce::254]",
    "100.100.100.200",
    "100.100.100.200:80",
    "1684301000",
    "0x646464c8",
    "192.0.0.192",
    "3221225664",
    "168.63.129.16",
    "0xa83f8110",
    "metadata.google.internal",
    "metadata.google.internal.",
    "METADATA.Google.Internal",
    "metadata.google.internal:80",
    "metadata.goog",
    "Metadata.Goog.",
    "instance-data.ec2.internal",
];

/// What is no host at all, or resolves to nothing (here: another libc may take it for the address).
const NO_HOSTS: &[&str] = &[
    "169.254.169.254.",
    "169.254.169.254@shop.example",
    "shop.example@169.254.169.254",
    "169%2e254%2e169%2e254",
    "169\u{3002}254\u{3002}169\u{3002}254",
    "[::ffff:169.254.169.254",
    "[fe80::a9fe:a9fe%25lo]",
];

async fn sidecar() -> Sidecar {
    sidecar::to(raw::closed_port())
        .set("timeouts.connect", json!("200ms"))
        .run()
        .await
}

fn is_denied(answer: &Response) -> bool {
    let denied = ["http_request_denied", "destination_ip_prohibited"];
    answer.status == 403
        && answer
            .proxy_error()
            .is_some_and(|error| denied.contains(&error))
}

#[tokio::test]
async fn cloud_metadata_is_denied_in_every_spelling_and_every_way_to_ask() {
    let hopspan = sidecar().await;
    let (mut asked, mut wrong) = (0, Vec::new());
    for host in SPELLINGS {
        let with_port = match host.ends_with(":80") || host.ends_with(":8080") {
            true => (*host).to_owned(),
            false => format!("{host}:80"),
        };
        let ways = [
            client::get(
                hopspan.outbound,
                &format!("http://{host}/latest/meta-data/"),
            )
            .host(host),
            client::get(hopspan.outbound, "/latest/meta-data/").host(host),
            client::request("CONNECT", hopspan.outbound, &with_port).host(&with_port),
        ];
        for request in ways {
            let answer = request.send().await;
            if !is_denied(&answer) || !answer.text().contains("outbound.metadata") {
                wrong.push(format!("{request:?}: {} {}", answer.status, answer.text()));
            }
            asked += 1;
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(asked, 55 * 3);
    for host in NO_HOSTS {
        let answer = client::get(hopspan.outbound, "/").host(host).send().await;
        // Also where no name server answers in time; what connects to nobody in time is another error.
        let unresolved = answer.proxy_error() == Some("dns_timeout");
        assert!(
            matches!(answer.status, 400 | 403 | 502) || unresolved,
            "{host}: {}",
            answer.status
        );
    }
    let counted = hopspan.metric("hopspan_proxy_errors_total").await;
    assert!(counted >= 165.0, "{counted}");
}

/// Nobody is called: the list allows none of them, and which rule denies them shows what `metadata` does.
#[tokio::test]
async fn metadata_services_are_destinations_as_others_where_that_is_set() {
    let mut rows = 0;
    for (metadata, rule) in [(false, "outbound.metadata"), (true, "outbound.allow")] {
        let hopspan = sidecar::to(raw::closed_port())
            .set("outbound.metadata", json!(metadata))
            .set("outbound.allow", json!(["127.0.0.1"]))
            .run()
            .await;
        for host in ["169.254.169.254", "[fd00:ec2::254]", "169.254.1.1"] {
            let url = format!("http://{host}/");
            let answer = client::get(hopspan.outbound, &url).send().await;
            assert!(is_denied(&answer), "{host}: {}", answer.status);
            assert!(answer.text().contains(rule), "{host}: {}", answer.text());
            rows += 1;
        }
    }
    assert_eq!(rows, 6);
}

#[tokio::test]
async fn lists_are_held_against_names_and_the_addresses_behind_them() {
    let (good, bad) = (app::service("good").await, app::service("bad").await);
    let (good_at, bad_at) = (good.address, bad.address);
    let by_name = |port: u16| format!("http://localhost:{port}/");
    // Setting, URL, whether it passes.
    let rows = [
        (
            json!({"deny": ["localhost"]}),
            by_name(bad_at.port()),
            false,
        ),
        (
            json!({"deny": ["LOCALHOST."]}),
            by_name(bad_at.port()),
            false,
        ),
        (
            json!({"deny": ["127.0.0.0/8", "::1"]}),
            by_name(bad_at.port()),
            false,
        ),
        (
            json!({"deny": ["127.0.0.1"]}),
            format!("http://{bad_at}/"),
            false,
        ),
        (
            json!({"deny": ["127.0.0.1"]}),
            format!("http://[::ffff:127.0.0.1]:{}/", bad_at.port()),
            false,
        ),
        (
            json!({"deny": ["127.0.0.1"]}),
            format!("http://0.0.0.0:{}/", bad_at.port()),
            false,
        ),
        (
            json!({"deny": ["127.0.0.1"]}),
            format!("http://2130706433:{}/", bad_at.port()),
            false,
        ),
        (
            json!({"allow": ["shop.example"]}),
            by_name(bad_at.port()),
            false,
        ),
        (
            json!({"allow": [format!("localhost:{}", good_at.port())]}),
            by_name(bad_at.port()),
            false,
        ),
        (
            json!({"allow": [format!("localhost:{}", good_at.port())]}),
            by_name(good_at.port()),
            true,
        ),
        (
            json!({"allow": ["127.0.0.0/8"]}),
            format!("http://{good_at}/"),
            true,
        ),
        (
            json!({"allow": ["*"], "deny": ["10.0.0.0/8"]}),
            format!("http://{good_at}/"),
            true,
        ),
    ];
    let mut passed = 0;
    for (lists, url, passes) in &rows {
        let mut hopspan = sidecar::to(raw::closed_port());
        for (key, value) in lists.as_object().unwrap() {
            hopspan = hopspan.set(&format!("outbound.{key}"), value.clone());
        }
        let hopspan = hopspan.run().await;
        let answer = client::get(hopspan.outbound, url).send().await;
        match passes {
            true => assert_eq!(answer.text(), "good", "{lists} {url}"),
            false => assert!(
                is_denied(&answer),
                "{lists} {url}: {} {}",
                answer.status,
                answer.text()
            ),
        }
        passed += usize::from(*passes);
    }
    assert_eq!((rows.len(), passed), (12, 3));
    assert_eq!(bad.connections.len(), 0, "nothing may even connect");
}

#[tokio::test]
async fn a_list_that_changes_counts_at_once_also_for_connections_that_are_kept() {
    let service = app::service("called").await;
    let base = sidecar::to(raw::closed_port());
    let hopspan = base.clone().run().await;
    let call = client::get(hopspan.outbound, &format!("http://{}/", service.address));
    assert_eq!(call.send().await.text(), "called");
    let denied = base.clone().set("outbound.deny", json!(["127.0.0.1"]));
    for (settings, passes) in [(&denied, false), (&base, true), (&denied, false)] {
        std::fs::write(&hopspan.file, settings.text()).unwrap();
        let taken = client::request("POST", hopspan.admin, "/reload")
            .send()
            .await;
        assert_eq!(taken.status, 200);
        let answer = call.send().await;
        assert_eq!(answer.status == 200, passes, "{}", answer.text());
        assert!(passes || is_denied(&answer));
    }
    assert_eq!(service.received.len(), 2);
}

#[tokio::test]
async fn a_route_may_lead_where_calls_may_not_go() {
    let service = app::service("routed").await;
    let hopspan = sidecar::to(raw::closed_port())
        .set("outbound.deny", json!(["127.0.0.0/8", "payment"]))
        .set(
            "outbound.routes",
            json!([{"host": "payment", "to": format!("http://{}", service.address)}]),
        )
        .run()
        .await;
    let answer = client::get(hopspan.outbound, "http://payment/")
        .send()
        .await;
    assert_eq!(answer.text(), "routed");
}

#[tokio::test]
async fn programs_of_this_host_are_served_by_any_of_its_addresses() {
    let service = app::service("called").await;
    let hopspan = sidecar::to(raw::closed_port())
        .set("outbound.listen", json!("0.0.0.0:0"))
        .run()
        .await;
    let url = format!("http://{}/", service.address);
    // An address of this host that is not loopback, where it has one: connecting a UDP socket sends nothing.
    let probe = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    let own = probe
        .connect("192.0.2.1:9")
        .and_then(|()| probe.local_addr());
    let mut addresses = vec!["127.0.0.1".parse().unwrap()];
    addresses.extend(own.ok().map(|own| own.ip()));
    for ip in addresses {
        let listener = std::net::SocketAddr::new(ip, hopspan.outbound.port());
        assert_eq!(
            client::get(listener, &url).send().await.text(),
            "called",
            "{ip}"
        );
    }
}
