//! One sentence over a trace: where it broke, and who only passed it on.
//!
//! From the failing top, go down to the call that failed, as long as one did; what is at the end is the origin. A span
//! that failed below one that did not is a failure that was recovered, or swallowed. Only services that sent a span are blamed; of
//! others it is said what was seen of them. The order of arrival changes nothing.

mod words;

use serde::{Deserialize, Serialize};

use super::fault::{self, Fault};
use super::span::{ERROR_TYPE, EVIDENCE, HOPSPAN, Kind, Span, UNLINKED};
use super::tree::{Top, Tree};

/// Gaps that are crossed on the way down.
const MAX_GAPS: usize = 4;

/// What kind of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Case {
    /// A service failed by itself.
    OwnFailure,
    /// A service made a failure of an answer that was none (4xx).
    Translated,
    /// Something failed, and the trace as a whole did not: the call was made again and worked, or what it was answered
    /// with (4xx) was enough.
    Recovered,
    /// Something failed, nothing shows that anybody did anything about it, and the trace as a whole did not fail.
    Swallowed,
    /// A caller stopped waiting.
    GaveUp,
    /// No connection was made, or hopspan did not send it on.
    NeverArrived,
    /// A peer without spans answered with a failure.
    DarkPeer,
    /// A connection was closed before its answer was whole.
    Closed,
    /// Nothing failed, and spans are not here (yet).
    Incomplete,
    /// It failed in a way without a case of its own.
    Other,
}

/// What is said of a trace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// The kind of trouble.
    pub case: Case,
    /// The sentence. Names in it are as services sent them: make them harmless before showing them.
    pub sentence: String,
    /// The service where it broke; always one that sent spans.
    pub service: Option<String>,
}

/// The verdict and what it rests on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Judgement {
    /// What is said, if there is something to say.
    pub verdict: Option<Verdict>,
    /// Whether the trace as a whole failed.
    pub failed: bool,
    /// Failures by origin, recovered ones included: ten services that pass one failure on are one.
    pub failures: usize,
    /// Place of the span where it broke.
    pub origin: Option<usize>,
}

/// Judges a trace.
pub fn judge(tree: &Tree) -> Judgement {
    let tops = failing_tops(tree);
    let mut judgement = Judgement {
        failures: tops.iter().map(|top| origins(tree, top.place)).sum(),
        ..Judgement::default()
    };
    let missing = tree.missing();
    if let Some(top) = fatal(tree, &tops) {
        let (chain, gaps) = across_gaps(tree, &tops, descend(tree, top));
        judgement.failures = judgement.failures.saturating_sub(gaps);
        let (origin, mut verdict) = words::blame(tree, &chain);
        verdict.sentence += &words::passed_on(tree, &chain, verdict.service.as_deref());
        judgement.failed = true;
        judgement.origin = Some(origin);
        judgement.verdict = Some(verdict);
    } else if !tops.is_empty() {
        let places: Vec<usize> = tops.iter().map(|top| top.place).collect();
        judgement.verdict = Some(words::recovered(tree, &places, judgement.failures));
    }
    match (&mut judgement.verdict, missing) {
        (_, 0) => {}
        (Some(verdict), _) => verdict.sentence += &format!("; {}", words::not_here(missing)),
        (none, _) => *none = Some(words::incomplete(missing)),
    }
    judgement
}

/// Whether a CLIENT span is hopspan's call to the app behind it: a part of its SERVER span, not a call of the service.
pub fn is_to_app(tree: &Tree, place: usize) -> bool {
    let Some(node) = tree.node(place) else {
        return false;
    };
    let span = &node.span;
    let above = node.parent.and_then(|parent| tree.node(parent));
    let below_server = above.is_none_or(|above| {
        above.span.kind == Kind::Server
            && &*above.span.source.scope == HOPSPAN
            && above.span.service() == span.service()
    });
    let below_something = span.parent_id.is_some();
    span.kind == Kind::Client
        && &*span.source.scope == HOPSPAN
        && below_something
        && below_server
        // What the outbound hop always writes.
        && span.attribute(EVIDENCE).is_none()
        && span.attribute(UNLINKED).is_none()
}

/// Whether a span counts as failed. The app's own 4xx is its answer, not a failure of the call to it.
fn failing(tree: &Tree, place: usize) -> bool {
    tree.node(place).is_some_and(|node| {
        let refused = node.span.status_code().is_some_and(|code| code < 500)
            && fault::of(&node.span) == Fault::Other;
        node.span.failed() && !(refused && is_to_app(tree, place))
    })
}

/// Whether failures below a span that did not fail itself show through it.
fn transparent(tree: &Tree, place: usize) -> bool {
    tree.node(place)
        .is_some_and(|node| node.span.kind == Kind::Internal)
        || is_to_app(tree, place)
}

/// A failed span with no failed span above it that it would show in.
struct FailingTop {
    place: usize,
    /// The top of the tree, if nothing between hides the failure from it.
    shows_at: Option<usize>,
}

