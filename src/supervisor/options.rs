//! Socket options of a listener: set before it is bound, changed while it listens, and read back.
//!
//! Accepted connections have them from the listener (Linux copies the socket), all but those that
//! [`apply_to_connection`] sets. Knows nothing of services, nor of when a listener is opened or kept.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;

use socket2::SockRef;

use crate::config::settings::SocketOptions;
use crate::sys::kind::SocketKind;
use crate::sys::sockopt;

mod remembered;
mod table;

pub use remembered::Remembered;

use table::{TABLE, Undo, saturated};

/// listen(2)'s queue where the configuration does not say; the kernel cuts it to net.core.somaxconn.
pub const DEFAULT_BACKLOG: u32 = 4096;

/// An option that the kernel refused.
#[derive(Debug)]
pub struct OptionError {
    /// Its name in the configuration.
    pub name: &'static str,
    /// What the kernel said.
    pub source: io::Error,
}

impl fmt::Display for OptionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "socket option `{}`: {}", self.name, self.source)
    }
}

impl std::error::Error for OptionError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// What becomes of a listener whose options change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// They are the same.
    Nothing,
    /// [`reapply`] makes the listener as the new options want it.
    Apply,
    /// This option was taken away, and the kernel has no way back: the listener is opened anew.
    Reopen(&'static str),
}

/// Does the option of this name mean anything to a socket of this kind? Elsewhere it is not set.
pub fn holds(name: &str, kind: SocketKind) -> bool {
    match name {
        "backlog" => !kind.is_datagram(),
        _ => TABLE.iter().any(|row| row.name == name && row.holds_on(kind)),
    }
}

/// Sets all options that hold on a socket that is not bound yet.
pub fn apply(fd: BorrowedFd<'_>, kind: SocketKind, options: &SocketOptions) -> Result<(), OptionError> {
    for row in TABLE.iter().filter(|row| row.holds_on(kind)) {
        if let Some(value) = (row.asked)(options).or(row.always) {
            row.set(fd, kind, value)?;
        }
    }
    Ok(())
}

/// Sets on an accepted connection what it does not have from its listener: the kernel clears `SO_PRIORITY`.
pub fn apply_to_connection(fd: BorrowedFd<'_>, options: &SocketOptions) -> Result<(), OptionError> {
    let Some(priority) = options.priority else { return Ok(()) };
    SockRef::from(&fd).set_priority(priority).map_err(|source| OptionError { name: "priority", source })
}

/// What is to be done so that a listener with the old options has the new ones.
pub fn change(kind: SocketKind, old: &SocketOptions, new: &SocketOptions) -> Change {
    if old == new {
        return Change::Nothing;
    }
    let mut lost = TABLE.iter().filter(|row| row.holds_on(kind) && row.is_taken_away(old, new));
    let lost = lost.find(|row| matches!(row.undo_on(kind), Undo::Reopen));
    lost.map_or(Change::Apply, |row| Change::Reopen(row.name))
}

/// Gives a bound and listening socket the new options: what was taken away goes back to the kernel's default.
///
/// After an error some are changed: calling it again with `old` and `new` exchanged puts the listener back.
pub fn reapply(
    fd: BorrowedFd<'_>,
    kind: SocketKind,
    old: &SocketOptions,
    new: &SocketOptions,
) -> Result<(), OptionError> {
    for row in TABLE.iter().filter(|row| row.holds_on(kind) && row.is_taken_away(old, new)) {
        row.undo(fd, kind)?;
    }
    // All of them, not those alone that differ: IP_TOS changes the priority too.
    apply(fd, kind, new)?;
    if old.backlog != new.backlog && !kind.is_datagram() {
        listen(fd, new).map_err(|source| OptionError { name: "backlog", source })?;
    }
    Ok(())
}

/// listen(2); on a socket that listens it changes the length of the queue.
pub fn listen(fd: BorrowedFd<'_>, options: &SocketOptions) -> io::Result<()> {
    SockRef::from(&fd).listen(saturated(options.backlog.unwrap_or(DEFAULT_BACKLOG)))
}

/// What the kernel made of each option, by the names of the configuration; one that it does not know is left out.
pub fn read_back(fd: BorrowedFd<'_>, kind: SocketKind) -> BTreeMap<String, String> {
    let rows = TABLE.iter().filter(|row| row.holds_on(kind));
    let mut read: BTreeMap<String, String> =
        rows.filter_map(|row| Some((row.name.to_owned(), row.text(fd, kind).ok()?))).collect();
    if let Some([_, limit]) = queue(fd) {
        read.insert("backlog".to_owned(), limit.to_string());
    }
    read
}

/// The accept queue of a listener: how many wait, and how many it holds.
pub fn queue(fd: BorrowedFd<'_>) -> Option<[u32; 2]> {
    sockopt::accept_queue(fd).ok()
}

#[cfg(test)]
mod tests;
