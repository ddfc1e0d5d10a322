//! The one integration binary: a module per source module, over real sockets.

mod cli;
mod collector_faults;
mod config;
mod context;
mod correlation;
mod destinations;
mod doctor;
mod drain;
mod floors;
mod http2;
mod inbound;
mod joins;
mod outbound;
mod proxy;
mod reload;
mod routing;
mod shim;
mod smuggling;
mod streaming;
mod support;
mod tls;
mod tokens;
mod tunnels;
mod upstream_faults;
mod view;
mod wrap;
