//! Handing connections to workers, and what workers say of them (superd-pool(7)).
//!
//! superd keeps its copy of a connection until the worker says TAKE: what a worker that dies has not taken is
//! handed to another one. What it has taken ends with it.

use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;

use nix::sys::signal::Signal;

use crate::config::settings::Serves;
use crate::protocol::handoff::{Connection, Lapse, MAX_PACKET, Order, Report};
use crate::service::admission::ServiceKey;
use crate::service::reason::Reason;
use crate::service::record::Event;
use crate::sys::channel::Received;
use crate::sys::process;

use super::Supervisor;
use super::muxing::is_mux;
use super::sessions::{Phase, Session, SessionKey};
use super::timers::Due;
use super::workers::{WorkerKey, WorkerKind, WorkerPhase};

/// Packets of one worker that a turn takes.
const PACKETS: usize = 64;

/// What one that has ended may have left in its channel, which holds fewer.
const LAST_PACKETS: usize = 1024;

impl Supervisor {
    /// Takes an admitted session of a worker's into the table, and hands it over.
    pub(super) fn hand_over(&mut self, session: Session) {
        let builtin = matches!(session.settings.serves, Serves::Builtin(_));
        let key = self.sessions.table.insert(session);
        if builtin {
            self.handlers.waiting.push_back(key);
        } else {
            self.give(key);
        }
    }

    /// Hands a session of a pool to a worker; if none has room, it waits for one.
    pub(super) fn give(&mut self, key: SessionKey) {
        let ending = self.is_ending();
        let Some(session) = self.sessions.table.get(key) else { return };
        let (service, is_ended) = (session.service, session.cause.is_some());
        match self.services.get_mut(service).and_then(|service| service.pool.as_mut()) {
            Some(pool) if !ending && !is_ended => {
                pool.waiting.push_back(key);
                self.give_waiting(service);
                // It may have come without a listener that looks for room first, and wait.
                self.settle_pool(service, false);
            }
            // No worker gets it any more.
            _ => self.abandon_session(key, Reason::Shutdown),
        }
    }

    /// Hands over what waits, as far as there is room.
    pub(super) fn give_waiting(&mut self, service: ServiceKey) {
        while let Some(worker) = self.worker_with_room(service) {
            let pool = self.services.get_mut(service).and_then(|service| service.pool.as_mut());
            let Some(key) = pool.and_then(|pool| pool.waiting.pop_front()) else { return };
            if !self.send_connection(worker, key) {
                if let Some(pool) = self.services.get_mut(service).and_then(|service| service.pool.as_mut()) {
                    pool.waiting.push_front(key);
                }
                return;
            }
        }
    }

    /// The worker that gets the next connection: one that is idle, the one that was busy last, so that others
    /// come to their idle timeout; else that with the fewest connections.
    pub(super) fn worker_with_room(&self, service: ServiceKey) -> Option<WorkerKey> {
        let pool = self.services.get(service)?.pool.as_ref()?;
        let with_room =
            self.workers.of_generation(service, pool.current.number).filter(|(_, w)| w.room() > 0);
        with_room
            .min_by_key(|(_, worker)| (worker.held.len(), std::cmp::Reverse(worker.since)))
            .map(|(key, _)| key)
    }

    /// `false`: the worker does not take it now, and nothing has changed.
    fn send_connection(&mut self, worker: WorkerKey, key: SessionKey) -> bool {
        let Some(session) = self.sessions.table.get(key) else { return true };
        let Some(connection) = &session.connection else { return true };
        let order = Order::Connection(Connection {
            id: session.id.serial,
            service: session.settings.name.to_string(),
            session: session.id,
            client: session.client,
            local: session.local,
        });
        let sent = match self.workers.get(worker).and_then(|worker| worker.channel.as_ref()) {
            Some(channel) => channel.send(line(&order).as_bytes(), &[connection.as_fd()]),
            None => return false,
        };
        match sent.map_err(|error| error.raw_os_error()) {
            Ok(()) => self.session_is_handed(key, worker),
            // It is gone: its end is read from its channel.
            Err(Some(libc::EPIPE | libc::ECONNRESET | libc::EAGAIN)) => return false,
            Err(errno) => {
                self.resources_are_out(errno.unwrap_or(libc::ENOBUFS));
                return false;
            }
        }
        true
    }

