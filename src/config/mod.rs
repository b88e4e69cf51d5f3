//! The configuration: text in, a [`settings::Config`] or diagnostics out.
//!
//! Pure: files, users and ports are asked for through traits that the shell implements.

pub mod settings;
