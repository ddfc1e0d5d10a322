//! Where a call comes from: what correlation needs to know of its connection.

use http::{Request, Version};
use hyper::body::{Body, Incoming};

use crate::correlation::{CallBytes, OutboundCall, Stamp, Unlinked};
use crate::proxy::server::Connection;

/// The call that `request` is, as it came: nothing is taken off its head yet.
pub fn call(connection: &Connection, request: &Request<Incoming>) -> OutboundCall {
    OutboundCall {
        peer: connection.peer,
        local: connection.local,
        accepted: connection.accepted,
        received: connection.received.first().map(|first| Stamp {
            realtime_ns: first.realtime_ns,
            monotonic_ns: first.monotonic_ns,
        }),
        bytes: bytes(connection, request),
    }
}

/// Where the call begins on its connection and how much of it is here, where that is known for certain. It is not where
/// bytes came before the answer to the call before, and after a call of a length that was not told (a chunked body).
fn bytes(connection: &Connection, request: &Request<Incoming>) -> Result<CallBytes, Unlinked> {
    if request.version() > Version::HTTP_11 {
        return Err(Unlinked::Multiplexed);
    }
    let received = &connection.received;
    let before = received.before().ok_or(Unlinked::StartUnknown)?;
    let head = head_length(request);
    if received.first().is_none() {
        return Err(Unlinked::StartUnknown);
    }
    if let Some(body) = request.body().size_hint().exact() {
        received.ends(before + head + body);
    }
    Ok(CallBytes {
        before,
        read: received.total(),
        head: (!request.body().is_end_stream()).then_some(head),
    })
}

/// Bytes of a head as nearly every client writes it: with one space where RFC 9112 allows several, and with the target
/// that the URI is read from. Where that is not so, a large body is waited for.
fn head_length<B>(request: &Request<B>) -> u64 {
    let uri = request.uri();
    let scheme = uri.scheme_str().map_or(0, |all| all.len() + "://".len());
    let authority = uri.authority().map_or(0, |all| all.as_str().len());
    let path = uri.path_and_query().map_or(0, |all| all.as_str().len());
    let target = scheme + authority + path;
    let line = request.method().as_str().len() + target + "  HTTP/1.1\r\n".len();
    let fields = request.headers().iter();
    let fields = fields.map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len());
    (line + fields.sum::<usize>() + "\r\n".len()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_as_long_as_clients_write_it() {
        let mut rows = 0;
        for head in [
            "POST http://shop:8080/a?b=c HTTP/1.1\r\nHost: shop:8080\r\nX-A: 1\r\nX-A:  2\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\nEmpty: \r\n\r\n",
            "CONNECT shop:443 HTTP/1.1\r\nHost: shop:443\r\n\r\n",
            "PUT http://[::1]:80/%20 HTTP/1.1\r\n\r\n",
        ] {
            let mut fields = [httparse::EMPTY_HEADER; 8];
            let mut parsed = httparse::Request::new(&mut fields);
            let length = parsed.parse(head.as_bytes()).unwrap().unwrap();
            assert_eq!(length, head.len());
            let mut request = Request::builder()
                .method(parsed.method.unwrap())
                .uri(parsed.path.unwrap());
            for field in parsed.headers {
                request = request.header(field.name, field.value);
            }
            let expected = if head.contains(":  2") {
                length - 1
            } else {
                length
            };
            assert_eq!(
                head_length(&request.body(()).unwrap()),
                expected as u64,
                "{head}"
            );
            rows += 1;
        }
        assert_eq!(rows, 4);
    }
}