    /// The worker was sent the connection, which it has to take within a time.
    pub(super) fn session_is_handed(&mut self, key: SessionKey, worker: WorkerKey) {
        let now = self.now;
        let Some(session) = self.sessions.table.get_mut(key) else { return };
        session.phase = Phase::Handed;
        session.worker = Some(worker);
        if let Some(timer) = session.timer.take() {
            self.timers.cancel(timer);
        }
        let late = now + session.settings.timeouts.handshake;
        session.timer = Some(self.timers.set(late, Due::TakeLate(key)));
        let serial = session.id.serial;
        if let Some(worker) = self.workers.get_mut(worker) {
            worker.held.insert(serial, key);
            worker.given = worker.given.saturating_add(1);
            if let Some(timer) = worker.timer.take() {
                self.timers.cancel(timer);
            }
            if let WorkerKind::Pool { service, .. } = worker.kind
                && worker.held.len() == 1
            {
                // One less is idle.
                self.settle_pool(service, false);
            }
        }
    }

    /// A worker has something to say, or is gone.
    pub(super) fn on_worker(&mut self, key: WorkerKey) {
        self.hear_worker(key, PACKETS);
    }

    /// It has ended: what it said last is still to be read.
    pub(super) fn hear_last_words(&mut self, key: WorkerKey) {
        self.hear_worker(key, LAST_PACKETS);
    }

    fn hear_worker(&mut self, key: WorkerKey, packets: usize) {
        let mut packet = [0; MAX_PACKET];
        for _ in 0..packets {
            let Some(channel) = self.workers.get(key).and_then(|worker| worker.channel.as_ref()) else {
                return;
            };
            let bytes = match channel.receive(&mut packet) {
                Ok(Received::Packet { len, .. }) => packet.get(..len).unwrap_or_default(),
                Ok(Received::Empty) => return,
                Ok(Received::Closed) | Err(_) => return self.lose_worker(key),
            };
            for report in Report::read_all(bytes) {
                if !report.is_ok_and(|report| self.on_word(key, report)) {
                    return self.expel_worker(key);
                }
            }
        }
    }

    /// `false`: it makes no sense.
    fn on_word(&mut self, worker: WorkerKey, report: Report) -> bool {
        let held = |id: u64| self.workers.get(worker).and_then(|worker| worker.held.get(&id)).copied();
        match report {
            Report::Ready => {
                self.worker_is_ready(worker);
                true
            }
            Report::Take(id) => held(id).is_some_and(|session| self.session_is_taken(session, worker)),
            Report::Done { id, bytes, why } => {
                let Some(session) = held(id) else { return false };
                self.session_is_done(session, worker, id, bytes, why)
            }
            Report::Launch { id, name, received } => {
                held(id).is_some_and(|session| self.on_name(session, worker, id, name.as_ref(), received))
            }
            Report::Lacks(what) => self.handlers_lack(worker, what.word()),
            Report::Counts { id, bytes, answered, refused } => {
                self.count_datagrams(worker, id, bytes, answered, refused)
            }
        }
    }

    /// The worker has the connection: superd's copy closes, so that the client sees the worker's close.
    fn session_is_taken(&mut self, key: SessionKey, worker: WorkerKey) -> bool {
        let is_handlers = matches!(self.workers.get(worker).map(|w| &w.kind), Some(WorkerKind::Handlers));
        let Some(session) = self.sessions.table.get_mut(key) else { return false };
        if session.phase != Phase::Handed {
            return false;
        }
        session.phase = Phase::Running;
        session.since = self.now;
        if !is_mux(&session.settings) {
            session.connection = None;
        }
        session.pid = self.workers.get(worker).map_or(0, |worker| worker.pid);
        if session.cause.is_none() {
            if let Some(timer) = session.timer.take() {
                self.timers.cancel(timer);
            }
            // The handlers hold their sessions to it by themselves.
            if let Some(life) = session.settings.timeouts.session.filter(|_| !is_handlers) {
                session.timer = Some(self.timers.set(self.now + life, Due::SessionTimeout(key)));
            }
        }
        let service = session.service;
        if let Some(service) = self.services.get_mut(service) {
            service.started += 1;
        }
        if let Some(worker) = self.workers.get_mut(worker) {
            worker.taken = worker.taken.saturating_add(1);
        }
        self.log_start(key);
        // There is room in its channel again.
        self.give_waiting(service);
        true
    }

