//! The spans of one trace as a forest, whatever came: orphans, several roots, cycles and twins included.
//!
//! Every span is in it exactly once. The order depends on the spans alone, not on the order they came in.

use std::collections::HashMap;
use std::sync::Arc;

use opentelemetry::SpanId;

use super::span::Span;

/// Why a span stands at the top.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Top {
    /// It names no parent.
    Root,
    /// Its parent is not here (yet).
    Orphan,
    /// Its parents form a circle, cut at this span.
    Cycle,
}

/// A forest over spans sorted by start time.
pub struct Tree {
    /// The spans, sorted by start, then ID.
    pub nodes: Vec<Node>,
    /// Places in `nodes` of the spans at the top, by start.
    pub tops: Vec<usize>,
}

/// A span and its place.
pub struct Node {
    /// The span.
    pub span: Arc<Span>,
    /// Place of its parent, unless it stands at the top.
    pub parent: Option<usize>,
    /// Places of its children, by start.
    pub children: Vec<usize>,
    /// Why it stands at the top, if it does.
    pub top: Option<Top>,
}

impl Tree {
    /// Builds the forest in O(n log n).
    pub fn grow(spans: &[Arc<Span>]) -> Tree {
        let mut sorted = spans.to_vec();
        sorted.sort_by(|a, b| key(a).cmp(&key(b)));
        let mut places: HashMap<SpanId, usize> = HashMap::with_capacity(sorted.len());
        for (place, span) in sorted.iter().enumerate() {
            places.entry(span.span_id).or_insert(place);
        }
        let nodes: Vec<Node> = sorted
            .into_iter()
            .map(|span| {
                let parent = span.parent_id.and_then(|id| places.get(&id).copied());
                let top = match (span.parent_id, parent) {
                    (None, _) => Some(Top::Root),
                    (Some(_), None) => Some(Top::Orphan),
                    (Some(_), Some(_)) => None,
                };
                Node {
                    span,
                    parent,
                    children: Vec::new(),
                    top,
                }
            })
            .collect();
        let mut tree = Tree {
            nodes,
            tops: Vec::new(),
        };
        tree.hang();
        tree.cut_cycles();
        tree.tops = (0..tree.nodes.len())
            .filter(|place| tree.node(*place).is_some_and(|node| node.top.is_some()))
            .collect();
        tree
    }

    /// The node at a place.
    pub fn node(&self, place: usize) -> Option<&Node> {
        self.nodes.get(place)
    }

    /// Places of a node's children, by start.
    pub fn children(&self, place: usize) -> &[usize] {
        self.node(place).map_or(&[], |node| &node.children)
    }

    /// All places with their depth, parents before children, siblings by start.
    pub fn walk(&self) -> Vec<(usize, usize)> {
        let mut order = Vec::with_capacity(self.nodes.len());
        let mut open: Vec<(usize, usize)> = self.tops.iter().rev().map(|top| (*top, 0)).collect();
        while let Some((place, depth)) = open.pop() {
            order.push((place, depth));
            open.extend(
                self.children(place)
                    .iter()
                    .rev()
                    .map(|child| (*child, depth + 1)),
            );
        }
        order
    }

    /// Distinct parents that are named and not here.
    pub fn missing(&self) -> usize {
        let mut ids: Vec<[u8; 8]> = self
            .nodes
            .iter()
            .filter(|node| node.top == Some(Top::Orphan))
            .filter_map(|node| node.span.parent_id)
            .map(SpanId::to_bytes)
            .collect();
        ids.sort_unstable();
        ids.dedup();
        ids.len()
    }

    /// Enters every node with a parent into its parent's children. Sorted, since the nodes are.
    fn hang(&mut self) {
        for place in 0..self.nodes.len() {
            if let Some(parent) = self.node(place).and_then(|node| node.parent)
                && let Some(parent) = self.nodes.get_mut(parent)
            {
                parent.children.push(place);
            }
        }
    }

    /// A circle has no top, so nothing in it or below it would be drawn: its earliest span is made one.
    fn cut_cycles(&mut self) {
        let mut reached = vec![false; self.nodes.len()];
        let tops: Vec<usize> = (0..self.nodes.len())
            .filter(|place| self.node(*place).is_some_and(|node| node.top.is_some()))
            .collect();
        for top in tops {
            self.reach(top, &mut reached);
        }
        for place in 0..self.nodes.len() {
            if reached.get(place) == Some(&false) {
                let cut = self.earliest_of_cycle(place);
                self.promote(cut);
                self.reach(cut, &mut reached);
            }
        }
    }

    fn reach(&self, from: usize, reached: &mut [bool]) {
        let mut open = vec![from];
        while let Some(place) = open.pop() {
            if let Some(seen) = reached.get_mut(place)
                && !std::mem::replace(seen, true)
            {
                open.extend(self.children(place));
            }
        }
    }

    /// Walks up from a span that no top reaches, into its circle, and once around.
    fn earliest_of_cycle(&self, from: usize) -> usize {
        let up = |place: usize| {
            self.node(place)
                .and_then(|node| node.parent)
                .unwrap_or(place)
        };
        // Two steps against one meet inside the circle (Floyd).
        let (mut slow, mut fast) = (up(from), up(up(from)));
        while slow != fast {
            (slow, fast) = (up(slow), up(up(fast)));
        }
        let mut earliest = slow;
        let mut place = up(slow);
        while place != slow {
            earliest = earliest.min(place);
            place = up(place);
        }
        earliest
    }

    fn promote(&mut self, place: usize) {
        let parent = self.nodes.get_mut(place).and_then(|node| {
            node.top = Some(Top::Cycle);
            node.parent.take()
        });
        if let Some(parent) = parent.and_then(|parent| self.nodes.get_mut(parent)) {
            parent.children.retain(|child| *child != place);
        }
    }
}

/// A total order of distinct spans; equal keys are twins that look the same anyway.
fn key(span: &Span) -> (u64, [u8; 8], u64, &str) {
    (
        span.start_unix_nanos,
        span.span_id.to_bytes(),
        span.end_unix_nanos,
        &span.name,
    )
}

#[cfg(test)]
mod tests;
