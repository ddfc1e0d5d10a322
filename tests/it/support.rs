//! What the tests are written with: real sockets and real processes, in this process where possible.
//!
//! Everything listens on port 0 and is awaited by what happens ([`journal`]), never by sleeping; every wait ends after
//! [`PATIENCE`] without anything new, with a sentence. A port that is named before somebody listens there is nobody else's
//! meanwhile ([`port`]). What a fixture started ends when it is dropped.
//!
//! - [`app`]: an HTTP server with routes that remembers what it was asked; [`client`]: a client that remembers its socket
//! - [`h2`]: HTTP/2 clients, by hyper and by frames; [`h2_server`]: servers
//! - [`tls`]: certificates, and clients and servers that use them
//! - [`raw`]: bytes as they are, for both sides: truncated, early, garbage, reset, slow
//! - [`collector`]: an OTLP receiver (gRPC or HTTP) that can fail in the ways collectors do; [`spans`]: what it got
//! - [`sidecar`]: hopspan itself, in this process; [`load`]: steady requests while something happens to it
//! - [`cost`]: what a process takes of memory, CPU time and descriptors
//! - [`process`]: other programs, their output and their end; [`binary`]: the compiled hopspan; [`python`]: real Django

// Each test module uses a part; what none uses yet is for the next one.
#![allow(dead_code)]

pub(crate) mod app;
pub(crate) mod binary;
pub(crate) mod client;
pub(crate) mod collector;
pub(crate) mod cost;
pub(crate) mod h2;
pub(crate) mod h2_server;
pub(crate) mod journal;
pub(crate) mod load;
pub(crate) mod message;
pub(crate) mod port;
pub(crate) mod process;
pub(crate) mod python;
pub(crate) mod raw;
pub(crate) mod schema;
mod self_tests;
pub(crate) mod sidecar;
pub(crate) mod spans;
mod tap;
pub(crate) mod tls;
pub(crate) mod w3c;

use std::future::Future;
use std::time::Duration;

/// A size for every run, or that of `tests/real/long`.
pub(crate) fn long(every: usize, long: usize) -> usize {
    match std::env::var_os("HOPSPAN_TEST_LONG") {
        Some(_) => long,
        None => every,
    }
}

/// How long a test waits for something that should happen at once. Long, since machines are busy: only a test that fails
/// takes it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The future's outcome; a panic that names `what` if it does not come within [`PATIENCE`].
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(outcome) => outcome,
        Err(_) => panic!("waited {PATIENCE:?} for {what}"),
    }
}

/// Whether `condition` becomes true within [`PATIENCE`]; for states of the system that no event announces
/// (a process of somebody else, a socket count). Everything else is awaited.
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let poll = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within(what, poll).await;
}
