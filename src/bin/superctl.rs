//! The admin's program.

use std::process::ExitCode;

fn main() -> ExitCode {
    superd::control::main()
}
