//! What hopspan holds against: limits that bite and say so, what abuse costs the one who does it and the one who bears
//! it, changes and stops while everything is in use, and how all of that goes on for long.
//!
//! Sizes here are those of every run; `tests/real/long` runs the same at their long size.

mod bodies;
mod buffers;
mod crowd;
mod defaults;
mod floods;
mod leverage;
mod limits;
mod memory;
mod places;
mod soak;
mod spans;
mod storm;
mod world;

use crate::support::{cost, long};
