//! `hopspan doctor` and what it asks: every check has a case that provokes it and one in which it is silent.

mod servers;
mod told;
