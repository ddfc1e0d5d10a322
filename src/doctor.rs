//! `hopspan doctor` and `hopspan explain`: what works here, what does not, why, and the one command that changes it.

pub mod explain;
