//! superd's own worker: the handlers, which serve the built-in services as a user who may do nothing.
//!
//! There is one process of them while a service wants it. It is handed connections like any worker, in batches,
//! and the sockets of datagram services, which it reads by itself. One that dies is started again, and what it
//! held is accounted for.

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::config::settings::{self, Builtin, Level, Serves};
use crate::model::endpoint::Endpoint;
use crate::model::identity::Identity;
use crate::model::session::SessionId;
use crate::protocol::builtin::quotes;
use crate::protocol::handoff::{BATCH, Datagrams, Order, Rates, Stream};
use crate::service::backoff::Backoff;
use crate::sys::memory::sealed;

use super::Supervisor;
use super::handover;
use super::listeners::{Listener, ListenerKey};
use super::roles::RoleKind;
use super::sessions::SessionKey;
use super::timers::{Due, TimerId};
use super::workers::{Worker, WorkerKey, WorkerKind, WorkerPhase};

/// Handlers that lived for so long did not fail at their start.
const SETTLED: Duration = Duration::from_mins(1);

/// The handlers, and what is meant for them.
#[derive(Debug)]
pub(super) struct Handlers {
    /// Those that get connections.
    pub(super) current: Option<WorkerKey>,
    identity: Option<Identity>,
    /// Sessions that are to be handed over.
    pub(super) waiting: VecDeque<SessionKey>,
    /// Sockets that the current ones read, by the serial numbers of the listeners.
    sockets: HashMap<u64, Given>,
    /// Their channel was full.
    pub(super) blocked: bool,
    backoff: Backoff,
    start_again: Option<(TimerId, Instant)>,
    said_lost: bool,
}

/// A socket that they have.
#[derive(Debug)]
struct Given {
    listener: ListenerKey,
    service: Datagram,
}

/// What is done with datagrams.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Datagram {
    builtin: Builtin,
    /// Daytime's time zone.
    zone: Option<Rc<[u8]>>,
    rates: Rates,
}

impl Default for Handlers {
    fn default() -> Self {
        Self {
            current: None,
            identity: None,
            waiting: VecDeque::new(),
            sockets: HashMap::new(),
            blocked: false,
            backoff: fresh_backoff(),
            start_again: None,
            said_lost: false,
        }
    }
}

fn fresh_backoff() -> Backoff {
    Backoff::delayed(Duration::from_millis(100), Duration::from_secs(30))
}

impl Handlers {
    /// Are built-in services out of order, since there are no handlers?
    pub(super) fn is_lost(&self) -> bool {
        self.said_lost
    }

    /// The time of the next try.
    pub(super) fn next_try(&self) -> Option<Instant> {
        self.start_again.map(|(_, at)| at)
    }
}

/// Do the handlers serve it, or a part of it?
pub(super) fn is_handled(settings: &settings::Service) -> bool {
    match &settings.serves {
        Serves::Builtin(builtin) if settings.enabled => {
            !builtin.answers_at_once() || settings.endpoints.iter().any(Endpoint::is_datagram)
        }
        _ => false,
    }
}

impl Supervisor {
    /// Has handlers exactly if a service wants them, under the user of the configuration in force, and gives them
    /// the sockets that they are to read.
    pub(super) fn settle_handlers(&mut self) {
        let identity = self.daemon.as_ref().and_then(|daemon| daemon.helper.clone());
        let wanted =
            self.services.iter().any(|(_, service)| !service.is_gone && is_handled(&service.settings));
        if (!wanted || self.handlers.identity != identity)
            && let Some(old) = self.handlers.current.take()
        {
            self.handlers.sockets.clear();
            self.handlers.blocked = false;
            self.dismiss_handlers(old);
        }
        if !wanted {
            if let Some((timer, _)) = self.handlers.start_again.take() {
                self.timers.cancel(timer);
            }
            self.handlers.said_lost = false;
        } else if self.handlers.current.is_none() && self.handlers.start_again.is_none() {
            self.handlers.identity = identity;
            self.start_handlers();
        }
        self.settle_datagrams();
    }

    /// The wait after a failure is over.
    pub(super) fn start_handlers_again(&mut self) {
        self.handlers.start_again = None;
        self.settle_handlers();
    }

    fn start_handlers(&mut self) {
        let Ok(channel) = self.start_role(RoleKind::Handlers) else { return self.start_handlers_later() };
        let id = SessionId { epoch: self.epoch, serial: 0 };
        let worker = Worker::new(WorkerKind::Handlers, id, Some(channel), self.now);
        self.handlers.current = Some(self.workers.table.insert(worker));
    }

    fn start_handlers_later(&mut self) {
        let at = self.now + self.handlers.backoff.wait();
        self.handlers.start_again = Some((self.timers.set(at, Due::StartHandlers), at));
        if !std::mem::replace(&mut self.handlers.said_lost, true) {
            self.log_state(None, "degraded", Some("handlers"), Level::Warning);
        }
    }

