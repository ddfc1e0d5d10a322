//! What is wrong with a config file, said so that it can be mended: file, line, the line itself, a caret, advice.
//!
//! It renders plain text (optionally coloured) in the manner of rustc. Control characters of the file are never
//! printed raw, and long lines are cropped around the caret.

use std::fmt;
use std::ops::Range;
use std::path::Path;

/// A config file as read: its name as shown to users, and its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The file name as shown, for instance `hopspan.yaml`.
    pub name: String,
    /// The whole text, UTF-8.
    pub text: String,
}

impl Source {
    /// A source from its parts.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Source {
        Source {
            name: name.into(),
            text: text.into(),
        }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// Where it cannot be read, is no UTF-8, or is far too large for a config.
    pub fn read(path: &Path) -> Result<Source, ConfigErrors> {
        let content = std::fs::read(path).map_err(|error| Source::unreadable(path, &error))?;
        Source::from_bytes(path, content)
    }

    /// A source from what was read.
    ///
    /// # Errors
    /// Where it is no UTF-8.
    pub fn from_bytes(path: &Path, content: Vec<u8>) -> Result<Source, ConfigErrors> {
        let name = path.display().to_string();
        match String::from_utf8(content) {
            Ok(text) => Ok(Source { name, text }),
            Err(error) => Err(ConfigErrors::whole_file(
                &name,
                format!("byte {} is not UTF-8", error.utf8_error().valid_up_to() + 1),
                Some("save the file as UTF-8"),
            )),
        }
    }

    /// That a file cannot be read, in words.
    pub fn unreadable(path: &Path, error: &std::io::Error) -> ConfigErrors {
        let help = match error.kind() {
            std::io::ErrorKind::NotFound => Some("check the path after --config"),
            std::io::ErrorKind::PermissionDenied => Some("let hopspan's user read it"),
            _ => None,
        };
        ConfigErrors::whole_file(
            &path.display().to_string(),
            format!("cannot be read: {error}"),
            help,
        )
    }

    /// Line and column, both counted from 1 and the column in characters, of a byte offset.
    fn position(&self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..offset).unwrap_or(&self.text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = 1 + before.bytes().filter(|byte| *byte == b'\n').count();
        let column = 1 + before
            .get(line_start..)
            .unwrap_or("")
            .trim_start_matches('\u{feff}')
            .chars()
            .count();
        (line, column)
    }
}

/// A fault found in a file, before it is placed: a byte range in the text (if one is known) and what to say about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Bytes of the source that the caret underlines.
    pub at: Option<Range<usize>>,
    /// Dotted key, as in `inbound.routes[2].path`, shown where there is no position.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub help: Option<String>,
}

/// One mistake, placed and ready to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file as shown.
    pub file: String,
    /// Line, from 1; 0 where the mistake has no place in the file.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub help: Option<String>,
    /// The line of the file, safe to print.
    pub snippet: Option<Snippet>,
}

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

/// Everything wrong with a config, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl std::error::Error for ConfigErrors {}

/// Characters of a line that are shown, at most.
const SHOWN: usize = 120;

impl ConfigErrors {
    /// Places faults in their file, sorted by position; of several on the same spot with the same words, one is kept.
    pub fn place(source: &Source, faults: Vec<Fault>) -> ConfigErrors {
        let mut errors: Vec<ConfigError> = faults
            .into_iter()
            .map(|fault| ConfigError::place(source, fault))
            .collect();
        errors.sort_by_key(|error| (error.line == 0, error.line, error.column));
        errors.dedup();
        ConfigErrors(errors)
    }

    /// One error about the file as a whole.
    pub fn whole_file(file: &str, message: String, help: Option<&str>) -> ConfigErrors {
        ConfigErrors(vec![ConfigError {
            file: file.to_owned(),
            line: 0,
            column: 0,
            message,
            help: help.map(str::to_owned),
            snippet: None,
        }])
    }

