//! Accepting: from a ready listener to a session in the launcher's queue, or a refusal with its reason.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use crate::config::settings::{self, OnLimit, Serves, Stderr};
use crate::model::address::Source;
use crate::model::client::Client;
use crate::model::session::SessionId;
use crate::protocol::launch::SLOTS;
use crate::service::admission::{Full, ServiceKey};
use crate::service::reason::Reason;
use crate::sys::socket::{self, Accepted};

use super::Supervisor;
use super::judging::{Admitted, Facts, Severity};
use super::launches::{Job, PER_SERVICE};
use super::listeners::ListenerKey;
use super::muxing;
use super::options;
use super::services::PlanId;
use super::sessions::{Phase, Session, SessionKey};

/// Connections that one listener may take of a turn, so that a busy port does not starve the rest.
const BATCH: usize = 16;

/// How a connection has come to its service.
#[derive(Debug, Clone, Copy)]
pub(super) enum Entry {
    /// Out of its listener.
    Listener(ListenerKey),
    /// Through tcpmux, which was asked at this address.
    Mux(Option<SocketAddr>),
}

impl Supervisor {
    /// Takes a bounded batch of connections from a listener, and hands them to the launcher.
    pub(super) fn accept_batch(&mut self, key: ListenerKey) {
        if let Some(service) = self.listeners.get(key).map(|l| l.service) {
            self.look_at_load(service);
        }
        for place in 0..BATCH {
            if !self.accept_one(key, place == 0) {
                break;
            }
        }
        self.send_launches();
        self.hand_to_handlers();
        if let Some(service) = self.listeners.get(key).map(|l| l.service) {
            self.watch_service(service);
        }
    }

    /// Takes whoever waits at a listener that goes away, as far as its service has room.
    pub(super) fn accept_until_empty(&mut self, key: ListenerKey) {
        let service = self.listeners.get(key).and_then(|listener| self.services.get(listener.service));
        if service.is_none_or(|service| !service.settings.is_accepted()) || self.is_for_handlers(key) {
            return;
        }
        while self.accept_one(key, false) {}
        self.send_launches();
        self.hand_to_handlers();
    }

    /// `false`: the batch is over. `waits`: a client is there, poll has said it.
    fn accept_one(&mut self, key: ListenerKey, waits: bool) -> bool {
        let Some(service) = self.listeners.get(key).map(|listener| listener.service) else { return false };
        if !self.may_accept(service) {
            return false;
        }
        if self.services.get(service).is_some_and(|service| service.settings.waits()) {
            self.lend(key);
            return false;
        }
        if self.services.get(service).is_some_and(|service| service.pool.is_some())
            && !self.pool_has_room(service)
        {
            if waits {
                self.settle_pool(service, true);
            }
            return false;
        }
        let Some(listener) = self.listeners.get(key) else { return false };
        match socket::accept(listener.fd.as_fd()) {
            Accepted::Connection(connection, client) => {
                self.resources_are_back();
                self.take_in(service, connection, client, Entry::Listener(key));
                true
            }
            Accepted::Aborted => true,
            Accepted::Empty => false,
            Accepted::Exhausted(errno) => {
                self.resources_are_out(errno);
                false
            }
            Accepted::Broken(errno) => {
                self.reopen_broken(key, errno);
                false
            }
        }
    }

    /// May another connection of this service be taken now?
    pub(super) fn may_accept(&self, key: ServiceKey) -> bool {
        let Some(service) = self.services.get(key) else { return false };
        self.gate_is_open()
            && self.queued_by(key).is_none()
            && match &service.settings.serves {
                Serves::Exec(_) | Serves::Wait(_) => service.in_flight < PER_SERVICE,
                Serves::Builtin(builtin) => builtin.answers_at_once() || self.handlers_may_take(),
                Serves::Pool(_) => self.pool_may_accept(key),
            }
    }

    /// What holds for all services: a launcher, room for launches, resources.
    pub(super) fn gate_is_open(&self) -> bool {
        self.launches.is_up()
            && self.launches.count() < SLOTS
            && self.exhaustion.is_none()
            && !self.is_ending()
    }

    /// The limit of the whole service that is reached, and lets its clients wait. With `on_limit = "close"` a
    /// full service goes on accepting, in order to refuse.
    pub(super) fn queued_by(&self, key: ServiceKey) -> Option<Full> {
        let settings = &self.services.get(key)?.settings;
        let limits = &settings.limits;
        if settings.waits() {
            // One server a listener: that is the loan's to hold.
            return self.admission.full_for_server(key, limits, self.moment());
        }
        self.admission.full(key, limits, self.moment()).filter(|_| limits.on_limit == OnLimit::Queue)
    }

    /// Polls the listeners of a service, or not, and says so when that changes.
    pub(super) fn watch_service(&mut self, key: ServiceKey) {
        let may_accept = self.may_accept(key);
        let Some(service) = self.services.get(key) else { return };
        for listener in service.listeners.clone() {
            let is_lent = self.listeners.get(listener).is_none_or(|l| l.lent.is_some());
            self.listeners.watch(listener, may_accept && !is_lent && !self.is_for_handlers(listener));
        }
        self.wait_for_room(key);
        self.say_paused_or_resumed(key);
    }

    /// The same for every service, after something that concerns them all.
    pub(super) fn watch_all(&mut self) {
        for key in self.services.keys() {
            self.watch_service(key);
        }
    }

