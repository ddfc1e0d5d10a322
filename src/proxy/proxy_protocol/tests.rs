//! A row per rule: the section of proxy-protocol.txt, the bytes, what they are.

use super::*;

fn v2(command: u8, family: u8, length: u16, rest: &[u8]) -> Vec<u8> {
    let mut bytes = SIGNATURE.to_vec();
    bytes.extend([command, family]);
    bytes.extend(length.to_be_bytes());
    bytes.extend(rest);
    bytes
}

fn from(text: &str) -> Result<Origin, &'static str> {
    Ok(Origin::Client(text.parse().unwrap()))
}

const V4: &[u8] = &[192, 0, 2, 1, 198, 51, 100, 2, 0xdc, 0x04, 0x01, 0xbb];
const ADDRESSES: &str = "its addresses make no sense";
const PORTS: &str = "its ports make no sense";
const SHORT: &str = "its addresses are cut short";
const CHECKSUM: &str = "its checksum is wrong";

fn v6() -> Vec<u8> {
    let mut rest = [0u8; 36];
    rest[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
    rest[15] = 1;
    rest[32..].copy_from_slice(&[0, 80, 1, 0xbb]);
    rest.to_vec()
}

/// Type-length-values behind the addresses of version 2: ALPN, an unknown one, NOOP.
fn with_values() -> Vec<u8> {
    let mut rest = V4.to_vec();
    rest.extend(b"\x01\x00\x02h2\xe0\x00\x03abc\x04\x00\x00");
    let length = rest.len() as u16;
    v2(0x21, 0x11, length, &rest)
}

/// A header over IPv4 with these values, and the right checksum for four bytes at `sum`.
fn summed(values: &[u8], sum: usize) -> Vec<u8> {
    let rest = [V4, values].concat();
    let mut bytes = v2(0x21, 0x11, rest.len() as u16, &rest);
    let at = FIXED + V4.len() + sum;
    bytes[at..at + 4].fill(0);
    let right = values::crc32c(bytes.iter());
    bytes[at..at + 4].copy_from_slice(&right.to_be_bytes());
    bytes
}

/// The same without a checksum that is made right.
fn valued(values: &[u8]) -> Vec<u8> {
    let rest = [V4, values].concat();
    v2(0x21, 0x11, rest.len() as u16, &rest)
}

#[test]
fn the_checksum_is_that_of_rfc_9260() {
    // Its appendix has no example; RFC 3720 section B.4 has.
    assert_eq!(values::crc32c([0; 32].iter()), 0x8a91_36aa);
    assert_eq!(values::crc32c([0xff; 32].iter()), 0x62a8_ab43);
    assert_eq!(values::crc32c(b"123456789".iter()), 0xe306_9283);
}

#[test]
fn headers_are_what_the_specification_says() {
    let longest = format!(
        "PROXY UNKNOWN {}\r\n",
        "f".repeat(MAX_LINE - "PROXY UNKNOWN \r\n".len())
    );
    let line = |text: &str| format!("PROXY {text}\r\n").into_bytes();
    let sum = b"\x01\x00\x02h2\x03\x00\x04....\xe0\x00\x03abc";
    let mut flipped = summed(sum, 8);
    *flipped.last_mut().unwrap() ^= 1;
    let tls = b"\x20\x00\x0f\x07\x00\x00\x00\x00\x21\x00\x07TLSv1.3\x03\x00\x04....";
    let unix = vec![0; 216];
    #[rustfmt::skip]
    let rows: Vec<(&str, Vec<u8>, Result<Origin, &'static str>)> = vec![
        ("2.1 TCP4", line("TCP4 192.0.2.1 198.51.100.2 56324 443"), from("192.0.2.1:56324")),
        ("2.1 TCP6", line("TCP6 2001:db8::1 ::1 0 65535"), from("[2001:db8::1]:0")),
        ("2.1 UNKNOWN", line("UNKNOWN"), Ok(Origin::Peer)),
        ("2.1 UNKNOWN, the rest is ignored", line("UNKNOWN ffff::1 x y"), Ok(Origin::Peer)),
        ("2.1 107 bytes at most", longest.into_bytes(), Ok(Origin::Peer)),
        ("2.1 108 bytes", format!("PROXY UNKNOWN {}\r\n", "f".repeat(92)).into_bytes(), Err("its first line is too long")),
        ("2.1 CR LF ends it", b"PROXY TCP4 192.0.2.1 198.51.100.2 1 2\nGET / HTTP/1.1\r\n".to_vec(), Err(PORTS)),
        ("2.1 one space", line("TCP4  192.0.2.1 198.51.100.2 1 2"), Err(ADDRESSES)),
        ("2.1 nothing behind the ports", line("TCP4 192.0.2.1 198.51.100.2 1 2 "), Err(PORTS)),
        ("2.1 families are in capitals", line("tcp4 192.0.2.1 198.51.100.2 1 2"), Err(ADDRESSES)),
        ("2.1 UDP is not known", line("UDP4 192.0.2.1 198.51.100.2 1 2"), Err(ADDRESSES)),
        ("2.1 the family's own addresses", line("TCP4 ::1 ::1 1 2"), Err(ADDRESSES)),
        ("2.1 the family's own addresses, other way", line("TCP6 192.0.2.1 192.0.2.1 1 2"), Err(ADDRESSES)),
        ("2.1 no leading zeroes in an address", line("TCP4 192.0.02.1 198.51.100.2 1 2"), Err(ADDRESSES)),
        ("2.1 no leading zeroes in a port", line("TCP4 192.0.2.1 198.51.100.2 01 2"), Err(PORTS)),
        ("2.1 no sign in a port", line("TCP4 192.0.2.1 198.51.100.2 +1 2"), Err(PORTS)),
        ("2.1 ports to 65535", line("TCP4 192.0.2.1 198.51.100.2 65536 2"), Err(PORTS)),
        ("2.1 both ports", line("TCP4 192.0.2.1 198.51.100.2 1"), Err(PORTS)),
        ("2.1 in capitals", b"proxy UNKNOWN\r\n".to_vec(), Err("there is no header")),
        ("2.2 LOCAL", v2(0x20, 0x00, 0, b""), Ok(Origin::Peer)),
        ("2.2 LOCAL, addresses are ignored", v2(0x20, 0x11, 12, V4), Ok(Origin::Peer)),
        ("2.2 TCP over IPv4", v2(0x21, 0x11, 12, V4), from("192.0.2.1:56324")),
        ("2.2 TCP over IPv6", v2(0x21, 0x21, 36, &v6()), from("[2001:db8::1]:80")),
        ("2.2 values are skipped", with_values(), from("192.0.2.1:56324")),
        ("2.2 a value of nothing, then the end", valued(b"\x04\x00\x00"), from("192.0.2.1:56324")),
        ("2.2 a value longer than the header", valued(b"\xe0\xff\xffabc"), from("192.0.2.1:56324")),
        ("2.2 a type without a length", valued(b"\x03\x00"), from("192.0.2.1:56324")),
        ("2.2 a checksum cut short", valued(b"\x03\x00\x04..."), from("192.0.2.1:56324")),
        ("2.2 a checksum within another value", valued(b"\xe0\x00\x07\x03\x00\x04...."), from("192.0.2.1:56324")),
        ("2.2.3 a checksum", summed(sum, 8), from("192.0.2.1:56324")),
        ("2.2.3 a checksum behind nested values", summed(tls, 21), from("192.0.2.1:56324")),
        ("2.2.3 a checksum of other bytes", flipped, Err(CHECKSUM)),
        ("2.2.3 a wrong checksum", valued(sum), Err(CHECKSUM)),
        ("2.2.3 a checksum of two bytes", valued(b"\x03\x00\x02.."), Err(CHECKSUM)),
        ("2.2 UNSPEC", v2(0x21, 0x00, 0, b""), Ok(Origin::Peer)),
        ("2.2 UDP over IPv4", v2(0x21, 0x12, 12, V4), Ok(Origin::Peer)),
        ("2.2 UDP over IPv6", v2(0x21, 0x22, 36, &v6()), Ok(Origin::Peer)),
        ("2.2 UNIX stream", v2(0x21, 0x31, 216, &unix), Ok(Origin::Peer)),
        ("2.2 UNIX datagram", v2(0x21, 0x32, 216, &unix), Ok(Origin::Peer)),
        ("2.2 UNIX cut short", v2(0x21, 0x31, 215, &unix[1..]), Err(SHORT)),
        ("2.2 IPv4 cut short", v2(0x21, 0x11, 11, &V4[1..]), Err(SHORT)),
        ("2.2 IPv6 cut short", v2(0x21, 0x21, 12, V4), Err(SHORT)),
        ("2.2 version 1 in binary", v2(0x11, 0x11, 12, V4), Err("its version or command is unknown")),
        ("2.2 version 3", v2(0x31, 0x11, 12, V4), Err("its version or command is unknown")),
        ("2.2 an unknown command", v2(0x22, 0x11, 12, V4), Err("its version or command is unknown")),
        ("2.2 an unknown family", v2(0x21, 0x41, 12, V4), Err("its address family is unknown")),
        ("2.2 an unknown transport", v2(0x21, 0x13, 12, V4), Err("its address family is unknown")),
        ("2.2 longer than we read", v2(0x21, 0x11, 4097, V4), Err("its header is too long")),
        ("4 no header", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), Err("there is no header")),
        ("4 TLS", b"\x16\x03\x01\x00\xa5".to_vec(), Err("there is no header")),
        ("4 two empty lines before a request", b"\r\n\r\nGET / HTTP/1.1\r\n\r\n".to_vec(), Err("there is no header")),
    ];
    let count = rows.len();
    for (rule, bytes, wanted) in rows {
        let told = parse(&bytes).map(|found| found.expect(rule));
        let behind = 19;
        match wanted {
            Ok(wanted) => {
                assert_eq!(told, Ok((wanted, bytes.len())), "{rule}");
                // What follows is not looked at, and one byte less is not enough.
                let more = [&bytes[..], &[b'x'; 19]].concat();
                assert_eq!(
                    parse(&more),
                    Ok(Some((wanted, more.len() - behind))),
                    "{rule}"
                );
                for cut in 0..bytes.len() {
                    assert_eq!(parse(&bytes[..cut]), Ok(None), "{rule} cut at {cut}");
                }
            }
            Err(why) => assert_eq!(told, Err(why), "{rule}"),
        }
    }
    assert!(count >= 50, "{count}");
}

