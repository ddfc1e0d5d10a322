//! How an exchange ends: once, whoever comes first. With the last of the response's body, with the tunnel, or dropped.

use std::borrow::Cow;
use std::time::Instant;

use http::HeaderMap;

use super::Exchange;
use crate::correlation::Stamp;
use crate::hop::Direction;
use crate::proxy::body::{BodyEnd, BodyFault, Watch};
use crate::telemetry::metrics::{DurationFamily, Exemplar, HexId};
use crate::trace::semconv;
use crate::trace::span::End;

impl Exchange {
    /// Ends everything, once: connection, in-flight entry, spans, metrics.
    pub fn finish(&mut self, end: End) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        // Before the connection may serve the next request.
        self.leave(end == End::Complete);
        if let Some(pooled) = self.pooled.take() {
            pooled.finish(end == End::Complete);
        }
        self.connection.received.mark();
        match &end {
            End::Complete => {}
            End::Failed(error_type, _) => self.labels.error_type = error_type,
            End::Cancelled => self.labels.error_type = semconv::error_type::CANCELLED,
        }
        let now = Instant::now();
        self.observe(now);
        for span in [self.app_span.take(), self.span.take()]
            .into_iter()
            .flatten()
        {
            span.end_at(end.clone(), now);
        }
    }

    /// The app is done with the request, or hopspan with the app.
    fn leave(&mut self, complete: bool) {
        let Some(presence) = self.presence.take() else {
            return;
        };
        let pooled = self.pooled.as_ref().filter(|_| complete);
        let received = pooled.and_then(|pooled| pooled.connection().received.as_ref());
        let last = received.and_then(|received| received.last());
        presence.finished(last.map(|last| Stamp {
            realtime_ns: last.realtime_ns,
            monotonic_ns: last.monotonic_ns,
        }));
    }

    fn observe(&self, now: Instant) {
        let family: &DurationFamily = match self.direction {
            Direction::Inbound => &self.hop.metrics.server_duration,
            Direction::Outbound => &self.hop.metrics.client_duration,
        };
        let exemplar = self
            .span
            .as_ref()
            .filter(|span| span.is_recording())
            .map(|span| Exemplar {
                trace_id: HexId(span.context().trace_id.to_bytes()),
            });
        let lasted = now.saturating_duration_since(self.started.instant);
        let seconds = lasted.as_secs_f64();
        family
            .get_or_create(&self.labels)
            .observe(seconds, exemplar, None);
    }
}

impl Watch for Exchange {
    fn trailers(&mut self, fields: &HeaderMap) {
        self.set_grpc_status(fields);
    }

    fn end(mut self: Box<Self>, how: BodyEnd<'_>) {
        self.finish(match how {
            BodyEnd::Complete => End::Complete,
            // It was cut off (`timeouts.body_idle`), it did not leave.
            BodyEnd::Untaken => {
                let limit = self.snapshot.timeouts.body_idle;
                let what = format!("the client took nothing more for {limit:?}");
                End::Failed("connection_write_timeout", Some(Cow::Owned(what)))
            }
            BodyEnd::Cancelled => End::Cancelled,
            BodyEnd::Failed(error) => {
                let error_type = match error.fault() {
                    // It is still there: hopspan closed the connection.
                    BodyFault::Idle => "connection_read_timeout",
                    BodyFault::Malformed => "http_response_transfer_coding",
                    _ => "http_response_incomplete",
                };
                End::Failed(error_type, Some(Cow::Owned(error.to_string())))
            }
        });
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.finish(End::Cancelled);
    }
}
