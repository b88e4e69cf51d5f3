//! The daemon's program.

use std::process::ExitCode;

use clap::Parser;
use superd::command::{check, schema};

#[derive(Parser)]
#[command(version, about)]
enum Command {
    Check(check::CheckArgs),
    Schema(schema::SchemaArgs),
}

fn main() -> ExitCode {
    match Command::parse() {
        Command::Check(args) => check::run_check(&args),
        Command::Schema(args) => schema::run_schema(&args),
    }
}