proptest::proptest! {
    /// Whatever comes: no panic, and an answer before the bound.
    #[test]
    fn any_bytes_are_decided_within_the_bound(
        start in proptest::sample::select(vec![0usize, 1, 2]),
        rest in proptest::collection::vec(proptest::num::u8::ANY, 0..5000),
    ) {
        let begun: &[u8] = [&b""[..], SIGNATURE, WORD][start];
        let bytes = [begun, &rest].concat();
        let decided = parse(&bytes);
        if let Ok(Some((_, length))) = decided {
            proptest::prop_assert!(length <= bytes.len());
        }
        if bytes.len() >= FIXED + MAX_REST {
            proptest::prop_assert!(!matches!(decided, Ok(None)));
        }
    }
}

#[tokio::test]
async fn what_follows_the_header_is_kept() {
    let (mut client, mut socket) = tokio::io::duplex(7);
    let sent = tokio::spawn(async move {
        let bytes = [&with_values()[..], b"GET /"].concat();
        tokio::io::AsyncWriteExt::write_all(&mut client, &bytes)
            .await
            .unwrap();
    });
    let (origin, mut ahead) = read(&mut socket).await.unwrap();
    assert_eq!(Ok(origin), from("192.0.2.1:56324"));
    socket.read_to_end(&mut ahead).await.unwrap();
    assert_eq!(ahead, b"GET /");
    sent.await.unwrap();
}
