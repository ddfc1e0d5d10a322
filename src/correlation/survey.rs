//! What joins are possible here, why others are not, and what came of all calls so far: as data, for `/correlation` and
//! `doctor`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::availability::{Availability, Obstacle};
use super::rung::Rung;
use super::server::{Place, Server, ServerKind};
use super::unlinked::Unlinked;
use super::{Correlator, live, server};
use crate::telemetry::Code;
use crate::telemetry::metrics::{EvidenceLabel, Metrics, Reason};
use crate::trace::Evidence;

/// Everything there is to know about joins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Survey {
    /// The rungs, in the order in which they are asked.
    pub rungs: Vec<Standing>,
    /// The app's server.
    pub server: Server,
    /// What came of calls.
    pub calls: Calls,
    /// Connections to the app that are remembered.
    pub app_connections: usize,
    /// Requests on them that are remembered.
    pub requests: usize,
}

/// One rung.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// `header`, `token`, `thread`, `serial`.
    pub rung: String,
    /// Whether it joins calls.
    pub state: State,
    /// The page of the rung, or of what it lacks.
    pub code: Code,
    /// What is missing; empty where nothing is.
    pub why: String,
    /// What would change it.
    pub fix: String,
}

/// Whether a rung works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It does.
    Ready,
    /// Nobody knows yet: it is being set up, or the app does not run.
    Waiting,
    /// It does not.
    Off,
}

/// Outbound calls by what came of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calls {
    /// Joined, by evidence.
    pub joined: BTreeMap<String, u64>,
    /// Left without a parent, by reason.
    pub unlinked: BTreeMap<String, u64>,
    /// With a token that names no request; also in one of the others.
    pub unknown_tokens: u64,
    /// Where a weaker rung gave another answer than a stronger one, by the weaker's evidence.
    pub disagreements: BTreeMap<String, u64>,
}

impl Calls {
    /// As counted so far. What never happened is left out.
    pub fn counted(metrics: &Metrics) -> Calls {
        let mut calls = Calls {
            unknown_tokens: metrics.tokens_unknown.get(),
            ..Calls::default()
        };
        for evidence in Evidence::ALL.map(Evidence::as_str) {
            let label = EvidenceLabel { evidence };
            if let Some(count) = metrics.joins.get(&label) {
                calls.joined.insert(evidence.to_owned(), count.get());
            }
            if let Some(count) = metrics.disagreements.get(&label) {
                calls.disagreements.insert(evidence.to_owned(), count.get());
            }
        }
        for reason in Unlinked::ALL.map(Unlinked::as_str) {
            if let Some(count) = metrics.joins_abstained.get(&Reason { reason }) {
                calls.unlinked.insert(reason.to_owned(), count.get());
            }
        }
        calls
    }

    /// All calls.
    pub fn total(&self) -> u64 {
        self.joined.values().chain(self.unlinked.values()).sum()
    }
}

impl Survey {
    /// What was found out here, of an app whose calls are not counted here.
    pub fn of(apps: &[Place], tokens: bool, thread: &Availability, serial: &Rung) -> Survey {
        let server = match live::Live::new() {
            Ok(mut live) => server::describe(&mut live, apps),
            Err(_) => Server {
                kind: ServerKind::Unknown,
                why: "the kernel answers no questions about sockets".to_owned(),
                processes: Vec::new(),
            },
        };
        Survey {
            rungs: vec![
                Standing::ready(Evidence::Header, Code::RungHeader),
                Standing::token(tokens),
                Standing::thread(thread),
                Standing::serial(serial),
            ],
            server,
            ..Survey::default()
        }
    }

    /// Those that work, as `header, token, serial`.
    pub fn ready(&self) -> String {
        let ready = self.rungs.iter().filter(|rung| rung.state == State::Ready);
        let names: Vec<&str> = ready.map(|rung| &*rung.rung).collect();
        names.join(", ")
    }

