//! Servers that wait: each is given its listener, and has it alone until it ends.
//!
//! The listener is one open file for superd and the server, so that what the server does to it (flags, options,
//! a shutdown) is done to superd's, too: it is set right when it comes back. A server that ends and leaves what
//! it was started for is started again after a rest, each time a longer one.

use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::config::settings::Level;
use crate::model::filter::Instruction;
use crate::service::admission::ServiceKey;
use crate::service::backoff::Backoff;
use crate::sys::fd::set_nonblocking;
use crate::sys::kind::SocketKind;
use crate::sys::waiting::{Waiting, waiting};

use super::Supervisor;
use super::lent::{Lent, Restored};
use super::listeners::{Listener, ListenerKey, Loan};
use super::sessions::SessionKey;
use super::timers::Due;

/// A server that lived so long has worked, whatever it has left.
const SHORT: Duration = Duration::from_secs(1);

/// What is kept of a listener while a server has it.
#[derive(Debug)]
pub(super) struct Keepsake {
    lent: Lent,
    kind: SocketKind,
    waiting: Waiting,
}

impl Supervisor {
    /// Starts a server for what has come to a listener.
    pub(super) fn lend(&mut self, key: ListenerKey) {
        let Some(listener) = self.listeners.get(key).filter(|listener| listener.lent.is_none()) else {
            return;
        };
        let service = listener.service;
        let Some(settings) = self.services.get(service).map(|service| Rc::clone(&service.settings)) else {
            return;
        };
        let Ok(copy) = listener.fd.try_clone() else { return self.resources_are_out(libc::EMFILE) };
        let Ok(keepsake) = Keepsake::of(listener) else { return self.reopen_broken(key, libc::ENOTSOCK) };
        self.admission.admit_server(service, &settings.limits, self.now);
        let mut session = self.new_session(service, settings, copy);
        session.lent = Some(key);
        let session = self.enqueue_session(session);
        // A session that could not be begun has given the listener back already.
        if self.sessions.table.get(session).is_some_and(|session| session.lent == Some(key))
            && let Some(listener) = self.listeners.get_mut(key)
        {
            listener.lent = Some(Loan::Server(session));
            listener.keepsake = Some(keepsake);
        }
        self.listeners.watch(key, false);
    }

    /// The server of this session has ended.
    pub(super) fn return_listener(&mut self, session: SessionKey, key: ListenerKey, since: Instant) {
        let Some(listener) = self.listeners.get_mut(key) else { return };
        // The listener was closed meanwhile, and its place is another's.
        if listener.lent != Some(Loan::Server(session)) {
            return;
        }
        listener.lent = None;
        let Some(keepsake) = listener.keepsake.take() else { return };
        let service = listener.service;
        if let Restored::Gone(_) = self.restore(key, &keepsake) {
            return self.reopen_broken(key, libc::EINVAL);
        }
        let waits = self.services.get(service).is_some_and(|running| running.settings.waits());
        if let Some(fd) = self.listeners.fd(key).filter(|_| !waits) {
            // A reload has made it one that superd accepts from: a call that blocks would hold up everybody.
            let _ = set_nonblocking(fd, true);
        }
        let unserved = self.listeners.get(key).is_some_and(|listener| keepsake.is_untouched(listener));
        if waits && unserved && self.now < since + SHORT {
            self.rest(key, service);
        } else if let Some(listener) = self.listeners.get_mut(key) {
            listener.rests = fresh_rests();
            self.say_served(service);
        }
        self.touched.push(service);
    }

    pub(super) fn restore(&mut self, key: ListenerKey, keepsake: &Keepsake) -> Restored {
        let Some(listener) = self.listeners.get(key) else { return Restored::Same };
        let Some(service) = self.services.get(listener.service) else { return Restored::Same };
        let restored =
            keepsake.lent.restore(listener.fd.as_fd(), &listener.endpoint, &service.settings.socket);
        if let Restored::Changed(what) = &restored {
            let text = format!(
                "the server of {} left its listener {} changed; set right: {}",
                service.name(),
                listener.endpoint,
                what.join(", ")
            );
            self.note(Level::Debug, &text);
        }
        restored
    }

    /// What woke the server is still there: it would be started at once, and again, for ever.
    fn rest(&mut self, key: ListenerKey, service: ServiceKey) {
        let now = self.now;
        let Some(listener) = self.listeners.get_mut(key) else { return };
        let until = now + listener.rests.wait();
        listener.lent = Some(Loan::Rest(until));
        self.timers.set(until, Due::LendAgain(key));
        let Some(running) = self.services.get_mut(service) else { return };
        if !std::mem::replace(&mut running.said_resting, true) {
            self.log_state(Some(service), "paused", Some("backoff"), Level::Warning);
        }
    }

    /// The rest is over.
    pub(super) fn lend_again(&mut self, key: ListenerKey) {
        let Some(listener) = self.listeners.get_mut(key) else { return };
        if !matches!(listener.lent, Some(Loan::Rest(until)) if until <= self.now) {
            return;
        }
        listener.lent = None;
        let service = listener.service;
        self.watch_service(service);
    }

    /// A server has served: the service is not said to rest any more.
    pub(super) fn say_served(&mut self, key: ServiceKey) {
        let Some(service) = self.services.get_mut(key) else { return };
        if std::mem::replace(&mut service.said_resting, false) {
            self.log_state(Some(key), "resumed", None, Level::Notice);
        }
    }
}

/// The rests of a listener whose servers have served so far.
pub(super) fn fresh_rests() -> Backoff {
    Backoff::delayed(Duration::from_millis(100), Duration::from_secs(30))
}

impl Keepsake {
    pub(super) fn of(listener: &Listener) -> io::Result<Self> {
        let fd = listener.fd.as_fd();
        let kind = SocketKind::of(fd)?;
        Ok(Self { lent: Lent::remember(fd)?, kind, waiting: waiting(fd, kind) })
    }

    /// The filter that it is to have when it comes back.
    pub(super) fn expect_filter(&mut self, filter: &[Instruction]) {
        self.lent.expect_filter(filter);
    }

    /// superd accepts from the listener by now.
    pub(super) fn stay_nonblocking(&mut self) {
        self.lent.stay_nonblocking();
    }

    /// Is what woke the server still there, as it was?
    fn is_untouched(&self, listener: &Listener) -> bool {
        match (self.waiting, waiting(listener.fd.as_fd(), self.kind)) {
            (Waiting::Datagram(before), Waiting::Datagram(now)) => before == now,
            (Waiting::Clients(before), Waiting::Clients(now)) => before <= now,
            _ => false,
        }
    }
}
