//! placeholder

pub mod bind;
mod holder;
pub mod options;
