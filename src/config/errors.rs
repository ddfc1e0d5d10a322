//! What is wrong with a config file, said so that it can be mended: file, line, the line itself, a caret, advice.
//!
//! It renders plain text (optionally coloured) in the manner of rustc. Control characters of the file are never
//! printed raw, and long lines are cropped around the caret.

use std::fmt;
use std::ops::Range;

use super::snippet::{Snippet, printable};
use super::source::Source;

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

/// Everything wrong with a config, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl std::error::Error for ConfigErrors {}

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
        let message = shortened(printable(&fault.message));
        ConfigError {
            file: source.name.clone(),
            line,
            column,
            message: if unplaced {
                format!("{}: {message}", fault.path)
            } else {
                message
            },
            help: fault.help.map(|help| shortened(printable(&help))),
            snippet: fault.at.map(|range| Snippet::of(&source.text, range)),
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

/// A message repeats what was written, which may be long.
fn shortened(text: String) -> String {
    const LONGEST: usize = 300;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or("")),
        None => text,
    }
}
