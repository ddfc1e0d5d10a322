//! The bytes: listener, server, pool, tunnel, over real sockets with raw TCP peers.

mod raw;
mod server;
