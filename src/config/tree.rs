//! A parsed file as a tree that knows where each node is written, and that serde can read *with all errors at once*.
//!
//! Serde stops at the first error. Here the node at fault is taken out of the tree and the reading starts over, until
//! nothing is left to complain about: each mistake is reported once, with its place, and what remains is still a
//! config that can be checked for meaning.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use serde::de::DeserializeOwned;

use super::errors::Fault;
use super::read::{ReadError, Reader};
use super::suggest::did_you_mean;

/// Mistakes reported at once, at most.
const MAX_FAULTS: usize = 50;

/// One node of the tree.
#[derive(Debug)]
pub(crate) struct Node {
    /// Number of the node in its tree.
    pub(crate) id: u32,
    /// Where it is written, in bytes.
    pub(crate) at: Range<usize>,
    /// What it is.
    pub(crate) kind: Kind,
    /// Scalars: the text (of texts the value, of numbers the spelling).
    pub(crate) text: String,
    /// Maps: keys that were taken out, so that they are not reported as missing.
    pub(crate) mended: Vec<String>,
}

/// What a node is.
#[derive(Debug)]
pub(crate) enum Kind {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text,
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
}

/// Where each key of a config was written, by its path (`inbound.routes[2].path`), for errors found later.
///
/// All positions compare equal: a config is the same wherever its keys stand.
#[derive(Clone, Debug, Default)]
pub struct Positions {
    places: HashMap<String, Range<usize>>,
    mended: HashSet<String>,
}

impl PartialEq for Positions {
    fn eq(&self, _: &Positions) -> bool {
        true
    }
}

impl Positions {
    /// The place of a value, as bytes of the source.
    pub fn of(&self, path: &str) -> Option<Range<usize>> {
        self.places.get(path).cloned()
    }

    /// Whether the mapping at `path` had a mistake taken out, so that what it lacks may not be its fault.
    pub(crate) fn is_mended(&self, path: &str) -> bool {
        self.mended.contains(path)
    }

    fn note(&mut self, path: &str, node: &Node) {
        self.places.insert(path.to_owned(), point(node));
        if !node.mended.is_empty() {
            self.mended.insert(path.to_owned());
        }
        match &node.kind {
            Kind::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.note(&format!("{path}[{index}]"), item);
                }
            }
            Kind::Map(entries) => {
                for (key, value) in entries {
                    let dot = if path.is_empty() { "" } else { "." };
                    self.note(&format!("{path}{dot}{}", key.text), value);
                }
            }
            _ => {}
        }
    }
}

/// Reads a `T` from the tree, mending what is wrong: an unknown key that is nearly a known one is taken for it, all else
/// is taken out. `homes` tells where a key that is unknown in its place does belong. The value is `None` only where even
/// an empty tree is no `T`.
pub(crate) fn read<T: DeserializeOwned>(
    root: &mut Node,
    homes: impl Fn(&str) -> Option<String>,
) -> (Option<T>, Positions, Vec<Fault>) {
    let mut faults = Vec::new();
    take_out_duplicates(root, &mut faults);
    let mut value = None;
    // A bound on rounds, not only on faults: what is silently taken out counts too.
    for _ in 0..MAX_FAULTS * 2 {
        if faults.len() >= MAX_FAULTS {
            break;
        }
        match T::deserialize(Reader::new(root)) {
            Ok(read) => {
                value = Some(read);
                break;
            }
            Err(error) => {
                let id = error.node.unwrap_or(root.id);
                let meant = meant(&error);
                if !is_aftermath(root, id, &error) {
                    faults.push(fault(root, id, &error, meant, &homes));
                }
                let mended = meant.is_some_and(|key| rename(root, id, key));
                if !mended && !take_out(root, id) {
                    root.kind = Kind::Null;
                }
            }
        }
    }
    let mut positions = Positions::default();
    positions.note("", root);
    (value, positions, faults)
}

