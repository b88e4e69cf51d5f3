//! superd's subcommands that are not the daemon.

pub mod check;
pub mod schema;
