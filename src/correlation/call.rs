//! An outbound call, as far as its cause is to be found by it.

use std::net::SocketAddr;
use std::time::Instant;

use super::unlinked::Unlinked;

/// When the kernel received bytes, and when they were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// SO_TIMESTAMPNS: CLOCK_REALTIME, nanoseconds since 1970.
    pub realtime_ns: u64,
    /// CLOCK_MONOTONIC in nanoseconds, read just after the read that returned the bytes.
    pub monotonic_ns: u64,
}

/// An outbound call whose cause is asked for.
#[derive(Clone, Copy, Debug)]
pub struct OutboundCall {
    /// The caller's address: the peer of the accepted connection.
    pub peer: SocketAddr,
    /// Where it connected to: the local address of the accepted connection.
    pub local: SocketAddr,
    /// When the connection was accepted (read the clock before or just after `accept`).
    pub accepted: Instant,
    /// When the first bytes of this request came in; `None` where the kernel gave no time or they came with the
    /// request before.
    pub received: Option<Stamp>,
    /// Where its bytes stand on the connection, or why nobody can tell: [`Unlinked::Multiplexed`] (HTTP/2), which ends
    /// all proofs by connection, or [`Unlinked::StartUnknown`], which ends those that count its bytes.
    pub bytes: Result<CallBytes, Unlinked>,
}

/// A call's place among the bytes of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallBytes {
    /// Read before its first one.
    pub before: u64,
    /// Read so far.
    pub read: u64,
    /// Length of its head, where a body follows.
    pub head: Option<u64>,
}
