//! The one integration binary: a module per source module, over real sockets.

mod floors;
mod proxy;
mod support;
mod view;
mod wrap;
