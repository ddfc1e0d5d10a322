//! A complaint about a value together with what to write instead, made to pass through serde's string-only errors.

use std::fmt;

/// What separates message and help in [`Advice`]'s text.
const SEPARATOR: &str = "\nhelp: ";

/// What is wrong with a value, and what to write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Advice {
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub help: String,
}

impl Advice {
    /// An advice from its parts.
    pub fn new(message: impl Into<String>, help: impl Into<String>) -> Advice {
        Advice {
            message: message.into(),
            help: help.into(),
        }
    }

    /// Adds another way out to the help.
    #[must_use]
    pub fn or(mut self, way: &str) -> Advice {
        self.help = format!("{}; or {way}", self.help);
        self
    }

    /// Splits a text that may have been an advice into message and help.
    pub(crate) fn split(text: &str) -> (String, Option<String>) {
        match text.split_once(SEPARATOR) {
            Some((message, help)) => (message.to_owned(), Some(help.to_owned())),
            None => (text.to_owned(), None),
        }
    }
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{SEPARATOR}{}", self.message, self.help)
    }
}
