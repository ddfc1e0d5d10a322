//! Every check has a world in which it finds something, and finds nothing in the healthy one. What the worlds look like
//! for real is `tests/it/doctor` and `tests/real`.

use std::collections::BTreeSet;

use super::super::report::{Check, Mark, Report};
use super::*;
use crate::correlation::server::ServerKind;
use crate::correlation::survey::State;
use crate::correlation::{Availability, Obstacle, Rung};
use crate::trace::Evidence;
use rows::rows;
use worlds::{healthy, rungs, without_sidecar};

mod rows;
mod worlds;

fn of(report: &Report, code: Code) -> Vec<&Check> {
    let checks = report.checks.iter();
    checks.filter(|check| check.code == code).collect()
}

#[test]
fn a_healthy_world_has_nothing_to_say() {
    let report = judge(&healthy());
    let said = report.said();
    assert!(said.is_empty(), "{said:#?}");
    assert_eq!(report.summary.ok, report.checks.len());
    assert!(report.checks.len() > 12, "the guard looked at nothing");
}

#[test]
fn every_check_finds_what_it_is_for() {
    for (code, mark, facts, words) in rows() {
        let report = judge(&facts);
        let found = of(&report, code);
        let hit = |check: &&&Check| check.mark == mark && check.found.contains(words);
        assert!(
            found.iter().any(|check| hit(&check)),
            "{code} {mark:?} `{words}`: {found:#?}"
        );
        for check in found.iter().filter(|check| check.mark >= Mark::Warn) {
            assert!(!check.fix.is_empty(), "{code} says no fix: {check:?}");
        }
    }
}

#[test]
fn a_change_sets_off_no_other_check() {
    for (code, mark, facts, _) in rows() {
        // Who does not answer cannot be asked; and a rung's neighbours may have a word.
        let expected: &[Code] = match code {
            Code::RouterInFront | Code::TokenOff => &[Code::RouterInFront, Code::TokenOff],
            _ => &[],
        };
        let report = judge(&facts);
        let others = report.checks.iter().filter(|check| {
            check.code != code && check.mark >= Mark::Warn && !expected.contains(&check.code)
        });
        let others: Vec<_> = others.collect();
        assert!(others.is_empty(), "{code} {mark:?}: {others:#?}");
    }
}

#[test]
fn every_code_of_a_host_has_a_world_that_provokes_it() {
    let provoked: BTreeSet<Code> = rows().iter().map(|(code, ..)| *code).collect();
    // What rungs are, and what is known of the kernel, is told and never wrong; the last two are log lines'.
    let told = [
        Code::RungHeader,
        Code::RungToken,
        Code::RungThread,
        Code::RungSerial,
        Code::Kernel,
        Code::MemoryShort,
        Code::ShimNotUnpacked,
    ];
    let all = Code::ALL
        .iter()
        .filter(|code| code.as_str().starts_with("HOP1"));
    let missing: Vec<_> = all
        .filter(|code| !provoked.contains(code) && !told.contains(code))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn a_rung_that_is_not_needed_is_no_warning() {
    // Sync workers and the serial rung: whoever lacks capabilities need not be told so twice.
    let lacking = Obstacle::Capability {
        bpf: true,
        perfmon: true,
    };
    let facts = rungs(ServerKind::Sync, Availability::Off(lacking), Rung::Ready);
    let report = judge(&facts);
    assert!(!report.has(Mark::Warn), "{report:#?}");
    assert_eq!(of(&report, Code::ThreadCapabilities)[0].mark, Mark::Note);
    assert_eq!(of(&report, Code::TokenOff)[0].mark, Mark::Note);
}

#[test]
fn a_rung_that_cannot_help_says_so() {
    let facts = rungs(ServerKind::Threads, Availability::Ready, Rung::Ready);
    let report = judge(&facts);
    let serial = of(&report, Code::RungSerial)[0];
    assert!(serial.found.contains("does not join"), "{serial:?}");
    let thread = of(&report, Code::RungThread)[0];
    assert!(!thread.found.contains("does not join"), "{thread:?}");
    let next = facts.survey.as_ref().and_then(|survey| survey.next());
    assert_eq!(next, None, "threads are joined by the thread rung");
    let survey = facts.survey.unwrap();
    assert_eq!(survey.rung(Evidence::Serial).unwrap().state, State::Ready);
}

#[test]
fn the_subject_says_what_was_looked_at() {
    assert_eq!(
        judge(&healthy()).subject,
        "the sidecar at 127.0.0.1:9465, generation 1"
    );
    let alone = judge(&without_sidecar(false)).subject;
    assert_eq!(
        alone,
        "this host, for user 0 (no sidecar answers at 127.0.0.1:9465)"
    );
}
