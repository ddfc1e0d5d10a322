//! Every check has a world in which it finds something, and finds nothing in the healthy one. What the worlds look like
//! for real is `tests/it/doctor` and `tests/real`.

use std::collections::{BTreeMap, BTreeSet};

use super::super::facts::{
    App, Books, Collector, Counts, Door, Facts, Host, Settings, Sidecar, Spans,
};
use super::super::report::{Check, Mark, Report};
use super::*;
use crate::correlation::server::{Place, Server, ServerKind, ServerProcess};
use crate::correlation::survey::{Calls, State, Survey};
use crate::correlation::{Availability, Obstacle, Rung};
use crate::export::Reach;
use crate::trace::Evidence;

fn counted(counts: &[(&str, u64)]) -> BTreeMap<String, u64> {
    let counts = counts
        .iter()
        .map(|(name, count)| ((*name).to_owned(), *count));
    counts.collect()
}

fn survey(thread: &Availability, serial: &Rung) -> Survey {
    // A port that nobody listens at: what the server is, is made up below.
    let nowhere = [Place::Tcp(([127, 0, 0, 1], 1).into())];
    Survey {
        server: Server {
            kind: ServerKind::Sync,
            why: "its processes wait for one connection each".to_owned(),
            processes: vec![ServerProcess {
                pid: 7,
                name: "gunicorn".to_owned(),
                threads: 1,
                listens: true,
                proxy: Some("http://127.0.0.1:8081".to_owned()),
            }],
        },
        calls: Calls {
            joined: counted(&[("token", 90), ("serial", 10)]),
            unlinked: counted(&[("no_inbound", 3)]),
            ..Calls::default()
        },
        ..Survey::of(&nowhere, true, thread, serial)
    }
}

/// Everything as it should be.
fn healthy() -> Facts {
    Facts {
        sidecar: Sidecar {
            admin: "127.0.0.1:9465".to_owned(),
            expected: true,
            answer: Answer::Whole,
            generation: 1,
            counts: Counts {
                requests: 40,
                ..Counts::default()
            },
            ..Sidecar::default()
        },
        settings: Settings {
            file: Some(("hopspan.yaml".to_owned(), None)),
            outbound: "127.0.0.1:8081".to_owned(),
            admin: "127.0.0.1:9465".to_owned(),
            tracecontext: true,
            ratio: 1.0,
            ..Settings::default()
        },
        app: App {
            address: "127.0.0.1:8000".to_owned(),
            expected: true,
            door: Door::Open,
        },
        survey: Some(survey(&Availability::Ready, &Rung::Ready)),
        collector: Collector {
            endpoint: "http://collector:4318/v1/traces".to_owned(),
            books: Some(Books {
                endpoint: "http://collector:4318/v1/traces".to_owned(),
                last_success_at: Some(1_800_000_000),
                spans: Spans {
                    finished: 10,
                    exported: 10,
                    ..Spans::default()
                },
                ..Books::default()
            }),
            reach: None,
        },
        host: Host {
            kernel: "6.8.0".to_owned(),
            btf: true,
            ..Host::default()
        },
    }
}

/// The healthy world with one change.
fn world(change: impl FnOnce(&mut Facts)) -> Facts {
    let mut facts = healthy();
    change(&mut facts);
    facts
}

/// The same without tokens, with what is said of the rungs below.
fn rungs(kind: ServerKind, thread: Availability, serial: Rung) -> Facts {
    world(|facts| {
        let mut changed = survey(&thread, &serial);
        let tokens = Survey::of(&[], false, &thread, &serial);
        changed.rungs = tokens.rungs;
        changed.server.kind = kind;
        changed.calls = Calls::default();
        facts.survey = Some(changed);
    })
}

fn thread_off(obstacle: Obstacle) -> Facts {
    rungs(
        ServerKind::Threads,
        Availability::Off(obstacle),
        Rung::Ready,
    )
}

fn serial_off(code: Code) -> Facts {
    let serial = Rung::Off {
        why: "why".to_owned(),
        fix: "fix".to_owned(),
        code,
    };
    let thread = Availability::Off(Obstacle::NoBtf);
    rungs(ServerKind::Sync, thread, serial)
}

fn calls(change: impl FnOnce(&mut Calls)) -> Facts {
    world(|facts| {
        if let Some(survey) = &mut facts.survey {
            change(&mut survey.calls);
        }
    })
}

fn probed(reach: Reach) -> Facts {
    world(|facts| {
        facts.collector.books = None;
        facts.collector.reach = Some(reach);
    })
}

fn books(change: impl FnOnce(&mut Books)) -> Facts {
    world(|facts| {
        if let Some(books) = &mut facts.collector.books {
            change(books);
        }
    })
}

fn failing(code: Code) -> Facts {
    books(|books| {
        books.failing = true;
        books.code = Some(code);
        books.last_error = Some("connection refused".to_owned());
    })
}

fn without_sidecar(expected: bool) -> Facts {
    world(|facts| {
        facts.sidecar.answer = Answer::Silent;
        facts.sidecar.expected = expected;
    })
}

