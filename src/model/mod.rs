//! Words of the domain, as plain values.
//!
//! Holding one of these means that it is right: they are made by constructors that check. Knows nothing
//! of files, sockets, clocks or the layers above.

pub mod address;
pub mod client;
pub mod endpoint;
pub mod filter;
pub mod host;
pub mod identity;
pub mod label;
pub mod mistake;
pub mod mux;
pub mod name;
pub mod network;
pub mod offence;
pub mod pattern;
pub mod place;
pub mod rate;
pub mod session;
pub mod user;
pub mod window;
