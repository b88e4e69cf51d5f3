//! Seeing off clients: those that are refused and told why, and those whose program has answered.
//!
//! A socket that is closed with unread bytes in it sends a reset, which destroys the text on its way (RFC 1122
//! §4.2.2.13). So superd stops sending, throws away what the client sends for a second, and closes then.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::sys::socket::{self, Discarded};

/// How long a client may take to read and close.
const PATIENCE: Duration = Duration::from_secs(1);

/// So many at a time; beyond them connections are closed at once.
const MOST: usize = 256;

/// Clients that are being seen off.
#[derive(Debug, Default)]
pub(super) struct Farewells {
    leaving: Vec<(OwnedFd, Instant)>,
}

impl Farewells {
    /// Sends the text and closes the connection when the client has had a chance to read it.
    pub(super) fn say(&mut self, connection: OwnedFd, text: &[u8], now: Instant) {
        socket::send_now(connection.as_fd(), text);
        socket::finish_sending(connection.as_fd());
        let gone = socket::discard(connection.as_fd()) == Discarded::Closed;
        if !gone && self.leaving.len() < MOST {
            self.leaving.push((connection, now + PATIENCE));
        }
    }

    /// Lets the client of a program that has ended read its answer: what it still sends is thrown away until
    /// then, since a reset would destroy the answer.
    pub(super) fn drain(&mut self, connection: OwnedFd, until: Instant) {
        socket::finish_sending(connection.as_fd());
        if socket::discard(connection.as_fd()) == Discarded::Waiting && self.leaving.len() < MOST {
            self.leaving.push((connection, until));
        }
    }

    pub(super) fn interests(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.leaving.iter().map(|(fd, _)| fd.as_fd())
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.leaving.iter().map(|(_, until)| *until).min()
    }

    /// Throws away what came from those that `ready` names by their place, and closes those that are done.
    pub(super) fn turn(&mut self, ready: impl Fn(usize) -> bool, now: Instant) {
        let mut place = 0;
        self.leaving.retain(|(fd, until)| {
            let closed = ready(place) && socket::discard(fd.as_fd()) == Discarded::Closed;
            place += 1;
            !closed && now < *until
        });
    }
}
