//! W3C Trace Context level 2: `traceparent` and `tracestate` in, and out again.
//!
//! Strict where the standard is (lower-case hex, no all-zero ID, version ff, one traceparent) and forward-compatible
//! where it asks for it (the first 55 bytes of a later version). `tracestate` members are kept byte for byte and never
//! changed: hopspan has no entry of its own. Reads without allocating unless `tracestate` came on several lines.
//! `baggage` is read by [`super::baggage`]; other formats (B3, Jaeger) are not known here.

use http::header::Entry;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Context, Flags, SpanId, TraceId, baggage};

/// `traceparent`
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// `tracestate`
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Members a `tracestate` may have (level 2, 3.3.1.1); with more it is dropped whole.
pub const MAX_TRACESTATE_MEMBERS: usize = 32;
/// Bytes of the longest list the grammar allows: 32 members of 256 + 1 + 256 bytes and 31 commas. The standard asks to
/// pass on 512 at least; a longer list than this cannot be valid but by white space.
pub const MAX_TRACESTATE_BYTES: usize = 32 * 513 + 31;
/// Bytes of a version 00 `traceparent`.
const TRACEPARENT_BYTES: usize = 55;
/// Bytes of a `tracestate` key, and of a value.
const MAX_PART_BYTES: usize = 256;

/// What the headers of a request say about its trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Extracted {
    /// No `traceparent`. A `tracestate` without one is ignored (level 2, 3.3).
    Absent,
    /// A valid context.
    Valid(Context),
    /// A `traceparent` that is not valid; nothing of it, nor of `tracestate`, may be used. The reason is one of a closed set.
    Malformed(&'static str),
}

/// Reads the trace context of a request. Same as [`extract_reporting`] without the reports.
pub fn extract(headers: &HeaderMap) -> Extracted {
    extract_reporting(headers, |_| {})
}

/// Reads the trace context of a request and calls `report` with the reason of each header that had to be dropped:
/// a malformed `traceparent`, or a `tracestate` or `baggage` beside a valid one. Reasons are a closed set, fit for a label.
pub fn extract_reporting(headers: &HeaderMap, mut report: impl FnMut(&'static str)) -> Extracted {
    let mut lines = headers.get_all(TRACEPARENT).iter();
    let Some(line) = lines.next() else {
        return Extracted::Absent;
    };
    let parsed = if lines.next().is_some() {
        Err("traceparent_repeated")
    } else {
        parse_traceparent(line.as_bytes())
    };
    let (trace_id, span_id, flags) = match parsed {
        Ok(parsed) => parsed,
        Err(reason) => {
            report(reason);
            return Extracted::Malformed(reason);
        }
    };
    let tracestate = tracestate(headers).unwrap_or_else(|reason| {
        report(reason);
        None
    });
    let (baggage, dropped) = baggage::extract(headers);
    if let Some(reason) = dropped {
        report(reason);
    }
    Extracted::Valid(Context {
        trace_id,
        span_id,
        flags,
        tracestate,
        baggage,
    })
}

/// Parses one `traceparent` value (level 2, 3.2); white space around it is not part of it (RFC 9110 5.5).
///
/// Bits of the flags that level 2 does not define are cleared. Fails with a reason of a closed set.
pub fn parse_traceparent(value: &[u8]) -> Result<(TraceId, SpanId, Flags), &'static str> {
    let value = trim_ows(value);
    let Some((head, rest)) = value.split_first_chunk::<TRACEPARENT_BYTES>() else {
        return Err("traceparent_length");
    };
    let part = |from: usize, to: usize| head.get(from..to).unwrap_or_default();
    if [2, 35, 52].map(|at| head.get(at)) != [Some(&b'-'); 3] {
        return Err("traceparent_format");
    }
    match (decode::<1>(part(0, 2)), rest) {
        (None | Some([0xff]), _) => return Err("traceparent_version"),
        (Some([0]), [_, ..]) => return Err("traceparent_length"),
        (Some(_), [] | [b'-', ..]) => {}
        (Some(_), _) => return Err("traceparent_format"),
    }
    // A list that an intermediary made out of several headers.
    if rest.contains(&b',') {
        return Err("traceparent_repeated");
    }
    let trace_id = decode::<16>(part(3, 35))
        .map(TraceId::from_bytes)
        .filter(|id| *id != TraceId::INVALID)
        .ok_or("traceparent_trace_id")?;
    let span_id = decode::<8>(part(36, 52))
        .map(SpanId::from_bytes)
        .filter(|id| *id != SpanId::INVALID)
        .ok_or("traceparent_parent_id")?;
    let [flags] = decode::<1>(part(53, 55)).ok_or("traceparent_flags")?;
    Ok((trace_id, span_id, Flags::from_bits(flags)))
}

