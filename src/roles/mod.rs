//! superd's other processes: superd itself, started again as `superd --role NAME`.
//!
//! A role is one file with one `run`. All but the stage have a channel to the supervisor, and end when it
//! closes.
//!
//! | role     | runs as | lives          | does |
//! |----------|---------|----------------|------|
//! | launcher | superd  | always         | makes every child |
//! | stage    | superd  | for one launch | takes on a program's world and becomes it |
//! | loader   | superd  | for one load   | reads, checks and resolves the configuration |
//! | writer   | superd  | on demand      | writes to files, which may wait for a disk |
//! | collector | helper  | while wanted   | collects lines of programs' standard errors |
//! | handlers | helper  | while wanted   | serves the built-in services |
//! | resolver | helper  | while wanted   | asks for names of addresses, and ident servers |

use std::ffi::{CStr, OsString};
use std::io;
use std::process::ExitCode;

use nix::sys::signal::Signal;

use crate::sys::channel::Channel;
use crate::sys::{fd, process, signal};

pub mod collector;
pub mod handlers;
pub mod launcher;
pub mod loader;
pub mod resolver;
pub mod stage;
pub mod writer;

/// The argument that makes superd a role.
pub const ARGUMENT: &str = "--role";

/// Where a role finds its channel; the launcher is told another number.
pub const CHANNEL: i32 = 3;

/// What a terminal, `killall` or logrotate may send to a role as well as to the supervisor.
const SHRUGGED_OFF: [Signal; 6] =
    [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM, Signal::SIGUSR1, Signal::SIGUSR2];

/// Runs the role that the arguments behind `--role` name, to its end.
pub fn run(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let name = arguments.next().unwrap_or_default();
    let outcome = match name.to_str() {
        Some("stage") => stage::run(&arguments.next().unwrap_or_default()),
        Some("launcher") => launcher::run(arguments),
        Some("collector") => enter(c"superd-collect").and_then(|channel| collector::run(&channel)),
        Some("handlers") => enter(c"superd-handlers").and_then(|channel| handlers::run(&channel)),
        Some("loader") => enter(c"superd-loader").and_then(|channel| loader::run(&channel)),
        Some("resolver") => enter(c"superd-resolver").and_then(|channel| resolver::run(&channel)),
        Some("writer") => enter(c"superd-writer").and_then(|channel| writer::run(&channel)),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "there is no such role")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("superd: role {}: {error}", name.display());
            ExitCode::FAILURE
        }
    }
}

fn enter(name: &CStr) -> io::Result<Channel> {
    settle(name)?;
    Ok(Channel::from(fd::take_inherited(CHANNEL)?))
}

/// The first steps of every role: its own session, memory that nobody reads, signals that neither end it nor
/// are inherited by what it starts.
fn settle(name: &CStr) -> io::Result<()> {
    process::set_undumpable()?;
    process::set_name(name)?;
    signal::shrug_off(&SHRUGGED_OFF)?;
    signal::set_default(Signal::SIGPIPE)?;
    signal::unblock_all()?;
    // The stage has done it for the roles that it became: EPERM then.
    let _ = process::new_session();
    Ok(())
}
