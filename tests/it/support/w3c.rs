//! What may leave hopspan as trace context, checked by hand against W3C Trace Context level 2.

use super::message::Head;

/// A valid `traceparent` of version 00, in its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Traceparent {
    pub(crate) trace_id: String,
    pub(crate) parent_id: String,
    pub(crate) flags: u8,
}

impl Traceparent {
    /// The one and only `traceparent` of a request; panics if there is none, several, or it is not valid.
    pub(crate) fn only(head: &Head) -> Traceparent {
        let text = head
            .one("traceparent")
            .unwrap_or_else(|| panic!("no traceparent in\n{}", String::from_utf8_lossy(&head.raw)));
        Traceparent::parse(text).unwrap_or_else(|why| panic!("traceparent {text:?}: {why}"))
    }

    /// Strictly version 00 (3.2.2.3).
    pub(crate) fn parse(text: &str) -> Result<Traceparent, &'static str> {
        let parts: Vec<&str> = text.split('-').collect();
        let [version, trace_id, parent_id, flags] = parts[..] else {
            return Err("not four parts");
        };
        let hex = |part: &str, length: usize| {
            part.len() == length
                && part
                    .bytes()
                    .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        };
        if version != "00" {
            return Err("not version 00");
        }
        if !hex(trace_id, 32) || !hex(parent_id, 16) || !hex(flags, 2) {
            return Err("a part that is not lower-case hex of its length");
        }
        let zero = |part: &str| part.bytes().all(|b| b == b'0');
        if zero(trace_id) || zero(parent_id) {
            return Err("an ID of zeroes");
        }
        Ok(Traceparent {
            trace_id: trace_id.to_owned(),
            parent_id: parent_id.to_owned(),
            flags: u8::from_str_radix(flags, 16).map_err(|_| "flags")?,
        })
    }
}
