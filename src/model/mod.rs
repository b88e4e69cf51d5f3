//! Words of the domain, as plain values.
//!
//! Holding one of these means that it is right: they are made by constructors that check. Knows nothing
//! of files, sockets, clocks or the layers above.

pub mod address;
pub mod client;
pub mod endpoint;
pub mod identity;
pub mod name;
pub mod offence;
pub mod place;
pub mod rate;
pub mod session;