    /// A connection, from the moment at which its service is known.
    pub(super) fn take_in(&mut self, key: ServiceKey, connection: OwnedFd, client: Client, entry: Entry) {
        let through_mux = matches!(entry, Entry::Mux(_));
        let Some(service) = self.services.get(key) else { return };
        let settings = Rc::clone(&service.settings);
        let source = Source::of(&client, settings.limits.source_prefix);
        if self.is_banned(&settings.name, &client) {
            return self.refuse(key, connection, client, source, Reason::Ban, through_mux);
        }
        if let Err(reason) = self.admission.admit(key, &settings.limits, source, self.moment()) {
            return self.refuse(key, connection, client, source, reason, through_mux);
        }
        let local = match entry {
            Entry::Listener(listener) => {
                // The kernel refused it on the listener, else.
                let _ = options::apply_to_connection(connection.as_fd(), &settings.socket);
                self.local_address(listener, &connection)
            }
            Entry::Mux(local) => local,
        };
        let facts = Facts::default();
        let (overrides, hours) = (None, None);
        self.judge(Admitted {
            service: key,
            settings,
            connection,
            client,
            local,
            source,
            facts,
            through_mux,
            overrides,
            hours,
            welcome: Vec::new(),
            severity: Severity::default(),
            observed: false,
        });
    }

    /// A connection that may be served.
    pub(super) fn serve(&mut self, admitted: Admitted) {
        let Admitted { service: key, settings, connection, client, local, source, facts, .. } = admitted;
        let (overrides, hours) = (admitted.overrides, admitted.hours);
        if admitted.through_mux {
            socket::send_now(connection.as_fd(), muxing::GO);
        }
        if !admitted.welcome.is_empty() {
            socket::send_now(connection.as_fd(), &admitted.welcome);
        }
        if let Some(banner) = &settings.banners.accept {
            socket::send_now(connection.as_fd(), banner);
        }
        if let Serves::Builtin(builtin) = &settings.serves
            && builtin.answers_at_once()
        {
            self.answer_at_once(key, &settings, builtin, (connection, client, local));
            return self.give_back(key, Some(source));
        }
        let mut session = self.new_session(key, settings, connection);
        session.client = Some(client);
        session.local = local;
        session.source = Some(source);
        session.names = facts.names();
        session.overrides = overrides;
        if hours.is_some() {
            session.hours = hours;
            self.watch_hours();
        }
        if session.is_launched() {
            self.enqueue_session(session);
        } else {
            self.hand_over(session);
        }
    }

    /// Takes an admitted session into the table, and asks for its launch.
    pub(super) fn enqueue_session(&mut self, session: Session) -> SessionKey {
        let service = session.service;
        let key = self.sessions.table.insert(session);
        if let Some(service) = self.services.get_mut(service) {
            service.in_flight += 1;
        }
        if self.make_stderr(key) {
            self.launches.enqueue(Job::Session(key));
        } else {
            self.abandon_session(key, Reason::Launch);
        }
        key
    }

    pub(super) fn new_session(
        &mut self,
        service: ServiceKey,
        settings: Rc<settings::Service>,
        connection: OwnedFd,
    ) -> Session {
        self.serial += 1;
        let plan = self.services.get(service).map_or(PlanId { generation: 0, index: 0 }, |s| s.plan);
        Session {
            id: SessionId { epoch: self.epoch, serial: self.serial },
            service,
            settings,
            plan,
            client: None,
            local: None,
            source: None,
            names: [None, None],
            overrides: None,
            hours: None,
            worker: None,
            lost_workers: 0,
            lent: None,
            connection: Some(connection),
            stderr: None,
            phase: Phase::Queued,
            since: self.now,
            pid: 0,
            ended: None,
            timer: None,
            cause: None,
        }
    }

    /// Do the handlers read this listener's datagrams by themselves?
    fn is_for_handlers(&self, key: ListenerKey) -> bool {
        let Some(listener) = self.listeners.get(key).filter(|l| l.endpoint.is_datagram()) else {
            return false;
        };
        let service = self.services.get(listener.service);
        service.is_some_and(|service| matches!(service.settings.serves, Serves::Builtin(_)))
    }

    /// The address that was asked: the endpoint's own, unless that is a wildcard.
    fn local_address(&self, listener: ListenerKey, connection: &OwnedFd) -> Option<SocketAddr> {
        let endpoint = self.listeners.get(listener)?.endpoint.inet()?;
        if endpoint.is_wildcard() || endpoint.port == 0 || endpoint.zone.is_some() {
            return socket::local_address(connection.as_fd());
        }
        Some(SocketAddr::new(endpoint.ip, endpoint.port))
    }

    /// Makes the pipe of `stderr = "log"`. `false`: there is no descriptor for it.
    fn make_stderr(&mut self, key: SessionKey) -> bool {
        let Some(session) = self.sessions.table.get(key) else { return false };
        if session.settings.program().is_none_or(|program| program.stderr != Stderr::Log) {
            return true;
        }
        let (id, settings) = (session.id, Rc::clone(&session.settings));
        let Ok(pipe) = self.collect_stderr(id, &settings) else { return false };
        if let Some(session) = self.sessions.table.get_mut(key) {
            session.stderr = pipe;
        }
        true
    }

    /// Refuses a client: counted, logged (the first of its kind), told, closed.
    pub(super) fn refuse(
        &mut self,
        key: ServiceKey,
        connection: OwnedFd,
        client: Client,
        source: Source,
        reason: Reason,
        through_mux: bool,
    ) {
        self.log_refusal(key, client, source, reason);
        let Some(service) = self.services.get_mut(key) else { return };
        service.count_refusal(reason);
        let banners = &service.settings.banners;
        let banner = if reason == Reason::Ban { banners.refuse.clone() } else { banners.busy.clone() };
        if let Some(offence) = reason.offence() {
            self.count_offence(key, &client, source, offence);
        }
        if let Some(text) = muxing::farewell(through_mux, banner.as_deref()) {
            self.farewells.say(connection, &text, self.now);
        }
    }
}
