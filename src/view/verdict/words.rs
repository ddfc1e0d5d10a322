//! The sentences. Each says what was seen, in the words of the span that saw it.

use std::sync::Arc;

use super::super::fault::{self, Fault, shortened};
use super::super::span::{Kind, ROUTE_TO, Span};
use super::super::tree::{Node, Tree};
use super::super::units::brief;
use super::{Case, Verdict, is_to_app, refused};
use phrases::{
    LONGEST, answered, asked, because, detailed, garbled, host, how_far, peer, redirected, service,
    unsent,
};

mod own;
mod phrases;

/// The origin of a chain of failures (top first) and what is said of it.
pub(super) fn blame(tree: &Tree, chain: &[usize]) -> (usize, Verdict) {
    let last = chain.last().copied().unwrap_or_default();
    let Some(node) = tree.node(last) else {
        return (last, other("the trace failed".to_owned(), None));
    };
    let fault = fault::of(&node.span);
    if is_to_app(tree, last) {
        // An answer of the app is the service's answer: its SERVER span tells it.
        if fault != Fault::Other {
            return (last, app_trouble(&node.span, fault));
        }
        let place = node.parent.unwrap_or(last);
        let span = tree.node(place).map_or(&node.span, |node| &node.span);
        return (place, own_failure(span));
    }
    let verdict = match (node.span.kind, fault) {
        (Kind::Server, Fault::Other) => own_failure(&node.span),
        (Kind::Server, _) => app_trouble(&node.span, fault),
        (Kind::Client, _) => call_failed(tree, chain, node, fault),
        _ => {
            let span = &node.span;
            let name = shortened(&span.name, LONGEST);
            own(
                span,
                format!("{} failed in {name}{}", service(span), because(span)),
            )
        }
    };
    (last, verdict)
}

fn own_failure(span: &Span) -> Verdict {
    let what = match answered(span) {
        Some(code) => format!("answered {code} to {}", asked(span)),
        None => format!("failed in {}{}", asked(span), because(span)),
    };
    let sentence = format!(
        "{} {what} after {}; none of its own calls failed",
        service(span),
        brief(span.duration())
    );
    own(span, sentence)
}

/// hopspan could not get an answer from the app behind it.
fn app_trouble(span: &Span, fault: Fault) -> Verdict {
    let name = service(span);
    let at = peer(span)
        .map(|peer| format!(" at {peer}"))
        .unwrap_or_default();
    let took = brief(span.duration());
    if let Some(verdict) = own::verdict(span, fault, None) {
        return verdict;
    }
    let (case, sentence) = match fault {
        Fault::NoConnection(why) => (
            Case::NeverArrived,
            format!(
                "{name} could not connect to its app{at} ({})",
                detailed(span, why)
            ),
        ),
        Fault::GaveUp if fault::cancelled(span) => (
            Case::GaveUp,
            format!("the caller of {name} went away after {took}"),
        ),
        Fault::GaveUp => (
            Case::GaveUp,
            format!("{name}'s app did not answer within {took}"),
        ),
        Fault::Stalled => (
            Case::GaveUp,
            format!("{name}'s app began to answer and went no further: given up after {took}"),
        ),
        Fault::Untaken => (
            Case::GaveUp,
            format!("the caller of {name} took no more of the answer: given up after {took}"),
        ),
        Fault::Garbled(what) => (
            Case::Other,
            format!("{name}'s app {} {what}", garbled(span)),
        ),
        Fault::Unsent => (Case::Other, unsent(span)),
        Fault::Closed | Fault::Other | Fault::NotPassed => (
            Case::Closed,
            format!(
                "{name}'s app closed the connection {}",
                how_far(span).trim_end_matches(" to")
            ),
        ),
    };
    Verdict {
        case,
        sentence,
        service: Some(span.service().to_owned()),
    }
}

/// A call to another service failed, and nothing below it did.
fn call_failed(tree: &Tree, chain: &[usize], node: &Node, fault: Fault) -> Verdict {
    let span = &node.span;
    let name = service(span);
    let took = brief(span.duration());
    let callee = node
        .children
        .iter()
        .filter_map(|child| tree.node(*child))
        .find(|child| child.span.kind == Kind::Server)
        .map(|child| &child.span);
    let host = callee.map(|callee| service(callee)).or_else(|| host(span));
    let whom = host.as_deref().unwrap_or("the other side");
    if let Some(verdict) = own::verdict(span, fault, Some(whom)) {
        return verdict;
    }
    let (case, sentence) = match (fault, callee) {
        (Fault::NoConnection(why), None) => {
            let called = peer(span).unwrap_or_else(|| whom.to_owned());
            let (at, routed) = match (span.text(ROUTE_TO), redirected(span)) {
                (Some(to), _) => (
                    shortened(to, LONGEST),
                    format!(", where its route sends calls to {called}"),
                ),
                (None, Some(to)) if to != called => {
                    (to, format!(", where its call to {called} was going"))
                }
                (None, _) => (called, String::new()),
            };
            let why = detailed(span, why);
            let sentence =
                format!("{name} could not connect to {at} ({why}){routed}; {whom} never saw it");
            (Case::NeverArrived, sentence)
        }
        (Fault::GaveUp, _) => (Case::GaveUp, gave_up(span, callee, whom)),
        (Fault::Stalled, _) => (
            Case::GaveUp,
            format!("{whom} began to answer {name} and went no further: given up after {took}"),
        ),
        (Fault::Untaken, _) => (
            Case::GaveUp,
            format!("{name} took no more of what {whom} answered: given up after {took}"),
        ),
        (Fault::Garbled(what), _) => (
            Case::Other,
            format!("{whom} {} {what} (to {name})", garbled(span)),
        ),
        (Fault::Unsent, _) => (
            Case::Other,
            format!(
                "{name} did not send {whom} the whole of its request{}",
                fault::told(span)
            ),
        ),
        (Fault::Closed, _) => (
            Case::Closed,
            format!("{whom} closed the connection {} {name}", how_far(span)),
        ),
        _ if refused(span) => return translated(tree, chain, span, whom),
        _ => match (answered(span), callee) {
            (Some(code), None) => (
                Case::DarkPeer,
                format!("{whom} answered {code} to {name}; no span of it is here (yet)"),
            ),
            _ => (
                Case::Other,
                format!(
                    "{name}'s call {} failed{} after {took}",
                    shortened(&span.name, LONGEST),
                    because(span)
                ),
            ),
        },
    };
    Verdict {
        case,
        sentence,
        service: Some(span.service().to_owned()),
    }
}

