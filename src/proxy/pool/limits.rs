//! What a pool may keep and how long it waits.

use std::time::Duration;

use crate::proxy::HYPER_MAX_HEADERS;

/// Limits of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolLimits {
    /// How long a connection may wait for its next request. Below the upstream's own limit, or requests race its
    /// close: gunicorn's is 2 s.
    pub idle: Duration,
    /// How long a request waits for its upstream's name to be resolved.
    pub resolve_timeout: Duration,
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
}

impl PoolLimits {
    /// Defaults towards the app: next door, and not to be kept waiting.
    pub fn app() -> PoolLimits {
        PoolLimits {
            idle: Duration::from_millis(1500),
            resolve_timeout: Duration::from_secs(2),
            connect_timeout: Duration::from_secs(1),
            max_idle: 256,
            max_in_use: None,
            max_queue: 1024,
            max_wait: Duration::from_secs(5),
            max_head_bytes: 32 * 1024,
            max_headers: HYPER_MAX_HEADERS,
        }
    }

    /// Defaults towards other services.
    pub fn outbound() -> PoolLimits {
        PoolLimits {
            idle: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(5),
            ..PoolLimits::app()
        }
    }
}
