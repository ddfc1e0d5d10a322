//! The bytes: listener, server, pool, tunnel, over real sockets with raw TCP peers.

mod descriptors;
mod passing;
mod pool;
mod raw;
mod rest;
mod server;
