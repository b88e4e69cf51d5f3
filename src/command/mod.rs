//! The command line of superd: the daemon, its roles, and what an admin asks of a configuration.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::roles;
use crate::roles::loader::load::own_situation;
use crate::supervisor;

pub mod check;
pub mod schema;

/// Listens for many services and launches the right program for each client.
#[derive(Debug, Parser)]
#[command(name = "superd", version, args_conflicts_with_subcommands = true)]
struct CommandLine {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = "/etc/superd.toml")]
    config: PathBuf,
    /// Stay in the foreground
    #[arg(long)]
    foreground: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Check(check::CheckArgs),
    Schema(schema::SchemaArgs),
}

/// Runs what the arguments ask for.
pub fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().as_deref() == Some(OsStr::new(roles::ARGUMENT)) {
        return roles::run(arguments);
    }
    let line = CommandLine::parse();
    match line.command {
        Some(Command::Check(args)) => check::run_check(&args),
        Some(Command::Schema(args)) => schema::run_schema(&args),
        None => {
            let situation = own_situation();
            let config = situation.cwd.join(&line.config);
            supervisor::run(supervisor::Options { config, foreground: line.foreground, situation })
        }
    }
}
