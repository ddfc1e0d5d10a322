//! What a redirected connection speaks: HTTP that hopspan can trace, TLS, or anything else, which passes untouched.
//!
//! Unlike [`super::sniff`], where a client is known to mean HTTP, nothing is taken for it here that is not a whole request
//! line in origin-form (RFC 9112 section 3) or HTTP/2's preface. Calls to another proxy (absolute-form, CONNECT) are not
//! ours either. Who says nothing may be waiting for the server to speak first: silence is something else, too, soon.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};

/// HTTP/2's connection preface (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The content type of a TLS handshake record (RFC 8446 section 5.1).
const HANDSHAKE: u8 = 0x16;
/// Read at once: most heads and TLS client hellos fit.
const ROOM: usize = 4096;
/// A longer request line is none.
const LINE: usize = 8 * 1024;
/// A longer method is none.
const METHOD: usize = 24;

/// What is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Detected {
    Http1,
    Http2,
    Tls,
    Other,
}

impl Detected {
    /// Its name in metrics and on spans.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Detected::Http1 => "http1",
            Detected::Http2 => "http2",
            Detected::Tls => "tls",
            Detected::Other => "tcp",
        }
    }
}

/// Reads until it is known what is spoken, for `limit` at most. Gives what was read.
pub(crate) async fn detect<S: AsyncRead + Unpin>(
    socket: &mut S,
    limit: Duration,
) -> (Detected, Vec<u8>) {
    let mut ahead = Vec::with_capacity(ROOM);
    let reading = async {
        loop {
            // What goes wrong here goes wrong again when it is passed on, and is told there.
            if !matches!(socket.read_buf(&mut ahead).await, Ok(1..)) {
                return Detected::Other;
            }
            if let Some(detected) = judge(&ahead) {
                return detected;
            }
        }
    };
    let detected = tokio::time::timeout(limit, reading).await;
    (detected.unwrap_or(Detected::Other), ahead)
}

/// What `bytes` begin; `None` where more are needed.
fn judge(bytes: &[u8]) -> Option<Detected> {
    if *bytes.first()? == HANDSHAKE {
        return Some(Detected::Tls);
    }
    if bytes.starts_with(PREFACE) {
        return Some(Detected::Http2);
    }
    if PREFACE.starts_with(bytes) {
        return None;
    }
    request_line(bytes).map(|is_one| match is_one {
        true => Detected::Http1,
        false => Detected::Other,
    })
}

