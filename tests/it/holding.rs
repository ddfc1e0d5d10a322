//! What hopspan holds against: limits that bite and say so, what abuse costs the one who does it and the one who bears
//! it, and how all of that goes on for long.
//!
//! Sizes here are those of every run; `tests/real/long` runs the same and more at their long size.

mod cost;
mod leverage;
mod limits;
