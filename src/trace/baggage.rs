//! W3C Baggage: read for its limits, passed on byte for byte.
//!
//! hopspan puts nothing in and takes nothing out; members are not decoded. Over a limit the whole is dropped, since a
//! part of it would be a lie about what was sent (W3C Baggage 3.3.2 lets a platform that cannot pass all on decide).

use http::{HeaderMap, HeaderName, HeaderValue};

use super::w3c::{join, trim_ows};

/// `baggage`
pub const BAGGAGE: HeaderName = HeaderName::from_static("baggage");

/// Bytes of all lines together, commas between them included.
pub const MAX_BYTES: usize = 8192;
/// Members of all lines together; empty ones do not count.
pub const MAX_MEMBERS: usize = 64;

/// The baggage of a request: its lines joined, and the reason (of a closed set) if it was dropped.
pub fn extract(headers: &HeaderMap) -> (Option<HeaderValue>, Option<&'static str>) {
    let Some(list) = join(headers, &BAGGAGE) else {
        return (None, None);
    };
    if list.len() > MAX_BYTES {
        return (None, Some("baggage_bytes"));
    }
    let members = list
        .as_bytes()
        .split(|b| *b == b',')
        .filter(|member| !trim_ows(member).is_empty())
        .count();
    match members {
        0 => (None, None),
        1..=MAX_MEMBERS => (Some(list), None),
        _ => (None, Some("baggage_members")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_hold_over_all_lines() {
        let long = format!("k={}", "v".repeat(4094));
        let one_less = format!("k={}", "v".repeat(4093));
        let many = vec!["a=1"; 32].join(",");
        let one_more = format!("{many},b=2");
        type Kept = Result<Option<usize>, &'static str>;
        let rows: &[(&str, &[&str], Kept)] = &[
            ("none", &[], Ok(None)),
            ("empty", &["", " "], Ok(None)),
            ("one", &["userId=alice;prop=1, b=%20"], Ok(Some(26))),
            ("8192 bytes", &[&long, &one_less], Ok(Some(8192))),
            ("8193 bytes", &[&long, &long], Err("baggage_bytes")),
            ("64 members", &[&many, &many], Ok(Some(255))),
            ("65 members", &[&many, &one_more], Err("baggage_members")),
        ];
        let mut ran = 0;
        for (case, lines, want) in rows {
            let mut headers = HeaderMap::new();
            for line in *lines {
                headers.append(BAGGAGE, HeaderValue::from_str(line).unwrap());
            }
            let (kept, dropped) = extract(&headers);
            let have = dropped.map_or(Ok(kept.map(|v| v.len())), Err);
            assert_eq!(have, *want, "{case}");
            ran += 1;
        }
        assert_eq!(ran, 7);
    }
}