/// Whether `bytes` begin with a request line; `None` where they may.
fn request_line(bytes: &[u8]) -> Option<bool> {
    let end = bytes.iter().position(|byte| *byte == b'\n');
    let line = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();
    let mut words = line.splitn(3, |byte| *byte == b' ');
    let method = words.next().unwrap_or_default();
    let (target, version) = (words.next(), words.next());
    let is_method = (1..=METHOD).contains(&method.len())
        && method
            .iter()
            .all(|byte| byte.is_ascii_uppercase() || *byte == b'-');
    let is_target = target.is_none_or(|target| {
        matches!(target.first(), None | Some(b'/' | b'*')) && target.iter().all(|byte| *byte > b' ')
    });
    let is_version = version.is_none_or(|version| {
        let known: [&[u8]; 2] = [b"HTTP/1.1\r", b"HTTP/1.0\r"];
        known.iter().any(|known| known.starts_with(version))
    });
    if !is_method || !is_target || !is_version || line.len() > LINE {
        return Some(false);
    }
    let whole = version.is_some_and(|version| version.ends_with(b"\r"));
    end.map(|_| whole && target.is_some_and(|target| !target.is_empty()))
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[test]
    fn only_what_must_be_http_is() {
        use Detected::{Http1, Http2, Other, Tls};
        let long = [b"GET /", &[b'x'; LINE][..]].concat();
        let rows: Vec<(&[u8], Option<Detected>)> = vec![
            (b"", None),
            (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", Some(Http1)),
            (b"M-SEARCH * HTTP/1.1\r\n", Some(Http1)),
            (b"POST /a?b HTTP/1.0\r\n", Some(Http1)),
            (b"PROPFIND / HTTP/1.1\r", None),
            (b"G", None),
            (b"GET ", None),
            (b"GET / HTTP/1.", None),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n", None),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0", Some(Http2)),
            (b"PRI * HTTP/2.0\r\n\r\nXX", Some(Other)),
            (b"\x16\x03\x01\x02", Some(Tls)),
            // Another proxy's business.
            (b"GET http://a/ HTTP/1.1\r\n", Some(Other)),
            (b"CONNECT a:443 HTTP/1.1\r\n", Some(Other)),
            // Other protocols whose first words look like it.
            (b"EHLO mail.example\r\n", Some(Other)),
            (b"PING\r\n", Some(Other)),
            (b"GET /key\r\n", Some(Other)),
            (b"GET\n", Some(Other)),
            (b"OPTIONS * RTSP/1.0\r\n", Some(Other)),
            (b"SSH-2.0-OpenSSH_9\r\n", Some(Other)),
            (b"get / HTTP/1.1\r\n", Some(Other)),
            (b"\0\0\0\x08\x04\xd2\x16\x2f", Some(Other)),
            (b"*1\r\n$4\r\nPING\r\n", Some(Other)),
            // HTTP in its own words only.
            (b"GET / HTTP/1.1\n", Some(Other)),
            (b"GET  HTTP/1.1\r\n", Some(Other)),
            (b"GET / HTTP/1.1 \r\n", Some(Other)),
            (b"GET / HTTP/3.0\r\n", Some(Other)),
            (b"GET /\x01 HTTP/1.1\r\n", Some(Other)),
            (b"ABCDEFGHIJKLMNOPQRSTUVWXY", Some(Other)),
            (&long, Some(Other)),
        ];
        assert!(rows.len() >= 30);
        for (bytes, wanted) in rows {
            let text = String::from_utf8_lossy(bytes);
            assert_eq!(judge(bytes), wanted, "{text}");
            // What is known is not changed by what comes.
            if wanted.is_some() {
                let more = [bytes, b"\r\n"].concat();
                assert_eq!(judge(&more), wanted, "{text}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silence_and_half_a_line_are_something_else_soon() {
        let limit = Duration::from_millis(200);
        for said in [&b""[..], b"GET /"] {
            let (mut client, mut server) = tokio::io::duplex(64);
            client.write_all(said).await.unwrap();
            let begun = tokio::time::Instant::now();
            let detected = detect(&mut server, limit).await;
            assert_eq!(detected, (Detected::Other, said.to_vec()));
            assert_eq!(begun.elapsed(), limit);
        }
        let (client, mut server) = tokio::io::duplex(64);
        drop(client);
        assert_eq!(detect(&mut server, limit).await, (Detected::Other, vec![]));
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_silent_for_so_long_waits_for_the_server() {
        for said in ["", "GET / HT"] {
            let (mut client, mut server) = tokio::io::duplex(64);
            client.write_all(said.as_bytes()).await.unwrap();
            let (limit, began) = (Duration::from_millis(350), tokio::time::Instant::now());
            let (detected, ahead) = detect(&mut server, limit).await;
            assert_eq!(
                (detected, ahead),
                (Detected::Other, said.as_bytes().to_vec())
            );
            assert_eq!(began.elapsed(), limit);
        }
    }

    #[tokio::test]
    async fn a_line_in_pieces_is_one() {
        let (mut client, mut server) = tokio::io::duplex(1);
        let sent = b"GET / HTTP/1.1\r\n";
        tokio::spawn(async move { client.write_all(sent).await });
        let detected = detect(&mut server, Duration::from_secs(9)).await;
        assert_eq!(detected, (Detected::Http1, sent.to_vec()));
    }
}
