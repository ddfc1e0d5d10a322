//! Every byte in every place of a request.

use super::bench::{Bench, Case, Side};
use super::strict::{self, is_tchar, is_value};

/// Where a byte is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Method,
    Target,
    Name,
    Value,
    ChunkSize,
    ChunkExtension,
}

const PLACES: [Place; 6] = [
    Place::Method,
    Place::Target,
    Place::Name,
    Place::Value,
    Place::ChunkSize,
    Place::ChunkExtension,
];

impl Place {
    fn request(self, byte: u8, row: &str, app: &str) -> Vec<u8> {
        let (before, after) = match self {
            Place::Method => ("G", format!("T /{row} HTTP/1.1\r\nHost: {app}\r\n\r\n")),
            Place::Target => ("GET /ROW/a", format!("b HTTP/1.1\r\nHost: {app}\r\n\r\n")),
            Place::Name => (
                "GET /ROW HTTP/1.1\r\nHost: APP\r\nX",
                "Y: z\r\n\r\n".to_owned(),
            ),
            Place::Value => (
                "GET /ROW HTTP/1.1\r\nHost: APP\r\nX: a",
                "b\r\n\r\n".to_owned(),
            ),
            Place::ChunkSize => (
                "PUT /ROW HTTP/1.1\r\nHost: APP\r\nTransfer-Encoding: chunked\r\n\r\n5",
                "\r\nhello\r\n0\r\n\r\n".to_owned(),
            ),
            Place::ChunkExtension => (
                "PUT /ROW HTTP/1.1\r\nHost: APP\r\nTransfer-Encoding: chunked\r\n\r\n5;a",
                "b\r\nhello\r\n0\r\n\r\n".to_owned(),
            ),
        };
        let mut bytes = before.replace("ROW", row).replace("APP", app).into_bytes();
        bytes.push(byte);
        bytes.extend(after.bytes());
        bytes
    }

    /// Whether the byte may stand there; `None`: passing on and refusing are both right.
    fn allows(self, byte: u8) -> Option<bool> {
        match self {
            Place::Method => Some(is_tchar(byte)),
            Place::Target if byte <= b' ' || byte == 0x7f => Some(false),
            Place::Target => (byte.is_ascii_alphanumeric()
                || b"-._~!$&'()*+,;=:@/?%".contains(&byte))
            .then_some(true),
            Place::Name => Some(is_tchar(byte) || byte == b':'),
            Place::Value => Some(is_value(byte)),
            Place::ChunkSize => Some(b" \t;".contains(&byte)),
            Place::ChunkExtension if matches!(byte, b'\r' | b'\n') => Some(false),
            Place::ChunkExtension => is_value(byte).then_some(true),
        }
    }

    /// Whether the app got the byte as it was sent.
    fn kept(self, byte: u8, seen: &strict::Seen) -> bool {
        let byte = char::from(byte);
        match self {
            Place::Method => seen.line.starts_with(&format!("G{byte}T ")),
            // A fragment is not sent on.
            Place::Target => seen.line.contains(&format!("/a{byte}b ")) || byte == '#',
            Place::Name if byte == ':' => seen.all("x") == ["Y: z"],
            Place::Name => seen.all(&format!("x{byte}y")) == ["z"],
            Place::Value => seen.all("x") == [format!("a{byte}b")],
            Place::ChunkSize | Place::ChunkExtension => seen.body == b"hello",
        }
    }
}

#[tokio::test]
async fn every_byte_in_every_place() {
    let bench = Bench::new().await;
    let app = bench.app.address.to_string();
    let mut cases = Vec::new();
    for place in PLACES {
        for byte in 0..=u8::MAX {
            let row = format!("row-{:05}", cases.len());
            let bytes = place.request(byte, &row, &app);
            let side = [Side::Inbound, Side::Outbound][cases.len() % 2];
            cases.push(Case { side, row, bytes });
        }
    }
    let outcomes = bench.run(&cases).await;
    let places = PLACES
        .iter()
        .flat_map(|place| (0..=u8::MAX).map(move |byte| (*place, byte)));
    let mut wrong = Vec::new();
    for ((place, byte), outcome) in places.zip(&outcomes) {
        let whole: Vec<_> = outcome.whole().collect();
        let passed = whole.len() == 1
            && outcome.statuses() == [200, 200]
            && outcome.sentinel
            && place.kept(byte, whole[0]);
        let refusal = outcome
            .answers
            .as_ref()
            .ok()
            .and_then(|answers| answers.last());
        let refused = whole.is_empty()
            && matches!(outcome.statuses()[..], [400 | 408])
            && refusal.is_some_and(|answer| answer.is_refusal())
            && !outcome.sentinel;
        let right = match place.allows(byte) {
            Some(true) => passed,
            Some(false) => refused,
            None => passed || refused,
        };
        if !right {
            wrong.push(format!("{place:?} {byte:#04x}: {outcome:?}"));
        }
    }
    println!("{} cases", cases.len());
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert_eq!(cases.len(), 6 * 256);
}