    fn session_is_done(
        &mut self,
        key: SessionKey,
        worker: WorkerKey,
        id: u64,
        bytes: Option<(u64, u64)>,
        why: Option<Lapse>,
    ) -> bool {
        // A worker of somebody else's has no such word.
        let is_handlers = matches!(self.workers.get(worker).map(|w| &w.kind), Some(WorkerKind::Handlers));
        if self.sessions.table.get(key).is_none_or(|session| session.phase != Phase::Running) {
            return false;
        }
        self.end_handed(key, bytes, why.filter(|_| is_handlers));
        self.worker_lets_go(worker, id);
        true
    }

    /// The last word about a session that was a worker's.
    pub(super) fn end_handed(&mut self, key: SessionKey, bytes: Option<(u64, u64)>, why: Option<Lapse>) {
        let Some(session) = self.sessions.table.get(key) else { return };
        if session.settings.log.success {
            let event = Event::End {
                session: session.id,
                client: session.client,
                pid: session.shown_pid(),
                status: None,
                duration: self.now.saturating_duration_since(session.since),
                cpu: None,
                bytes,
                cause: session.cause.or(why.map(Lapse::word)),
            };
            let settings = Rc::clone(&session.settings);
            self.log_session(&settings, event);
        }
        self.remove_session(key);
    }

    pub(super) fn worker_lets_go(&mut self, key: WorkerKey, id: u64) {
        let now = self.now;
        let Some(worker) = self.workers.get_mut(key) else { return };
        worker.held.remove(&id);
        if !worker.held.is_empty() {
            if let WorkerKind::Pool { service, .. } = worker.kind {
                self.give_waiting(service);
            }
            return;
        }
        worker.since = now;
        self.worker_is_idle(key);
    }

    /// Asks a worker to end one of its sessions; a worker that has only this one is asked to end.
    pub(super) fn end_worker_session(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.table.get(key) else { return };
        let Some(worker) = session.worker.and_then(|worker| self.workers.get(worker)) else { return };
        if let Some(channel) = &worker.channel {
            // A channel that is full or closed is a worker that is killed in the end.
            let _ = channel.send(line(&Order::End(session.id.serial)).as_bytes(), &[]);
        }
        if worker.pool().is_some_and(|pool| pool.concurrency == 1) && worker.pid != 0 {
            process::signal_child(worker.pid, Signal::SIGTERM);
        }
    }

    /// The last resort against a session that its worker does not end.
    pub(super) fn kill_worker_session(&mut self, key: SessionKey) {
        if let Some(worker) = self.sessions.table.get(key).and_then(|session| session.worker) {
            self.kill_worker(worker);
        }
    }

    /// KILL, if there is a process.
    pub(super) fn kill_worker(&mut self, key: WorkerKey) {
        match self.workers.get(key).map(|worker| (&worker.kind, worker.pid)) {
            Some((WorkerKind::Handlers, _)) => self.kill_handlers(key),
            Some((_, pid)) if pid != 0 => process::signal_child(pid, Signal::SIGKILL),
            _ => {}
        }
    }

    /// How a worker is spoken of.
    pub(super) fn worker_name(&self, key: WorkerKey) -> String {
        match self.workers.get(key) {
            Some(worker) => match &worker.kind {
                WorkerKind::Handlers => "the process of built-in services".to_owned(),
                WorkerKind::Pool { settings, .. } => {
                    format!("the worker {} of {}", worker.pid, settings.name)
                }
            },
            None => "a worker".to_owned(),
        }
    }

    /// Is it ready, or was it?
    pub(super) fn is_worker_ready(&self, key: WorkerKey) -> bool {
        self.workers.get(key).is_some_and(|worker| worker.phase == WorkerPhase::Ready)
    }
}

/// One order as a packet.
pub(super) fn line(order: &Order) -> String {
    let mut line = String::new();
    order.push(&mut line);
    line
}

/// Sends one order without descriptors.
pub(super) fn send(channel: &crate::sys::channel::Channel, order: &Order) -> io::Result<()> {
    channel.send(line(order).as_bytes(), &[])
}
