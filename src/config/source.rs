//! A config file as read: its name as shown, its text, and lines and columns in it.

use std::path::Path;

use super::errors::ConfigErrors;

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
    pub(crate) fn position(&self, offset: usize) -> (usize, usize) {
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
