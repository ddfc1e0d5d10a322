//! The one integration binary: a module per source module, over real sockets.

mod cli;
mod config;
mod floors;
mod proxy;
mod routing;
mod support;
mod view;
mod wrap;