    /// They serve from now on.
    pub(super) fn handlers_are_ready(&mut self) {
        if std::mem::take(&mut self.handlers.said_lost) {
            self.log_state(None, "online", Some("handlers"), Level::Notice);
        }
        self.settle_datagrams();
        self.hand_to_handlers();
        self.all_touched = true;
    }

    /// Connections that wait for them are not more than what one turn has accepted.
    pub(super) fn handlers_may_take(&self) -> bool {
        self.handlers.current.is_some_and(|key| self.is_worker_ready(key)) && !self.handlers.blocked
    }

    /// Hands over what waits, in batches.
    pub(super) fn hand_to_handlers(&mut self) {
        let Some(key) = self.handlers.current.filter(|&key| self.is_worker_ready(key)) else { return };
        while !self.handlers.blocked && !self.handlers.waiting.is_empty() {
            let count = self.handlers.waiting.len().min(BATCH);
            let batch: Vec<SessionKey> = self.handlers.waiting.drain(..count).collect();
            if !self.send_batch_to_handlers(key, &batch) {
                for session in batch.into_iter().rev() {
                    self.handlers.waiting.push_front(session);
                }
                return;
            }
        }
    }

    /// `false`: they take nothing now.
    fn send_batch_to_handlers(&mut self, key: WorkerKey, batch: &[SessionKey]) -> bool {
        let mut packet = String::new();
        let mut fds: Vec<BorrowedFd<'_>> = Vec::with_capacity(batch.len());
        for session in batch.iter().filter_map(|&session| self.sessions.table.get(session)) {
            if let (Serves::Builtin(builtin), Some(connection)) =
                (&session.settings.serves, &session.connection)
            {
                stream_order(session.id.serial, builtin, &session.settings.timeouts).push(&mut packet);
                fds.push(connection.as_fd());
            }
        }
        let channel = self.workers.get(key).and_then(|worker| worker.channel.as_ref());
        let sent = channel.map_or(Ok(()), |channel| channel.send(packet.as_bytes(), &fds));
        if let Err(error) = sent {
            match error.raw_os_error() {
                Some(libc::EAGAIN) => self.handlers.blocked = true,
                // They are gone: their end is read from their channel.
                Some(libc::EPIPE | libc::ECONNRESET) => {}
                errno => self.resources_are_out(errno.unwrap_or(libc::ENOBUFS)),
            }
            return false;
        }
        for &session in batch {
            self.session_is_handed(session, key);
        }
        true
    }

    /// There is room in their channel again.
    pub(super) fn handlers_are_writable(&mut self) {
        if std::mem::take(&mut self.handlers.blocked) {
            self.settle_datagrams();
            self.hand_to_handlers();
            self.all_touched = true;
        }
    }

    /// Gives the handlers the sockets of datagram services that they do not have, and takes back what they should
    /// not have.
    pub(super) fn settle_datagrams(&mut self) {
        let Some(key) = self.handlers.current.filter(|&key| self.is_worker_ready(key)) else { return };
        let wanted: HashMap<u64, Given> = self.datagram_listeners();
        let is_other = |(serial, given): &(&u64, &Given)| {
            wanted.get(serial).is_none_or(|wanted| wanted.service != given.service)
        };
        let dropped: Vec<u64> =
            self.handlers.sockets.iter().filter(is_other).map(|(serial, _)| *serial).collect();
        for serial in dropped {
            if !self.order_handlers(key, &Order::Forget(serial), &[]) {
                return;
            }
            self.handlers.sockets.remove(&serial);
        }
        for (serial, given) in wanted {
            if self.handlers.sockets.contains_key(&serial) {
                continue;
            }
            let Some((order, fds)) = self.datagrams_order(serial, &given) else { continue };
            let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
            if !self.order_handlers(key, &order, &fds) {
                return;
            }
            self.handlers.sockets.insert(serial, given);
        }
    }

    /// The sockets that handlers are to read, by the serial numbers of their listeners.
    fn datagram_listeners(&self) -> HashMap<u64, Given> {
        if self.is_ending() {
            return HashMap::new();
        }
        let datagrams = self.listeners.iter().filter(|(_, listener)| listener.endpoint.is_datagram());
        let given = |(key, listener): (ListenerKey, &Listener)| {
            let service = self.services.get(listener.service).filter(|service| !service.is_gone)?;
            let Serves::Builtin(builtin) = &service.settings.serves else { return None };
            let zone = matches!(builtin, Builtin::Daytime).then(|| Rc::clone(&self.admittance.zone_bytes));
            let limits = &service.settings.limits;
            let rates =
                Rates { rate: limits.rate, per_source: limits.rate_per_source, prefix: limits.source_prefix };
            let service = Datagram { builtin: builtin.clone(), zone, rates };
            Some((listener.serial, Given { listener: key, service }))
        };
        datagrams.filter_map(given).collect()
    }

