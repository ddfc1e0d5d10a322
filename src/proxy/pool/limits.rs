//! What a pool may keep and how long it waits.

use std::time::Duration;

use crate::config::{Limits, Timeouts};
use crate::proxy::resolve::ResolveLimits;

/// Limits of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolLimits {
    /// How long a connection may wait for its next request. Below the upstream's own limit, or requests race its
    /// close: gunicorn's is 2 s.
    pub idle: Duration,
    /// How its upstream's name is resolved.
    pub resolve: ResolveLimits,
    /// How long connecting may take, resolution apart; and TLS, as long again.
    pub connect_timeout: Duration,
    /// Idle connections kept per upstream; the oldest go first.
    pub max_idle: usize,
    /// Connections in use at once per upstream, streams of HTTP/2 counted as such; `None`: any number.
    pub max_in_use: Option<usize>,
    /// How many wait for one of these.
    pub max_queue: usize,
    /// How long they do.
    pub max_wait: Duration,
    /// Bytes of a response's head.
    pub max_head_bytes: usize,
    /// Fields of a response's head.
    pub max_headers: usize,
    /// Bytes of a body read ahead, each way; 8 KiB or more.
    pub body_buffer: usize,
}

impl PoolLimits {
    /// Those of the config towards the app: next door, and not to be kept waiting.
    pub fn of_app(timeouts: &Timeouts, limits: &Limits) -> PoolLimits {
        PoolLimits {
            idle: timeouts.upstream_idle_app,
            resolve: ResolveLimits::of(timeouts, limits),
            connect_timeout: timeouts.connect_app,
            max_idle: limits.idle_per_upstream,
            max_in_use: limits.connections_per_upstream,
            max_queue: limits.queue_per_upstream,
            max_wait: timeouts.upstream_queue,
            max_head_bytes: limits.head_bytes,
            max_headers: limits.headers,
            body_buffer: limits.body_buffer,
        }
    }

    /// Those of the config towards other services.
    pub fn of_services(timeouts: &Timeouts, limits: &Limits) -> PoolLimits {
        PoolLimits {
            idle: timeouts.upstream_idle,
            connect_timeout: timeouts.connect,
            ..PoolLimits::of_app(timeouts, limits)
        }
    }

    /// Defaults towards the app.
    pub fn app() -> PoolLimits {
        PoolLimits::of_app(&Timeouts::default(), &Limits::default())
    }

    /// Defaults towards other services.
    pub fn outbound() -> PoolLimits {
        PoolLimits::of_services(&Timeouts::default(), &Limits::default())
    }
}
