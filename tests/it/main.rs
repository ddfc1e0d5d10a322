//! The one integration binary: a module per source module, over real sockets.

mod config;
mod correlation;
mod floors;
mod proxy;
mod routing;
mod support;
mod view;
mod wrap;
