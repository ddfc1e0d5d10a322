//! One upstream connection, or a place on one, in the hands of one exchange.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::SendRequest;
use tokio::task::AbortHandle;
use tokio_util::either::Either;

use super::fault::SendError;
use super::places::Place;
use super::shared::Stream;
use super::{Opened, Pool};
use crate::proxy::body::RequestBody;
use crate::proxy::forwarding::{self, websocket};
use crate::proxy::held::{Flow, Held, Pieces, Sending};

/// What hyper says became of a request.
type Outcome = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>;

/// How long a finished exchange may take to leave its connection ready. Only an upstream that answered without reading
/// the whole request needs any time at all.
const SETTLE: Duration = Duration::from_secs(1);

/// A connection.
pub(super) enum Line {
    /// HTTP/1.1, and the task that drives it. Dropped: the task is aborted and the socket closes.
    Own {
        sender: SendRequest<RequestBody>,
        opened: Arc<Opened>,
        flow: Arc<Flow>,
        task: AbortOnDrop,
    },
    /// A place on one of HTTP/2.
    Shared(Stream),
}

impl Line {
    pub(super) fn opened(&self) -> &Arc<Opened> {
        match self {
            Line::Own { opened, .. } => opened,
            Line::Shared(stream) => &stream.0.opened,
        }
    }

    fn flow(&self) -> Option<&Arc<Flow>> {
        match self {
            Line::Own { flow, .. } => Some(flow),
            Line::Shared(_) => None,
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        match self {
            Line::Own { sender, .. } => sender.is_closed(),
            Line::Shared(stream) => stream.0.sender.is_closed(),
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        match self {
            Line::Own { sender, .. } => sender.is_ready(),
            Line::Shared(stream) => stream.0.sender.is_ready(),
        }
    }
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

/// What a connection took to open.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cost {
    pub(super) dns: Duration,
    pub(super) connect: Duration,
    pub(super) tls: Option<Duration>,
}

/// A connection checked out for one exchange. Dropping it closes a connection of HTTP/1.1: only [`Pooled::finish`] gives
/// it back.
pub struct Pooled {
    line: Line,
    pool: Arc<Pool>,
    place: Place,
    /// Where it was opened for this exchange.
    cost: Option<Cost>,
}

impl Pooled {
    pub(super) fn new(line: Line, pool: &Arc<Pool>, place: Place, cost: Option<Cost>) -> Pooled {
        Pooled {
            line,
            pool: pool.clone(),
            place,
            cost,
        }
    }

    /// Which connection it is.
    pub fn connection(&self) -> &Arc<Opened> {
        self.line.opened()
    }

    /// Whether an earlier exchange used it: only then may its upstream have closed it in the meantime.
    pub fn is_reused(&self) -> bool {
        self.cost.is_none()
    }

    /// Time spent resolving for this exchange; zero on a reused connection.
    pub fn dns_time(&self) -> Duration {
        self.cost.unwrap_or_default().dns
    }

    /// Time spent connecting for this exchange; zero on a reused connection.
    pub fn connect_time(&self) -> Duration {
        self.cost.unwrap_or_default().connect
    }

    /// Time spent on TLS for this exchange; `None` without, and on a reused connection.
    pub fn tls_time(&self) -> Option<Duration> {
        self.cost?.tls
    }

    /// Whether WebSockets can go by this connection: by HTTP/2 where its upstream says so in its settings (RFC 8441 section
    /// 3), which are waited for.
    pub(crate) async fn takes_websockets(&self) -> bool {
        let Line::Shared(stream) = &self.line else {
            return true;
        };
        let limit = self.pool.options.limits.load().connect_timeout;
        stream.0.settings.take_websockets(limit).await
    }

    /// Sends a request and waits for the head of its response. The request's target and fields are sent as they are, in
    /// the form that the connection's protocol has for them: [`crate::proxy::forwarding`] comes first.
    ///
    /// # Errors
    /// See [`SendError`]. The connection is of no use afterwards: drop this.
    pub async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, SendError> {
        let (sending, sent) = self.begin(request);
        sent.told(sending.await)
    }

    /// As [`Pooled::send`], where the room counts that one future for both would take: what is to be awaited, and who then
    /// tells what became of it.
    pub(crate) fn begin(
        &mut self,
        mut request: Request<RequestBody>,
    ) -> (impl Future<Output = Outcome> + Send + use<>, Sent) {
        let reused = self.is_reused();
        let held = Held::requests(&self.pool.options.metrics);
        let flow = self.line.flow().cloned();
        let pieces = flow.as_ref().map(|flow| flow.pieces());
        request.body_mut().is_sent(Sending { flow, held });
        let mut websocket = None;
        let sending = match &mut self.line {
            Line::Own { sender, .. } => {
                // Where a connection of HTTP/2 was tried before.
                forwarding::to_http1(&mut request);
                forwarding::in_chunks(&mut request);
                Either::Left(sender.try_send_request(request))
            }
            Line::Shared(stream) => {
                websocket = websocket::extend(&mut request);
                forwarding::to_http2(&mut request, &stream.0.opened.upstream);
                Either::Right(stream.0.sender.clone().try_send_request(request))
            }
        };
        let opened = self.line.opened();
        let sent = Sent {
            reused,
            tls: opened.upstream.tls.is_some().then(|| opened.clone()),
            pieces,
            websocket,
        };
        (sending, sent)
    }

    /// Ends the exchange. `complete`: the response's body arrived whole, so the connection may serve another request,
    /// once hyper says so; it is closed if that takes longer than a second.
    pub fn finish(self, complete: bool) {
        let Pooled {
            line, pool, place, ..
        } = self;
        let (mut sender, opened, flow, task) = match line {
            Line::Own {
                sender,
                opened,
                flow,
                task,
            } if complete && !sender.is_closed() => (sender, opened, flow, task),
            _ => return,
        };
        // Idle, it is read for its end, whatever a client has yet to take.
        flow.ended();
        let line = |sender| Line::Own {
            sender,
            opened,
            flow,
            task,
        };
        // The usual case: by the time the last of a body is seen here, its connection is ready for more.
        if sender.is_ready() {
            pool.put(line(sender));
            return;
        }
        // May run while the runtime goes down, and then the connection goes, too.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        runtime.spawn(async move {
            let ready = tokio::time::timeout(SETTLE, sender.ready()).await;
            if matches!(ready, Ok(Ok(()))) {
                pool.put(line(sender));
            }
            drop(place);
        });
    }

