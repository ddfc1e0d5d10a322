//! A connection that is opened, and HTTP/1.1 or HTTP/2 on it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use hyper::client::conn::http2;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;

use super::guarded::{Guarded, OpenGauge};
use super::pooled::{AbortOnDrop, Cost, Line};
use super::settings::{Settings, UNTOLD_STREAMS};
use super::shared::{Stream, Tasks};
use super::{Opened, Place, Pool, PoolLimits, Pooled};
use crate::proxy::HYPER_MAX_HEADERS;
use crate::proxy::body::RequestBody;
use crate::proxy::connect::{ConnectError, Connected, secure};
use crate::proxy::held::{Flow, Held};
use crate::proxy::socket::Socket;
use crate::proxy::upstream::Upstream;
use crate::tls::Offer;

/// What an upstream may send ahead on a stream, and on a connection of HTTP/2: what one slow client makes us hold.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

static NEXT_OPENED: AtomicU64 = AtomicU64::new(1);

/// An upstream connection as HTTP is spoken on it.
type Io = TokioIo<Guarded<Socket, (Option<Box<dyn Send>>, OpenGauge)>>;

/// Breaks off a tunnel on an upstream connection, so that it does not take what came for all there is: with RST, or
/// RST_STREAM, which a stream that is dropped before its end is.
pub(crate) fn break_off(tunnel: Upgraded) {
    if let Ok(parts) = tunnel.downcast::<Io>() {
        parts.io.into_inner().socket().reset();
    }
}

impl Pool {
    /// Connects to `upstream`; `alone`: for nobody to share.
    pub(super) async fn open(
        self: &Arc<Pool>,
        upstream: &Upstream,
        place: Place,
        alone: bool,
    ) -> Result<Pooled, ConnectError> {
        let limits = self.options.limits.load_full();
        let began = std::time::Instant::now();
        let Connected {
            socket,
            local,
            peer,
            dns,
            connect,
        } = self
            .connector
            .connect(&upstream.address, &limits.resolve, limits.connect_timeout)
            .await?;
        let (socket, received) = match self.options.stamp {
            true => socket.stamped(),
            false => (socket, None),
        };
        let connected = std::time::Instant::now();
        let (socket, multiplexed) = match &upstream.tls {
            Some(peer) => secure(socket, peer, upstream.offer, limits.connect_timeout).await?,
            None => (socket, upstream.offer == Offer::Http2),
        };
        let cost = Cost {
            dns,
            connect,
            tls: upstream.tls.as_ref().map(|_| connected.elapsed()),
        };
        let opened = Arc::new(Opened {
            id: NEXT_OPENED.fetch_add(1, Ordering::Relaxed),
            local,
            peer,
            peer_text: peer.map(|peer| Arc::from(peer.ip().to_string())),
            upstream: upstream.clone(),
            multiplexed,
            began,
            unix_cookie: socket.unix_cookie(),
            unix_inode: received.as_ref().and_then(|_| socket.unix_inode()),
            received,
            alert: OnceLock::new(),
        });
        let told = self.options.on_open.as_ref().map(|tell| tell(&opened));
        let held = Held::responses(&self.options.metrics);
        let flow = Arc::<Flow>::default();
        if multiplexed {
            // What comes is no one response's, and waits for no one client.
            flow.pieces().are_taken();
        }
        let guard = (told, OpenGauge::new(&self.options.metrics));
        let tls = upstream.tls.is_some().then(|| opened.clone());
        let io: Io = TokioIo::new(Guarded::new(socket, held, flow.clone(), tls, guard));
        let line = match multiplexed {
            true => self.speak_http2(io, opened, &limits, alone).await,
            false => self.speak_http1(io, opened, flow, &limits).await,
        };
        let line = line.map_err(|error| ConnectError::Io(std::io::Error::other(error)))?;
        Ok(Pooled::new(line, self, place, Some(cost)))
    }

    async fn speak_http1<S: Speak>(
        &self,
        io: S,
        opened: Arc<Opened>,
        flow: Arc<Flow>,
        limits: &PoolLimits,
    ) -> hyper::Result<Line> {
        if opened.upstream.may_be_shared() {
            self.shared.speaks_http1(&opened.upstream);
        }
        let mut http1 = self.http1.clone();
        http1
            .max_header_size(limits.max_head_bytes)
            .max_buf_size(limits.body_buffer.max(limits.max_head_bytes));
        if limits.max_headers != HYPER_MAX_HEADERS {
            http1.max_headers(limits.max_headers);
        }
        let (sender, connection) = http1.handshake::<_, RequestBody>(io).await?;
        let id = opened.id;
        let driver = tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(connection = id, error = %error, "upstream connection ended");
            }
        });
        Ok(Line::Own {
            sender,
            flow,
            opened,
            task: AbortOnDrop::new(driver.abort_handle()),
        })
    }

    async fn speak_http2<S: Speak>(
        self: &Arc<Pool>,
        io: S,
        opened: Arc<Opened>,
        limits: &PoolLimits,
        alone: bool,
    ) -> hyper::Result<Line> {
        let tasks = Tasks::default();
        let (sender, connection) = http2::Builder::new(tasks.clone())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .initial_max_send_streams(UNTOLD_STREAMS)
            .max_send_buf_size(limits.body_buffer)
            .max_header_list_size(u32::try_from(limits.max_head_bytes).unwrap_or(u32::MAX))
            .handshake::<_, RequestBody>(io)
            .await?;
        let id = opened.id;
        let settings = Arc::<Settings>::default();
        let known = settings.clone();
        hyper::rt::Executor::execute(&tasks, async move {
            let mut connection = std::pin::pin!(connection);
            let ended = loop {
                tokio::select! {
                    ended = connection.as_mut() => break ended,
                    () = known.asked() => if connection.current_max_send_streams() != UNTOLD_STREAMS {
                        known.tell(connection.is_extended_connect_protocol_enabled());
                    },
                }
            };
            known.end();
            if let Err(error) = ended {
                tracing::debug!(connection = id, error = %error, "upstream connection ended");
            }
        });
        let stream = Stream::new(sender, opened, settings, tasks);
        if !alone {
            self.shared.add(&stream);
        }
        self.sweep_later();
        Ok(Line::Shared(stream))
    }
}

/// What HTTP is spoken on.
trait Speak: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static {}
impl<T: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static> Speak for T {}
