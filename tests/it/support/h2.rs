//! HTTP/2 clients: [`Client`] over hyper, and frames by hand for what no library would send.
//!
//! ```ignore
//! let client = h2::connect(hopspan.inbound).await;
//! let answer = client.get("/").await;
//! let mut frames = h2::frames(hopspan.inbound).await;
//! frames.headers(1, h2::END, &[(":method", "GET"), …]).await;
//! ```

use std::io::Read;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::raw::{self, Peer};
use super::within;

/// What a client sends.
pub(crate) type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// No content.
pub(crate) fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// Content of a known length.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// A connection; clones share it.
#[derive(Clone)]
pub(crate) struct Client {
    sender: http2::SendRequest<Body>,
    authority: String,
    scheme: &'static str,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: HeaderMap,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The only value of a field.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// Reads frames until one of this kind has come; whether it has.
pub(crate) fn read_until(stream: &mut std::net::TcpStream, kind: u8) -> bool {
    let mut head = [0; 9];
    while stream.read_exact(&mut head).is_ok() {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        if stream.read_exact(&mut payload).is_err() {
            break;
        }
        if head[3] == kind {
            return true;
        }
    }
    false
}

/// Connects with prior knowledge.
pub(crate) async fn connect(address: SocketAddr) -> Client {
    let stream = within("a connection", TcpStream::connect(address))
        .await
        .unwrap();
    stream.set_nodelay(true).unwrap();
    over(stream, address.to_string(), "http").await
}

/// Speaks HTTP/2 on a stream that is connected.
pub(crate) async fn over<S>(stream: S, authority: String, scheme: &'static str) -> Client
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    Client {
        sender,
        authority,
        scheme,
    }
}

impl Client {
    /// The same with another `:authority`.
    pub(crate) fn at(mut self, authority: &str) -> Client {
        self.authority = authority.to_owned();
        self
    }

    /// A request in the making.
    pub(crate) fn request(&self, method: &str, path: &str) -> http::request::Builder {
        let uri = format!("{}://{}{path}", self.scheme, self.authority);
        Request::builder().method(method).uri(uri)
    }

    /// Sends, and gives the answer once its head is there.
    pub(crate) async fn begin(&self, request: Request<Body>) -> hyper::Result<Response<Incoming>> {
        let mut sender = self.sender.clone();
        within("room for a stream", sender.ready()).await?;
        within("an answer", sender.send_request(request)).await
    }

    /// Sends, and reads the answer to its end.
    pub(crate) async fn try_send(&self, request: Request<Body>) -> hyper::Result<Answer> {
        let (head, body) = self.begin(request).await?.into_parts();
        let collected = within("the end of an answer", body.collect()).await?;
        Ok(Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            trailers: collected.trailers().cloned().unwrap_or_default(),
            body: collected.to_bytes(),
        })
    }

    /// Sends, and reads the answer to its end.
    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        self.try_send(request).await.unwrap()
    }

    /// GET.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(self.request("GET", path).body(empty()).unwrap())
            .await
    }

    /// Whether the connection is closed, or about to be (GOAWAY).
    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }
}

/// Frame types of RFC 9113 section 6.
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;
/// Flags.
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
/// A whole request without content.
pub(crate) const WHOLE: u8 = END_STREAM | END_HEADERS;

/// The client's connection preface.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame as it was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// The error code of a GOAWAY or RST_STREAM.
    pub(crate) fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
}

/// A connection spoken frame by frame.
pub(crate) struct Frames {
    pub(crate) peer: Peer,
}

/// Connects, and sends the preface with these settings.
pub(crate) async fn frames_with(address: SocketAddr, settings: &[(u16, u32)]) -> Frames {
    let mut frames = Frames {
        peer: raw::connect(address).await,
    };
    frames.peer.write(PREFACE).await;
    let mut payload = Vec::new();
    for (name, value) in settings {
        payload.extend(name.to_be_bytes());
        payload.extend(value.to_be_bytes());
    }
    frames.send(SETTINGS, 0, 0, &payload).await;
    frames
}

/// Connects, and sends the preface with default settings.
pub(crate) async fn frames(address: SocketAddr) -> Frames {
    frames_with(address, &[]).await
}

/// A frame's bytes.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A block of fields: literals without indexing and without Huffman coding (RFC 7541 section 6.2.2).
pub(crate) fn hpack(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            integer(&mut block, text.len());
            block.extend(text.as_bytes());
        }
    }
    block
}

/// RFC 7541 section 5.1, with a prefix of seven bits.
fn integer(block: &mut Vec<u8>, value: usize) {
    let Some(mut rest) = value.checked_sub(127) else {
        block.push(u8::try_from(value).unwrap());
        return;
    };
    block.push(127);
    while rest >= 128 {
        block.push(u8::try_from(rest % 128 + 128).unwrap());
        rest /= 128;
    }
    block.push(u8::try_from(rest).unwrap());
}

/// The fields of a GET.
pub(crate) fn get(path: &str) -> Vec<(&'static str, &str)> {
    vec![
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "shop"),
        (":path", path),
    ]
}

impl Frames {
    /// Sends a frame; whether the other side still took it.
    pub(crate) async fn try_send(
        &mut self,
        kind: u8,
        flags: u8,
        stream: u32,
        payload: &[u8],
    ) -> bool {
        self.peer
            .try_write(frame(kind, flags, stream, payload))
            .await
    }

    /// Sends a frame.
    pub(crate) async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let taken = self.try_send(kind, flags, stream, payload).await;
        assert!(taken, "the other side closed");
    }

    /// Sends a head.
    pub(crate) async fn headers(&mut self, stream: u32, flags: u8, fields: &[(&str, &str)]) {
        self.send(HEADERS, flags, stream, &hpack(fields)).await;
    }

    /// The next frame; None at the end.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        while self.peer.have().len() < 9 {
            if !self.peer.fill().await {
                return None;
            }
        }
        let head = self.peer.exactly(9).await;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        Some(Frame {
            kind: head[3],
            flags: head[4],
            stream: u32::from_be_bytes(head[5..9].try_into().unwrap()) & 0x7fff_ffff,
            payload: self.peer.exactly(length).await,
        })
    }

    /// The next frame of this kind, skipping others; settings and pings are acknowledged on the way. None at the end.
    pub(crate) async fn next_of(&mut self, kind: u8) -> Option<Frame> {
        loop {
            let frame = self.next().await?;
            if frame.kind == kind && (frame.flags & ACK == 0 || kind <= 1) {
                return Some(frame);
            }
            if matches!(frame.kind, SETTINGS | PING) && frame.flags & ACK == 0 {
                let payload = if frame.kind == PING {
                    frame.payload
                } else {
                    Vec::new()
                };
                self.try_send(frame.kind, ACK, 0, &payload).await;
            }
        }
    }

    /// The frame of this kind on this stream, or the end of either.
    pub(crate) async fn expect(&mut self, kind: u8, what: &str) -> Frame {
        let frame = within(what, self.next_of(kind)).await;
        frame.unwrap_or_else(|| panic!("closed before {what}"))
    }
}
