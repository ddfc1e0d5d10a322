//! A line of a file, made safe to print: cropped around the caret, without control characters, without secrets.

use std::ops::Range;

use super::secrets::masked_line;

/// A line of the file with what to underline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snippet {
    /// The line (cropped if long), without control characters.
    pub line: String,
    /// Characters before the caret.
    pub indent: usize,
    /// Carets to draw, at least 1.
    pub width: usize,
}

/// Characters of a line that are shown, at most.
const SHOWN: usize = 120;

impl Snippet {
    /// The line around `range`, cropped so that the caret is in view.
    pub(crate) fn of(text: &str, range: Range<usize>) -> Snippet {
        let start = range.start.min(text.len());
        let line_start = text
            .get(..start)
            .and_then(|t| t.rfind('\n'))
            .map_or(0, |at| at + 1);
        let line = masked_line(text, line_start);
        let line = line.trim_start_matches('\u{feff}');
        let before = text
            .get(line_start..start)
            .unwrap_or("")
            .trim_start_matches('\u{feff}')
            .chars()
            .count();
        let marked = text
            .get(range)
            .unwrap_or("")
            .split('\n')
            .next()
            .unwrap_or("");
        let skip = before.saturating_sub(SHOWN / 2);
        let length = line.chars().count();
        let mut shown: String = line.chars().skip(skip).take(SHOWN).collect();
        if length > skip + SHOWN {
            shown.push('…');
        }
        let mut indent = before - skip;
        if skip > 0 {
            shown.insert(0, '…');
            indent += 1;
        }
        let room = shown.chars().count().saturating_sub(indent).max(1);
        Snippet {
            line: printable(&shown),
            indent,
            width: marked.trim_end().chars().count().clamp(1, room),
        }
    }
}

/// One character for one: tabs become a space, other control characters (and line separators) a middle dot, so that a
/// file cannot send escape sequences to a terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\t' => ' ',
            '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '·', // separators, text direction
            c if c.is_control() => '·',
            c => c,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use crate::config::errors::{ConfigErrors, Fault};
    use crate::config::source::Source;

    #[test]
    fn a_hostile_line_is_cropped_and_harmless() {
        let text = format!(
            "a: {}\x1b[31mred\u{2028}{}",
            "x".repeat(500),
            "y".repeat(500)
        );
        let at = text.find("red").unwrap();
        let source = Source::new("f", text);
        let fault = Fault {
            at: Some(at..at + 3),
            path: String::new(),
            message: "bad \x1b[0m thing".to_owned(),
            help: None,
        };
        let shown = ConfigErrors::place(&source, vec![fault]).to_string();
        assert!(
            shown.chars().all(|c| c == '\n' || !c.is_control()),
            "{shown}"
        );
        let lines: Vec<&str> = shown.lines().collect();
        assert!(lines.iter().all(|line| line.chars().count() < 140));
        let caret = lines[2].chars().position(|c| c == '^').unwrap();
        let under: String = lines[1].chars().skip(caret).take(3).collect();
        assert_eq!(under, "red");
    }
}
