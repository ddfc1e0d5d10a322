//! Every combination of the fields that frame a body.

use super::bench::{Bench, Case, Outcome, Side};
use super::strict;

/// Content-Length lines: each row is one request's. 15 is the right length of [`BODY`].
pub(super) const LENGTHS: &[&[&str]] = &[
    &[],
    &["15"],
    &["\t 15 \t"],
    &["0015"],
    &["15", "15"],
    &["15", "5"],
    &["15, 15"],
    &["15,"],
    &["+15"],
    &["-15"],
    &["15.0"],
    &["0xf"],
    &["1_5"],
    &["1 5"],
    &["15;"],
    &["\"15\""],
    &["15\u{b}"],
    &[""],
    &["18446744073709551631"],
];

/// Transfer-Encoding lines.
pub(super) const CODINGS: &[&[&str]] = &[
    &[],
    &["chunked"],
    &["ChUnKeD"],
    &["\t chunked \t"],
    &["chunked", "chunked"],
    &["chunked, chunked"],
    &["chunked", "identity"],
    &["identity", "chunked"],
    &["identity"],
    &["gzip, chunked"],
    &["chunked, gzip"],
    &["xchunked"],
    &["chunkedx"],
    &["chunked;q=1"],
    &["\"chunked\""],
    &["chunked,"],
    &[",chunked"],
    &["\u{b}chunked"],
    &["chunked\u{c}"],
    &[""],
];

/// As chunks: `hello`. As it is: 15 bytes.
const BODY: &str = "5\r\nhello\r\n0\r\n\r\n";

/// How a combination must be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    None,
    Length,
    Chunked,
    /// Chunked wins and the connection ends (RFC 9112 section 6.1), or it is refused.
    Both,
    Refused,
}

fn is(text: &str, wanted: &str) -> bool {
    text.trim_matches([' ', '\t']).eq_ignore_ascii_case(wanted)
}

/// RFC 9112 sections 6.1 and 6.3, with every choice taken for the strict side.
fn framing(lengths: &[&str], codings: &[&str], version: &str) -> Framing {
    let length = |line: &&str| {
        let digits = line.trim_matches([' ', '\t']);
        (!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
            .then(|| digits.parse::<u64>().ok())
            .flatten()
    };
    match (lengths, codings) {
        ([], []) => Framing::None,
        (_, []) if lengths.iter().all(|line| length(line) == Some(15)) => Framing::Length,
        (_, []) => Framing::Refused,
        (_, [one]) if is(one, "chunked") && version == "1.1" => match lengths.is_empty() {
            true => Framing::Chunked,
            false => Framing::Both,
        },
        _ => Framing::Refused,
    }
}

fn combinations() -> Vec<(Case, Framing)> {
    let mut cases = Vec::new();
    for side in [Side::Inbound, Side::Outbound] {
        for lengths in LENGTHS {
            for codings in CODINGS {
                for (version, length_first) in [("1.1", true), ("1.1", false), ("1.0", true)] {
                    let row = format!("row-{:05}", cases.len());
                    let mut fields: Vec<String> = codings
                        .iter()
                        .map(|v| format!("Transfer-Encoding:{v}\r\n"))
                        .collect();
                    let lengths_ = lengths.iter().map(|v| format!("Content-Length:{v}\r\n"));
                    let at = if length_first { 0 } else { fields.len() };
                    fields.splice(at..at, lengths_);
                    let fields = fields.concat();
                    let text =
                        format!("POST /{row} HTTP/{version}\r\nHost: APP\r\n{fields}\r\n{BODY}");
                    let case = Case {
                        side,
                        row,
                        bytes: text.into_bytes(),
                    };
                    cases.push((case, framing(lengths, codings, version)));
                }
            }
        }
    }
    cases
}

/// Whether an outcome is right, by the statuses and by what the app got.
fn is_right(framing: Framing, closes: bool, outcome: &Outcome) -> bool {
    let whole: Vec<_> = outcome.whole().collect();
    let bodies: Vec<&[u8]> = whole.iter().map(|seen| &*seen.body).collect();
    let refused = whole.is_empty() && outcome.statuses() == [400];
    let last: &[u16] = if closes { &[200] } else { &[200, 200] };
    match framing {
        Framing::Refused => refused,
        Framing::Both => refused || (bodies == [b"hello"] && outcome.statuses() == [200]),
        Framing::Chunked => bodies == [b"hello"] && outcome.statuses() == last,
        Framing::Length => bodies == [BODY.as_bytes()] && outcome.statuses() == last,
        // What follows is the next request, and is none.
        Framing::None if closes => bodies == [b""] && outcome.statuses() == [200],
        Framing::None => bodies == [b""] && outcome.statuses() == [200, 400],
    }
}

#[tokio::test]
async fn every_combination_of_content_length_and_transfer_encoding() {
    let bench = Bench::new().await;
    let app = bench.app.address.to_string();
    let (mut cases, mut wanted) = (Vec::new(), Vec::new());
    for (mut case, framing) in combinations() {
        let text = String::from_utf8(case.bytes).unwrap();
        // HTTP/1.0 ends after one answer.
        wanted.push((framing, text.contains("HTTP/1.0\r\n")));
        case.bytes = text.replace("APP", &app).into_bytes();
        cases.push(case);
    }
    let outcomes = bench.run(&cases).await;
    let mut wrong = Vec::new();
    for ((case, outcome), (framing, closes)) in cases.iter().zip(&outcomes).zip(&wanted) {
        if !is_right(*framing, *closes, outcome)
            || outcome.sentinel == outcome.statuses().contains(&400)
                && !closes
                && *framing != Framing::Both
        {
            wrong.push(format!(
                "{framing:?} {}: {outcome:?}",
                strict::latin(&case.bytes)
            ));
        }
    }
    let passed = outcomes.iter().filter(|o| o.whole().count() == 1).count();
    println!("{} combinations, {passed} passed on", cases.len());
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert_eq!(cases.len(), 2 * 19 * 20 * 3);
    assert!(passed > 20);
}
