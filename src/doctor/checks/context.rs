//! Whether trace context comes in whole, goes out, and can go out at all.

use super::super::facts::{Answer, Facts};
use super::super::report::{Findings, Group, Mark};
use crate::correlation::server::ServerProcess;
use crate::correlation::survey::Survey;
use crate::telemetry::Code;

pub(super) fn check(facts: &Facts, findings: &mut Findings) {
    settings(facts, findings);
    if facts.sidecar.answer != Answer::Whole {
        return;
    }
    malformed(facts, findings);
    if let Some(survey) = &facts.survey {
        calls(facts, survey, findings);
    }
}

fn settings(facts: &Facts, findings: &mut Findings) {
    let mut add = |code, mark, found: &str, fix: &str| {
        findings.add(Group::Context, code, mark, found, fix);
    };
    match facts.settings.tracecontext {
        true => add(
            Code::PropagatorsOff,
            Mark::Ok,
            "traceparent is read and written",
            "",
        ),
        false => add(
            Code::PropagatorsOff,
            Mark::Warn,
            "no traceparent is read or written: the propagators leave tracecontext out",
            "unset OTEL_PROPAGATORS, or write propagators: [tracecontext, baggage]",
        ),
    }
    if facts.settings.ratio <= 0.0 {
        add(
            Code::NotSampled,
            Mark::Warn,
            "no new trace is recorded: the sampling ratio is 0",
            "set sampling.ratio, or unset OTEL_TRACES_SAMPLER",
        );
    }
}

fn malformed(facts: &Facts, findings: &mut Findings) {
    let malformed = &facts.sidecar.counts.malformed;
    let (mark, found, fix) = match malformed.values().sum::<u64>() {
        0 => (Mark::Ok, "no malformed trace header came in".to_owned(), ""),
        count => {
            let reasons: Vec<&str> = malformed.keys().map(String::as_str).collect();
            (
                Mark::Warn,
                format!(
                    "{count} malformed trace headers came in: {}",
                    reasons.join(", ")
                ),
                "mend the caller that sends them; its traces end here",
            )
        }
    };
    findings.add(Group::Context, Code::ContextMalformed, mark, found, fix);
}

/// Whether the app's own calls come by.
fn calls(facts: &Facts, survey: &Survey, findings: &mut Findings) {
    let mut add = |mark, found: String, fix: String| {
        findings.add(Group::Context, Code::CallsBypass, mark, found, fix);
    };
    let calls = survey.calls.total();
    if calls > 0 {
        let found = format!("the app's calls pass through hopspan: {calls} so far");
        return add(Mark::Ok, found, String::new());
    }
    let outbound = &facts.settings.outbound;
    let fix = format!(
        "start the app with HTTP_PROXY and http_proxy=http://{outbound}, or by hopspan run -- COMMAND"
    );
    match proxy(&survey.server.processes, port(outbound)) {
        Proxy::Here => add(
            Mark::Ok,
            "the app's HTTP_PROXY leads to hopspan; no call has come yet".to_owned(),
            String::new(),
        ),
        Proxy::Elsewhere(proxy) => add(
            Mark::Warn,
            format!(
                "the app's HTTP_PROXY leads elsewhere ({proxy}), and no call comes to {outbound}"
            ),
            fix,
        ),
        Proxy::Unset if facts.sidecar.counts.requests > 0 => add(
            Mark::Note,
            format!(
                "the app has no HTTP_PROXY, and no call comes to {outbound}: if it makes any, they are not traced"
            ),
            fix,
        ),
        Proxy::Unset | Proxy::Unknown => add(
            Mark::Note,
            format!("no call of the app has come to {outbound} yet"),
            String::new(),
        ),
    }
}

/// Where the app's processes are told to send their calls.
enum Proxy {
    Here,
    Elsewhere(String),
    Unset,
    Unknown,
}

fn proxy(processes: &[ServerProcess], outbound: &str) -> Proxy {
    let set = |process: &&ServerProcess| process.proxy.as_deref().is_some_and(|p| !p.is_empty());
    if let Some(process) = processes.iter().find(set) {
        let proxy = process.proxy.clone().unwrap_or_default();
        let here = proxy
            .trim_end_matches('/')
            .ends_with(&format!(":{outbound}"));
        return if here {
            Proxy::Here
        } else {
            Proxy::Elsewhere(proxy)
        };
    }
    match processes.iter().any(|process| process.proxy.is_some()) {
        true => Proxy::Unset,
        false => Proxy::Unknown,
    }
}

fn port(listener: &str) -> &str {
    listener.rsplit(':').next().unwrap_or_default()
}
