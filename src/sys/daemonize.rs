//! Becoming a daemon: the process that was started waits for the one that stays, and tells its fate.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

use nix::unistd::{ForkResult, fork};

use super::{fd, process};

/// Which process this is now.
#[derive(Debug)]
pub enum Side {
    /// The one that was started; it is to end with this code. Errors have been printed.
    Starter(ExitCode),
    /// The daemon, in a session of its own, without a terminal; the starter waits for its word.
    Daemon(Starter),
}

/// The way to the process that waits for the daemon's start.
#[derive(Debug)]
pub struct Starter(File);

impl Starter {
    /// Everything is bound: the starter ends with 0.
    pub fn started(mut self) {
        // A starter that was killed does not matter.
        let _ = self.0.write_all(b"+");
    }

    /// The start has failed: the starter prints `errors` and ends with 1.
    pub fn failed(mut self, errors: &str) {
        let _ = self.0.write_all(errors.as_bytes());
    }
}

/// Splits this process, which has one thread, in two. The daemon forks once more, so that it leads no session
/// and can never take a terminal; its directory is /, its standard descriptors are /dev/null, but
/// standard error, which stays until [`detach_stderr`].
pub fn daemonize() -> io::Result<Side> {
    let (read, write) = fd::pipe()?;
    // SAFETY: there is one thread (this is the program's first act), so the child may do all that it could.
    if let ForkResult::Parent { .. } = unsafe { fork() }? {
        drop(write);
        return Ok(Side::Starter(wait_for_word(read)));
    }
    drop(read);
    process::new_session()?;
    // SAFETY: as above.
    if let ForkResult::Parent { .. } = unsafe { fork() }? {
        std::process::exit(0);
    }
    let null = fd::open_null()?;
    fd::install(null.as_fd(), 0)?;
    fd::install(null.as_fd(), 1)?;
    // The directory of whoever started it can be removed and unmounted.
    nix::unistd::chdir("/")?;
    Ok(Side::Daemon(Starter(write.into())))
}

/// Leaves the terminal's standard error for /dev/null, when the start is over.
pub fn detach_stderr() -> io::Result<()> {
    fd::install(fd::open_null()?.as_fd(), 2)
}

fn wait_for_word(read: OwnedFd) -> ExitCode {
    let mut word = Vec::new();
    let result = File::from(read).read_to_end(&mut word);
    if result.is_ok() && word == b"+" {
        return ExitCode::SUCCESS;
    }
    let text = String::from_utf8_lossy(&word);
    let text = if text.is_empty() { "superd: ended before it was started\n".into() } else { text };
    let _ = io::stderr().write_all(text.as_bytes());
    ExitCode::FAILURE
}
