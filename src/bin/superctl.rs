//! The admin's program.

fn main() -> std::process::ExitCode {
    superd::control::main()
}
