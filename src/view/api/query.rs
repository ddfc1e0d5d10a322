//! The parameters of an API request.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Refusal, bad};

/// Longest `wait`.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// The parameters of a request.
pub(super) struct Query(BTreeMap<String, String>);

impl Query {
    /// Decodes a query string; of a name that occurs twice the last value counts.
    pub(super) fn parse(text: &str) -> Result<Query, Refusal> {
        let mut parameters = BTreeMap::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, "1"));
            let value = percent_encoding::percent_decode_str(&value.replace('+', " "))
                .decode_utf8()
                .map_err(|_| bad(format!("`{name}` is not UTF-8")))?
                .into_owned();
            parameters.insert(name.to_owned(), value);
        }
        Ok(Query(parameters))
    }

    /// A text.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// A misspelt filter that is ignored would answer another question than the one asked.
    pub(super) fn only(&self, known: &[&str]) -> Result<(), Refusal> {
        match self.0.keys().find(|name| !known.contains(&name.as_str())) {
            None => Ok(()),
            Some(name) if known.is_empty() => {
                Err(bad(format!("`{name}`: no parameter is known here")))
            }
            Some(name) => Err(bad(format!(
                "`{name}` is not a parameter here, these are: {}",
                known.join(", ")
            ))),
        }
    }

    /// 1 or 0, `true` or `false`; present without a value is 1.
    pub(super) fn flag(&self, name: &str) -> Result<bool, Refusal> {
        match self.0.get(name).map(String::as_str) {
            None | Some("0" | "false") => Ok(false),
            Some("" | "1" | "true") => Ok(true),
            Some(_) => Err(bad(format!("`{name}` is 1 or 0"))),
        }
    }

    /// A whole number.
    pub(super) fn number(&self, name: &str) -> Result<Option<usize>, Refusal> {
        let number = self.0.get(name).map(|text| text.parse()).transpose();
        number.map_err(|_| bad(format!("`{name}` is a whole number")))
    }

    /// How long to wait: `5s`, `500ms`, or seconds; at most 30 s, and none unless asked.
    pub(super) fn wait(&self) -> Result<Duration, Refusal> {
        let Some(text) = self.0.get("wait") else {
            return Ok(Duration::ZERO);
        };
        let parsed = match text.strip_suffix("ms") {
            Some(number) => number.parse().map(Duration::from_millis),
            None => text
                .strip_suffix('s')
                .unwrap_or(text)
                .parse()
                .map(Duration::from_secs),
        };
        parsed
            .map(|wait| wait.min(MAX_WAIT))
            .map_err(|_| bad("`wait` is a duration such as 5s or 500ms"))
    }
}
