//! hopspan: a reverse-proxy sidecar that traces services nobody instrumented.
//!
//! # The map
//!
//! ```text
//! client ──> [inbound :8080] ──> app 127.0.0.1:8000          SERVER span, then CLIENT span to the app
//!              hopspan                │ the app's own calls (HTTP_PROXY or a base URL)
//! service <── [outbound :8081] <──────┘                      CLIENT span, parent = the request that caused it
//!              │
//!              └── OTLP (gRPC 4317 or HTTP 4318) ──> Collector / Jaeger / Tempo / `hopspan view`
//! ```
//!
//! Read [`hop`] first: one request walks down `Exchange::handle`, inbound and outbound alike.
//! Then: bytes -> [`proxy`], meaning -> [`trace`], sending -> [`export`], inferring -> [`correlation`],
//! policy -> [`routing`], order of things -> [`hop`].
//!
//! # Floors
//!
//! A module imports only from floors below itself (`tests/it/floors.rs` enforces it):
//!
//! ```text
//! 6  main, cli                        argv to a running Sidecar or Viewer, signals, exit codes
//! 5  sidecar  wrap  doctor            composition root: bind() -> addresses, run(stop): serve, drain, flush; the child; checks
//! 4  hop                              where proxy, trace, routing and correlation meet: the one path
//! 3  correlation  admin  view         correlation -> trace; admin is handed what it shows; view -> otlp types only
//! 2  export                           spans -> queue -> OTLP
//! 1  proxy  trace  routing            three strangers: none imports another; routing -> config
//! 0  config  telemetry  tls           values as written; hopspan's own logs and counters; certificates and keys
//! ```
//!
//! # Lexicon
//!
//! *hop* one passage through the sidecar; *inbound / outbound* relative to the app; *upstream* the next server;
//! *app* the process behind; *service* anyone else; *exchange* one request and its response; *parent* the span that
//! caused it; *evidence* how we know; *snapshot* the compiled hot config, *generation* its number.
//!
//! # Tenets, ranked
//!
//! 1 transparent, 2 correct, 3 honest, 4 fast, 5 small. When two conflict, the earlier wins.

#![cfg_attr(
    not(test),
    warn(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

pub mod config;
pub mod telemetry;
pub mod tls;

pub mod proxy;
pub mod routing;
pub mod trace;

pub mod export;

pub mod admin;
pub mod correlation;
pub mod view;

pub mod hop;

pub mod doctor;
pub mod sidecar;
pub mod wrap;
