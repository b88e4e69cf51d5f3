//! The admin's program.
fn main() {}
