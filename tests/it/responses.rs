//! Whatever an upstream answers, the client gets one answer that cannot be read in two ways, or a 502, or sees that it
//! broke off; and the next request gets its own. Rows: `responses/http1.txt`.

use std::net::SocketAddr;

use crate::smuggling::blocks::{self, expand};
use crate::smuggling::strict::{is_tchar, is_value, latin};
use crate::support::message::Head;
use crate::support::raw::{self, Peer};
use crate::support::{PATIENCE, sidecar};

mod breaks;

const ROWS: &str = include_str!("responses/http1.txt");

/// What must come of a row, and what is looked at.
struct Wanted {
    outcome: String,
    checks: Vec<(String, String)>,
}

impl Wanted {
    fn parse(text: &str) -> Wanted {
        let mut parts = text.split(" ; ");
        let outcome = parts.next().unwrap().trim().to_owned();
        let checks = parts.map(|check| {
            let (kind, value) = check.split_once('=').unwrap();
            (kind.to_owned(), latin(&expand(value, "", "")))
        });
        Wanted {
            outcome,
            checks: checks.collect(),
        }
    }

    fn method(&self) -> &str {
        let method = self.checks.iter().find(|(kind, _)| kind == "method");
        method.map_or("GET", |(_, method)| method)
    }
}

/// An app that answers each row's request with its bytes, any other with `second`. It closes after a row that only the
/// end of the connection ends.
async fn app(answers: Vec<(Vec<u8>, bool)>) -> raw::Server {
    let answers = std::sync::Arc::new(answers);
    raw::server(move |mut peer| {
        let answers = answers.clone();
        async move {
            while let Some(head) = peer.try_head().await {
                let Some(row) = head.target().strip_prefix("/row/") else {
                    let second = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecond";
                    peer.try_write(second).await;
                    continue;
                };
                let (bytes, last) = &answers[row.parse::<usize>().unwrap()];
                if !peer.try_write(bytes).await || *last {
                    break;
                }
            }
        }
    })
    .await
}

/// Whether the connection ends after these bytes: nothing else ends the answer, or it is to break off.
fn ends_by_closing(bytes: &[u8], wanted: &Wanted) -> bool {
    let text = latin(bytes).to_ascii_lowercase();
    let framed = text.contains("content-length") || text.contains("transfer-encoding");
    let empty = text.starts_with("http/1.1 304") || wanted.method() == "HEAD";
    let closes = wanted.checks.iter().any(|(kind, _)| kind == "close");
    closes || wanted.outcome != "ok" || !(framed || empty)
}

/// What is wrong with what a client got, by the letter of RFC 9112.
fn flaw(head: &Head, method: &str) -> Option<String> {
    let text = latin(&head.raw);
    let body_less = method == "HEAD" || matches!(head.status(), 204 | 304);
    let framings = head.all("content-length").len() + head.all("transfer-encoding").len();
    let lines = text.strip_suffix("\r\n\r\n")?.split("\r\n");
    for (index, line) in lines.enumerate() {
        if !line.bytes().all(is_value) {
            return Some(format!("a control character in {line:?}"));
        }
        let name = line.split(':').next().unwrap();
        if index > 0 && (name.is_empty() || !name.bytes().all(is_tchar)) {
            return Some(format!("no field: {line:?}"));
        }
    }
    if !head.line.starts_with("HTTP/1.1 ") || framings > 1 || (framings == 0 && !body_less) {
        return Some(format!("{framings} framings: {head:?}"));
    }
    let digits = |text: &&str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    (!head.all("content-length").iter().all(digits)).then(|| format!("no length: {head:?}"))
}

/// What is wrong with how a row went.
async fn judge(peer: &mut Peer, wanted: &Wanted, host: SocketAddr) -> Option<String> {
    let Some(answer) = peer.try_response_to(wanted.method()).await else {
        return (wanted.outcome != "cut").then(|| "no answer at all".to_owned());
    };
    if let Some(flaw) = flaw(&answer.head, wanted.method()) {
        return Some(flaw);
    }
    let right = match &*wanted.outcome {
        "502" => answer.status == 502 && answer.proxy_error().is_some() && answer.complete,
        "cut" => (answer.status == 200 && !answer.complete) || answer.status == 502,
        _ => answer.complete && answer.proxy_error().is_none(),
    };
    if !right {
        return Some(format!("{answer:?}"));
    }
    let wrong = wanted.checks.iter().find(|(kind, value)| match &**kind {
        "status" => answer.status.to_string() != *value,
        "body" => latin(&answer.body) != *value,
        "line" => answer.head.line != *value,
        "not" => !answer.head.all(value).is_empty(),
        "has" => {
            let (name, value) = value.split_once(':').unwrap();
            let all: Vec<String> = values(&answer.head, name);
            all != [value.trim()]
        }
        "method" | "close" => false,
        other => panic!("there is no check {other}"),
    });
    if let Some((kind, value)) = wrong {
        return Some(format!("not {kind}={value:?}: {answer:?}"));
    }
    if wanted.outcome == "cut" && answer.status == 200 {
        return None;
    }
    // The next request on the same connection gets its own answer.
    let second = format!("GET /second HTTP/1.1\r\nHost: {host}\r\n\r\n");
    if !peer.try_write(second).await {
        return Some("the connection ended".to_owned());
    }
    let second = peer
        .try_response_to("GET")
        .await
        .map(|answer| answer.text());
    (second.as_deref() != Some("second")).then(|| format!("then {second:?}"))
}

/// Values of a field, as Latin-1.
fn values(head: &Head, name: &str) -> Vec<String> {
    let text = latin(&head.raw);
    let lines = text
        .split("\r\n")
        .skip(1)
        .filter_map(|line| line.split_once(':'));
    lines
        .filter(|(known, _)| known.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim().to_owned())
        .collect()
}

#[tokio::test]
async fn every_answer_is_one_or_a_502_or_seen_to_break_off() {
    let blocks = blocks::read(ROWS);
    let answers = blocks.iter().map(|block| {
        let bytes = expand(&block.text, "", "");
        let last = ends_by_closing(&bytes, &Wanted::parse(&block.wanted[0]));
        (bytes, last)
    });
    let answers = answers.collect();
    let app = app(answers).await;
    let hopspan = sidecar::to(app.address).run().await;
    let (mut wrong, mut ran) = (Vec::new(), 0);
    for (number, block) in blocks.iter().enumerate() {
        let wanted = Wanted::parse(&block.wanted[0]);
        for listener in [hopspan.inbound, hopspan.outbound] {
            let mut peer = raw::connect(listener).await;
            let method = wanted.method();
            // By Host for the outbound listener; the inbound one has its app.
            let head = format!(
                "{method} /row/{number} HTTP/1.1\r\nHost: {}\r\n\r\n",
                app.address
            );
            peer.write(head).await;
            let judged = judge(&mut peer, &wanted, app.address);
            let judged = tokio::time::timeout(PATIENCE, judged).await;
            if let Some(why) = judged.unwrap_or(Some("it hangs".to_owned())) {
                wrong.push(format!("{}: {why}", block.name));
            }
            ran += 1;
        }
    }
    println!("{} answers, {ran} exchanges", blocks.len());
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert_eq!((blocks.len(), ran), (84, 168));
    assert_eq!(hopspan.metric("hopspan_panics_total").await, 0.0);
}
