//! Configuration as written: the YAML file, the flags and the environment, parsed into plain values.
//!
//! Nothing here is compiled or resolved; that is [`crate::routing`]'s work.

pub mod address;
pub mod export;

pub use address::Address;
pub use export::{Export, Protocol};
