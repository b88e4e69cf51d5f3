//! Listeners: bound sockets, and which of them are waited for.
//!
//! A listener that may not be accepted from is not polled; clients wait in the kernel's queue. From 256
//! listeners on they sit in an epoll set, and ppoll watches that: an array of thousands would cost more each
//! turn than all the rest.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use crate::config::settings::Multiplexer;
use crate::model::endpoint::Endpoint;
use crate::service::admission::ServiceKey;
use crate::service::backoff::Backoff;
use crate::sys::filter::attached;
use crate::sys::poll::{EpollSet, PollSet};
use crate::sys::waiting::note_moments;

use super::bind::{PathIdentity, identify_path, remove_path};
use super::datagram_rules::Filter;
use super::lending::{Keepsake, fresh_rests};
use super::sessions::SessionKey;
use super::slab::Slab;

/// A listener, as long as it is open.
pub(super) type ListenerKey = usize;

/// From so many listeners on, `multiplexer = "auto"` takes the epoll set.
const MANY: usize = 256;

/// A bound socket.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) fd: OwnedFd,
    /// Its number, which no other listener ever has.
    pub(super) serial: u64,
    pub(super) service: ServiceKey,
    pub(super) endpoint: Endpoint,
    /// It goes away; what it still has is served.
    pub(super) retired: bool,
    /// It was lent to a server that waits: nobody else accepts from it.
    pub(super) lent: Option<Loan>,
    /// What is needed to set it right when its server has ended.
    pub(super) keepsake: Option<Keepsake>,
    pub(super) rests: Backoff,
    /// The filter of its datagrams; empty without one.
    pub(super) filter: Filter,
    /// Its path, to be removed when it closes.
    path: Option<PathIdentity>,
    watched: bool,
}

/// A listener's loan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loan {
    /// To the server of this session.
    Server(SessionKey),
    /// Its server ended without serving; the next one has to wait until then.
    Rest(Instant),
}

/// All listeners.
#[derive(Debug)]
pub(super) struct Listeners {
    table: Slab<Listener>,
    serial: u64,
    multiplexer: Multiplexer,
    set: Option<EpollSet>,
    ready: Vec<(u64, bool)>,
}

impl Listeners {
    pub(super) fn new() -> Self {
        Self {
            table: Slab::default(),
            serial: 0,
            multiplexer: Multiplexer::Auto,
            set: None,
            ready: Vec::new(),
        }
    }

    pub(super) fn insert(&mut self, fd: OwnedFd, service: ServiceKey, endpoint: Endpoint) -> ListenerKey {
        let path = identify_path(&endpoint);
        if endpoint.is_datagram() {
            note_moments(fd.as_fd());
        }
        let filter = attached(fd.as_fd()).unwrap_or_default().into();
        self.serial += 1;
        self.table.insert(Listener {
            fd,
            filter,
            serial: self.serial,
            service,
            endpoint,
            retired: false,
            lent: None,
            keepsake: None,
            rests: fresh_rests(),
            path,
            watched: false,
        })
    }

    pub(super) fn get(&self, key: ListenerKey) -> Option<&Listener> {
        self.table.get(key)
    }

    pub(super) fn get_mut(&mut self, key: ListenerKey) -> Option<&mut Listener> {
        self.table.get_mut(key)
    }

    /// Does it go away, and is this service its heir?
    pub(super) fn is_retired_of(&self, key: ListenerKey, service: ServiceKey) -> bool {
        self.get(key).is_some_and(|listener| listener.retired && listener.service == service)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (ListenerKey, &Listener)> {
        self.table.iter()
    }

    pub(super) fn keys(&self) -> Vec<ListenerKey> {
        self.table.keys()
    }

    /// Closes a listener; what waits in its queue is reset by the kernel.
    pub(super) fn close(&mut self, key: ListenerKey) {
        self.watch(key, false);
        if let Some(listener) = self.table.remove(key)
            && let Some(path) = listener.path
        {
            remove_path(&listener.endpoint, path);
        }
    }

    /// Begins or ends to wait for a listener's clients.
    pub(super) fn watch(&mut self, key: ListenerKey, watched: bool) {
        let Some(listener) = self.table.get_mut(key) else { return };
        if listener.watched == watched {
            return;
        }
        let changed = match &self.set {
            Some(set) if watched => set.add(listener.fd.as_fd(), key as u64),
            Some(set) => set.remove(listener.fd.as_fd()),
            None => Ok(()),
        };
        // ENOSPC or ENOMEM: the next turn tries again, since it is still not watched.
        listener.watched = if changed.is_ok() { watched } else { listener.watched };
    }

    /// Chooses between array and set, after the listeners or the setting have changed.
    pub(super) fn settle(&mut self, multiplexer: Multiplexer) -> io::Result<()> {
        self.multiplexer = multiplexer;
        let wants_set = match multiplexer {
            Multiplexer::Auto => self.table.len() >= MANY,
            Multiplexer::Poll => false,
            Multiplexer::Epoll => true,
        };
        if wants_set == self.set.is_some() {
            return Ok(());
        }
        let set = if wants_set { Some(EpollSet::new()?) } else { None };
        if let Some(set) = &set {
            for (key, listener) in self.table.iter().filter(|(_, l)| l.watched) {
                set.add(listener.fd.as_fd(), key as u64)?;
            }
        }
        self.set = set;
        Ok(())
    }

    /// Adds what is watched to a turn's poll set; the answer goes to [`Listeners::ready`].
    pub(super) fn push_interest(
        &self,
        poll: &mut PollSet,
        pushed: &mut Vec<(usize, ListenerKey)>,
    ) -> Option<usize> {
        if let Some(set) = &self.set {
            return Some(poll.push(set.as_fd(), true, false));
        }
        for (key, listener) in self.table.iter().filter(|(_, l)| l.watched) {
            pushed.push((poll.push(listener.fd.as_fd(), true, false), key));
        }
        None
    }

    /// The listeners of the set that are ready, with whether something is wrong with them.
    pub(super) fn ready(&mut self, into: &mut Vec<(ListenerKey, bool)>) -> io::Result<()> {
        if let Some(set) = &mut self.set {
            self.ready.clear();
            set.ready(&mut self.ready)?;
            into.extend(
                self.ready.iter().filter_map(|&(key, broken)| Some((usize::try_from(key).ok()?, broken))),
            );
        }
        Ok(())
    }

    /// The socket of a listener.
    pub(super) fn fd(&self, key: ListenerKey) -> Option<BorrowedFd<'_>> {
        self.get(key).map(|listener| listener.fd.as_fd())
    }
}
