//! Bytes: accepting connections, speaking HTTP/1.x and HTTP/2, pooling upstream connections, tunnels.
//!
//! Knows nothing of traces, routes or config meaning: [`crate::hop`] decides, this floor moves bytes and tells how
//! it went. Streaming both ways, no body is ever held whole. HTTP framing is hyper's; everything hyper leaves open
//! (deadlines, pools, ends of bodies, field rules of RFC 9110 section 7.6) is here.
//!
//! ```text
//! listener -> sniff -> server -> (hop) -> pool -> connect
//!                        body, forwarding        tunnel
//! ```

pub mod body;
pub mod connect;
pub mod dialled;
pub mod forwarding;
pub mod listener;
pub mod original_dst;
pub mod pool;
pub mod pressure;
pub mod server;
pub mod stamped;
pub mod tunnel;
pub mod upstream;

mod ahead;
mod crowd;
mod detect;
mod frames;
mod growing;
mod held;
mod holder;
mod linger;
pub(crate) mod local;
mod proxy_protocol;
mod queues;
mod refusal;
mod reset;
mod resolve;
mod sniff;
pub(crate) mod socket;
mod timed;
mod windows;

/// Fields of a head for which hyper needs no allocation: its own default.
const HYPER_MAX_HEADERS: usize = 100;
