//! The worlds that checks look at: a healthy one, and the same with a change.

use std::collections::BTreeMap;

use super::super::super::facts::{
    App, Books, Collector, Counts, Door, Facts, Host, Settings, Sidecar, Spans,
};
use super::super::*;
use crate::correlation::server::{Place, Server, ServerKind, ServerProcess};
use crate::correlation::survey::{Calls, Survey};
use crate::correlation::{Availability, Obstacle, Rung};
use crate::export::Reach;

pub(super) fn counted(counts: &[(&str, u64)]) -> BTreeMap<String, u64> {
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
pub(super) fn healthy() -> Facts {
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
pub(super) fn world(change: impl FnOnce(&mut Facts)) -> Facts {
    let mut facts = healthy();
    change(&mut facts);
    facts
}

/// The same without tokens, with what is said of the rungs below.
pub(super) fn rungs(kind: ServerKind, thread: Availability, serial: Rung) -> Facts {
    world(|facts| {
        let mut changed = survey(&thread, &serial);
        let tokens = Survey::of(&[], false, &thread, &serial);
        changed.rungs = tokens.rungs;
        changed.server.kind = kind;
        changed.calls = Calls::default();
        facts.survey = Some(changed);
    })
}

pub(super) fn thread_off(obstacle: Obstacle) -> Facts {
    rungs(
        ServerKind::Threads,
        Availability::Off(obstacle),
        Rung::Ready,
    )
}

pub(super) fn serial_off(code: Code) -> Facts {
    let serial = Rung::Off {
        why: "why".to_owned(),
        fix: "fix".to_owned(),
        code,
    };
    let thread = Availability::Off(Obstacle::NoBtf);
    rungs(ServerKind::Sync, thread, serial)
}

pub(super) fn calls(change: impl FnOnce(&mut Calls)) -> Facts {
    world(|facts| {
        if let Some(survey) = &mut facts.survey {
            change(&mut survey.calls);
        }
    })
}

pub(super) fn probed(reach: Reach) -> Facts {
    world(|facts| {
        facts.collector.books = None;
        facts.collector.reach = Some(reach);
    })
}

pub(super) fn books(change: impl FnOnce(&mut Books)) -> Facts {
    world(|facts| {
        if let Some(books) = &mut facts.collector.books {
            change(books);
        }
    })
}

pub(super) fn failing(code: Code) -> Facts {
    books(|books| {
        books.failing = true;
        books.code = Some(code);
        books.last_error = Some("connection refused".to_owned());
    })
}

pub(super) fn without_sidecar(expected: bool) -> Facts {
    world(|facts| {
        facts.sidecar.answer = Answer::Silent;
        facts.sidecar.expected = expected;
    })
}

pub(super) fn proxied(proxy: Option<&str>, requests: u64) -> Facts {
    let mut facts = calls(|calls| *calls = Calls::default());
    facts.sidecar.counts.requests = requests;
    if let Some(survey) = &mut facts.survey {
        survey.server.processes[0].proxy = proxy.map(str::to_owned);
    }
    facts
}
