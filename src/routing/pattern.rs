//! Django's URL patterns, all of them in one automaton.
//!
//! `path()` patterns (`orders/<int:pk>/`) with Django's converters, and `re_path()` patterns as far as a regular
//! language goes: lookaheads and back references are refused. Matching follows Django 5: the first pattern that fits
//! wins, and a `re_path()` pattern that does not end with `$` is searched for. Where a pattern is the end of an
//! `include()`, the whole of it is written here.

use std::ops::Range;

use regex_automata::meta::Regex;
use regex_automata::nfa::thompson::WhichCaptures;
use regex_automata::{Anchored, Input};
use regex_syntax::hir::{Hir, Look};

use crate::config::{Config, Fault};

/// Django's converters (`django.urls.converters`).
const CONVERTERS: [(&str, &str); 5] = [
    ("int", "[0-9]+"),
    ("path", ".+"),
    ("slug", "[-a-zA-Z0-9_]+"),
    ("str", "[^/]+"),
    (
        "uuid",
        "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
    ),
];

/// Bytes that the compiled automaton of one config may take.
const AUTOMATON_BYTES: usize = 64 * 1024 * 1024;

/// One pattern, translated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// As written.
    written: String,
    /// A regex for the whole path without its first slash.
    regex: String,
    /// The path that it fits, if that is only one.
    literal: Option<String>,
}

/// What is wrong with a pattern, and where in its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrongPattern {
    /// Bytes of the pattern.
    pub at: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub help: String,
}

impl WrongPattern {
    fn new(at: Range<usize>, message: impl Into<String>, help: impl Into<String>) -> WrongPattern {
        WrongPattern {
            at,
            message: message.into(),
            help: help.into(),
        }
    }

    /// As a fault of the config, underlining the part at fault where the value is written plainly.
    pub(super) fn fault(self, config: &Config, key: &str, text: &str) -> Fault {
        let mut fault = config.fault(key, self.message, self.help);
        if let Some(whole) = &mut fault.at {
            let quotes = match whole.len().checked_sub(text.len()) {
                Some(0) => 0,
                Some(2) => 1,
                _ => return fault, // folded over lines, or with escapes: the whole value is underlined
            };
            let start = whole.start + quotes + self.at.start;
            *whole = start..start + self.at.len().max(1);
        }
        fault
    }
}

impl Pattern {
    /// Translates a pattern of Django's `path()`.
    ///
    /// # Errors
    /// Unknown converters, parameters without or with a doubled name, brackets that do not close.
    pub fn path(text: &str) -> Result<Pattern, WrongPattern> {
        let skipped = usize::from(text.starts_with('/'));
        let mut rest = text.get(skipped..).unwrap_or("");
        let mut offset = skipped;
        let mut pattern = Pattern {
            written: text.to_owned(),
            regex: String::new(),
            literal: Some(String::new()),
        };
        let mut names: Vec<&str> = Vec::new();
        while let Some(open) = rest.find('<') {
            let (before, from) = rest.split_at(open);
            pattern.push_literal(before, offset)?;
            let at = offset + open;
            let Some(close) = from.find('>') else {
                return Err(WrongPattern::new(
                    at..text.len(),
                    "this `<` is never closed",
                    "write <converter:name>, as in <int:pk>",
                ));
            };
            let whole = at..at + close + 1;
            let inside = from.get(1..close).unwrap_or("");
            let (regex, name) = parameter(inside, whole.clone())?;
            if names.contains(&name) {
                return Err(WrongPattern::new(
                    whole,
                    format!("the name `{name}` is there twice"),
                    "give each parameter a name of its own",
                ));
            }
            names.push(name);
            pattern.regex.push_str(regex);
            pattern.literal = None;
            rest = from.get(close + 1..).unwrap_or("");
            offset = at + close + 1;
        }
        pattern.push_literal(rest, offset)?;
        Ok(pattern)
    }

    fn push_literal(&mut self, text: &str, offset: usize) -> Result<(), WrongPattern> {
        if let Some(close) = text.find('>') {
            return Err(WrongPattern::new(
                offset + close..offset + close + 1,
                "this `>` was never opened",
                "write <converter:name>, as in <int:pk>",
            ));
        }
        if let Some(mark) = text.find(['?', '#']) {
            return Err(WrongPattern::new(
                offset + mark..offset + text.len(),
                "a path has no query and no fragment",
                "end the pattern before this character",
            ));
        }
        if let Some(literal) = &mut self.literal {
            literal.push_str(text);
        }
        self.regex.push_str(&regex_syntax::escape(text));
        Ok(())
    }

    /// Translates a pattern of Django's `re_path()`.
    ///
    /// # Errors
    /// What is no regex, or one that no automaton can match (lookaheads, back references).
    pub fn regex(text: &str) -> Result<Pattern, WrongPattern> {
        // Python's end of text is \Z.
        let translated = text.replace(r"\Z", r"\z");
        let parsed = regex_syntax::parse(&translated).map_err(|error| wrong_regex(&error, text))?;
        Ok(Pattern {
            written: text.to_owned(),
            regex: whole_path(text, &parsed),
            literal: None,
        })
    }
}

