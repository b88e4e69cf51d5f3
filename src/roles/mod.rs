//! The processes that superd is started as again.

pub mod loader;
