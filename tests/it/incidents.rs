//! What happened to others and must not happen here: a test for each published incident that applies, by its number.
//!
//! Where a row of the corpus (`smuggling/http1.txt`, `http2/`) already says the same bytes, the test here is still the
//! one that names the incident. By their numbers, too: CVE-2026-48743 in `http2/downgrade.rs`, RUSTSEC-2024-0376 in
//! `proxy/descriptors.rs`, CVE-2024-36129 and CVE-2026-48044 (decompression bombs) and CVE-2025-24010 in `view/`. Metadata
//! spellings are in `destinations.rs`. What does not apply, and why: `tests/real/README.md`.

mod desync;
mod doors;
mod fields;
mod framing;
mod http2;
mod telemetry;
