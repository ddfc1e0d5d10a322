//! Request smuggling by how a body is framed.

use crate::smuggling::bench::{Bench, Case, Outcome, Side};

/// Sends each request to both listeners. `{row}` and `{app}` are filled in.
pub(super) async fn send(requests: &[&str]) -> Vec<Outcome> {
    let bench = Bench::new().await;
    let app = bench.app.address.to_string();
    let mut cases = Vec::new();
    for request in requests {
        for side in [Side::Inbound, Side::Outbound] {
            let row = format!("row-{:03}", cases.len());
            let text = request.replace("{row}", &row).replace("{app}", &app);
            cases.push(Case {
                side,
                row,
                bytes: text.into_bytes(),
            });
        }
    }
    // The bench itself fails on bytes at the app that are not exactly one request.
    let outcomes = bench.run(&cases).await;
    assert_eq!(outcomes.len(), requests.len() * 2);
    outcomes
}

/// Each is answered with this status by hopspan, the connection ends, and the app gets nothing whole.
async fn refused(status: u16, requests: &[&str]) {
    for outcome in send(requests).await {
        let answers = outcome.answers.as_ref().unwrap();
        assert_eq!(outcome.statuses(), [status], "{outcome:?}");
        assert!(answers[0].is_refusal(), "{outcome:?}");
        assert!(
            outcome.whole().count() == 0 && !outcome.sentinel,
            "{outcome:?}"
        );
    }
}

const HEAD: &str = "POST /{row} HTTP/1.1\r\nHost: {app}\r\n";

fn with(fields_and_body: &str) -> String {
    format!("{HEAD}{fields_and_body}")
}

async fn each_refused(status: u16, requests: &[&str]) {
    let requests: Vec<String> = requests.iter().map(|rest| with(rest)).collect();
    let requests: Vec<&str> = requests.iter().map(String::as_str).collect();
    refused(status, &requests).await;
}

#[tokio::test]
async fn rustsec_2021_0020_several_transfer_encodings() {
    each_refused(
        400,
        &[
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
            "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n",
        ],
    )
    .await;
}

#[tokio::test]
async fn rustsec_2021_0078_a_signed_length() {
    each_refused(400, &["Content-Length: +5\r\n\r\nhello"]).await;
}

#[tokio::test]
async fn rustsec_2021_0079_a_chunk_size_that_overflows() {
    each_refused(
        400,
        &["Transfer-Encoding: chunked\r\n\r\nf0000000000000003\r\nabc\r\n0\r\n\r\n"],
    )
    .await;
}

