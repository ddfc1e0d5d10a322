//! Text to tree: the one module that knows the YAML parser (serde-saphyr).
//!
//! It reads YAML 1.2 (so `no` is a text, not false) with merge keys and anchors, and notes where each node is written.
//! It knows nothing of hopspan's keys.

use std::fmt;
use std::ops::Range;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, Options, Spanned};

use super::errors::Fault;
use super::source::Source;
use super::tree::{Kind, Node};

/// Nesting that a config may have; far above what its keys need, far below what would hurt the stack.
const MAX_DEPTH: usize = 64;

/// What aliases may add to a config, in parser's events: about one for each node.
const MAX_BY_ALIASES: usize = 100_000;

/// Largest config file in bytes; a Kubernetes ConfigMap ends at 1 MiB.
pub(crate) const MAX_BYTES: usize = 4 * 1024 * 1024;

/// Stack for the parser: it follows flow collections some hundred levels down before it counts them, and a runtime's
/// thread has 2 MiB.
const STACK: usize = 16 * 1024 * 1024;

/// Reads the tree of a source.
///
/// # Errors
/// The first syntax error: a YAML parser cannot go on after one.
pub(crate) fn parse(source: &Source) -> Result<Node, Fault> {
    if source.text.len() > MAX_BYTES {
        return Err(Fault {
            at: None,
            path: String::new(),
            message: format!("the file has {} bytes", source.text.len()),
            help: Some("a config has at most 4 MiB".to_owned()),
        });
    }
    on_a_deep_stack(|| {
        let root: Spanned<Raw> = serde_saphyr::from_str_with_options(&source.text, options())
            .map_err(|error| syntax_fault(source, &error))?;
        let mut ids = 0;
        Ok(node(&source.text, root, &mut ids))
    })
}

fn options() -> Options {
    let mut options = Options::default();
    options.strict_booleans = true;
    options.with_snippet = false;
    options.duplicate_keys = DuplicateKeyPolicy::LastWins; // the tree reports them itself, all at once
    options.alias_limits.max_total_replayed_events = MAX_BY_ALIASES;
    if let Some(budget) = &mut options.budget {
        budget.max_depth = MAX_DEPTH;
    }
    options
}

fn on_a_deep_stack(parse: impl FnOnce() -> Result<Node, Fault> + Send) -> Result<Node, Fault> {
    let failed = |why: &str| Fault {
        at: None,
        path: String::new(),
        message: format!("the file could not be read: {why}"),
        help: None,
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK);
        match thread.spawn_scoped(scope, parse) {
            Ok(parsing) => parsing
                .join()
                .unwrap_or_else(|_| Err(failed("the parser failed"))),
            Err(error) => Err(failed(&error.to_string())),
        }
    })
}

/// A node as the parser hands it over.
enum Raw {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<Raw>, Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Raw, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }
    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }
    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        deserializer.deserialize_any(self)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Bool(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Integer(value))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(i64::try_from(value).map_or(Raw::Float(value as f64), Raw::Integer))
    }
    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Float(value))
    }
    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Text(value.to_owned()))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Raw::List(list))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Raw, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Raw::Map(map))
    }
}

/// Byte range of a location in the text; where it is used, not where an anchor defined it.
fn range(location: serde_saphyr::Location) -> Range<usize> {
    let span = location.span();
    let start = span.byte_offset().unwrap_or(0) as usize;
    start..start + span.byte_len().unwrap_or(0) as usize
}

fn node(text: &str, raw: Spanned<Raw>, ids: &mut u32) -> Node {
    *ids += 1;
    let id = *ids;
    let at = range(raw.referenced);
    // Numbers and booleans keep their spelling, so that a version `1.20` stays `1.20`.
    let spelled = || text.get(range(raw.defined)).unwrap_or("").to_owned();
    let (kind, text) = match raw.value {
        Raw::Null => (Kind::Null, String::new()),
        Raw::Bool(value) => (Kind::Bool(value), spelled()),
        Raw::Integer(value) => (Kind::Integer(value), spelled()),
        Raw::Float(value) => (Kind::Float(value), spelled()),
        Raw::Text(value) => (Kind::Text, value),
        Raw::List(items) => {
            let items = items.into_iter().map(|item| node(text, item, ids));
            (Kind::List(items.collect()), String::new())
        }
        Raw::Map(entries) => {
            let mut map = Vec::with_capacity(entries.len());
            for (key, value) in entries {
                let key = node(text, key, ids);
                map.push((key, node(text, value, ids)));
            }
            (Kind::Map(map), String::new())
        }
    };
    Node {
        id,
        at,
        kind,
        text,
        mended: Vec::new(),
    }
}

/// Syntax errors in words of people who did not read the YAML specification.
fn syntax_fault(source: &Source, error: &serde_saphyr::Error) -> Fault {
    let location = error.location();
    let at = location.map(|location| {
        let span = location.span();
        span.byte_offset().map_or_else(
            || offset_of(&source.text, location.line(), location.column()),
            |offset| offset as usize,
        )
    });
    let rest = at.and_then(|at| source.text.get(at..)).unwrap_or("");
    let said = error.without_snippet().to_string();
    let said = said.split(" at line ").next().unwrap_or("").to_owned();
    let (message, help) = explain(&said, rest);
    Fault {
        at: at.map(|at| at..at),
        path: String::new(),
        message,
        help: help.map(str::to_owned),
    }
}

/// What the parser said and the text at that place -> message and help.
fn explain(said: &str, rest: &str) -> (String, Option<&'static str>) {
    let quote = "put the value in quotes: a plain value cannot begin with this character";
    if rest.starts_with('*') || said.contains("unknown anchor") {
        return (
            "a value that begins with `*` must be quoted".to_owned(),
            Some("write '*.internal' with quotes (YAML takes a bare `*` for an alias)"),
        );
    }
    if said.contains("unexpected character") {
        return (
            said.replace("`%'", "`%`").replace("`@'", "`@`"),
            Some(quote),
        );
    }
    if said.contains("tab") {
        return (
            "a tab in the indentation".to_owned(),
            Some("indent with spaces"),
        );
    }
    if said.contains("mapping values are not allowed") || said.contains("placement of ':'") {
        return (
            "a `:` where no key can be".to_owned(),
            Some(
                "check the indentation; a value that contains `: ` must be quoted; close open [ and {",
            ),
        );
    }
    if said.contains("multiple YAML documents") {
        return (
            "a second document begins here".to_owned(),
            Some("a config is one document: remove the `---`"),
        );
    }
    if said.contains("unclosed quote") {
        return (
            "this quote is never closed".to_owned(),
            Some("end the text with the same quote"),
        );
    }
    (said.to_owned(), None)
}

/// Byte offset of a line and column (both from 1, the column in characters).
fn offset_of(text: &str, line: u64, column: u64) -> usize {
    let line = usize::try_from(line)
        .unwrap_or(usize::MAX)
        .saturating_sub(1);
    let column = usize::try_from(column)
        .unwrap_or(usize::MAX)
        .saturating_sub(1);
    let start: usize = text.split_inclusive('\n').take(line).map(str::len).sum();
    let inside: usize = text
        .get(start..)
        .unwrap_or("")
        .chars()
        .take(column)
        .map(char::len_utf8)
        .sum();
    start + inside
}