/// The `traceparent` of a context, version 00.
pub fn print_traceparent(context: &Context) -> HeaderValue {
    let mut text = [b'-'; TRACEPARENT_BYTES];
    let mut put = |from: usize, to: usize, bytes: &[u8]| {
        if let Some(place) = text.get_mut(from..to) {
            encode(place, bytes);
        }
    };
    put(0, 2, &[0]);
    put(3, 35, &context.trace_id.to_bytes());
    put(36, 52, &context.span_id.to_bytes());
    put(53, 55, &[context.flags.bits()]);
    // Hex digits and dashes always make a header value.
    HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Writes `context` into a request: whatever came before, exactly one `traceparent` (version 00) leaves, and
/// `tracestate` and `baggage` if the context has them and not otherwise. Other spellings (`trace_parent`) are not touched.
pub fn inject(headers: &mut HeaderMap, context: &Context) {
    inject_without_baggage(headers, context);
    put(headers, baggage::BAGGAGE, context.baggage.as_ref());
}

/// [`inject`] that leaves the request's own `baggage` as it is: for destinations that baggage is not restored towards.
pub fn inject_without_baggage(headers: &mut HeaderMap, context: &Context) {
    headers.insert(TRACEPARENT, print_traceparent(context));
    put(headers, TRACESTATE, context.tracestate.as_ref());
}

/// Removes every trace header, baggage too: for destinations that must not learn of the trace.
pub fn strip(headers: &mut HeaderMap) {
    headers.remove(TRACEPARENT);
    headers.remove(TRACESTATE);
    headers.remove(baggage::BAGGAGE);
}

fn put(headers: &mut HeaderMap, name: HeaderName, value: Option<&HeaderValue>) {
    match (value, headers.entry(name)) {
        (Some(value), Entry::Occupied(mut old)) => drop(old.insert_mult(value.clone())),
        (Some(value), Entry::Vacant(free)) => {
            free.insert(value.clone());
        }
        (None, Entry::Occupied(old)) => drop(old.remove_entry_mult()),
        (None, Entry::Vacant(_)) => {}
    }
}

/// `tracestate` of all lines, verbatim; `None` if there is none or it has no member. Fails with the reason for dropping it.
fn tracestate(headers: &HeaderMap) -> Result<Option<HeaderValue>, &'static str> {
    let Some(list) = join(headers, &TRACESTATE) else {
        return Ok(None);
    };
    if list.len() > MAX_TRACESTATE_BYTES {
        return Err("tracestate_bytes");
    }
    let members = check_tracestate(list.as_bytes())?;
    Ok((members > 0).then_some(list))
}

/// All lines of a list header as one value, in order; lines of nothing but white space are left out.
/// One line is shared with the request, not copied.
pub(super) fn join(headers: &HeaderMap, name: &HeaderName) -> Option<HeaderValue> {
    let mut lines = headers
        .get_all(name)
        .iter()
        .filter(|line| !trim_ows(line.as_bytes()).is_empty());
    let first = lines.next()?;
    let Some(second) = lines.next() else {
        return Some(first.clone());
    };
    let mut joined = first.as_bytes().to_vec();
    for line in std::iter::once(second).chain(lines) {
        joined.push(b',');
        joined.extend_from_slice(line.as_bytes());
    }
    // Values and commas between them always make a header value.
    HeaderValue::from_maybe_shared(bytes::Bytes::from(joined)).ok()
}

/// Checks a list by level 2's grammar (3.3.1), gives the number of members that are not empty.
///
/// The keys are level 2's: `@` is a letter like others. (The W3C test-suite still holds them to level 1's `tenant@system`.)
fn check_tracestate(list: &[u8]) -> Result<usize, &'static str> {
    let mut keys: [&[u8]; MAX_TRACESTATE_MEMBERS] = [b""; MAX_TRACESTATE_MEMBERS];
    let mut count = 0;
    for member in list.split(|b| *b == b',') {
        let member = trim_ows(member);
        if member.is_empty() {
            continue;
        }
        let equals = member.iter().position(|b| *b == b'=');
        let Some((key, [_, value @ ..])) = equals.and_then(|at| member.split_at_checked(at)) else {
            return Err("tracestate_format");
        };
        if !is_key(key) {
            return Err("tracestate_key");
        }
        if !is_value(value) {
            return Err("tracestate_value");
        }
        if keys.iter().take(count).any(|known| *known == key) {
            return Err("tracestate_key_repeated");
        }
        let Some(free) = keys.get_mut(count) else {
            return Err("tracestate_members");
        };
        *free = key;
        count += 1;
    }
    Ok(count)
}

fn is_key(key: &[u8]) -> bool {
    key.len() <= MAX_PART_BYTES
        && matches!(key.first(), Some(b'a'..=b'z' | b'0'..=b'9'))
        && key
            .iter()
            .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/' | b'@'))
}

fn is_value(value: &[u8]) -> bool {
    (1..=MAX_PART_BYTES).contains(&value.len())
        && value
            .iter()
            .all(|b| matches!(b, 0x20..=0x2b | 0x2d..=0x3c | 0x3e..=0x7e))
}

/// Without optional white space (RFC 9110 5.6.3: space and tab) at both ends.
pub(super) fn trim_ows(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// Lower-case hex to exactly `N` bytes.
fn decode<const N: usize>(hex: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0_u8; N];
    let (pairs, rest) = hex.as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return None;
    }
    // Looks at every digit before it judges, so that the loop has no branches.
    let mut wrong = 0;
    for (to, [high, low]) in bytes.iter_mut().zip(pairs) {
        let (high, low) = (nibble(*high), nibble(*low));
        wrong |= high | low;
        *to = (high << 4) | (low & 0x0f);
    }
    (wrong <= 0x0f).then_some(bytes)
}

fn nibble(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => 0xff,
    }
}

/// Bytes as lower-case hex, into a place of twice the length.
fn encode(place: &mut [u8], bytes: &[u8]) {
    // Without a branch: letters come 39 later than after the digits.
    let digit = |value: u8| b'0' + value + 39 * u8::from(value > 9);
    let (pairs, _) = place.as_chunks_mut::<2>();
    for ([high, low], byte) in pairs.iter_mut().zip(bytes) {
        *high = digit(byte >> 4);
        *low = digit(byte & 0x0f);
    }
}

#[cfg(test)]
mod tests;
