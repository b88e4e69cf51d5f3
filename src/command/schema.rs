//! `superd schema`: the JSON Schema of the configuration, for editors.

use std::io::Write;
use std::process::ExitCode;

use crate::config::schema::schema;

/// Prints the JSON Schema of the configuration.
#[derive(Debug, clap::Args)]
pub struct SchemaArgs {}

/// Runs `superd schema`.
pub fn run_schema(_: &SchemaArgs) -> ExitCode {
    let text = format!("{:#}\n", schema());
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