    /// Renders all errors, separated by blank lines and without a newline at the end.
    pub fn render(&self, color: bool) -> String {
        let rendered: Vec<String> = self.0.iter().map(|error| error.render(color)).collect();
        rendered.join("\n\n")
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl ConfigError {
    fn place(source: &Source, fault: Fault) -> ConfigError {
        let unplaced = fault.at.is_none() && !fault.path.is_empty();
        let (line, column) = match &fault.at {
            Some(range) => source.position(range.start),
            None => (0, 0),
        };
        ConfigError {
            file: source.name.clone(),
            line,
            column,
            message: if unplaced {
                format!("{}: {}", fault.path, printable(&fault.message))
            } else {
                printable(&fault.message)
            },
            help: fault.help.map(|help| printable(&help)),
            snippet: fault.at.map(|range| snippet(&source.text, range)),
        }
    }

    /// `file:line:column: message`, one line, for logs.
    pub fn one_line(&self) -> String {
        let help = self
            .help
            .as_deref()
            .map_or_else(String::new, |help| format!(" ({help})"));
        format!("{}: {}{help}", self.where_(), self.message)
    }

    fn where_(&self) -> String {
        if self.line == 0 {
            self.file.clone()
        } else {
            format!("{}:{}:{}", self.file, self.line, self.column)
        }
    }

    fn render(&self, color: bool) -> String {
        let paint = |code: &str, text: &str| {
            if color {
                format!("\x1b[{code}m{text}\x1b[0m")
            } else {
                text.to_owned()
            }
        };
        let mut out = format!(
            "{}: {} {}",
            paint("1", &self.where_()),
            paint("1;31", "error:"),
            paint("1", &self.message)
        );
        let number = self.line.to_string();
        let gutter = " ".repeat(number.len());
        if let Some(snippet) = &self.snippet {
            let bar = paint("34", "|");
            let carets = paint("1;31", &"^".repeat(snippet.width));
            let indent = " ".repeat(snippet.indent);
            out.push_str(&format!(
                "\n {} {bar} {}\n {gutter} {bar} {indent}{carets}",
                paint("34", &number),
                snippet.line
            ));
        }
        if let Some(help) = &self.help {
            out.push_str(&format!("\n {gutter} {} {help}", paint("1;36", "help:")));
        }
        out
    }
}

/// The line around `range`, cropped so that the caret is in view.
fn snippet(text: &str, range: Range<usize>) -> Snippet {
    let start = range.start.min(text.len());
    let line_start = text
        .get(..start)
        .and_then(|t| t.rfind('\n'))
        .map_or(0, |at| at + 1);
    let rest = text.get(line_start..).unwrap_or("");
    let line = rest
        .split('\n')
        .next()
        .unwrap_or("")
        .trim_end_matches('\r')
        .trim_start_matches('\u{feff}');
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

/// One character for one: tabs become a space, other control characters (and line separators) a middle dot, so that a
/// file cannot send escape sequences to a terminal.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\t' => ' ',
            c if c.is_control() || ('\u{2028}'..='\u{202e}').contains(&c) => '·',
            c => c,
        })
        .collect()
}

/// The candidate nearest to `word` by edit distance, if near enough to have been meant.
pub fn did_you_mean<'a>(word: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let folded = word.to_lowercase().replace('-', "_");
    candidates
        .iter()
        .map(|candidate| (distance(&folded, candidate), *candidate))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 3).clamp(1, 3))
        .map(|(_, candidate)| candidate)
}

/// Edit distance where a swap of two neighbours counts one (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().take(64).collect();
    let b: Vec<char> = b.chars().take(64).collect();
    let at = |row: &[usize], i: usize| row.get(i).copied().unwrap_or(usize::MAX / 2);
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, cb) in b.iter().enumerate() {
            let mut best = (at(&last, j) + usize::from(ca != cb))
                .min(at(&last, j + 1) + 1)
                .min(at(&row, j) + 1);
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(cb) && b.get(j - 1) == Some(ca);
            if swapped {
                best = best.min(at(&before, j - 1) + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    at(&last, b.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_what_was_meant() {
        let keys = ["path", "app", "timeout", "trace", "ratio", "regex"];
        let rows = [
            ("pth", Some("path")),
            ("paht", Some("path")),
            ("Timeout", Some("timeout")),
            ("time-out", Some("timeout")),
            ("apps", Some("app")),
            ("tracing", None),
            ("banana", None),
        ];
        for (word, meant) in rows {
            assert_eq!(did_you_mean(word, &keys), meant, "{word}");
        }
    }

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