/// Django (`RegexPattern.match`) wants the whole path to fit where the pattern ends with a dollar sign, and else searches.
fn whole_path(written: &str, regex: &Hir) -> String {
    if written.ends_with('$') {
        return regex.to_string();
    }
    let properties = regex.properties();
    let begins = properties.look_set_prefix().contains(Look::Start);
    let ends = properties.look_set_suffix().contains(Look::End);
    let before = if begins { "" } else { "(?s:.*?)" };
    let after = if ends { "" } else { "(?s:.*)" };
    format!("{before}(?:{regex}){after}")
}

fn wrong_regex(error: &regex_syntax::Error, text: &str) -> WrongPattern {
    let (span, message) = match error {
        regex_syntax::Error::Parse(error) => (error.span(), error.kind().to_string()),
        regex_syntax::Error::Translate(error) => (error.span(), error.kind().to_string()),
        other => return WrongPattern::new(0..text.len(), other.to_string(), "write a regex"),
    };
    let at = span.start.offset..span.end.offset.max(span.start.offset + 1);
    if message.contains("look-around") || message.contains("backreferences") {
        return WrongPattern::new(
            at,
            "lookaheads, lookbehinds and back references cannot be matched in one pass",
            "write a wider pattern without them, or list the paths as routes of their own",
        );
    }
    WrongPattern::new(
        at,
        format!("not a regex: {message}"),
        "write it as in Django's re_path()",
    )
}

/// `int:pk` -> its regex and its name.
fn parameter(inside: &str, at: Range<usize>) -> Result<(&'static str, &str), WrongPattern> {
    let (converter, name) = inside.split_once(':').unwrap_or(("str", inside));
    if inside.contains(char::is_whitespace) {
        return Err(WrongPattern::new(
            at,
            "a parameter has no spaces",
            "write <converter:name>, as in <int:pk>",
        ));
    }
    let Some((_, regex)) = CONVERTERS.iter().find(|(known, _)| *known == converter) else {
        let known: Vec<&str> = CONVERTERS.iter().map(|(known, _)| *known).collect();
        let meant = crate::config::suggest::did_you_mean(converter, &known);
        let help = match meant {
            Some(meant) => format!("did you mean `<{meant}:{name}>`?"),
            None => format!(
                "Django's own are {}; write one of your own as its regex, with `regex:` in place of `path:`",
                known.join(", ")
            ),
        };
        return Err(WrongPattern::new(
            at,
            format!("there is no converter `{converter}`"),
            help,
        ));
    };
    let mut letters = name.chars();
    let identifier = letters
        .next()
        .is_some_and(|c| c == '_' || c.is_alphabetic())
        && letters.all(|c| c == '_' || c.is_alphanumeric());
    if !identifier {
        return Err(WrongPattern::new(
            at,
            format!("`{name}` is not a name for a parameter"),
            "write <converter:name>, as in <int:pk>",
        ));
    }
    Ok((regex, name))
}

/// All patterns as one automaton.
#[derive(Debug)]
pub struct Patterns(Option<Regex>);

impl Patterns {
    /// Compiles the patterns, each with its key in the config; `None` if there are too many of them. Patterns that an
    /// earlier one makes useless are faults.
    pub(super) fn compile(
        config: &Config,
        patterns: Vec<(String, Pattern)>,
        faults: &mut Vec<Fault>,
    ) -> Option<Patterns> {
        if patterns.is_empty() {
            return Some(Patterns(None));
        }
        let whole: Vec<String> = patterns
            .iter()
            .map(|(_, pattern)| format!(r"(?:{})\z", pattern.regex))
            .collect();
        let settings = Regex::config()
            .which_captures(WhichCaptures::Implicit) // with None, find() would silently find nothing
            .nfa_size_limit(Some(AUTOMATON_BYTES))
            .hybrid_cache_capacity(4 * 1024 * 1024);
        let built = Regex::builder().configure(settings).build_many(&whole);
        match built {
            Ok(regex) => {
                let automaton = Patterns(Some(regex));
                automaton.find_unreachable(config, &patterns, faults);
                Some(automaton)
            }
            Err(_) => {
                faults.push(config.fault(
                    "inbound.routes",
                    "the patterns together are too large for one automaton",
                    "make repetitions like {1000} smaller, or have fewer routes",
                ));
                None
            }
        }
    }

    /// Index of the first pattern that fits a path (without its first slash, decoded).
    pub fn first(&self, path: &str) -> Option<usize> {
        let input = Input::new(path).anchored(Anchored::Yes);
        let found = self.0.as_ref()?.search_half(&input)?;
        Some(found.pattern().as_usize())
    }

    fn find_unreachable(
        &self,
        config: &Config,
        patterns: &[(String, Pattern)],
        faults: &mut Vec<Fault>,
    ) {
        for (index, (key, pattern)) in patterns.iter().enumerate() {
            let same = patterns
                .iter()
                .take(index)
                .position(|(_, earlier)| earlier.regex == pattern.regex);
            let taken = pattern
                .literal
                .as_deref()
                .and_then(|literal| self.first(literal))
                .filter(|first| *first < index);
            let Some((_, earlier)) = same.or(taken).and_then(|first| patterns.get(first)) else {
                continue;
            };
            faults.push(config.fault(
                key,
                format!(
                    "never reached: `{}` above takes all of its requests",
                    earlier.written
                ),
                "put it before that one, or remove it",
            ));
        }
    }
}

#[cfg(test)]
mod tests;
