//! What happened to others and must not happen here: a test for each published incident that applies, by its number.
//!
//! Where a row of the corpus (`smuggling/http1.txt`, `http2/`) already says the same bytes, the test here is still the
//! one that names the incident. Those of HTTP/2 (CVE-2023-44487, CVE-2024-24549 and their kin, CVE-2025-8671,
//! CVE-2026-48743, CVE-2026-49975) are in `http2/abuse.rs` and `http2/downgrade.rs`, metadata spellings in
//! `destinations.rs`, descriptors (RUSTSEC-2024-0376) in `proxy/descriptors.rs`, the viewer's page and its decompression
//! bombs (CVE-2024-36129, CVE-2025-24010) in `view/`. What does not apply, and why: `tests/real/README.md`.

mod desync;
mod doors;
mod fields;
mod framing;
mod telemetry;
