//! superctl, the admin's program: one request to the control socket, and its answer for people or programs.
//!
//! Knows nothing of what goes on inside of a running superd: it stands on the control language alone. `explain` with
//! a file asks nobody, and judges by that file.

mod bans;
mod client;
mod explain;
mod locate;
mod offline;
mod pool;
mod reload;
mod socket;
mod status;
mod terminal;

use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::protocol::control::{Answer, Refusal, Reply, Request, encode_reply};

use client::ask;
use locate::Surroundings;

/// Ask a running superd how it is, or to load its configuration again.
#[derive(Debug, Parser)]
#[command(
    name = "superctl",
    version,
    after_help = "Exit status: 0 done, 1 refused or failed, 2 error. See superctl(8)."
)]
struct Arguments {
    /// The control socket [default: where superd puts it]
    #[arg(long, value_name = "PATH", global = true)]
    socket: Option<PathBuf>,

    /// Take the control socket from this configuration; explain: judge by it, and ask no superd
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,

    /// Wait so long for the answer [default: 60 for reload, else 10]
    #[arg(long, value_name = "SECONDS", global = true, value_parser = clap::value_parser!(u32).range(1..))]
    timeout: Option<u32>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the services: states, listeners, sessions, refused clients
    Status {
        /// This service alone
        service: Option<String>,
        /// The whole state as one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Load the configuration again, wait, and show what changed or what is wrong
    Reload {
        /// The report as one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Show a service's listeners and their options, as the kernel has them
    Socket {
        /// The service
        name: String,
        /// The listeners as a JSON array
        #[arg(long)]
        json: bool,
    },
    /// Show who is banned, from what, what for and for how long
    Bans {
        /// The bans as a JSON array
        #[arg(long)]
        json: bool,
    },
    /// Say what would become of a client, and why
    #[command(after_help = "Exit status: 0 allowed, 1 refused, 2 error. What is not told counts as unknown.")]
    Explain(explain::ExplainArgs),
    /// Ban somebody from a service, or from all
    Ban {
        /// An address, a network, or uid:NUMBER
        who: String,
        /// From this service alone
        #[arg(long, value_name = "NAME")]
        service: Option<String>,
        /// For so long: 30min, 1h, 7d
        #[arg(long = "for", value_name = "DURATION", default_value = "1h", value_parser = bans::seconds)]
        seconds: u64,
        /// The ban as a JSON array
        #[arg(long)]
        json: bool,
    },
    /// Lift the bans that hold for an address, or that of a network
    Unban {
        /// An address, a network, or uid:NUMBER
        who: String,
        /// From this service alone
        #[arg(long, value_name = "NAME")]
        service: Option<String>,
        /// The bans that were lifted as a JSON array
        #[arg(long)]
        json: bool,
    },
    /// Show pools: workers that are busy and idle, clients that wait, restarts, limits
    Pool {
        /// This service's pool alone, with its workers
        service: Option<String>,
        /// The pools and their workers as a JSON array
        #[arg(long)]
        json: bool,
    },
}

impl Command {
    fn request(&self) -> Result<Request, String> {
        Ok(match self {
            Self::Status { .. } => Request::Status,
            Self::Reload { .. } => Request::Reload,
            Self::Socket { name, .. } => Request::Socket { service: name.clone() },
            Self::Bans { .. } => Request::Bans,
            Self::Explain(arguments) => Request::Explain(arguments.question()?),
            Self::Ban { who, service, seconds, .. } => {
                Request::Ban { who: who.clone(), service: service.clone(), seconds: *seconds }
            }
            Self::Unban { who, service, .. } => Request::Unban { who: who.clone(), service: service.clone() },
            Self::Pool { service, .. } => Request::Pool { service: service.clone() },
        })
    }

    fn is_json(&self) -> bool {
        match self {
            Self::Status { json, .. }
            | Self::Reload { json }
            | Self::Socket { json, .. }
            | Self::Bans { json }
            | Self::Ban { json, .. }
            | Self::Unban { json, .. }
            | Self::Pool { json, .. } => *json,
            Self::Explain(arguments) => arguments.json,
        }
    }

    /// A reload may resolve names and bind thousands of sockets; the rest is answered from memory.
    fn patience(&self) -> Duration {
        match self {
            Self::Reload { .. } => Duration::from_mins(1),
            _ => Duration::from_secs(10),
        }
    }
}

/// What is shown of a request that was done.
#[derive(Debug, Default, PartialEq, Eq)]
struct Report {
    /// For standard output.
    text: String,
    /// For standard error.
    warnings: Vec<String>,
    /// The exit status.
    code: u8,
}

/// Why there is nothing to show.
#[derive(Debug, PartialEq, Eq)]
enum Failure {
    /// superd said no: exit status 1.
    Refused(Refusal),
    /// It could not be asked, or not be understood: exit status 2.
    Error(String),
}

/// The program. Errors go to standard error; the exit status is 0, 1 or 2.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(report) => {
            report.warnings.iter().for_each(|warning| complain(warning));
            show(&report.text, report.code)
        }
        Err(Failure::Refused(refusal)) if arguments.command.is_json() => {
            let line = encode_reply(&Reply::Refused(refusal));
            show(&terminal::escape_json(&String::from_utf8_lossy(&line)), 1)
        }
        Err(Failure::Refused(refusal)) => {
            refusal.errors.iter().for_each(|error| complain(error));
            ExitCode::from(1)
        }
        Err(Failure::Error(error)) => {
            complain(&error);
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> Result<Report, Failure> {
    if let (Command::Explain(explain), Some(file)) = (&arguments.command, &arguments.config) {
        return offline::explain(explain, file).map_err(Failure::Error);
    }
    let candidates = locate::candidates(arguments, &Surroundings::of_process()).map_err(Failure::Error)?;
    let patience = match arguments.timeout {
        Some(seconds) => Duration::from_secs(seconds.into()),
        None => arguments.command.patience(),
    };
    let request = arguments.command.request().map_err(Failure::Error)?;
    let reply = ask(&candidates, &request, patience).map_err(Failure::Error)?;
    let answer = match reply {
        Reply::Done(answer) => *answer,
        // 1 would mean that the client is refused.
        Reply::Refused(refusal) if matches!(request, Request::Explain(_)) => {
            return Err(Failure::Error(refusal.errors.join("\n")));
        }
        Reply::Refused(refusal) => return Err(Failure::Refused(refusal)),
    };
    match (&arguments.command, answer) {
        (Command::Status { service, json }, Answer::Status(state)) => {
            status::report(state, service.as_deref(), *json)
        }
        (Command::Reload { json }, Answer::Reload(outcome)) => Ok(reload::report(&outcome, *json)),
        (Command::Socket { json, .. }, Answer::Socket(listeners)) => Ok(socket::report(&listeners, *json)),
        (Command::Bans { json }, Answer::Bans(list)) => Ok(bans::report(&list, *json)),
        (Command::Explain(arguments), Answer::Explain(explained)) => {
            Ok(explain::report(&explained, arguments.json))
        }
        (Command::Ban { json, .. }, Answer::Bans(list)) => Ok(bans::outcome("banned", &list, *json)),
        (Command::Unban { json, .. }, Answer::Bans(list)) => Ok(bans::outcome("lifted", &list, *json)),
        (Command::Pool { service, json }, Answer::Pool(pools)) => {
            Ok(pool::report(&pools, service.is_some(), *json))
        }
        _ => Err(Failure::Error("superd answered something else than what was asked".to_owned())),
    }
}

/// Writes `text` to standard output. Whoever closes it early has read enough; that is no error.
fn show(text: &str, code: u8) -> ExitCode {
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            complain(&format!("standard output: {error}"));
            ExitCode::from(2)
        }
        _ => ExitCode::from(code),
    }
}

fn complain(text: &str) {
    // There is nowhere left to say that standard error is closed.
    let _ = writeln!(io::stderr(), "superctl: {}", terminal::escape_lines(text.trim_end()));
}
