//! Which rungs join calls here, what would add one, and what came of calls so far.

use super::super::facts::Facts;
use super::super::report::{Findings, Group, Mark};
use crate::correlation::Unlinked;
use crate::correlation::server::ServerKind;
use crate::correlation::survey::{Calls, Standing, State, Survey};
use crate::telemetry::Code;
use crate::trace::Evidence;

/// Fewer calls than this say nothing about shares.
const ENOUGH: u64 = 20;
/// Calls left without a parent for a reason that can be mended: a share above this, in percent, is a warning.
const TOLERATED: u64 = 5;

pub(super) fn check(facts: &Facts, findings: &mut Findings) {
    let Some(survey) = &facts.survey else {
        return;
    };
    for standing in &survey.rungs {
        rung(standing, survey, findings);
    }
    let token = survey.rung(Evidence::Token);
    let tokens = token.is_some_and(|token| token.state == State::Ready);
    if survey.server.kind == ServerKind::Router && !tokens {
        findings.add(
            Group::Joins,
            Code::RouterInFront,
            Mark::Warn,
            format!(
                "{}: neither threads nor sockets lead from it to the app's workers",
                survey.server.why
            ),
            "uwsgi --http-socket instead of --http; or put hopspan behind the proxy; or use tokens",
        );
    }
    calls(&survey.calls, findings);
    if tokens {
        returned(&survey.calls, findings);
    }
}

fn rung(standing: &Standing, survey: &Survey, findings: &mut Findings) {
    let name = &standing.rung;
    // Behind a router that is a finding of its own.
    let router = survey.server.kind == ServerKind::Router;
    let next = survey
        .next()
        .is_some_and(|next| next.rung == *name && !router);
    match standing.state {
        State::Ready => {
            findings.ok(
                Group::Joins,
                standing.code,
                format!("{name}: works; {}", proves(name, survey.server.kind)),
            );
        }
        State::Waiting => {
            let found = format!("{name}: waiting: {}", standing.why);
            findings.add(Group::Joins, standing.code, Mark::Note, found, "");
        }
        State::Off if standing.code == Code::RungsDisagree => {
            let found = format!("{name}: off: {}", standing.why);
            findings.add(
                Group::Joins,
                standing.code,
                Mark::Error,
                found,
                &*standing.fix,
            );
        }
        State::Off => {
            let (mark, more) = match next {
                true => (Mark::Warn, lost(survey.server.kind)),
                false => (Mark::Note, ""),
            };
            let found = format!("{name}: off: {}{more}", standing.why);
            findings.add(Group::Joins, standing.code, mark, found, &*standing.fix);
        }
    }
}

/// What is lost while the next rung is off.
fn lost(kind: ServerKind) -> &'static str {
    match kind {
        ServerKind::EventLoop | ServerKind::Greenlets => {
            "; calls of an event loop or greenlets are joined by nothing else"
        }
        ServerKind::Threads => "; calls of threads are joined only by this or by tokens",
        ServerKind::Router | ServerKind::Sync | ServerKind::Unknown => {
            "; no call without a header is joined"
        }
    }
}

/// What a rung joins, given what the app is.
fn proves(rung: &str, kind: ServerKind) -> String {
    let (by, not) = match rung {
        "header" => return "the app's own traceparent".to_owned(),
        "token" => {
            return "requests carry a token, and calls bring it back where the shim is loaded"
                .to_owned();
        }
        "thread" => (
            "the kernel tells which thread read the request and made the call",
            [
                ServerKind::EventLoop,
                ServerKind::Greenlets,
                ServerKind::Router,
            ]
            .contains(&kind),
        ),
        _ => (
            "a process that serves one request waits for the call",
            ![ServerKind::Sync, ServerKind::Unknown].contains(&kind),
        ),
    };
    match not {
        true => format!(
            "but does not join calls of this kind of server ({})",
            kind.as_str()
        ),
        false => by.to_owned(),
    }
}

