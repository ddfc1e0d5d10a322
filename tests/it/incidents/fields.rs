//! Fields that a client may not take away, forge or spell otherwise.

use super::framing::send;
use crate::smuggling::bench::Outcome;
use crate::smuggling::strict::Seen;

fn only(outcome: &Outcome) -> &Seen {
    let seen: Vec<_> = outcome.whole().collect();
    assert!(seen.len() == 1 && outcome.sentinel, "{outcome:?}");
    seen[0]
}

#[tokio::test]
async fn cve_2024_45410_connection_takes_nothing_away_that_proxies_set() {
    let names = [
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-forwarded-host",
        "x-real-ip",
        "forwarded",
        "traceparent",
        "tracestate",
        "baggage",
        "host",
        "content-length",
    ];
    let request = format!(
        "POST /{{row}} HTTP/1.1\r\nHost: {{app}}\r\nConnection: {}\r\n\
         X-Real-IP: 10.0.0.9\r\nForwarded: for=10.0.0.9\r\ntracestate: a=1\r\nbaggage: b=2\r\n\
         traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\nContent-Length: 2\r\n\r\nhi",
        names.join(", ")
    );
    let outcomes = send(&[&request]).await;
    let (inbound, outbound) = (only(&outcomes[0]), only(&outcomes[1]));
    for name in names {
        assert_eq!(inbound.all(name).len(), 1, "{name}: {inbound:?}");
    }
    // To a service nothing is said of who called, and nothing that came is lost.
    for name in &names[3..] {
        assert_eq!(outbound.all(name).len(), 1, "{name}: {outbound:?}");
    }
}

#[tokio::test]
async fn caddy_4830_and_cve_2026_33433_names_that_wsgi_folds() {
    let spellings = [
        "X_Forwarded_For",
        "X-Forwarded_For",
        "X_Forwarded-For",
        "X.Forwarded.For",
        "X_Forwarded_Proto",
        "X_Forwarded_Host",
        "X_Forwarded_Prefix",
        "X_Real_IP",
        "X.Real.IP",
        "HOPSPAN_TOKEN",
        "hopspan.token",
    ];
    let lines: String = spellings
        .iter()
        .map(|name| format!("{name}: forged\r\n"))
        .collect();
    let request = format!("GET /{{row}} HTTP/1.1\r\nHost: {{app}}\r\n{lines}\r\n");
    let outcomes = send(&[&request]).await;
    let inbound = only(&outcomes[0]);
    let forged: Vec<_> = inbound
        .fields
        .iter()
        .filter(|(_, value)| value == "forged")
        .collect();
    assert!(forged.is_empty(), "{forged:?}");
    // Calls of the app are its own words, but the token.
    let outbound = only(&outcomes[1]);
    assert!(
        outbound
            .fields
            .iter()
            .all(|(name, _)| !name.to_lowercase().contains("token"))
    );
}

#[tokio::test]
async fn cve_2026_88004_trusted_names_as_trailers() {
    let request = "POST /{row} HTTP/1.1\r\nHost: {app}\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\n\
                   Trailer: X-Forwarded-For, Host\r\n\r\n2\r\nhi\r\n0\r\nX-Forwarded-For: 127.0.0.1\r\n\
                   X_Forwarded_Proto: https\r\nHost: other\r\nTransfer-Encoding: chunked\r\nContent-Length: 9\r\n\r\n";
    for outcome in send(&[request]).await {
        // The strict reader takes no trailer at all.
        let seen: Vec<_> = outcome.whole().collect();
        assert_eq!(seen.len(), 1, "{outcome:?}");
        let seen = seen[0];
        assert_eq!(seen.body, b"hi");
        assert!(seen.all("trailer").is_empty(), "{seen:?}");
    }
}

#[tokio::test]
async fn cve_2026_29181_cve_2026_41178_cve_2026_45292_and_cve_2026_54285_baggage_is_bounded() {
    let member = format!("k={}", "v".repeat(250));
    let lines: String = (0..60).map(|_| format!("baggage: {member}\r\n")).collect();
    let many = "baggage: a=1,b=2\r\n".repeat(60);
    // In one line: by its members, and by its bytes.
    let members = format!("baggage: {}\r\n", ["a=1"; 70].join(","));
    let long = format!("baggage: k={}\r\nbaggage: {member}\r\n", "v".repeat(8_000));
    let malformed = "baggage: ;;;=,\x01\r\n";
    let request = |lines: &str| format!("GET /{{row}} HTTP/1.1\r\nHost: {{app}}\r\n{lines}\r\n");
    let rows = [lines, many, members, long].map(|lines| request(&lines));
    let outcomes = send(&rows.each_ref().map(String::as_str)).await;
    for (index, outcome) in outcomes.iter().enumerate() {
        let seen = only(outcome);
        // Towards the app it is dropped whole; what the app itself says is its own.
        let said = [60, 60, 1, 2][index / 2];
        let kept = [0, said][index % 2];
        assert_eq!(seen.all("baggage").len(), kept, "{index}");
        assert_eq!(seen.all("traceparent").len(), 1);
    }
    for outcome in &send(&[&request(malformed)]).await {
        assert_eq!(
            outcome.statuses(),
            [400],
            "a control character is no field value"
        );
    }
}

#[tokio::test]
async fn ghsa_8785_whatever_is_in_tracestate_the_request_passes() {
    let states = [
        "=".to_owned(),
        ",,,,".to_owned(),
        "a=1,a=2".to_owned(),
        "A=1".to_owned(),
        "a=\u{ff}\u{fe}".to_owned(),
        (0..40).map(|n| format!("k{n}=v,")).collect(),
        format!("k={}", "v".repeat(8000)),
    ];
    let valid = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let requests: Vec<String> = states
        .iter()
        .map(|state| {
            format!(
                "GET /{{row}} HTTP/1.1\r\nHost: {{app}}\r\n{valid}\r\ntracestate: {state}\r\n\r\n"
            )
        })
        .collect();
    let requests: Vec<&str> = requests.iter().map(String::as_str).collect();
    for outcome in &send(&requests).await {
        let parent = only(outcome).all("traceparent").join("");
        assert!(
            parent.contains("0af7651916cd43dd8448eb211c80319c"),
            "{parent}"
        );
    }
}
