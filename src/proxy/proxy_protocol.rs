//! The PROXY protocol, versions 1 and 2 (HAProxy's `proxy-protocol.txt`): a load balancer that passes bytes on says, before
//! the first of them, whose connection it is.
//!
//! Read only from peers that the config names, and then demanded: the specification forbids guessing whether a header is
//! there. Type-length-values (section 2.2) are skipped, whatever they hold, but for a checksum of the header, which must be
//! right. Nothing is sent with it: hopspan is a receiver only.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt};

mod values;

/// How version 2 begins (section 2.2).
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2's signature, version and command, family and transport, length.
const FIXED: usize = 16;
/// Addresses and type-length-values of version 2: what load balancers send is far below it.
const MAX_REST: usize = 4096;
/// Version 1, with its line end (section 2.1).
const MAX_LINE: usize = 107;
const WORD: &[u8] = b"PROXY ";

/// Whose connection it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// This client's.
    Client(SocketAddr),
    /// The load balancer's own (a health check), or nobody's that has an IP address.
    Peer,
}

/// Why the connection cannot be served.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// It ended before the header began: a health check by TCP alone.
    Silent,
    /// There is no header, or not a whole one, or one that makes no sense.
    Malformed(&'static str),
}

/// Reads the header. Gives whose connection it is, and what was read of the bytes behind it. For as long as it takes: the
/// caller sets the deadline.
pub(crate) async fn read<S: AsyncRead + Unpin>(
    socket: &mut S,
) -> Result<(Origin, Vec<u8>), Refusal> {
    let mut bytes = Vec::new();
    loop {
        let read: io::Result<usize> = socket.read_buf(&mut bytes).await;
        match read {
            Ok(0) | Err(_) if bytes.is_empty() => return Err(Refusal::Silent),
            Ok(0) | Err(_) => return Err(Refusal::Malformed("it ends within its header")),
            Ok(_) => {}
        }
        if let Some((origin, length)) = parse(&bytes).map_err(Refusal::Malformed)? {
            return Ok((origin, bytes.split_off(length)));
        }
    }
}

/// The header that `bytes` begin with, and its length; `None` where more is needed. Never asks for more than
/// [`FIXED`] and [`MAX_REST`].
fn parse(bytes: &[u8]) -> Result<Option<(Origin, usize)>, &'static str> {
    if agree(bytes, SIGNATURE) {
        return version_2(bytes);
    }
    if agree(bytes, WORD) {
        return version_1(bytes);
    }
    Err("there is no header")
}

/// Whether one begins with the other.
fn agree(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.iter().zip(wanted).all(|(a, b)| a == b)
}

fn version_1(bytes: &[u8]) -> Result<Option<(Origin, usize)>, &'static str> {
    let within = bytes.get(..MAX_LINE).unwrap_or(bytes);
    let Some(end) = within.windows(2).position(|pair| pair == b"\r\n") else {
        return match bytes.len() >= MAX_LINE {
            true => Err("its first line is too long"),
            false => Ok(None),
        };
    };
    let line = within.get(WORD.len()..end).unwrap_or_default();
    let line = std::str::from_utf8(line).map_err(|_| "its first line is no text")?;
    Ok(Some((origin_of(line)?, end + 2)))
}

/// What follows `PROXY `: a family, two addresses, two ports; each behind exactly one space.
fn origin_of(line: &str) -> Result<Origin, &'static str> {
    let mut words = line.split(' ');
    let family = words.next();
    if family == Some("UNKNOWN") {
        // Whatever follows is to be ignored.
        return Ok(Origin::Peer);
    }
    let mut next = || words.next().unwrap_or_default();
    let (source, destination) = (next(), next());
    let is_ip = |text: &str| match family {
        Some("TCP4") => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        Some("TCP6") => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        _ => None,
    };
    let (Some(source), Some(_)) = (is_ip(source), is_ip(destination)) else {
        return Err("its addresses make no sense");
    };
    let (from, to) = (port(next()), port(next()));
    match (from, to, words.next()) {
        (Some(from), Some(_), None) => Ok(Origin::Client(SocketAddr::new(source, from))),
        _ => Err("its ports make no sense"),
    }
}

/// Decimal, without signs or leading zeroes.
fn port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let padded = text.len() > 1 && text.starts_with('0');
    text.parse().ok().filter(|_| plain && !padded)
}

fn version_2(bytes: &[u8]) -> Result<Option<(Origin, usize)>, &'static str> {
    let Some((fixed, rest)) = bytes.split_at_checked(FIXED) else {
        return Ok(None);
    };
    let [.., command, family, high, low] = *fixed else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > MAX_REST {
        return Err("its header is too long");
    }
    let is_local = match command {
        0x20 => true,
        0x21 => false,
        _ => return Err("its version or command is unknown"),
    };
    let Some(rest) = rest.get(..length) else {
        return Ok(None);
    };
    let (origin, addresses) = match family {
        // LOCAL: whatever follows is to be ignored.
        _ if is_local => (Some(Origin::Peer), rest.len()),
        0x11 => (client(rest, 4), 12),
        0x21 => (client(rest, 16), 36),
        // Whatever follows is no address, and where values begin nobody knows.
        0x00 => (Some(Origin::Peer), rest.len()),
        // Not a TCP client's: datagrams, unix sockets.
        0x12 => (Some(Origin::Peer), 12),
        0x22 => (Some(Origin::Peer), 36),
        0x31 | 0x32 => (Some(Origin::Peer), 216),
        _ => return Err("its address family is unknown"),
    };
    let header = bytes.get(..FIXED + length).unwrap_or_default();
    let origin = origin.filter(|_| rest.len() >= addresses);
    let origin = origin.ok_or("its addresses are cut short")?;
    if !values::is_intact(header, FIXED + addresses) {
        return Err("its checksum is wrong");
    }
    Ok(Some((origin, FIXED + length)))
}

/// Source and destination addresses of `width` bytes, then the source's port and the destination's.
fn client(rest: &[u8], width: usize) -> Option<Origin> {
    let rest = rest.get(..2 * width + 4)?;
    let (source, others) = rest.split_at_checked(width)?;
    let ports = others.get(width..)?;
    let source = match width {
        4 => IpAddr::from(<[u8; 4]>::try_from(source).ok()?),
        _ => IpAddr::from(<[u8; 16]>::try_from(source).ok()?),
    };
    let port = u16::from_be_bytes(ports.get(..2)?.try_into().ok()?);
    Some(Origin::Client(SocketAddr::new(source, port)))
}

#[cfg(test)]
mod tests;
