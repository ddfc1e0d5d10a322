//! `hopspan view` over real sockets: OTLP in, API and client out.

mod api;
mod client;
mod fixture;
mod receiver;
