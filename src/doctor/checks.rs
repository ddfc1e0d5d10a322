//! The checks: facts in, findings out. No check asks anything itself, so each can be shown any world.

mod app;
mod config;
mod context;
mod export;
mod joins;

use super::facts::{Answer, Facts, Host};
use super::report::{Findings, Group, Report};
use crate::telemetry::Code;

/// Judges all facts.
pub(super) fn judge(facts: &Facts) -> Report {
    let mut findings = Findings::default();
    app::check(facts, &mut findings);
    context::check(facts, &mut findings);
    joins::check(facts, &mut findings);
    export::check(facts, &mut findings);
    kernel(&facts.host, &mut findings);
    config::check(facts, &mut findings);
    findings.report(subject(facts))
}

fn subject(facts: &Facts) -> String {
    let admin = &facts.sidecar.admin;
    match facts.sidecar.answer {
        Answer::Whole => format!(
            "the sidecar at {admin}, generation {}",
            facts.sidecar.generation
        ),
        _ => format!(
            "this host, for user {} (no sidecar answers at {admin})",
            facts.host.user
        ),
    }
}

fn kernel(host: &Host, findings: &mut Findings) {
    let btf = if host.btf { "BTF" } else { "no BTF" };
    let yama = match host.yama {
        Some(scope) => format!("Yama ptrace_scope {scope}"),
        None => "no Yama".to_owned(),
    };
    let capabilities = match host.capabilities.as_slice() {
        [] => "none of the capabilities that rungs can use".to_owned(),
        some => some.join(", "),
    };
    let found = format!(
        "Linux {} on {}, {btf}, {yama}; this process: user {}, {capabilities}",
        host.kernel, host.machine, host.user
    );
    findings.ok(Group::Kernel, Code::Kernel, found);
}

#[cfg(test)]
mod tests;
