//! The process that accepts: one thread, one loop.

pub mod control;
