//! The datagram sockets of one thread: the same as all threads have, and what this one has still to say of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::sys::mailbox::Mailbox;

use super::datagrams::{Counts, Listener};
use super::outbox::Outbox;

/// How often it is said what became of datagrams.
const SAY_EVERY: Duration = Duration::from_secs(1);

/// All datagram sockets, as one thread knows them.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    all: HashMap<u64, (Arc<Listener>, Counts)>,
    ports: Vec<u16>,
    /// When the counts are to be said; `None`: nothing has happened.
    say_at: Option<Instant>,
    /// A thread without datagrams has none.
    mailbox: Option<Mailbox>,
}

impl Listeners {
    pub(super) fn add(&mut self, listener: Arc<Listener>) {
        self.all.insert(listener.id, (listener, Counts::default()));
        self.collect_ports();
    }

    /// Lets go of a socket, after its last counts were said.
    pub(super) fn remove(&mut self, id: u64, outbox: &mut Outbox) -> Option<Arc<Listener>> {
        let (listener, counts) = self.all.remove(&id)?;
        say(id, counts, outbox);
        self.collect_ports();
        Some(listener)
    }

    fn collect_ports(&mut self) {
        self.ports = self.all.values().map(|(listener, _)| listener.port).collect();
        self.ports.sort_unstable();
        self.ports.dedup();
    }

    pub(super) fn serve(&mut self, id: u64, pattern: &[u8], now: Instant) {
        let Some((listener, counts)) = self.all.get_mut(&id) else { return };
        let mailbox = self.mailbox.get_or_insert_default();
        counts.add(listener.serve(mailbox, &self.ports, pattern, now));
        self.say_at.get_or_insert(now + SAY_EVERY);
    }

    /// When there is something to say.
    pub(super) fn say_at(&self) -> Option<Instant> {
        self.say_at
    }

    pub(super) fn say_due(&mut self, now: Instant, outbox: &mut Outbox) {
        if self.say_at.is_some_and(|at| at <= now) {
            self.say_at = None;
            self.all.iter_mut().for_each(|(&id, (_, counts))| say(id, std::mem::take(counts), outbox));
        }
    }
}

fn say(id: u64, counts: Counts, outbox: &mut Outbox) {
    if counts != Counts::default() {
        outbox.push(&counts.report(id));
    }
}