    /// The rung to turn on next, if calls of this kind of server would be joined by it and are by none that works.
    pub fn next(&self) -> Option<&Standing> {
        let [token, thread, serial] = [Evidence::Token, Evidence::Thread, Evidence::Serial]
            .map(|evidence| self.rung(evidence));
        let works = |rung: Option<&Standing>| rung.is_none_or(|rung| rung.state == State::Ready);
        if works(token) {
            return None;
        }
        match self.server.kind {
            ServerKind::EventLoop | ServerKind::Greenlets | ServerKind::Router => token,
            _ if works(thread) => None,
            ServerKind::Threads => thread,
            ServerKind::Sync if works(serial) => None,
            ServerKind::Unknown if works(serial) => thread,
            ServerKind::Sync | ServerKind::Unknown => serial,
        }
    }

    /// A rung by its evidence.
    pub fn rung(&self, evidence: Evidence) -> Option<&Standing> {
        let mut rungs = self.rungs.iter();
        rungs.find(|standing| standing.rung == evidence.as_str())
    }
}

impl Standing {
    fn ready(evidence: Evidence, code: Code) -> Standing {
        Standing {
            rung: evidence.as_str().to_owned(),
            state: State::Ready,
            code,
            why: String::new(),
            fix: String::new(),
        }
    }

    fn but(self, state: State, code: Code, why: String, fix: &str) -> Standing {
        let fix = fix.to_owned();
        Standing {
            state,
            code,
            why,
            fix,
            ..self
        }
    }

    fn token(on: bool) -> Standing {
        let ready = Standing::ready(Evidence::Token, Code::RungToken);
        if on {
            return ready;
        }
        let why = "correlation.token is not set".to_owned();
        let fix = "start the app by hopspan (hopspan run -- COMMAND), or set correlation.token: true and give the app deploy/python/shim on PYTHONPATH";
        ready.but(State::Off, Code::TokenOff, why, fix)
    }

    fn thread(thread: &Availability) -> Standing {
        let ready = Standing::ready(Evidence::Thread, Code::RungThread);
        match thread {
            Availability::Ready => ready,
            Availability::Starting => {
                let why = "it is being loaded".to_owned();
                ready.but(State::Waiting, Code::RungThread, why, "")
            }
            Availability::Off(obstacle) => {
                let (why, fix) = (obstacle.why(), obstacle.fix());
                ready.but(State::Off, code_of(obstacle), why, fix)
            }
        }
    }

    fn serial(serial: &Rung) -> Standing {
        let ready = Standing::ready(Evidence::Serial, Code::RungSerial);
        match serial {
            Rung::Ready => ready,
            Rung::Waiting { why } => {
                ready.but(State::Waiting, Code::SerialWaiting, why.clone(), "")
            }
            Rung::Off { why, fix, code } => ready.but(State::Off, *code, why.clone(), fix),
        }
    }
}

/// The page of what hinders the thread rung.
fn code_of(obstacle: &Obstacle) -> Code {
    match obstacle {
        Obstacle::Disabled => Code::ThreadOff,
        Obstacle::Capability { .. } => Code::ThreadCapabilities,
        Obstacle::NoBtf => Code::ThreadNoBtf,
        Obstacle::NoTracepoint { .. } => Code::ThreadKernel,
        Obstacle::Lockdown => Code::ThreadLockdown,
        Obstacle::Memory => Code::ThreadMemory,
        Obstacle::Forbidden => Code::ThreadForbidden,
        Obstacle::Verifier(_) | Obstacle::Failed(_) => Code::ThreadRefused,
        Obstacle::Disagreed => Code::RungsDisagree,
    }
}

impl Correlator {
    /// What joins are possible for the app that listens at `apps`. Takes some milliseconds and reads `/proc`: not for
    /// the reactor.
    pub fn survey(&self, apps: &[Place]) -> Survey {
        let serial = self.describe(apps);
        let (app_connections, requests) = self.remembered();
        Survey {
            calls: Calls::counted(&self.metrics),
            app_connections,
            requests,
            ..Survey::of(apps, self.has_tokens(), &self.thread_rung(), &serial)
        }
    }
}

/// What joins would be possible here, for this process, beside an app that listens at `apps`.
pub fn serial_here(apps: &[Place]) -> Rung {
    super::rung::describe(false, None, apps)
}