/// The caller stopped waiting. What the callee answered after that is the other half of the story.
fn gave_up(call: &Span, callee: Option<&Arc<Span>>, whom: &str) -> String {
    let name = service(call);
    let took = brief(call.duration());
    match callee.and_then(|callee| Some((callee, callee.status_code()?))) {
        Some((callee, code)) => {
            let later = callee.end_unix_nanos.saturating_sub(call.start_unix_nanos);
            format!(
                "{name} gave up after {took}; {whom} answered {code} at {}",
                brief(later)
            )
        }
        None => format!("{name} gave up on {whom} after {took}"),
    }
}

/// The callee's 4xx was no failure; the caller made one of it.
fn translated(tree: &Tree, chain: &[usize], call: &Span, whom: &str) -> Verdict {
    let code = call.status_code().unwrap_or_default();
    let answer = chain
        .iter()
        .rev()
        .filter_map(|place| tree.node(*place))
        .find(|node| node.span.kind == Kind::Server && node.span.service() == call.service())
        .and_then(|node| node.span.status_code());
    let name = service(call);
    let sentence = match answer {
        Some(answer) => format!("{name} answered {answer} after {whom} answered {code}"),
        None => format!("{name} failed after {whom} answered {code}"),
    };
    Verdict {
        case: Case::Translated,
        sentence,
        service: Some(call.service().to_owned()),
    }
}

/// Who answered with the same failure on its way up, nearest to the origin first.
pub(super) fn passed_on(tree: &Tree, chain: &[usize], blamed: Option<&str>) -> String {
    let mut names: Vec<String> = Vec::new();
    for node in chain.iter().rev().filter_map(|place| tree.node(*place)) {
        let span = &node.span;
        let name = service(span);
        if span.kind == Kind::Server
            && blamed != Some(span.service())
            && !fault::cancelled(span)
            && !names.contains(&name)
        {
            names.push(name);
        }
    }
    match names.split_last() {
        None => String::new(),
        Some((only, [])) => format!("; {only} passed it on"),
        Some((last, others)) => format!("; {} and {last} passed it on", others.join(", ")),
    }
}

/// Something failed and the trace did not.
pub(super) fn recovered(tree: &Tree, tops: &[usize], failures: usize) -> Verdict {
    let nodes: Vec<&Node> = tops.iter().filter_map(|place| tree.node(*place)).collect();
    let what = match nodes.iter().all(|node| node.span.kind == Kind::Client) {
        true => "call",
        false => "span",
    };
    let plural = if failures == 1 { "" } else { "s" };
    let mut sentence = match (nodes.as_slice(), tops) {
        ([only], [place]) if fault::of(&only.span) == Fault::Unsent && is_to_app(tree, *place) => {
            unsent(&only.span)
        }
        _ => format!("{failures} {what}{plural} failed"),
    };
    if nodes.iter().all(|node| retried(tree, node)) {
        sentence += ", recovered by retry";
    } else if let Some(root) = tree.tops.first().and_then(|top| tree.node(*top))
        && let Some(code) = root.span.status_code()
    {
        sentence += &format!("; {} answered {code}", service(&root.span));
        if code < 400 {
            sentence += " all the same";
        }
    }
    let mended = nodes
        .iter()
        .all(|node| refused(&node.span) || retried(tree, node));
    Verdict {
        case: match mended {
            true => Case::Recovered,
            false => Case::Swallowed,
        },
        sentence,
        service: None,
    }
}

/// Whether the same call was made again later, and worked.
fn retried(tree: &Tree, failed: &Node) -> bool {
    let siblings = failed
        .parent
        .map_or(&[][..], |parent| tree.children(parent));
    siblings
        .iter()
        .filter_map(|place| tree.node(*place))
        .map(|node| &node.span)
        .any(|span| {
            span.kind == Kind::Client
                && !span.failed()
                && span.start_unix_nanos >= failed.span.end_unix_nanos
                && span.name == failed.span.name
                && span.service() == failed.span.service()
                && host(span) == host(&failed.span)
        })
}

/// Nothing failed, something is missing.
pub(super) fn incomplete(missing: usize) -> Verdict {
    Verdict {
        case: Case::Incomplete,
        sentence: not_here(missing),
        service: None,
    }
}

pub(super) fn not_here(missing: usize) -> String {
    let plural = if missing == 1 { "" } else { "s" };
    format!("{missing} span{plural} not here (yet)")
}

fn own(span: &Span, sentence: String) -> Verdict {
    Verdict {
        case: Case::OwnFailure,
        sentence,
        service: Some(span.service().to_owned()),
    }
}

fn other(sentence: String, service: Option<String>) -> Verdict {
    Verdict {
        case: Case::Other,
        sentence,
        service,
    }
}
