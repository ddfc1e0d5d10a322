//! hopspan between a client that says any bytes and an app that records any bytes.

use std::net::SocketAddr;

use serde_json::json;
use tokio::task::JoinSet;

use super::answers::{self, Answer};
use super::strict::{self, Seen};
use crate::support::journal::Journal;
use crate::support::sidecar::{self, Sidecar};
use crate::support::{eventually, raw};

/// Which listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Inbound,
    Outbound,
}

/// What follows each case on its connection, and ends it.
pub(crate) fn sentinel(row: &str, app: SocketAddr) -> String {
    format!("GET /sentinel-{row} HTTP/1.1\r\nHost: {app}\r\nConnection: close\r\n\r\n")
}

/// One connection's worth of bytes.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) side: Side,
    /// A word in its target that no other case has.
    pub(crate) row: String,
    pub(crate) bytes: Vec<u8>,
}

/// What came of a case.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) answers: Result<Vec<Answer>, String>,
    /// Requests of this case at the app, but the sentinel.
    pub(crate) seen: Vec<Seen>,
    pub(crate) sentinel: bool,
}

impl Outcome {
    /// The statuses, in order.
    pub(crate) fn statuses(&self) -> Vec<u16> {
        let answers = self.answers.as_ref();
        answers.map_or(Vec::new(), |all| {
            all.iter().map(|answer| answer.status).collect()
        })
    }

    /// The requests that the app got whole.
    pub(crate) fn whole(&self) -> impl Iterator<Item = &Seen> {
        self.seen.iter().filter(|seen| seen.complete)
    }
}

/// See the module.
pub(crate) struct Bench {
    pub(crate) app: raw::Server,
    records: Journal<Vec<u8>>,
    pub(crate) hopspan: Sidecar,
}

impl Bench {
    /// Short waits, and no connection to the app is used twice.
    pub(crate) async fn new() -> Bench {
        Bench::waiting("5s").await
    }

    /// As [`Bench::new`], and a head has half a second.
    pub(crate) async fn hasty() -> Bench {
        Bench::waiting("500ms").await
    }

    async fn waiting(head: &str) -> Bench {
        let records = Journal::default();
        let journal = records.clone();
        let app = raw::server(move |peer| record(peer, journal.clone())).await;
        let hopspan = sidecar::to(app.address)
            .set("timeouts.body_idle", json!("500ms"))
            .set("timeouts.header", json!(head))
            .set("timeouts.upstream_idle_app", json!("0s"))
            .set("timeouts.upstream_idle", json!("0s"))
            .run()
            .await;
        Bench {
            app,
            records,
            hopspan,
        }
    }

    /// Says each case on a connection of its own, and tells what came of it.
    ///
    /// # Panics
    /// The app got bytes that are not exactly requests.
    pub(crate) async fn run(&self, cases: &[Case]) -> Vec<Outcome> {
        let mut said = Vec::new();
        for some in cases.chunks(32) {
            let mut saying = JoinSet::new();
            for (at, case) in some.iter().cloned().enumerate() {
                let address = match case.side {
                    Side::Inbound => self.hopspan.inbound,
                    Side::Outbound => self.hopspan.outbound,
                };
                let app = self.app.address;
                saying.spawn(async move { (at, say(address, app, case).await) });
            }
            let mut answers: Vec<_> = saying.join_all().await;
            answers.sort_by_key(|(at, _)| *at);
            said.extend(answers.into_iter().map(|(_, answers)| answers));
        }
        let seen = self.seen().await;
        let outcome = |(case, answers): (&Case, _)| {
            let row = format!("/{}", case.row);
            let sentinel = format!("/sentinel-{}", case.row);
            Outcome {
                answers,
                sentinel: seen.iter().any(|seen| seen.line.contains(&sentinel)),
                seen: seen
                    .iter()
                    .filter(|seen| belongs(seen, &row))
                    .cloned()
                    .collect(),
            }
        };
        cases.iter().zip(said).map(outcome).collect()
    }

    /// What the app got, read strictly.
    async fn seen(&self) -> Vec<Seen> {
        eventually("the app's connections to end", || self.app.open() == 0).await;
        let mut all = Vec::new();
        for bytes in self.records.all() {
            let seen = strict::requests(&bytes).unwrap_or_else(|flaw| {
                panic!(
                    "the app got what is no request, {flaw}: {:?}",
                    strict::latin(&bytes)
                )
            });
            assert!(seen.len() <= 1, "smuggled: {seen:#?}");
            all.extend(seen);
        }
        let smuggled = all.iter().find(|seen| seen.line.contains("smuggled"));
        assert!(smuggled.is_none(), "smuggled: {smuggled:#?}");
        all
    }
}

fn belongs(seen: &Seen, row: &str) -> bool {
    seen.line.contains(row) || seen.all("x-row").contains(&row)
}

async fn say(address: SocketAddr, app: SocketAddr, case: Case) -> Result<Vec<Answer>, String> {
    let mut peer = raw::connect(address).await;
    let mut bytes = case.bytes;
    bytes.extend(sentinel(&case.row, app).bytes());
    // It may close before all is sent.
    let _ = peer.try_write(bytes).await;
    answers::read(&peer.rest().await)
}

async fn record(mut peer: raw::Peer, records: Journal<Vec<u8>>) {
    let (mut bytes, mut answered) = (Vec::new(), 0);
    while let Some(more) = peer.some().await {
        bytes.extend(more);
        let Ok(seen) = strict::requests(&bytes) else {
            break;
        };
        while answered < seen.iter().filter(|seen| seen.complete).count() {
            peer.try_write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                .await;
            answered += 1;
        }
    }
    records.push(bytes);
}
