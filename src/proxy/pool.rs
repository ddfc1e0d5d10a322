//! Upstream connections, kept and reused: one pool per direction.
//!
//! Built on hyper's connection API rather than its client, since a trace needs to know what a connection cost and
//! whether it was reused, and a proxy must own connections to end them. What must hold:
//!
//! - A connection comes back only when hyper is ready for the next request. An upstream that answers before it has read
//!   the upload would hold its connection for ever (hyper #4176): after a second it is aborted.
//! - Last in, first out, so that surplus connections age and expire.
//! - Idle connections expire before the upstream's own limit, are dropped at EOF or at any byte nobody asked for.
//! - No connection is opened before it is needed: an idle one blocks a synchronous worker.
//!
//! A connection of HTTP/1.1 belongs to one exchange at a time; those of HTTP/2 are [`shared`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use hyper::client::conn::http1;
use tokio::time::Instant;

use super::connect::{ConnectError, Connected, Connector, Verdict};
use super::upstream::Upstream;
use crate::config::Address;

mod fault;
mod guarded;
mod idle;
mod limits;
mod open;
mod options;
mod places;
mod pooled;
mod settings;
mod shared;

pub use super::resolve::ResolveLimits;
pub use fault::{SendError, SendFault};
use idle::Idle;
pub use limits::PoolLimits;
pub(crate) use open::break_off;
pub use options::{OnOpen, Opened, PoolOptions};
pub use places::Place;
use places::Places;
use pooled::Line;
pub use pooled::Pooled;
use shared::{Join, Shared, Ticket};

/// The connections of one direction.
pub struct Pool {
    options: PoolOptions,
    connector: Connector,
    http1: http1::Builder,
    idle: Mutex<Idle<Line>>,
    shared: Shared,
    places: Places,
}

impl Pool {
    /// An empty pool. Opens nothing until asked.
    pub fn new(options: PoolOptions) -> Arc<Pool> {
        let mut http1 = http1::Builder::new();
        http1
            .preserve_header_case(options.preserve_case)
            // RFC 9112 sections 5.1 and 5.2 let a proxy mend these, and apps do produce them.
            .allow_spaces_after_header_name_in_responses(true)
            .allow_obsolete_multiline_headers_in_responses(true)
            // Nginx drops such lines, too: the response is worth more than a line nobody can read.
            .ignore_invalid_headers_in_responses(true);
        Arc::new(Pool {
            connector: Connector::new(options.check.clone(), options.dialled.clone()),
            options,
            http1,
            idle: Mutex::default(),
            shared: Shared::default(),
            places: Places::default(),
        })
    }

    /// A connection to `upstream`: one that exchanges share and that has room, or the one used last of those idle, else
    /// a new one.
    ///
    /// # Errors
    /// It cannot be connected to, or it has all the connections it may. Nothing has been sent.
    pub async fn checkout(self: &Arc<Pool>, upstream: &Upstream) -> Result<Pooled, ConnectError> {
        let place = self.place(&upstream.address).await?;
        if upstream.may_be_shared() {
            return Box::pin(self.checkout_shared(upstream, place)).await;
        }
        match self.take_idle(upstream) {
            Some(line) => Ok(Pooled::new(line, self, place, None)),
            // Boxed, as are other ways that few requests take: each would have the room of the largest.
            None => Box::pin(self.open(upstream, place, false)).await,
        }
    }

    /// A connection to `upstream` that nobody has used: for the second try of a request that a reused one failed, since
    /// the other idle ones are likely dead as well.
    ///
    /// # Errors
    /// As [`Pool::checkout`].
    pub async fn checkout_new(
        self: &Arc<Pool>,
        upstream: &Upstream,
    ) -> Result<Pooled, ConnectError> {
        let place = self.place(&upstream.address).await?;
        Box::pin(self.open(upstream, place, false)).await
    }

    /// A connection to `upstream` that no other exchange shares: for a tunnel by HTTP/2. What its client leaves unread would
    /// be held against the others, and so would mistakes of a server at its end.
    ///
    /// # Errors
    /// As [`Pool::checkout`].
    pub(crate) async fn checkout_alone(
        self: &Arc<Pool>,
        upstream: &Upstream,
    ) -> Result<Pooled, ConnectError> {
        let place = self.place(&upstream.address).await?;
        Box::pin(self.open(upstream, place, true)).await
    }

