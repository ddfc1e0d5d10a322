//! Hides secrets in a line of a config before it is shown: values below `headers:`, and user and password in URLs.
//!
//! It goes by the text, not by the parsed tree, since the line that is shown may be the one that is no YAML. Each
//! character becomes one `*`, so that carets stay where they are.

use std::ops::Range;

/// The line that begins at `start`, masked.
pub(crate) fn masked_line(text: &str, start: usize) -> String {
    let line = line_at(text, start);
    let mut shown = line.to_owned();
    if let Some(userinfo) = userinfo(line) {
        shown = mask(&shown, userinfo);
    }
    if let Some(at) = secret_headers(text, start, line) {
        shown = mask(&shown, at + HEADERS.len()..line.len());
    } else if is_below_headers(text, start, line) {
        let from = line.find(':').map_or(0, |colon| colon + 1);
        shown = mask(&shown, from..line.len());
    }
    shown
}

const HEADERS: &str = "headers:";

/// The first `headers:` of a line that may have secrets: not `request_headers` and `response_headers`, which are names, nor
/// `limits.headers`, which is a number, where this line or those above say that it is that.
fn secret_headers(text: &str, start: usize, line: &str) -> Option<usize> {
    let mut keys = line.match_indices(HEADERS).map(|(at, _)| at);
    keys.find(|at| {
        let before = line.get(..*at).unwrap_or("");
        let within = match before.rfind("limits:") {
            Some(limits) => {
                let (section, since) = before.split_at(limits);
                section.chars().all(|c| "{ ,".contains(c)) && !since.contains('}')
            }
            // Nothing else may be on the line: it could belong to another section.
            None => before.trim().is_empty() && section(text, start, line) == Some("limits"),
        };
        !before.ends_with('_') && !within
    })
}

/// The key of the nearest line above that is indented less.
fn section<'t>(text: &'t str, start: usize, line: &str) -> Option<&'t str> {
    let indentation = |line: &str| line.len() - line.trim_start().len();
    let mut above = text.get(..start).unwrap_or("").lines().rev();
    let parent =
        above.find(|above| !above.trim().is_empty() && indentation(above) < indentation(line))?;
    parent.split(':').next().map(str::trim)
}

fn line_at(text: &str, start: usize) -> &str {
    let rest = text.get(start..).unwrap_or("");
    rest.split('\n').next().unwrap_or("").trim_end_matches('\r')
}

/// Between `://` and the last `@` of the authority.
fn userinfo(line: &str) -> Option<Range<usize>> {
    let start = line.find("://")? + 3;
    let rest = line.get(start..)?;
    let end = rest
        .find(|c: char| c.is_whitespace() || "/?#\"'".contains(c))
        .unwrap_or(rest.len());
    let at = rest.get(..end)?.rfind('@')?;
    Some(start..start + at)
}

/// Whether a line above, by indentation, is `headers:`.
fn is_below_headers(text: &str, start: usize, line: &str) -> bool {
    let indentation = |line: &str| line.len() - line.trim_start().len();
    let mut indent = indentation(line);
    for above in text.get(..start).unwrap_or("").lines().rev() {
        if above.trim().is_empty() || indentation(above) >= indent {
            continue;
        }
        if above
            .trim_start()
            .trim_start_matches("- ")
            .starts_with("headers:")
        {
            return true;
        }
        indent = indentation(above);
    }
    false
}

fn mask(line: &str, secret: Range<usize>) -> String {
    line.char_indices()
        .map(|(at, c)| {
            if secret.contains(&at) && !c.is_whitespace() {
                '*'
            } else {
                c
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_headers_and_passwords_are_hidden() {
        let rows = [
            ("export:\n  headers:\n    x-a: abc d", "    x-a: *** *"),
            ("export:\n  headers:\n    x-a: >\n      abc", "      ***"),
            ("export:\n  headers: { a: b }", "  headers: * ** * *"),
            (
                "export: { headers: { a: b, c: d }",
                "export: { headers: * ** ** ** * *",
            ),
            ("exprt:\n  headers: a=b", "  headers: ***"),
            (
                "  endpoint: \"http://u:p@host/x\"",
                "  endpoint: \"http://***@host/x\"",
            ),
            ("  endpoint: http://host/x@y", "  endpoint: http://host/x@y"),
            ("limits:\n  headers: 100", "  headers: 100"),
            ("limits:\n  headers: none", "  headers: none"),
            (
                "limits: {headers: 0, connections: 5x}",
                "limits: {headers: 0, connections: 5x}",
            ),
            (
                "limits: {\n  head_bytes: 1,\n  headers: none, connections: 5 }",
                "  headers: none, connections: 5 }",
            ),
            (
                "{limits: {headers: 0}, export: {headers: {a: b}}}",
                "{limits: {headers: 0}, export: {headers: *** ****",
            ),
            (
                "export: {limits: {headers: ab}}",
                "export: {limits: {headers: ****",
            ),
            ("export:\n  headers: a", "  headers: *"),
            (
                "capture:\n  request_headers: [x-id]",
                "  request_headers: [x-id]",
            ),
            ("export:\n  headers:\n    a: b\nstatus: c", "status: c"),
            (
                "export:\n  headers:\n    a: b\n  timeout: 1s",
                "  timeout: 1s",
            ),
        ];
        for (text, shown) in rows {
            let start = text.rfind('\n').map_or(0, |at| at + 1);
            assert_eq!(masked_line(text, start), shown, "{text}");
        }
    }
}
