//! Whether spans reach the collector.

use super::super::facts::{Books, Facts};
use super::super::report::{Findings, Group, Mark};
use crate::export::Reach;
use crate::telemetry::Code;

pub(super) fn check(facts: &Facts, findings: &mut Findings) {
    let collector = &facts.collector;
    if let Some(books) = &collector.books {
        lost(books, findings);
        if from_books(books, findings) {
            return;
        }
    }
    if let Some(reach) = &collector.reach {
        from_probe(&collector.endpoint, reach, findings);
    }
}

/// What the sidecar itself has seen; `false` where that is nothing yet.
fn from_books(books: &Books, findings: &mut Findings) -> bool {
    let (endpoint, error) = (
        &books.endpoint,
        books.last_error.as_deref().unwrap_or_default(),
    );
    if books.failing {
        let code = books.code.unwrap_or(Code::CollectorRejects);
        let waiting = books.spans.queued + books.spans.in_flight;
        let found = match code {
            Code::CollectorTimeout => {
                format!("{endpoint} took too long to answer: {error}; {waiting} spans wait")
            }
            Code::CollectorUnreachable => {
                format!("{endpoint} cannot be reached: {error}; {waiting} spans wait")
            }
            _ => format!("{endpoint} does not take spans: {error}; {waiting} spans wait"),
        };
        findings.add(Group::Export, code, Mark::Error, found, mend(code));
        return true;
    }
    if books.last_success_at.is_none() {
        return false;
    }
    let found = format!(
        "{endpoint} takes spans by {}: {} so far",
        books.protocol, books.spans.exported
    );
    findings.ok(Group::Export, Code::CollectorUnreachable, found);
    true
}

fn from_probe(endpoint: &str, reach: &Reach, findings: &mut Findings) {
    let mut bad = |code, found: String| {
        findings.add(Group::Export, code, Mark::Error, found, mend(code));
    };
    match reach {
        Reach::Disabled => findings.add(
            Group::Export,
            Code::ExportDisabled,
            Mark::Warn,
            "no spans leave: export is disabled",
            "unset OTEL_SDK_DISABLED, OTEL_TRACES_EXPORTER=none and export.disabled",
        ),
        Reach::Answers | Reach::Accepts => {
            findings.ok(
                Group::Export,
                Code::CollectorUnreachable,
                format!("{endpoint} answers; no span was sent yet"),
            );
        }
        Reach::Unreachable(why) => bad(
            Code::CollectorUnreachable,
            format!("{endpoint} cannot be reached: {why}"),
        ),
        Reach::TimedOut => bad(
            Code::CollectorTimeout,
            format!("{endpoint} did not answer in time"),
        ),
        Reach::Rejects(why) => bad(
            Code::CollectorRejects,
            format!("{endpoint} does not take spans: {why}"),
        ),
        Reach::Wrong(why) => bad(
            Code::CollectorRejects,
            format!("spans cannot be sent: {why}"),
        ),
    }
}

fn mend(code: Code) -> &'static str {
    match code {
        Code::CollectorUnreachable => {
            "set OTEL_EXPORTER_OTLP_ENDPOINT to where the collector listens, as http://collector:4318"
        }
        Code::CollectorTimeout => {
            "look for a firewall or network policy in between, and at the collector's load"
        }
        _ => {
            "protocol and port must fit: grpc is 4317, http/protobuf is 4318; 401 and 403: OTEL_EXPORTER_OTLP_HEADERS"
        }
    }
}

/// Spans that never arrived, but for those of a disabled exporter.
fn lost(books: &Books, findings: &mut Findings) {
    let mut reasons = Vec::new();
    for reason in ["queue_full", "failed", "rejected"] {
        if let Some(count) = books.spans.dropped.get(reason).filter(|count| **count > 0) {
            reasons.push(format!("{reason} {count}"));
        }
    }
    let (mark, found, fix) = match reasons.as_slice() {
        [] => (
            Mark::Ok,
            format!("no span was dropped, of {}", books.spans.finished),
            "",
        ),
        some => (
            Mark::Warn,
            format!(
                "spans were dropped: {}, of {}",
                some.join(", "),
                books.spans.finished
            ),
            "mend the collector first; then export.queue_spans or sampling.ratio",
        ),
    };
    findings.add(Group::Export, Code::SpansDropped, mark, found, fix);
}
