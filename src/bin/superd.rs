//! The daemon's program: the daemon itself, its other roles, and what an admin asks of a configuration.

use std::process::ExitCode;

fn main() -> ExitCode {
    superd::command::main()
}
