//! The one integration binary: a module per source module, over real sockets.

mod balancers;
mod cli;
mod collector_faults;
mod config;
mod context;
mod correlation;
mod destinations;
mod doctor;
mod drain;
mod floors;
#[path = "../fuzz/fuzz.rs"]
mod fuzz;
mod holding;
mod http2;
mod inbound;
mod incidents;
mod joins;
mod listeners;
mod outbound;
mod proxy;
mod reload;
mod responses;
mod routing;
mod settings;
mod shim;
mod smuggling;
mod streaming;
mod support;
mod tls;
mod tokens;
mod transparency;
mod tunnels;
mod upstream_faults;
mod upstreams;
mod view;
mod wrap;