fn proxied(proxy: Option<&str>, requests: u64) -> Facts {
    let mut facts = calls(|calls| *calls = Calls::default());
    facts.sidecar.counts.requests = requests;
    if let Some(survey) = &mut facts.survey {
        survey.server.processes[0].proxy = proxy.map(str::to_owned);
    }
    facts
}

fn of(report: &Report, code: Code) -> Vec<&Check> {
    let checks = report.checks.iter();
    checks.filter(|check| check.code == code).collect()
}

type Row = (Code, Mark, Facts, &'static str);

fn app_and_context() -> Vec<Row> {
    use Code::*;
    let unresolved = || Door::Nameless("no such host".to_owned());
    vec![
        (
            SidecarSilent,
            Mark::Error,
            without_sidecar(true),
            "no sidecar answers",
        ),
        (
            SidecarSilent,
            Mark::Note,
            without_sidecar(false),
            "what the host would allow",
        ),
        (
            SidecarTimeout,
            Mark::Error,
            world(|facts| facts.sidecar.answer = Answer::TimedOut),
            "did not answer in time",
        ),
        (
            NotReady,
            Mark::Warn,
            world(|facts| facts.sidecar.not_ready = Some("draining".to_owned())),
            "not ready: draining",
        ),
        (
            AppRefuses,
            Mark::Error,
            world(|facts| facts.app.door = Door::Refused),
            "127.0.0.1:8000",
        ),
        (
            AppTimeout,
            Mark::Error,
            world(|facts| facts.app.door = Door::TimedOut),
            "in time",
        ),
        (
            AppAddress,
            Mark::Error,
            world(|facts| facts.app.door = unresolved()),
            "no such host",
        ),
        (
            ServerKind,
            Mark::Note,
            rungs(self::ServerKind::Unknown, Availability::Ready, Rung::Ready),
            "not known",
        ),
        (
            ContextMalformed,
            Mark::Warn,
            world(|facts| {
                facts.sidecar.counts.malformed = counted(&[("version", 2), ("length", 1)]);
            }),
            "3 malformed trace headers came in: length, version",
        ),
        (
            PropagatorsOff,
            Mark::Warn,
            world(|facts| facts.settings.tracecontext = false),
            "propagators",
        ),
        (
            NotSampled,
            Mark::Warn,
            world(|facts| facts.settings.ratio = 0.0),
            "ratio is 0",
        ),
        (
            CallsBypass,
            Mark::Note,
            proxied(Some(""), 1),
            "no HTTP_PROXY",
        ),
        (CallsBypass, Mark::Note, proxied(Some(""), 0), "yet"),
        (CallsBypass, Mark::Note, proxied(None, 1), "yet"),
        (
            CallsBypass,
            Mark::Warn,
            proxied(Some("http://proxy:3128"), 1),
            "leads elsewhere (http://proxy:3128)",
        ),
    ]
}

fn joins() -> Vec<Row> {
    use Code::*;
    let mut rows: Vec<Row> = Vec::new();
    for (code, obstacle) in [
        (
            ThreadCapabilities,
            Obstacle::Capability {
                bpf: true,
                perfmon: false,
            },
        ),
        (ThreadNoBtf, Obstacle::NoBtf),
        (
            ThreadKernel,
            Obstacle::NoTracepoint {
                kernel: "5.15".to_owned(),
            },
        ),
        (ThreadLockdown, Obstacle::Lockdown),
        (ThreadMemory, Obstacle::Memory),
        (ThreadForbidden, Obstacle::Forbidden),
        (ThreadRefused, Obstacle::Verifier("R1 invalid".to_owned())),
        (ThreadRefused, Obstacle::Failed("no".to_owned())),
        (ThreadOff, Obstacle::Disabled),
    ] {
        rows.push((code, Mark::Warn, thread_off(obstacle), "thread: off: "));
    }
    rows.push((
        RungsDisagree,
        Mark::Error,
        thread_off(Obstacle::Disagreed),
        "stronger proof",
    ));
    for code in [
        SerialNoSockDiag,
        SerialPidNamespace,
        SerialUser,
        SerialYama,
        SerialNotDumpable,
        SerialKernel,
        SerialUnixSocket,
        SerialOff,
    ] {
        rows.push((code, Mark::Warn, serial_off(code), "serial: off: why"));
    }
    let waiting = Rung::Waiting {
        why: "nobody listens".to_owned(),
    };
    let off = || Availability::Off(Obstacle::NoBtf);
    rows.push((
        SerialWaiting,
        Mark::Note,
        rungs(self::ServerKind::Unknown, off(), waiting),
        "waiting: nobody listens",
    ));
    for kind in [self::ServerKind::EventLoop, self::ServerKind::Greenlets] {
        rows.push((
            TokenOff,
            Mark::Warn,
            rungs(kind, Availability::Ready, Rung::Ready),
            "token: off",
        ));
    }
    let router = || rungs(self::ServerKind::Router, Availability::Ready, Rung::Ready);
    rows.push((RouterInFront, Mark::Warn, router(), "workers"));
    rows.push((TokenOff, Mark::Note, router(), "token: off"));
    rows.push((
        TokenNotReturned,
        Mark::Warn,
        calls(|calls| calls.joined = counted(&[("serial", 3)])),
        "though 3 were made for requests",
    ));
    rows.push((
        TokenUnknown,
        Mark::Note,
        calls(|calls| calls.unknown_tokens = 1),
        "1 calls",
    ));
    rows.push((
        TokenUnknown,
        Mark::Warn,
        calls(|calls| calls.unknown_tokens = 30),
        "30 calls",
    ));
    rows.push((
        Unlinked,
        Mark::Warn,
        calls(|calls| calls.unlinked = counted(&[("several_requests", 20), ("no_inbound", 1)])),
        "21 have none: several_requests 20 [HOP309], no_inbound 1 [HOP312]",
    ));
    rows.push((
        Unlinked,
        Mark::Note,
        calls(|calls| calls.unlinked = counted(&[("not_parked", 1)])),
        "100 of 101 calls have a parent (token 90, serial 10)",
    ));
    rows.push((
        RungsDisagree,
        Mark::Error,
        calls(|calls| calls.disagreements = counted(&[("serial", 1)])),
        "1 times",
    ));
    rows
}

fn export_and_config() -> Vec<Row> {
    use Code::*;
    let refused = || Reach::Unreachable("Connection refused".to_owned());
    let wrong = |what: &str| Some(("hopspan.yaml".to_owned(), Some(what.to_owned())));
    vec![
        (
            ExportDisabled,
            Mark::Warn,
            probed(Reach::Disabled),
            "no spans leave",
        ),
        (
            CollectorUnreachable,
            Mark::Error,
            probed(refused()),
            "Connection refused",
        ),
        (
            CollectorUnreachable,
            Mark::Error,
            failing(CollectorUnreachable),
            "cannot be reached",
        ),
        (
            CollectorTimeout,
            Mark::Error,
            probed(Reach::TimedOut),
            "in time",
        ),
        (
            CollectorTimeout,
            Mark::Error,
            failing(CollectorTimeout),
            "took too long",
        ),
        (
            CollectorRejects,
            Mark::Error,
            probed(Reach::Rejects("404".to_owned())),
            "404",
        ),
        (
            CollectorRejects,
            Mark::Error,
            probed(Reach::Wrong("no URL".to_owned())),
            "no URL",
        ),
        (
            CollectorRejects,
            Mark::Error,
            failing(CollectorRejects),
            "does not take spans",
        ),
        (
            SpansDropped,
            Mark::Warn,
            books(|books| books.spans.dropped = counted(&[("queue_full", 5), ("disabled", 9)])),
            "queue_full 5, of 10",
        ),
        (
            ConfigInvalid,
            Mark::Error,
            world(|facts| facts.settings.file = wrong("h.yaml:3:1: no")),
            "h.yaml:3:1",
        ),
        (
            ConfigSubPath,
            Mark::Warn,
            world(|facts| facts.settings.sub_path = true),
            "subPath",
        ),
        (
            ReloadRefused,
            Mark::Error,
            world(|facts| facts.sidecar.reload_error = Some("a.yaml:1: one\ntwo".to_owned())),
            "serves on: a.yaml:1: one",
        ),
        (
            NeedsRestart,
            Mark::Warn,
            world(|facts| facts.sidecar.needs_restart = vec!["inbound.listen".to_owned()]),
            "inbound.listen",
        ),
        (
            OtelEnvironment,
            Mark::Warn,
            world(|facts| facts.settings.environment = vec![(false, "OTEL_X: 7 s".to_owned())]),
            "OTEL_X: 7 s",
        ),
        (
            OtelEnvironment,
            Mark::Error,
            world(|facts| facts.settings.environment = vec![(true, "OTEL_Y: no URL".to_owned())]),
            "OTEL_Y",
        ),
        (
            DoorsOpen,
            Mark::Warn,
            world(|facts| facts.settings.admin = "0.0.0.0:9465".to_owned()),
            "admin listens",
        ),
        (
            DoorsOpen,
            Mark::Warn,
            world(|facts| facts.settings.clients = vec!["0.0.0.0/0".to_owned()]),
            "outbound serves everyone",
        ),
    ]
}

fn rows() -> Vec<Row> {
    let mut rows = app_and_context();
    rows.extend(joins());
    rows.extend(export_and_config());
    rows
}

#[test]
fn a_healthy_world_has_nothing_to_say() {
    let report = judge(&healthy());
    let said: Vec<_> = report
        .checks
        .iter()
        .filter(|check| check.mark != Mark::Ok)
        .collect();
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
    // What rungs are, and what is known of the kernel, is told and never wrong; the last is a log line's.
    let told = [
        Code::RungHeader,
        Code::RungToken,
        Code::RungThread,
        Code::RungSerial,
        Code::Kernel,
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
