//! Bytes ↔ values, for every channel: launch messages, role messages, control requests, log lines.
//!
//! Pure, like all it stands on; every reader takes bytes that may be anything.

pub mod beside;
pub mod builtin;
pub mod collect;
pub mod control;
pub mod environment;
pub mod explain;
pub mod handoff;
pub mod ident;
pub mod launch;
pub mod load;
pub mod log;
pub mod overrides;
pub mod plans;
pub mod resolve;
pub mod status;
pub mod step;
pub mod tables;
pub mod writer;