/// What came of calls.
fn calls(calls: &Calls, findings: &mut Findings) {
    if let Some(count) = calls.disagreements.values().sum::<u64>().checked_sub(1) {
        let found = format!("two rungs gave different parents, {} times", count + 1);
        findings.add(
            Group::Joins,
            Code::RungsDisagree,
            Mark::Error,
            found,
            "report it; the weaker rung is off until a restart",
        );
    }
    let total = calls.total();
    if total == 0 {
        return;
    }
    let joined = told(&calls.joined, |_| None);
    let unlinked: u64 = calls.unlinked.values().sum();
    let mut found = format!(
        "{} of {total} calls have a parent ({joined})",
        total - unlinked
    );
    if unlinked > 0 {
        let code_of = |reason: &str| known(reason).map(Unlinked::code);
        found.push_str(&format!(
            "; {unlinked} have none: {}",
            told(&calls.unlinked, code_of)
        ));
    }
    let mendable = |reason: &&String| !known(reason).is_some_and(is_right);
    let lost: u64 = calls
        .unlinked
        .iter()
        .filter(|(reason, _)| mendable(reason))
        .map(|(_, count)| count)
        .sum();
    let worst = calls
        .unlinked
        .iter()
        .filter(|(reason, _)| mendable(reason))
        .max_by_key(|(_, count)| **count);
    let code = worst
        .and_then(|(reason, _)| known(reason))
        .map(Unlinked::code);
    let (mark, fix) = match code {
        Some(code) if total >= ENOUGH && lost * 100 > total * TOLERATED => {
            (Mark::Warn, format!("hopspan explain {code}"))
        }
        Some(code) => (Mark::Note, format!("hopspan explain {code}, if it grows")),
        None => (Mark::Ok, String::new()),
    };
    findings.add(Group::Joins, Code::Unlinked, mark, found, fix);
}

/// Reasons for which a call has no parent because no request caused it.
fn is_right(reason: Unlinked) -> bool {
    matches!(
        reason,
        Unlinked::TokenExpired | Unlinked::NoInbound | Unlinked::NotRead
    )
}

fn known(reason: &str) -> Option<Unlinked> {
    Unlinked::ALL
        .into_iter()
        .find(|known| known.as_str() == reason)
}

/// Counts, the largest first: `serial 90, header 10`.
fn told<'a>(
    counts: &'a std::collections::BTreeMap<String, u64>,
    code: impl Fn(&'a str) -> Option<Code>,
) -> String {
    let mut counts: Vec<_> = counts.iter().filter(|(_, count)| **count > 0).collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let told = counts.into_iter().map(|(name, count)| match code(name) {
        Some(code) => format!("{name} {count} [{code}]"),
        None => format!("{name} {count}"),
    });
    told.collect::<Vec<_>>().join(", ")
}

/// Whether tokens that are given come back.
fn returned(calls: &Calls, findings: &mut Findings) {
    let of = |counts: &std::collections::BTreeMap<String, u64>, name: &str| {
        counts.get(name).copied().unwrap_or(0)
    };
    let back = of(&calls.joined, "token") + of(&calls.unlinked, "token_expired");
    let by_others = of(&calls.joined, "thread") + of(&calls.joined, "serial");
    if back == 0 && by_others > 0 {
        findings.add(
            Group::Joins,
            Code::TokenNotReturned,
            Mark::Warn,
            format!("no call brought a token back, though {by_others} were made for requests: the shim is not loaded in the app"),
            "give the app deploy/python/shim on PYTHONPATH, or start it by hopspan run -- COMMAND",
        );
    }
    if calls.unknown_tokens > 0 {
        let share = calls.unknown_tokens * 100 / calls.total().max(1);
        let mark = if share > 1 { Mark::Warn } else { Mark::Note };
        let found = format!(
            "{} calls brought a token that names no request of this sidecar",
            calls.unknown_tokens
        );
        findings.add(
            Group::Joins,
            Code::TokenUnknown,
            mark,
            found,
            "look for code that copies all request headers to another service",
        );
    }
}