/// The failing tops, by start.
fn failing_tops(tree: &Tree) -> Vec<FailingTop> {
    // Of each span: whether a failure of it is part of one above, else the top at which it would show.
    let mut above: Vec<(bool, Option<usize>)> = vec![(false, None); tree.nodes.len()];
    let mut found = Vec::new();
    for (place, _) in tree.walk() {
        let seen = match tree.node(place).and_then(|node| node.parent) {
            None => (false, Some(place)),
            Some(parent) => {
                let (covered, shows_at) = above.get(parent).copied().unwrap_or_default();
                let clear = transparent(tree, parent);
                (
                    failing(tree, parent) || (clear && covered),
                    shows_at.filter(|_| clear),
                )
            }
        };
        if let Some(slot) = above.get_mut(place) {
            *slot = seen;
        }
        let (covered, shows_at) = seen;
        if !covered && failing(tree, place) {
            found.push(FailingTop { place, shows_at });
        }
    }
    found.sort_unstable_by_key(|top| top.place);
    found
}

/// The failing top that made the trace fail: below a real root if there is one, else the earliest.
fn fatal(tree: &Tree, tops: &[FailingTop]) -> Option<usize> {
    let is_root = |place: usize| {
        tree.node(place)
            .is_some_and(|node| node.top == Some(Top::Root))
    };
    let has_root = tree.tops.iter().any(|top| is_root(*top));
    tops.iter()
        .find(|top| top.shows_at.is_some_and(|at| !has_root || is_root(at)))
        .map(|top| top.place)
}

/// The failed calls right below a failed span that may have made it fail, by start.
fn causes(tree: &Tree, place: usize) -> Vec<usize> {
    let mut found = Vec::new();
    let mut open: Vec<usize> = tree.children(place).to_vec();
    while let Some(child) = open.pop() {
        if failing(tree, child) {
            found.push(child);
        } else if transparent(tree, child) {
            open.extend(tree.children(child));
        }
    }
    // Who stops waiting cancels what is below: that is a consequence.
    let gave_up = tree.node(place).is_some_and(|node| {
        let fault = fault::of(&node.span);
        matches!(fault, Fault::GaveUp | Fault::Stalled | Fault::Untaken)
    });
    if gave_up {
        found.retain(|child| {
            tree.node(*child)
                .is_some_and(|node| !fault::cancelled(&node.span))
        });
    }
    found.sort_unstable();
    found
}

/// Failures at the bottom, below and including a failed span.
fn origins(tree: &Tree, top: usize) -> usize {
    let mut bottoms = 0;
    let mut open = vec![top];
    while let Some(place) = open.pop() {
        let causes = causes(tree, place);
        if causes.is_empty() {
            bottoms += 1;
        }
        open.extend(causes);
    }
    bottoms
}

/// From a failed span down to where it broke. Of several failed calls the one that ended last is followed, since the
/// answer came after it; one that was refused (4xx) only if there is no other.
fn descend(tree: &Tree, top: usize) -> Vec<usize> {
    let mut chain = vec![top];
    let mut at = top;
    while let Some(next) = causes(tree, at).into_iter().max_by_key(|place| {
        tree.node(*place).map(|node| {
            (
                !refused(&node.span),
                node.span.end_unix_nanos,
                node.span.span_id.to_bytes(),
            )
        })
    }) {
        chain.push(next);
        at = next;
    }
    chain
}

/// Where a chain ends at an answer that nothing explains, and a span without its parent failed in that time, the gap
/// between the two is most likely the call: goes on there. Returns the last part of the chain and the gaps crossed.
fn across_gaps(tree: &Tree, tops: &[FailingTop], chain: Vec<usize>) -> (Vec<usize>, usize) {
    let mut parts = vec![chain];
    // Gaps within gaps are guesses on guesses.
    while parts.len() <= MAX_GAPS
        && let Some(end) = parts.last().and_then(|part| part.last()).copied()
    {
        let Some(node) = tree.node(end) else { break };
        if fault::of(&node.span) != Fault::Other || refused(&node.span) {
            break;
        }
        let times = node.span.start_unix_nanos..=node.span.end_unix_nanos;
        let next = tops
            .iter()
            .map(|top| top.place)
            .filter(|place| !parts.iter().any(|part| part.contains(place)))
            .filter_map(|place| Some((place, tree.node(place)?)))
            .filter(|(_, below)| {
                below.top == Some(Top::Orphan)
                    && times.contains(&below.span.start_unix_nanos)
                    && times.contains(&below.span.end_unix_nanos)
            })
            .max_by_key(|(place, below)| (below.span.end_unix_nanos, *place));
        match next {
            Some((place, _)) => parts.push(descend(tree, place)),
            None => break,
        }
    }
    let gaps = parts.len() - 1;
    (parts.pop().unwrap_or_default(), gaps)
}

/// Whether a call was answered with a 4xx.
fn refused(span: &Span) -> bool {
    let answered = span
        .text(ERROR_TYPE)
        .is_none_or(|kind| kind.bytes().all(|byte| byte.is_ascii_digit()));
    answered
        && span
            .status_code()
            .is_some_and(|code| (400..500).contains(&code))
}

#[cfg(test)]
mod tests;
