//! Requests read by the letter of RFC 9112: whatever two servers could read in two ways is an error.

use std::ops::ControlFlow;

/// A request as the app gets it. Text is Latin-1, so that a character is a byte.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) line: String,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Whether all of it is there.
    pub(crate) complete: bool,
}

impl Seen {
    /// The values of a field.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let fields = self.fields.iter();
        fields
            .filter(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
            .collect()
    }
}

/// Bytes as Latin-1.
pub(crate) fn latin(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

/// A character of a token (RFC 9110 section 5.6.2).
pub(crate) fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// A byte that may stand in a field value (RFC 9110 section 5.5).
pub(crate) fn is_value(byte: u8) -> bool {
    byte == b'\t' || (0x20..=0x7e).contains(&byte) || byte >= 0x80
}

/// All requests on a connection; the last may be incomplete.
pub(crate) fn requests(bytes: &[u8]) -> Result<Vec<Seen>, String> {
    let mut rest = bytes;
    let mut seen = Vec::new();
    while !rest.is_empty() {
        let mut request = Seen::default();
        match one(&mut rest, &mut request)? {
            ControlFlow::Continue(()) => request.complete = true,
            ControlFlow::Break(()) => rest = &[],
        }
        seen.push(request);
    }
    Ok(seen)
}

/// Whether there was enough.
type Read = Result<ControlFlow<()>, String>;

const SHORT: Read = Ok(ControlFlow::Break(()));
const WHOLE: Read = Ok(ControlFlow::Continue(()));

/// A line that ends in CRLF and holds no other CR or LF.
fn line<'a>(rest: &mut &'a [u8]) -> Result<Option<&'a [u8]>, String> {
    let Some(end) = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
        return Ok(None);
    };
    match rest[end..] {
        [b'\r'] => Ok(None),
        [b'\r', b'\n', ..] => {
            let line = &rest[..end];
            *rest = &rest[end + 2..];
            Ok(Some(line))
        }
        _ => Err(format!("a line does not end in CRLF: {:?}", latin(rest))),
    }
}

fn one(rest: &mut &[u8], request: &mut Seen) -> Read {
    let Some(start) = line(rest)? else {
        return SHORT;
    };
    request.line = latin(start);
    check_line(start)?;
    loop {
        let Some(field) = line(rest)? else {
            return SHORT;
        };
        if field.is_empty() {
            break;
        }
        request.fields.push(check_field(field)?);
    }
    body(rest, request)
}

fn check_line(start: &[u8]) -> Result<(), String> {
    let parts: Vec<&[u8]> = start.split(|byte| *byte == b' ').collect();
    let [method, target, version] = parts[..] else {
        return Err(format!("not three parts: {:?}", latin(start)));
    };
    let is_good = !method.is_empty()
        && method.iter().copied().all(is_tchar)
        && !target.is_empty()
        && target.iter().all(|byte| *byte > 0x20 && *byte != 0x7f)
        && (target[0] == b'/' || (target == b"*" && method == b"OPTIONS"))
        && matches!(version, b"HTTP/1.1" | b"HTTP/1.0");
    if is_good {
        return Ok(());
    }
    Err(format!("a bad request line: {:?}", latin(start)))
}

fn check_field(field: &[u8]) -> Result<(String, String), String> {
    let bad = || format!("a bad field: {:?}", latin(field));
    let colon = field
        .iter()
        .position(|byte| *byte == b':')
        .ok_or_else(bad)?;
    let (name, value) = (&field[..colon], field[colon + 1..].trim_ascii());
    let is_good = !name.is_empty()
        && name.iter().copied().all(is_tchar)
        && value.iter().copied().all(is_value);
    if !is_good {
        return Err(bad());
    }
    Ok((latin(name), latin(value)))
}

fn body(rest: &mut &[u8], request: &mut Seen) -> Read {
    let (hosts, lengths) = (request.all("host"), request.all("content-length"));
    let codings = request.all("transfer-encoding");
    let is_10 = request.line.ends_with("1.0");
    let framing_is_good = hosts.len() <= 1
        && (is_10 || hosts.len() == 1)
        && lengths.len() + codings.len() <= 1
        && codings.iter().all(|coding| *coding == "chunked" && !is_10);
    if !framing_is_good {
        return Err(format!("ambiguous: {request:?}"));
    }
    for option in request.all("connection") {
        if !["upgrade", "te", "close"].contains(&&*option.to_ascii_lowercase()) {
            return Err(format!("a connection option: {option}"));
        }
    }
    if codings.len() == 1 {
        return chunks(rest, request);
    }
    let Some(length) = lengths.first() else {
        return WHOLE;
    };
    if length.is_empty() || !length.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("a bad length: {length:?}"));
    }
    let length: usize = length.parse().map_err(|_| "a huge length")?;
    let have = length.min(rest.len());
    request.body = rest[..have].to_vec();
    *rest = &rest[have..];
    if have < length { SHORT } else { WHOLE }
}

fn chunks(rest: &mut &[u8], request: &mut Seen) -> Read {
    loop {
        let Some(size) = line(rest)? else {
            return SHORT;
        };
        let size = latin(size);
        let digits = !size.is_empty() && size.bytes().all(|byte| byte.is_ascii_hexdigit());
        let (true, Ok(count)) = (digits, usize::from_str_radix(&size, 16)) else {
            return Err(format!("a bad chunk size: {size:?}"));
        };
        let have = count.min(rest.len());
        request.body.extend(&rest[..have]);
        *rest = &rest[have..];
        if have < count {
            return SHORT;
        }
        match line(rest)? {
            None => return SHORT,
            Some(b"") if count == 0 => return WHOLE,
            Some(b"") => {}
            Some(more) => return Err(format!("after a chunk: {:?}", latin(more))),
        }
    }
}

#[test]
fn it_takes_no_ambiguity() {
    let good = b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\nGET /b HTTP/1.1\r\nHost";
    let seen = requests(good).unwrap();
    assert_eq!(seen.len(), 2);
    assert!(seen[0].complete && seen[0].body == b"hi" && !seen[1].complete);
    let bad: &[&[u8]] = &[
        b"GET /a HTTP/1.1\nHost: a\r\n\r\n",
        b"GET  /a HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost : a\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: a\r\n b\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        b"GET /a HTTP/1.1\r\nX: a\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: x\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2;x\r\nhi\r\n",
        b"GET /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\n\r\n",
    ];
    for bytes in bad {
        assert!(requests(bytes).is_err(), "{}", latin(bytes));
    }
}
