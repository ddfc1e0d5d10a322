//! What the config says of pools is what they get.

use std::time::Duration;

use super::*;
use crate::config::Source;
use crate::proxy::pool::ResolveLimits;

#[test]
fn pools_get_the_waits_and_limits_of_the_config() {
    let text = "
timeouts: { resolve: 1ms, resolve_keep: 12ms, resolve_stale: 13ms, connect_app: 2ms, connect: 3ms, upstream_idle_app: 4ms, upstream_idle: 5ms, upstream_queue: 6ms }
limits: { connections_per_upstream: 7, queue_per_upstream: 8, idle_per_upstream: 9, head_bytes: 610B, headers: 11, resolve_names: 14, body_buffer: 15KiB }
";
    let (_, snapshot) = crate::routing::load(&Source::new("test", text), &|_| {}, 1).unwrap();
    let millis = Duration::from_millis;
    let app = PoolLimits {
        idle: millis(4),
        resolve: ResolveLimits {
            timeout: millis(1),
            keep: millis(12),
            stale: millis(13),
            names: 14,
        },
        connect_timeout: millis(2),
        max_idle: 9,
        max_in_use: Some(7),
        max_queue: 8,
        max_wait: millis(6),
        max_head_bytes: 610,
        max_headers: 11,
        body_buffer: 15 << 10,
    };
    assert_eq!(app_limits(&snapshot), app);
    let services = PoolLimits {
        idle: millis(5),
        connect_timeout: millis(3),
        ..app
    };
    assert_eq!(service_limits(&snapshot), services);
}

#[test]
fn listeners_get_the_waits_and_limits_of_the_config() {
    let text = "
timeouts: { header: 1ms, handshake: 2ms, detect: 3ms, idle: 4ms, body_idle: 5ms }
limits:
  head_bytes: 606B
  headers: 107
  body_buffer: 17KiB
  connections: 8
  http2_streams: 9
  http2_head_bytes: 610B
  http2_heads: 611B
  http2_requests: 12
  http2_stream_window: 13B
  http2_window: 65536B
  http2_resets: 14
  http2_local_resets: 15
  http2_glitches: 16
  http2_unopened: 17
";
    let (_, snapshot) = crate::routing::load(&Source::new("test", text), &|_| {}, 1).unwrap();
    let millis = Duration::from_millis;
    let expected = ServeLimits {
        header_timeout: millis(1),
        handshake_timeout: millis(2),
        detect_timeout: millis(3),
        idle_timeout: millis(4),
        write_timeout: Some(millis(5)),
        max_head_bytes: 606,
        max_headers: 107,
        body_buffer: 17 << 10,
        max_connections: 8,
        http2_streams: 9,
        http2_head_bytes: 610,
        http2_heads: 611,
        http2_requests: 12,
        http2_stream_window: 13,
        http2_window: 65_536,
        http2_resets: 14,
        http2_local_resets: 15,
        http2_glitches: Some(16),
        http2_unopened: Some(17),
    };
    assert_eq!(serve_limits(&snapshot), expected);
}

#[test]
fn the_defaults_of_the_config_are_those_of_pools_and_listeners() {
    let (_, snapshot) = crate::routing::load(&Source::new("test", ""), &|_| {}, 1).unwrap();
    assert_eq!(app_limits(&snapshot), PoolLimits::app());
    assert_eq!(service_limits(&snapshot), PoolLimits::outbound());
    let listeners = ServeLimits {
        // As many as the descriptors of this process allow.
        max_connections: serve_limits(&snapshot).max_connections,
        ..ServeLimits::default()
    };
    assert_eq!(serve_limits(&snapshot), listeners);
}
