//! HTTP/2 connections to upstreams: each carries many exchanges at once (RFC 9113).
//!
//! One is opened where there is none with room; who comes meanwhile waits for it rather than open another. A connection
//! that its upstream has told to go (GOAWAY) gets no new exchange, and ends when those it has are done. Pings are not
//! sent: servers of gRPC take them for abuse.

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::client::conn::http2;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Opened;
use super::settings::Settings;
use crate::proxy::body::RequestBody;
use crate::proxy::upstream::Upstream;

/// Exchanges at once on a connection; more open another. Servers allow a hundred and more (RFC 9113 section 6.5.2).
const STREAMS: usize = 100;

/// What a connection may take to close in order.
const GOODBYE: Duration = Duration::from_secs(1);

/// The connections of a pool that exchanges share.
#[derive(Default)]
pub(super) struct Shared {
    upstreams: Mutex<HashMap<Upstream, Entry>>,
}

#[derive(Default)]
struct Entry {
    lines: Vec<Arc<Line>>,
    /// Closed when the one who opens a connection is done.
    opening: Option<watch::Receiver<()>>,
    /// TLS agreed on HTTP/1.1 the last time.
    http1: bool,
}

/// One connection. Its tasks end with it.
pub(super) struct Line {
    pub(super) sender: http2::SendRequest<RequestBody>,
    pub(super) opened: Arc<Opened>,
    streams: AtomicUsize,
    idle_since: Mutex<Instant>,
    pub(super) settings: Arc<Settings>,
    _tasks: DropGuard,
}

/// What to do for a connection.
pub(super) enum Join {
    /// Use this one.
    Line(Stream),
    /// Open one, and drop the ticket when it is open or not to be had.
    Open(Ticket),
    /// Somebody opens one: wait until this is closed, and ask again.
    Wait(watch::Receiver<()>),
    /// The upstream speaks HTTP/1.1: nothing is shared.
    Http1,
}

/// A place on a connection, for one exchange.
pub(super) struct Stream(pub(super) Arc<Line>);

/// Who has it opens a connection; others wait until it is dropped.
pub(super) struct Ticket {
    _opening: watch::Sender<()>,
}

impl Shared {
    fn upstreams(&self) -> MutexGuard<'_, HashMap<Upstream, Entry>> {
        self.upstreams
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// A place on a connection to `upstream`, or what to do for one. `usable`: whether a connection may be used.
    pub(super) fn join(&self, upstream: &Upstream, usable: impl Fn(&Opened) -> bool) -> Join {
        let mut upstreams = self.upstreams();
        let entry = upstreams.entry(upstream.clone()).or_default();
        let mut gone = Vec::new();
        entry.lines.retain(|line| {
            let keep = !line.sender.is_closed() && usable(&line.opened);
            if !keep {
                gone.push(line.clone());
            }
            keep
        });
        let joined = entry.lines.iter().find_map(Stream::of);
        let opening = entry.opening.as_ref().filter(|it| it.has_changed().is_ok());
        let join = match (joined, opening) {
            (Some(stream), _) => Join::Line(stream),
            (None, Some(opening)) => Join::Wait(opening.clone()),
            (None, None) if entry.http1 => Join::Http1,
            (None, None) => {
                let (sender, receiver) = watch::channel(());
                entry.opening = Some(receiver);
                Join::Open(Ticket { _opening: sender })
            }
        };
        // Sockets are closed outside of the lock.
        drop(upstreams);
        drop(gone);
        join
    }

    /// Takes a connection that was opened, for others to join.
    pub(super) fn add(&self, first: &Stream) {
        let line = first.0.clone();
        let mut upstreams = self.upstreams();
        let entry = upstreams.entry(line.opened.upstream.clone()).or_default();
        entry.http1 = false;
        entry.lines.push(line);
    }

    /// TLS agreed on HTTP/1.1.
    pub(super) fn speaks_http1(&self, upstream: &Upstream) {
        let mut upstreams = self.upstreams();
        upstreams.entry(upstream.clone()).or_default().http1 = true;
    }

    /// Takes out those that nobody has used since `expired`, and those that are closed; says since when the others have
    /// been idle at the longest.
    pub(super) fn expire(
        &self,
        expired: Option<Instant>,
        now: Instant,
    ) -> (Vec<Arc<Line>>, Option<Instant>) {
        let mut removed = Vec::new();
        let mut oldest: Option<Instant> = None;
        let mut upstreams = self.upstreams();
        for entry in upstreams.values_mut() {
            entry.lines.retain(|line| {
                let since = line.idle_since().unwrap_or(now);
                if line.sender.is_closed() || expired.is_some_and(|at| since <= at) {
                    removed.push(line.clone());
                    return false;
                }
                oldest = Some(oldest.map_or(since, |oldest| oldest.min(since)));
                true
            });
        }
        upstreams.retain(|upstream, entry| {
            let opening = entry
                .opening
                .as_ref()
                .is_some_and(|it| it.has_changed().is_ok());
            // A config that is gone has left its certificates only here.
            let configured = |peer: &Arc<_>| Arc::strong_count(peer) > 1;
            let http1 = entry.http1 && upstream.tls.as_ref().is_some_and(configured);
            !entry.lines.is_empty() || opening || http1
        });
        (removed, oldest)
    }

    /// How many connections nobody uses.
    pub(super) fn idle_count(&self) -> usize {
        let upstreams = self.upstreams();
        let lines = upstreams.values().flat_map(|entry| &entry.lines);
        lines.filter(|line| line.idle_since().is_some()).count()
    }
}

impl Line {
    fn idle_since(&self) -> Option<Instant> {
        let idle = self.streams.load(Ordering::Acquire) == 0;
        idle.then(|| {
            *self
                .idle_since
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        })
    }
}

impl Stream {
    /// The first place on a connection that was opened.
    pub(super) fn new(
        sender: http2::SendRequest<RequestBody>,
        opened: Arc<Opened>,
        settings: Arc<Settings>,
        tasks: Tasks,
    ) -> Stream {
        Stream(Arc::new(Line {
            sender,
            streams: AtomicUsize::new(1),
            idle_since: Mutex::new(Instant::now()),
            settings,
            _tasks: tasks.0.drop_guard(),
            opened,
        }))
    }

    /// A place on this connection, if there is one. Called under the lock of the map only.
    fn of(line: &Arc<Line>) -> Option<Stream> {
        let room = line.streams.load(Ordering::Acquire) < STREAMS;
        room.then(|| {
            line.streams.fetch_add(1, Ordering::AcqRel);
            Stream(line.clone())
        })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut idle_since = self
            .0
            .idle_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *idle_since = Instant::now();
        self.0.streams.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Runs hyper's tasks of one connection; all end when the connection is dropped.
#[derive(Clone, Default)]
pub(super) struct Tasks(CancellationToken);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Tasks {
    fn execute(&self, task: F) {
        let over = self.0.clone();
        tokio::spawn(async move {
            let mut task = std::pin::pin!(task);
            tokio::select! {
                () = &mut task => {}
                // Nobody can send on it any more: hyper says goodbye, which takes no time where anybody listens.
                () = over.cancelled() => {
                    let _ = tokio::time::timeout(GOODBYE, task).await;
                }
            }
        });
    }
}
