//! What the black-box tests share: a superd of their own, started, watched and stopped.
//!
//! `Superd::with(config)` gives a running daemon whose log, notifications and control socket are the test's;
//! dropping it stops the daemon and checks what it leaves behind. Knows superd only from outside: its
//! programs, files, sockets and log lines.

// Each test file uses a part of this.
#![allow(dead_code, unused_imports, unused_macros, unreachable_pub)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::missing_panics_doc)]

pub mod asker;
pub mod client;
pub mod dns;
pub mod inbox;
pub mod link;
pub mod machine;
pub mod processes;
pub mod start;
pub mod superd;
pub mod world;

pub use asker::Asker;
pub use client::Client;
pub use link::Link;
pub use machine::{have, is_root, skipped};
pub use processes::Process;
pub use start::Start;
pub use superd::Superd;
pub use world::{HungDisk, Load};

use std::time::{Duration, Instant};

/// How long anything may take before the test fails: generous, as the machine may be busy.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Waits until `probe` gives a value; panics with `what` after the deadline.
#[track_caller]
pub fn until<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {DEADLINE:?} for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Ends the test early, saying so, where it does not run as root.
macro_rules! needs_root {
    () => {
        if !crate::harness::is_root() {
            crate::harness::skipped("root");
            return;
        }
    };
}

/// Ends the test early, saying so, where a program is not installed.
macro_rules! needs_program {
    ($($name:expr),+) => {
        $(if !crate::harness::have($name) {
            crate::harness::skipped($name);
            return;
        })+
    };
}

pub(crate) use {needs_program, needs_root};