    fn datagrams_order(&self, serial: u64, given: &Given) -> Option<(Order, Vec<OwnedFd>)> {
        let mut fds = vec![self.listeners.get(given.listener)?.fd.try_clone().ok()?];
        let Datagram { builtin, zone, rates } = &given.service;
        if let Builtin::Qotd(quotes) = builtin {
            fds.push(sealed("superd-quotes", &quotes::encode(quotes)).ok()?);
        }
        if let Some(zone) = zone {
            fds.push(sealed("superd-zone", zone).ok()?);
        }
        let order =
            Order::Listener(Datagrams { id: serial, builtin: builtin.word().to_owned(), rates: *rates });
        Some((order, fds))
    }

    /// `false`: they take nothing now.
    fn order_handlers(&mut self, key: WorkerKey, order: &Order, fds: &[BorrowedFd<'_>]) -> bool {
        let channel = self.workers.get(key).and_then(|worker| worker.channel.as_ref());
        let sent = channel.map(|channel| channel.send(handover::line(order).as_bytes(), fds));
        if let Some(Err(error)) = &sent
            && error.raw_os_error() == Some(libc::EAGAIN)
        {
            self.handlers.blocked = true;
        }
        matches!(sent, Some(Ok(())))
    }

    /// What became of datagrams. `false`: it is about a socket that these handlers do not have.
    pub(super) fn count_datagrams(
        &mut self,
        worker: WorkerKey,
        id: u64,
        bytes: (u64, u64),
        answered: u64,
        refused: u64,
    ) -> bool {
        if self.workers.get(worker).is_none_or(|worker| !matches!(worker.kind, WorkerKind::Handlers)) {
            return false;
        }
        // A count of a socket that was taken back meanwhile is a late word, not a wrong one.
        let listener = self.handlers.sockets.get(&id).and_then(|given| self.listeners.get(given.listener));
        let service = listener.filter(|listener| listener.serial == id).map(|listener| listener.service);
        if let Some(service) = service.and_then(|key| self.services.get_mut(key)) {
            let counts = &mut service.datagrams;
            counts.received += bytes.0;
            counts.sent += bytes.1;
            counts.answered += answered;
            counts.refused += refused;
        }
        true
    }

    /// A part of their confinement is not there. `false`: it is no word of a worker's.
    pub(super) fn handlers_lack(&mut self, worker: WorkerKey, what: &str) -> bool {
        let is_handlers = |worker: &Worker| matches!(worker.kind, WorkerKind::Handlers);
        if !self.workers.get(worker).is_some_and(is_handlers) {
            return false;
        }
        self.note(Level::Notice, &format!("the process of built-in services runs without {what}"));
        true
    }

    /// Handlers that are not the current ones go when they have nothing left.
    pub(super) fn handlers_are_idle(&mut self, key: WorkerKey) {
        if self.handlers.current != Some(key) {
            self.workers.table.remove(key);
        }
    }

    fn dismiss_handlers(&mut self, key: WorkerKey) {
        let Some(worker) = self.workers.get_mut(key) else { return };
        worker.phase = WorkerPhase::Retiring;
        if worker.held.is_empty() {
            self.workers.table.remove(key);
        } else if let Some(channel) = &worker.channel {
            // They let go of their sockets; one that does not read ends with its sessions.
            let _ = handover::send(channel, &Order::Drain);
        }
    }

    /// They hang.
    pub(super) fn kill_handlers(&mut self, key: WorkerKey) {
        if self.handlers.current == Some(key) {
            self.kill_role(RoleKind::Handlers);
        }
    }

    /// Their channel is closed. What they had not taken waits for the next ones.
    pub(super) fn handlers_are_lost(&mut self, key: WorkerKey, untaken: Vec<SessionKey>) {
        let Some(lost) = self.workers.table.remove(key) else { return };
        for session in untaken.into_iter().rev() {
            self.handlers.waiting.push_front(session);
        }
        if self.handlers.current != Some(key) {
            return;
        }
        self.handlers.current = None;
        self.handlers.blocked = false;
        self.handlers.sockets.clear();
        if self.now >= lost.started + SETTLED {
            self.handlers.backoff = fresh_backoff();
        }
        self.all_touched = true;
        if !self.is_ending() {
            self.start_handlers_later();
        }
    }
}

fn stream_order(id: u64, builtin: &Builtin, timeouts: &settings::Timeouts) -> Order {
    Order::Builtin(Stream {
        id,
        builtin: builtin.word().to_owned(),
        handshake: Some(timeouts.handshake),
        idle: timeouts.idle,
        session: timeouts.session,
    })
}