/// The known key that an unknown one was probably meant to be.
fn meant(error: &ReadError) -> Option<&'static str> {
    let (word, known) = error.unknown.as_ref()?;
    did_you_mean(word, known)
}

/// A key that is missing since its bad value was taken out is no news.
fn is_aftermath(root: &Node, id: u32, error: &ReadError) -> bool {
    error.missing.is_some_and(|missing| {
        find(root, id).is_some_and(|node| node.mended.iter().any(|key| key == missing))
    })
}

fn fault(
    root: &Node,
    id: u32,
    error: &ReadError,
    meant: Option<&str>,
    homes: impl Fn(&str) -> Option<String>,
) -> Fault {
    let help = match (&error.unknown, meant) {
        (Some(_), Some(meant)) => Some(format!("did you mean `{meant}`?")),
        (Some((word, known)), None) => {
            homes(word).or_else(|| Some(format!("the keys here are: {}", known.join(", "))))
        }
        (None, _) => error.help.clone(),
    };
    Fault {
        at: find(root, id).map(point),
        path: String::new(),
        message: error.message.clone(),
        help,
    }
}

/// What to underline: a scalar itself; of a block mapping or list its first key or item.
fn point(node: &Node) -> Range<usize> {
    if !node.at.is_empty() {
        return node.at.clone();
    }
    match &node.kind {
        Kind::Map(entries) => entries.first().map(|(key, _)| key.at.clone()),
        Kind::List(items) => items.first().map(point),
        _ => None,
    }
    .unwrap_or_else(|| node.at.clone())
}

fn find(node: &Node, id: u32) -> Option<&Node> {
    if node.id == id {
        return Some(node);
    }
    match &node.kind {
        Kind::List(items) => items.iter().find_map(|item| find(item, id)),
        Kind::Map(entries) => entries
            .iter()
            .find_map(|(key, value)| find(key, id).or_else(|| find(value, id))),
        _ => None,
    }
}

/// Gives a key another name, unless its map has that one already.
fn rename(node: &mut Node, id: u32, name: &str) -> bool {
    match &mut node.kind {
        Kind::List(items) => items.iter_mut().any(|item| rename(item, id, name)),
        Kind::Map(entries) => {
            let taken = entries.iter().any(|(key, _)| key.text == name);
            match entries.iter_mut().find(|(key, _)| key.id == id) {
                Some((key, _)) if !taken => {
                    name.clone_into(&mut key.text);
                    true
                }
                Some(_) => false,
                None => entries.iter_mut().any(|(_, value)| rename(value, id, name)),
            }
        }
        _ => false,
    }
}

/// Takes the node out of its map (with its key) or list; false if it is not below `node`.
fn take_out(node: &mut Node, id: u32) -> bool {
    match &mut node.kind {
        Kind::List(items) => {
            let before = items.len();
            items.retain(|item| item.id != id);
            items.len() < before || items.iter_mut().any(|item| take_out(item, id))
        }
        Kind::Map(entries) => {
            let index = entries
                .iter()
                .position(|(key, value)| key.id == id || value.id == id);
            if let Some(index) = index {
                let (key, _) = entries.remove(index);
                node.mended.push(key.text);
                return true;
            }
            entries.iter_mut().any(|(_, value)| take_out(value, id))
        }
        _ => false,
    }
}

fn take_out_duplicates(node: &mut Node, faults: &mut Vec<Fault>) {
    match &mut node.kind {
        Kind::List(items) => {
            for item in items {
                take_out_duplicates(item, faults);
            }
        }
        Kind::Map(entries) => {
            let mut seen: HashSet<String> = HashSet::new();
            entries.retain(|(key, _)| {
                let first = seen.insert(key.text.clone());
                if !first {
                    faults.push(Fault {
                        at: Some(key.at.clone()),
                        path: String::new(),
                        message: format!("`{}` is there twice", key.text),
                        help: Some("keep one of the two".to_owned()),
                    });
                }
                first
            });
            for (_, value) in entries {
                take_out_duplicates(value, faults);
            }
        }
        _ => {}
    }
}
