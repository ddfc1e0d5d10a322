//! What reaches the app is one unambiguous request, or the client is told why not: raw bytes in, raw bytes out.
//!
//! The app behind hopspan is a socket that records what it gets; [`strict`] reads that by the letter of RFC 9112 and
//! shares no code and no leniency with hopspan. [`table`] runs the written rows of `http1.txt`, [`matrix`] every
//! combination of framing fields, [`bytes`] every byte in every place. Connections to that app are not reused, so a
//! second request on one of them is a smuggled one. [`servers`] asks the servers that apps run on.

pub(crate) mod answers;
pub(crate) mod bench;
pub(crate) mod blocks;
mod bytes;
mod matrix;
mod servers;
pub(crate) mod strict;
mod table;
