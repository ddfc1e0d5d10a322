//! HTTP/1.1 messages read by hand, so that the tests do not share a parser's opinion with what they test.

use super::raw::Peer;

/// A start line and fields, in their order and spelling.
#[derive(Clone, Debug, Default)]
pub(crate) struct Head {
    /// The bytes, with the empty line.
    pub(crate) raw: Vec<u8>,
    /// The start line.
    pub(crate) line: String,
    /// Names as spelled, values with the space around them cut.
    pub(crate) fields: Vec<(String, String)>,
}

/// Where a head ends in `bytes`, after its empty line.
pub(crate) fn head_end(bytes: &[u8]) -> Option<usize> {
    let at = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    Some(at + 4)
}

impl Head {
    pub(crate) fn parse(raw: Vec<u8>) -> Head {
        let text = String::from_utf8_lossy(&raw).into_owned();
        let mut lines = text.split("\r\n");
        let line = lines.next().unwrap().to_owned();
        let fields = lines
            .filter(|line| !line.is_empty())
            .map(|line| {
                let (name, value) = line
                    .split_once(':')
                    .unwrap_or_else(|| panic!("a field without a colon: {line:?}"));
                (name.to_owned(), value.trim().to_owned())
            })
            .collect();
        Head { raw, line, fields }
    }

    /// All values of a field, in order.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.fields
            .iter()
            .filter(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
            .collect()
    }

    /// The only value of a field; None if there is none, a panic if there are several.
    pub(crate) fn one(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() <= 1, "{name} occurs {} times: {all:?}", all.len());
        all.first().copied()
    }

    /// The method of a request.
    pub(crate) fn method(&self) -> &str {
        self.line.split(' ').next().unwrap()
    }

    /// The target of a request, as sent.
    pub(crate) fn target(&self) -> &str {
        self.line.split(' ').nth(1).unwrap_or_default()
    }

    /// The status of a response.
    pub(crate) fn status(&self) -> u16 {
        let status = self.line.split(' ').nth(1).and_then(|s| s.parse().ok());
        status.unwrap_or_else(|| panic!("no status in {:?}", self.line))
    }
}

/// A response as read.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
    /// Fields after a chunked body.
    pub(crate) trailers: Vec<(String, String)>,
    /// Whether the body ended as its framing promised.
    pub(crate) complete: bool,
}

impl Response {
    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The only value of a field.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.one(name)
    }

    /// The RFC 9209 error in `Proxy-Status`, if hopspan answered itself.
    pub(crate) fn proxy_error(&self) -> Option<&str> {
        let (_, after) = self.header("proxy-status")?.split_once("error=")?;
        Some(after.split(';').next().unwrap().trim())
    }
}

/// Reads the body that belongs to `head`.
pub(crate) async fn read_response(peer: &mut Peer, head: Head, method: &str) -> Response {
    let status = head.status();
    let mut response = Response {
        status,
        body: Vec::new(),
        trailers: Vec::new(),
        complete: true,
        head,
    };
    let bodyless = method == "HEAD" || matches!(status, 101 | 204 | 304);
    if bodyless || (method == "CONNECT" && status / 100 == 2) {
        return response;
    }
    let chunked = response.head.all("transfer-encoding");
    let chunked = chunked.iter().any(|value| value.contains("chunked"));
    let length = response.head.one("content-length").map(str::to_owned);
    if chunked {
        response.complete = read_chunks(peer, &mut response).await.is_some();
    } else if let Some(length) = length {
        let length: usize = length.parse().unwrap();
        while peer.buffer().len() < length && peer.fill().await {}
        let have = length.min(peer.buffer().len());
        response.body = peer.buffer().drain(..have).collect();
        response.complete = have == length;
    } else {
        response.body = peer.rest().await;
    }
    response
}

/// None if the connection ended before the last chunk did.
async fn read_chunks(peer: &mut Peer, response: &mut Response) -> Option<()> {
    loop {
        let line = line(peer).await?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size =
            usize::from_str_radix(size, 16).unwrap_or_else(|_| panic!("chunk size {line:?}"));
        if size == 0 {
            break;
        }
        while peer.buffer().len() < size + 2 {
            if !peer.fill().await {
                let have = std::mem::take(peer.buffer());
                response.body.extend(have);
                return None;
            }
        }
        response.body.extend(peer.buffer().drain(..size));
        assert_eq!(peer.buffer().drain(..2).as_slice(), b"\r\n");
    }
    loop {
        let line = line(peer).await?;
        let Some((name, value)) = line.split_once(':') else {
            return Some(());
        };
        response
            .trailers
            .push((name.to_owned(), value.trim().to_owned()));
    }
}

/// A line without its CRLF; None if the connection ended.
async fn line(peer: &mut Peer) -> Option<String> {
    loop {
        let buffer = peer.buffer();
        if let Some(at) = buffer.windows(2).position(|window| window == b"\r\n") {
            let line: Vec<u8> = buffer.drain(..at + 2).collect();
            return Some(String::from_utf8_lossy(&line[..at]).into_owned());
        }
        if !peer.fill().await {
            return None;
        }
    }
}
