//! Sending: finished spans go into a bounded [`Queue`] and leave as OTLP, over HTTP/protobuf or gRPC.
//!
//! The data path only ever calls [`Queue`]; one [`Worker`] batches and sends, so that no collector can hold a request up.
//! A span is encoded as it ends, while all of it is at hand: what waits is one small piece of memory. What cannot be sent is
//! dropped and counted by reason; at every instant `finished == exported + dropped + queued + in flight` ([`Ledger`]).
//!
//! OTLP requests are written by hand ([`encode`]) and sent as bytes by both transports. opentelemetry-otlp's exporter is
//! the reference they are tested against, not a part of the path: it tells failures apart only by their text, hides
//! partial success in a log line, clones the batch for every attempt, and costs ten times the CPU.
//! Nothing is written to disk, and no proxy variable (`HTTP_PROXY`) is read: telemetry never goes through hopspan itself.

mod breaker;
mod dial;
mod encode;
mod endpoint;
mod grpc;
mod http;
mod ledger;
mod probe;
mod queue;
mod transport;
mod worker;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

pub use ledger::{Dropped, Ledger, Status};
pub use probe::{Reach, endpoint, reach, try_out};
pub use queue::Queue;
pub use worker::{Flushed, Worker};

use crate::config::Export;
use crate::telemetry::Metrics;
use endpoint::Endpoint;
use transport::Transport;

/// Why the exporter cannot start: settings that are wrong. A collector that is not there is never an error here.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The endpoint is not a URL that spans can be sent to.
    #[error("OTLP endpoint `{given}`: {why}")]
    Endpoint {
        /// As written.
        given: String,
        /// What is wrong, and what to write.
        why: String,
    },
    /// A certificate or key file cannot be used.
    #[error("{0}")]
    Tls(String),
    /// A header cannot be sent. Its value is a secret and not shown.
    #[error("OTLP header `{0}` is not a valid header")]
    Header(String),
}

/// Starts the exporter: a queue for the data path and the worker that empties it. Call it inside a tokio runtime.
///
/// `resource` is what the spans describe (`service.name` and so on); `telemetry.distro.*` is added, and
/// `service.name=unknown_service` where there is none. With [`Export::disabled`] the queue counts and discards.
///
/// # Errors
/// When the settings are wrong. No connection is made yet.
pub fn start(
    mut settings: Export,
    resource: Vec<(String, String)>,
    metrics: Arc<Metrics>,
) -> Result<(Arc<Queue>, Worker), ExportError> {
    if settings.timeout.is_zero() {
        // As other OTLP exporters read it: no limit. A day is none, and one that timers can hold.
        settings.timeout = Duration::from_secs(24 * 3600);
    }
    if settings.disabled {
        let queue = Arc::new(Queue::new(&settings, "none".to_owned(), &metrics));
        return Ok((queue.clone(), Worker::idle(queue)));
    }
    let endpoint = Endpoint::resolve(&settings)?;
    let queue = Arc::new(Queue::new(&settings, endpoint.shown(), &metrics));
    let transport = Transport::new(&settings, endpoint)?;
    let envelope = encode::Envelope::new(&resource);
    let worker = Worker::spawn(settings, queue.clone(), transport, envelope, metrics);
    Ok((queue, worker))
}
