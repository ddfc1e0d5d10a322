//! What hopspan itself did: it sent a request on to nobody, or ended a tunnel.
//! Neither side is to blame for that, and the reason is in the message that it left. Tunnels that broke are here, too: there
//! is no answer in them that one could be in the midst of.

use super::super::super::fault::{self, Fault, shortened};
use super::super::super::span::{Span, TUNNEL};
use super::super::super::units::brief;
use super::phrases::service;
use super::{Case, Verdict};

/// Longest message in a sentence, in characters.
const LONGEST: usize = 200;

/// What is said of it; `None` where it was not hopspan. `called`: of a call, who; else it was a request to the app.
pub(super) fn verdict(span: &Span, fault: Fault, called: Option<&str>) -> Option<Verdict> {
    let name = service(span);
    let because = fault::message(span)
        .map(|message| format!(": {}", shortened(message, LONGEST)))
        .unwrap_or_default();
    let took = brief(span.duration());
    let whom = called.map_or_else(|| format!("{name}'s app"), str::to_owned);
    let tunnel = match called {
        _ if span.attribute(TUNNEL).is_none() => None,
        Some(_) => Some(format!("{name}'s tunnel to {whom}")),
        None => Some(format!("a tunnel to {whom}")),
    };
    let (case, sentence) = match (fault, called, tunnel) {
        (Fault::NotPassed, Some(_), _) => (
            Case::NeverArrived,
            format!("hopspan did not pass {name}'s call on{because}; {whom} never saw it"),
        ),
        (Fault::NotPassed, None, _) => (
            Case::NeverArrived,
            format!("hopspan did not pass a request on to {whom}{because}"),
        ),
        (Fault::Stalled, _, Some(tunnel)) => (
            Case::GaveUp,
            format!("hopspan ended {tunnel} after {took}{because}"),
        ),
        (Fault::GaveUp, _, Some(tunnel)) => (
            Case::GaveUp,
            format!("{tunnel} was cut off after {took}{because}"),
        ),
        (Fault::Closed, _, Some(tunnel)) => (
            Case::Closed,
            format!("{tunnel} was reset by {whom} after {took}"),
        ),
        _ => return None,
    };
    Some(Verdict {
        case,
        sentence,
        service: Some(span.service().to_owned()),
    })
}
