//! One upstream connection, in the hands of one exchange.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::AbortHandle;

use super::{Opened, Pool};
use crate::proxy::body::{BodyError, RequestBody, body_error, io_kind};

/// How long a finished exchange may take to leave its connection ready. Only an upstream that answered without reading
/// the whole request needs any time at all.
const SETTLE: Duration = Duration::from_secs(1);

/// A connection and the task that drives it. Dropped: the task is aborted and the socket closes.
pub(super) struct Line {
    pub(super) sender: SendRequest<RequestBody>,
    pub(super) opened: Arc<Opened>,
    pub(super) task: AbortOnDrop,
}

/// Ends a task with its owner.
pub(super) struct AbortOnDrop(Option<AbortHandle>);

impl AbortOnDrop {
    pub(super) fn new(task: AbortHandle) -> AbortOnDrop {
        AbortOnDrop(Some(task))
    }

    fn forget(&mut self) {
        self.0 = None;
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        if let Some(task) = self.0.take() {
            task.abort();
        }
    }
}

/// A connection checked out for one exchange. Dropping it closes the connection: only [`Pooled::finish`] gives it back.
pub struct Pooled {
    line: Line,
    pool: Arc<Pool>,
    permit: Option<OwnedSemaphorePermit>,
    reused: bool,
    dns: Duration,
    connect: Duration,
}

impl Pooled {
    pub(super) fn reused(
        line: Line,
        pool: &Arc<Pool>,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Pooled {
        Pooled {
            line,
            pool: pool.clone(),
            permit,
            reused: true,
            dns: Duration::ZERO,
            connect: Duration::ZERO,
        }
    }

    pub(super) fn opened(
        line: Line,
        pool: &Arc<Pool>,
        permit: Option<OwnedSemaphorePermit>,
        dns: Duration,
        connect: Duration,
    ) -> Pooled {
        Pooled {
            line,
            pool: pool.clone(),
            permit,
            reused: false,
            dns,
            connect,
        }
    }

    /// Which connection it is.
    pub fn connection(&self) -> &Arc<Opened> {
        &self.line.opened
    }

    /// Whether an earlier exchange used it: only then may its upstream have closed it in the meantime.
    pub fn is_reused(&self) -> bool {
        self.reused
    }

    /// Time spent resolving for this exchange; zero on a reused connection.
    pub fn dns_time(&self) -> Duration {
        self.dns
    }

    /// Time spent connecting for this exchange; zero on a reused connection.
    pub fn connect_time(&self) -> Duration {
        self.connect
    }

    /// Sends a request and waits for the head of its response. The request's target is sent as its URI is, and its
    /// fields as they are: [`crate::proxy::forwarding`] comes first.
    ///
    /// # Errors
    /// See [`SendError`]. The connection is of no use afterwards: drop this.
    pub async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, SendError> {
        match self.line.sender.try_send_request(request).await {
            Ok(response) => Ok(response),
            Err(mut failed) => {
                let request = failed.take_message().map(Box::new);
                Err(SendError::new(request, failed.into_error(), self.reused))
            }
        }
    }

    /// Ends the exchange. `complete`: the response's body arrived whole, so the connection may serve another request,
    /// once hyper says so; it is closed if that takes longer than a second.
    pub fn finish(self, complete: bool) {
        let Pooled {
            mut line,
            pool,
            permit,
            ..
        } = self;
        if !complete || line.sender.is_closed() {
            return;
        }
        // The usual case: by the time the last of a body is seen here, its connection is ready for more.
        if line.sender.is_ready() {
            pool.put(line);
            return;
        }
        // May run while the runtime goes down, and then the connection goes, too.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        runtime.spawn(async move {
            let ready = tokio::time::timeout(SETTLE, line.sender.ready()).await;
            if matches!(ready, Ok(Ok(()))) {
                pool.put(line);
            }
            drop(permit);
        });
    }

    /// Lets go of a connection that has switched protocols (101, or 2xx to CONNECT): it belongs to whoever holds its
    /// `hyper::upgrade::Upgraded`, and never comes back.
    pub fn switched(mut self) {
        self.line.task.forget();
    }
}

/// Why there is no response.
#[derive(Debug)]
pub struct SendError {
    /// What happened.
    pub fault: SendFault,
    /// Whether the connection had served an earlier exchange.
    pub reused: bool,
    /// The request, where not one byte of it was written.
    pub request: Option<Box<Request<RequestBody>>>,
    source: hyper::Error,
}

/// What kind of [`SendError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendFault {
    /// The connection was closed before anything was written; the request comes back and may always be sent again.
    Closed,
    /// The connection was reset while the request was sent or the response awaited.
    Reset,
    /// The connection ended before the head of the response did.
    Incomplete,
    /// What came is not an HTTP response.
    Malformed,
    /// The request's own body failed: the client's fault, not the upstream's.
    RequestBody,
    /// The client sent nothing more of the request's body for too long.
    RequestStalled,
    /// Anything else.
    Other,
}

impl SendError {
    fn new(
        request: Option<Box<Request<RequestBody>>>,
        source: hyper::Error,
        reused: bool,
    ) -> SendError {
        SendError {
            fault: SendFault::of(&source, request.is_some()),
            reused,
            request,
            source,
        }
    }

    /// Whether the upstream may have closed an idle connection just as it was used again, having seen nothing of the
    /// request. A proxy may then repeat the request if its method is idempotent (RFC 9110 section 9.2.2) and it had no
    /// body, on a new connection.
    pub fn may_be_idle_close(&self) -> bool {
        self.reused && matches!(self.fault, SendFault::Reset | SendFault::Incomplete)
    }

    /// The error's name in a `Proxy-Status` field (RFC 9209 section 2.3).
    pub fn proxy_status(&self) -> &'static str {
        match self.fault {
            SendFault::Closed | SendFault::Reset => "connection_terminated",
            SendFault::Incomplete => "http_response_incomplete",
            SendFault::Malformed => "http_protocol_error",
            SendFault::RequestBody | SendFault::RequestStalled => "http_request_error",
            SendFault::Other => "proxy_internal_error",
        }
    }
}

impl SendFault {
    fn of(error: &hyper::Error, given_back: bool) -> SendFault {
        if given_back {
            SendFault::Closed
        } else if error.is_incomplete_message() {
            SendFault::Incomplete
        } else if error.is_parse() {
            SendFault::Malformed
        } else if error.is_user() {
            match body_error(error) {
                Some(BodyError::Idle(_)) => SendFault::RequestStalled,
                _ => SendFault::RequestBody,
            }
        } else {
            match io_kind(error) {
                Some(
                    io::ErrorKind::ConnectionReset
                    | io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::BrokenPipe
                    | io::ErrorKind::NotConnected,
                ) => SendFault::Reset,
                Some(io::ErrorKind::UnexpectedEof) => SendFault::Incomplete,
                _ => SendFault::Other,
            }
        }
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.fault {
            SendFault::Closed => "the connection closed before the request was sent",
            SendFault::Reset => "the connection was reset",
            SendFault::Incomplete => "the connection closed before the response was complete",
            SendFault::Malformed => "the response is not HTTP",
            SendFault::RequestBody => "the request's body failed",
            SendFault::RequestStalled => "the request's body stalled",
            SendFault::Other => "the exchange failed",
        };
        write!(f, "{what}: {}", self.source)
    }
}

impl std::error::Error for SendError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}
