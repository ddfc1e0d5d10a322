//! The bytes: listener, server, pool, tunnel, over real sockets with raw TCP peers.

mod pool;
mod raw;
mod server;