    async fn checkout_shared(
        self: &Arc<Pool>,
        upstream: &Upstream,
        place: Place,
    ) -> Result<Pooled, ConnectError> {
        let patience = Instant::now() + self.options.limits.load().connect_timeout;
        loop {
            let mut opening = match self.shared.join(upstream, |opened| self.allows(opened)) {
                Join::Line(stream) => {
                    let line = Line::Shared(stream);
                    return Ok(Pooled::new(line, self, place, None));
                }
                Join::Http1 => match self.take_idle(upstream) {
                    Some(line) => return Ok(Pooled::new(line, self, place, None)),
                    None => return self.open(upstream, place, false).await,
                },
                Join::Open(ticket) => {
                    let opened = self.open(upstream, place, false).await;
                    drop::<Ticket>(ticket);
                    return opened;
                }
                Join::Wait(opening) => opening,
            };
            // Ends when the ticket is dropped. One who has waited long enough sees for himself.
            if tokio::time::timeout_at(patience, opening.changed())
                .await
                .is_err()
            {
                return self.open(upstream, place, false).await;
            }
        }
    }

    /// A connection of its own, never pooled: for tunnels. It is to be kept with its place.
    ///
    /// # Errors
    /// As [`Pool::checkout`].
    pub(crate) async fn dial(&self, address: &Address) -> Result<(Connected, Place), ConnectError> {
        let place = self.place(address).await?;
        let limits = self.options.limits.load_full();
        let (resolve, limit) = (&limits.resolve, limits.connect_timeout);
        let connected = self.connector.connect(address, resolve, limit).await?;
        Ok((connected, place))
    }

    /// How many connections wait for a request.
    pub fn idle_count(&self) -> usize {
        self.idle().count() + self.shared.idle_count()
    }

    /// Closes those.
    pub fn close_idle(&self) {
        let gone = self.idle().expire(None, |_| true);
        let now = Instant::now();
        // Those in use count as used just now.
        let shared = self
            .shared
            .expire(now.checked_sub(Duration::from_millis(1)), now);
        drop((gone, shared));
    }

    async fn place(&self, address: &Address) -> Result<Place, ConnectError> {
        let limits = self.options.limits.load();
        if limits.max_in_use.is_none() {
            return Ok(Place::default());
        }
        let limits = arc_swap::Guard::into_inner(limits);
        let metrics = &self.options.metrics;
        Box::pin(self.places.take(address, &limits, metrics)).await
    }

    fn idle(&self) -> MutexGuard<'_, Idle<Line>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_idle(&self, upstream: &Upstream) -> Option<Line> {
        let since = Instant::now().checked_sub(self.options.limits.load().idle);
        loop {
            // Unlocked before a dead line is dropped.
            let line = self.idle().take(upstream, since)?;
            if line.is_ready() && self.allows(line.opened()) {
                return Some(line);
            }
        }
    }

    /// Whether a connection may be used: what may be reached can have changed since it was opened.
    fn allows(&self, opened: &Opened) -> bool {
        let address = &opened.upstream.address;
        opened
            .peer
            .is_none_or(|peer| matches!(self.connector.judge(address, peer), Verdict::Allow))
    }

    /// Takes a connection back that is ready for the next request.
    fn put(self: &Arc<Pool>, line: Line) {
        let limits = self.options.limits.load();
        if limits.idle.is_zero() || limits.max_idle == 0 || line.is_closed() {
            return;
        }
        let upstream = line.opened().upstream.clone();
        let mut idle = self.idle();
        let surplus = idle.put(upstream, line, Instant::now(), limits.max_idle);
        drop(idle);
        drop(surplus);
        self.sweep_later();
    }

    fn sweep_later(self: &Arc<Pool>) {
        if self.idle().start_sweeping() {
            tokio::spawn(Pool::sweep(Arc::downgrade(self)));
        }
    }

    /// Closes connections as they expire; ends when none is idle.
    async fn sweep(pool: Weak<Pool>) {
        loop {
            let Some(next) = pool.upgrade().and_then(|pool| pool.close_expired()) else {
                return;
            };
            tokio::time::sleep_until(next).await;
        }
    }

    /// When to look again; `None` when nothing is idle.
    fn close_expired(&self) -> Option<Instant> {
        let keep = self.options.limits.load().idle;
        let now = Instant::now();
        let since = now.checked_sub(keep);
        let (gone, shared) = self.shared.expire(since, now);
        let mut idle = self.idle();
        let expired = idle.expire(since, Line::is_closed);
        let oldest = match (idle.oldest(), shared) {
            (Some(own), Some(shared)) => Some(own.min(shared)),
            (own, shared) => own.or(shared),
        };
        if oldest.is_none() {
            idle.stop_sweeping();
        }
        drop(idle);
        drop((expired, gone));
        // Not more often than this, whatever the limit.
        oldest.map(|since| (since + keep).max(now + Duration::from_millis(50)))
    }
}