#[tokio::test]
async fn cve_2026_2835_rustsec_2026_0034_chunks_in_http_1_0() {
    let head = "POST /{row} HTTP/1.0\r\nHost: {app}\r\n";
    let alone = format!("{head}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    let both = format!("{head}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n");
    refused(400, &[&alone, &both]).await;
}

#[tokio::test]
async fn cve_2024_1135_cve_2024_6827_and_cve_2026_66752_codings_that_others_took_for_chunked() {
    each_refused(
        400,
        &[
            "Transfer-Encoding: chunked,gzip\r\n\r\n0\r\n\r\n",
            "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
            "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n\r\n0\r\n\r\n",
            "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
            "Transfer-Encoding: chunkedx\r\n\r\n0\r\n\r\n",
            "Transfer-Encoding: x-chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
            "Transfer-Encoding: identity\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        ],
    )
    .await;
}

#[tokio::test]
async fn cve_2025_22871_and_cve_2025_55315_line_ends_in_chunk_lines() {
    each_refused(
        400,
        &[
            "Transfer-Encoding: chunked\r\n\r\n5;\nxxxxx\r\n0\r\n\r\n",
            "Transfer-Encoding: chunked\r\n\r\n5;\rxxxxx\r\n0\r\n\r\n",
            "Transfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n",
            "Transfer-Encoding: chunked\r\n\r\n5\rhello\r\n0\r\n\r\n",
            "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\n0\r\n\r\n",
            "Transfer-Encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n",
        ],
    )
    .await;
    // What follows such trailers is answered by nobody.
    let spill = with("Transfer-Encoding: chunked\r\n\r\n0\r\nX: y\n\n");
    for outcome in send(&[&spill]).await {
        assert!(outcome.whole().count() <= 1 && !outcome.sentinel);
        assert_eq!(outcome.statuses().len(), 1, "{outcome:?}");
    }
}

/// h11 took any two bytes for the line end behind a chunk.
#[tokio::test]
async fn cve_2025_43859_what_follows_a_chunk_is_a_line_end() {
    let chunked = "Transfer-Encoding: chunked\r\n\r\n";
    let rows: Vec<String> = ["XX", "\n\n", "\r\r", "\rX", "X\n", "\0\0", "0\r"]
        .iter()
        .map(|end| format!("{chunked}5\r\nhello{end}0\r\n\r\n"))
        .collect();
    let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
    each_refused(400, &rows).await;
}

#[tokio::test]
async fn rustsec_2020_0008_content_of_a_get_is_no_request() {
    let inner = "GET /smuggled HTTP/1.1\r\nHost: shop\r\n\r\n";
    let get = |rest: String| format!("GET /{{row}} HTTP/1.1\r\nHost: {{app}}\r\n{rest}");
    let size = inner.len();
    let plain = get(format!("Content-Length: {size}\r\n\r\n{inner}"));
    let chunked = get(format!(
        "Transfer-Encoding: chunked\r\n\r\n{size:x}\r\n{inner}\r\n0\r\n\r\n"
    ));
    for outcome in send(&[&plain, &chunked]).await {
        let seen: Vec<_> = outcome.whole().collect();
        assert!(seen.len() == 1 && outcome.sentinel, "{outcome:?}");
        assert_eq!(seen[0].body, inner.as_bytes());
    }
}

#[tokio::test]
async fn cve_2020_7659_a_length_beside_chunks_is_never_passed_on() {
    let both = "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled-{row} HTTP/1.1\r\nHost: {app}\r\n\r\n";
    for outcome in send(&[&with(both)]).await {
        assert_eq!(outcome.statuses(), [200], "{outcome:?}");
        let seen: Vec<_> = outcome.whole().collect();
        assert!(seen.len() == 1 && seen[0].body.is_empty(), "{outcome:?}");
        assert!(seen[0].all("content-length").is_empty() && !outcome.sentinel);
    }
}

#[tokio::test]
async fn http_1_1_must_die_2025_expectations_that_only_one_side_knows() {
    each_refused(
        417,
        &[
            "Expect: y 100-continue\r\nContent-Length: 5\r\n\r\nhello",
            "Expect: 100-continue,\r\nContent-Length: 5\r\n\r\nhello",
            "Expect: 100-continue\r\nExpect: x\r\nContent-Length: 5\r\n\r\nhello",
        ],
    )
    .await;
    let known = with("Expect: 100-continue\r\nContent-Length: 5\r\n\r\nhello");
    let folded = with("Expect:\r\n 100-continue\r\nContent-Length: 5\r\n\r\nhello");
    for outcome in send(&[&known]).await {
        let seen: Vec<_> = outcome.whole().collect();
        assert!(seen.len() == 1 && seen[0].body == b"hello", "{outcome:?}");
        assert!(seen[0].all("expect").is_empty() && outcome.sentinel);
    }
    refused(400, &[&folded]).await;
}

#[tokio::test]
async fn cve_2022_22720_nothing_is_read_after_a_body_that_failed() {
    each_refused(
        400,
        &[
            "Transfer-Encoding: chunked\r\n\r\nzz\r\nGET /smuggled-{row} HTTP/1.1\r\nHost: {app}\r\n\r\n",
        ],
    )
    .await;
}
