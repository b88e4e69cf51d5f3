//! placeholder

pub mod writer;
