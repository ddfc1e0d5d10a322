//! Takes secrets out of URLs before they become attributes (`url.query`, `url.full`).
//!
//! By the HTTP conventions' list of sensitive query keys, and the user's own. The request itself is never changed.
//! Secrets in paths are not found: routes keep those out of span names.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// What stands in a secret's place.
pub const REDACTED: &str = "REDACTED";

/// Query keys whose values are credentials (HTTP conventions, `url.full` and `url.query`), and AWS's current ones.
/// Compared by case, as the conventions ask.
pub const SENSITIVE_KEYS: [&str; 7] = [
    "AWSAccessKeyId",
    "Signature",
    "sig",
    "X-Goog-Signature",
    "X-Amz-Credential",
    "X-Amz-Signature",
    "X-Amz-Security-Token",
];

/// `query` (without `?`) with the values of sensitive keys replaced. `extra` are the user's keys, compared without
/// case. Borrows when there is nothing to hide.
pub fn query<'a>(query: &'a str, extra: &[String]) -> Cow<'a, str> {
    let is_secret = |pair: &str| {
        pair.split_once('=')
            .is_some_and(|(key, value)| !value.is_empty() && is_sensitive(key, extra))
    };
    if !query.split('&').any(is_secret) {
        return Cow::Borrowed(query);
    }
    let mut out = String::with_capacity(query.len());
    for (at, pair) in query.split('&').enumerate() {
        if at > 0 {
            out.push('&');
        }
        match pair.split_once('=') {
            Some((key, _)) if is_secret(pair) => {
                out.push_str(key);
                out.push('=');
                out.push_str(REDACTED);
            }
            _ => out.push_str(pair),
        }
    }
    Cow::Owned(out)
}

fn is_sensitive(key: &str, extra: &[String]) -> bool {
    // An encoded letter must not hide a key.
    let key: Cow<'_, str> = if key.contains('%') {
        percent_decode_str(key).decode_utf8_lossy()
    } else {
        Cow::Borrowed(key)
    };
    SENSITIVE_KEYS.contains(&&*key) || extra.iter().any(|own| own.eq_ignore_ascii_case(&key))
}

/// `url` with user name and password replaced (`https://REDACTED:REDACTED@host/`). Borrows when there are none.
pub fn userinfo(url: &str) -> Cow<'_, str> {
    let Some((scheme, rest)) = url.split_once("://") else {
        return Cow::Borrowed(url);
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    // The last @ ends the userinfo: a password may hold one that was not encoded.
    let Some((user, host)) = authority.rsplit_once('@') else {
        return Cow::Borrowed(url);
    };
    let tail = rest.get(authority.len()..).unwrap_or_default();
    let password = if user.contains(':') { ":REDACTED" } else { "" };
    Cow::Owned(format!("{scheme}://{REDACTED}{password}@{host}{tail}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_in_queries() {
        let extra = ["token".to_owned()];
        let rows = [
            ("", ""),
            ("a=1&b=2", "a=1&b=2"),
            ("sig=abc", "sig=REDACTED"),
            ("sig=abc=&x=1", "sig=REDACTED&x=1"),
            (
                "x=1&Signature=a&sig=b",
                "x=1&Signature=REDACTED&sig=REDACTED",
            ),
            (
                "AWSAccessKeyId=AKIA&X-Goog-Signature=x",
                "AWSAccessKeyId=REDACTED&X-Goog-Signature=REDACTED",
            ),
            (
                "X-Amz-Signature=a&X-Amz-Credential=b&X-Amz-Security-Token=c&X-Amz-Date=d",
                "X-Amz-Signature=REDACTED&X-Amz-Credential=REDACTED&X-Amz-Security-Token=REDACTED&X-Amz-Date=d",
            ),
            ("SIG=abc", "SIG=abc"),
            ("Token=abc&tokens=2", "Token=REDACTED&tokens=2"),
            ("s%69g=abc", "s%69g=REDACTED"),
            ("sig&sig=&=sig", "sig&sig=&=sig"),
            ("%zz=%&&&sig=é", "%zz=%&&&sig=REDACTED"),
        ];
        let mut ran = 0;
        for (given, want) in rows {
            let have = query(given, &extra);
            assert_eq!(have, want);
            assert_eq!(matches!(have, Cow::Borrowed(_)), given == want, "{given}");
            ran += 1;
        }
        assert_eq!(ran, 12);
    }

    #[test]
    fn secrets_in_authorities() {
        let rows = [
            ("http://host/a@b", "http://host/a@b"),
            ("http://host?u=a@b", "http://host?u=a@b"),
            ("/path@x", "/path@x"),
            (
                "https://user:pass@host:8/x?y",
                "https://REDACTED:REDACTED@host:8/x?y",
            ),
            ("https://user@host", "https://REDACTED@host"),
            ("https://u:p@ss@host/", "https://REDACTED:REDACTED@host/"),
            ("https://@/", "https://REDACTED@/"),
        ];
        for (given, want) in rows {
            assert_eq!(userinfo(given), want);
        }
    }
}
