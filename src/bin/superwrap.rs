//! The wrapper program, where tcpd stood.

use std::process::ExitCode;

fn main() -> ExitCode {
    superd::wrap::main(cfg!(target_feature = "crt-static"))
}
