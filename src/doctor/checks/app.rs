//! The sidecar, the app's door, the app's server.

use super::super::facts::{Answer, Door, Facts};
use super::super::report::{Findings, Group, Mark};
use crate::correlation::server::{Server, ServerKind};
use crate::telemetry::Code;

pub(super) fn check(facts: &Facts, findings: &mut Findings) {
    sidecar(facts, findings);
    door(facts, findings);
    if let Some(survey) = &facts.survey {
        server(&survey.server, findings);
    }
}

fn sidecar(facts: &Facts, findings: &mut Findings) {
    let sidecar = &facts.sidecar;
    let mut add = |code, mark, found: String, fix: &str| {
        findings.add(Group::App, code, mark, found, fix);
    };
    let at = &sidecar.admin;
    match (&sidecar.answer, &sidecar.not_ready) {
        (Answer::Whole, None) => add(
            Code::SidecarSilent,
            Mark::Ok,
            format!("the sidecar answers at {at} and is ready"),
            "",
        ),
        (Answer::Whole, Some(why)) => add(
            Code::NotReady,
            Mark::Warn,
            format!("the sidecar at {at} is not ready: {why}"),
            "hopspan doctor --wait 30s; if it drains for no reason, restart it",
        ),
        (Answer::TimedOut, _) => add(
            Code::SidecarTimeout,
            Mark::Error,
            format!("the sidecar at {at} did not answer in time"),
            "look at its log and at its CPU throttling",
        ),
        (Answer::Silent, _) if sidecar.expected => add(
            Code::SidecarSilent,
            Mark::Error,
            format!("no sidecar answers at {at}"),
            "start it (hopspan run), or name its admin listener with --admin",
        ),
        (Answer::Silent, _) => add(
            Code::SidecarSilent,
            Mark::Note,
            format!("no sidecar answers at {at}: this is what the host would allow"),
            "name its admin listener with --admin if one runs",
        ),
    }
}

fn door(facts: &Facts, findings: &mut Findings) {
    let at = &facts.app.address;
    let bad = match facts.app.expected {
        true => Mark::Error,
        false => Mark::Note,
    };
    let (code, mark, found, fix) = match &facts.app.door {
        Door::Open => (
            Code::AppRefuses,
            Mark::Ok,
            format!("the app accepts connections at {at}"),
            "",
        ),
        Door::Refused => (
            Code::AppRefuses,
            bad,
            format!("nothing accepts connections at {at}, where the app should"),
            "start the app, or name its address with --app or inbound.app",
        ),
        Door::TimedOut => (
            Code::AppTimeout,
            bad,
            format!("the app at {at} took no connection in time"),
            "ss -ltn: a Recv-Q as long as Send-Q is a full accept queue; add workers",
        ),
        Door::Nameless(why) => (
            Code::AppAddress,
            bad,
            format!("the app's address {at} cannot be resolved: {why}"),
            "write an address, as in 127.0.0.1:8000",
        ),
    };
    findings.add(Group::App, code, mark, found, fix);
}

fn server(server: &Server, findings: &mut Findings) {
    let listening = server.processes.iter().find(|process| process.listens);
    let name = listening.map_or("the app", |process| &process.name);
    let count = match server.processes.len() {
        1 => "1 process".to_owned(),
        count => format!("{count} processes"),
    };
    let (mark, found) = match server.kind {
        ServerKind::Unknown => (
            Mark::Note,
            format!("the app's server is not known: {}", server.why),
        ),
        kind => (
            Mark::Ok,
            format!(
                "{name} serves by {}: {count}; {}",
                kind.as_str(),
                server.why
            ),
        ),
    };
    findings.add(Group::App, Code::ServerKind, mark, found, "");
}