    /// Lets go of a connection that has switched protocols (101, or 2xx to CONNECT): it belongs to whoever holds its
    /// `hyper::upgrade::Upgraded`, and never comes back. What this gives is to be kept for as long: its place at the
    /// upstream, and on a connection of HTTP/2.
    pub fn switched(mut self) -> impl Send {
        let stream = match self.line {
            Line::Own { ref mut task, .. } => {
                task.forget();
                None
            }
            Line::Shared(stream) => Some(stream),
        };
        (stream, self.place)
    }
}

/// How a request was sent.
pub(crate) struct Sent {
    reused: bool,
    /// Where TLS is spoken.
    tls: Option<Arc<Opened>>,
    pieces: Option<Arc<Pieces>>,
    websocket: Option<websocket::Asked>,
}

impl Sent {
    /// What became of it.
    ///
    /// # Errors
    /// See [`SendError`]. The connection is of no use afterwards.
    pub(crate) fn told(self, outcome: Outcome) -> Result<Response<Incoming>, SendError> {
        match outcome {
            Ok(mut response) => {
                if let Some(asked) = self.websocket {
                    websocket::switch(&mut response, asked);
                }
                if let Some(pieces) = self.pieces {
                    response.extensions_mut().insert(pieces);
                }
                Ok(response)
            }
            Err(mut failed) => {
                let request = failed.take_message().map(Box::new);
                let alert = self.tls.and_then(|opened| opened.alert.get().copied());
                let mut error = SendError::new(request, failed.into_error(), self.reused, alert);
                // It has another form by now than it came in.
                error.request.take_if(|_| self.websocket.is_some());
                Err(error)
            }
        }
    }
}
