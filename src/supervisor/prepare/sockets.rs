//! The sockets of a configuration that is being prepared: kept, changed, opened beside others, or refused.
//!
//! Whatever is done to a socket that is in use is noted, so that a refused configuration leaves no trace.

use std::collections::HashMap;
use std::os::fd::AsFd;

use crate::config::settings::{Service, SocketOptions};
use crate::model::endpoint::Endpoint;
use crate::policy::tables::Tables;
use crate::service::reload::{Bound, Wanted, plan_sockets};
use crate::supervisor::Supervisor;
use crate::supervisor::bind::{
    BindError, PathIdentity, identify_path, open_beside, open_passed, open_with_filter, remove_path,
};
use crate::supervisor::listeners::{Listener, ListenerKey, Loan};
use crate::supervisor::options::{self, Change};
use crate::supervisor::sessions::Session;
use crate::sys::filter::try_out;
use crate::sys::kind::SocketKind;
use crate::sys::overlap::allow_overlap;

use super::{NewService, NewSocket, Origin};

/// Of so many errors it is found out who has the place.
const HOLDERS: usize = 4;

/// What to take back if the preparation fails.
#[derive(Debug, Default)]
pub(super) struct Undo {
    /// Options that were set, as (listener, new, old).
    options: Vec<(ListenerKey, SocketOptions, SocketOptions)>,
    /// Listeners that were made to allow another one beside.
    overlaps: Vec<ListenerKey>,
    /// Paths that were made.
    paths: Vec<(Endpoint, PathIdentity)>,
}

impl Supervisor {
    pub(super) fn prepare_sockets(
        &self,
        services: &[NewService],
        tables: &Tables,
        undo: &mut Undo,
    ) -> Result<(Vec<NewSocket>, Vec<ListenerKey>), Vec<String>> {
        let (passed, wanted): (Vec<_>, Vec<_>) = services
            .iter()
            .enumerate()
            .filter(|(_, service)| service.settings.enabled)
            .flat_map(|(index, service)| service.settings.endpoints.iter().map(move |e| (index, e)))
            .partition(|(_, endpoint)| matches!(endpoint, Endpoint::Passed(_)));
        let plan = {
            let name = |index: usize| services.get(index).map(|service| &service.settings.name);
            let list: Vec<Wanted<'_>> = wanted
                .iter()
                .filter_map(|&(index, endpoint)| Some(Wanted { service: name(index)?, endpoint }))
                .collect();
            plan_sockets(&self.bound(), &list)
        };
        let going = self.by_port(&plan.close);
        let mut sockets = Vec::with_capacity(wanted.len() + passed.len());
        let mut errors = Vec::new();
        for (&(index, endpoint), source) in wanted.iter().zip(&plan.source) {
            let Some(service) = services.get(index) else { continue };
            let origin = match *source {
                Some(key) => self.keep_socket(key, &service.settings, tables, undo),
                None => self.open_socket(endpoint, &service.settings, tables, &going, undo),
            };
            match origin {
                Ok(origin) => sockets.push(NewSocket { service: index, endpoint: endpoint.clone(), origin }),
                Err(mut error) => {
                    if errors.len() < HOLDERS {
                        error.look_for_holder(endpoint);
                    }
                    errors.push(format!("service {}: {error}", service.settings.name));
                }
            }
        }
        for (index, endpoint) in passed {
            let Some(service) = services.get(index) else { continue };
            match self.passed_sockets(endpoint, &service.settings) {
                Ok(origins) => sockets.extend(origins.into_iter().map(|origin| NewSocket {
                    service: index,
                    endpoint: endpoint.clone(),
                    origin,
                })),
                Err(error) => errors.push(format!("service {}: {error}", service.settings.name)),
            }
        }
        let mut close = plan.close;
        close.extend(self.passed_and_unwanted(&sockets));
        if errors.is_empty() { Ok((sockets, close)) } else { Err(errors) }
    }

    fn bound(&self) -> Vec<Bound<'_, ListenerKey>> {
        let bound = |(key, listener)| {
            let listener: &Listener = listener;
            let service = self.services.get(listener.service)?.name();
            let is_passed = matches!(listener.endpoint, Endpoint::Passed(_));
            (!listener.retired && !is_passed).then_some(Bound { key, service, endpoint: &listener.endpoint })
        };
        self.listeners.iter().filter_map(bound).collect()
    }

    /// The sockets that the service manager passed under a name: those that are in use already, or copies.
    fn passed_sockets(&self, endpoint: &Endpoint, service: &Service) -> Result<Vec<Origin>, String> {
        let used = self.listeners.iter().filter(|(_, listener)| listener.endpoint == *endpoint);
        let kept = |(key, _)| match self.refuse_anothers(key, service) {
            Ok(()) => Ok(Origin::Kept(key)),
            Err(error) => Err(error.to_string()),
        };
        let used = used.map(kept).collect::<Result<Vec<_>, _>>()?;
        if !used.is_empty() {
            return Ok(used);
        }
        let Endpoint::Passed(name) = endpoint else { return Ok(Vec::new()) };
        if let Some(pid) = self.server_with(endpoint) {
            return Err(format!("{endpoint}: a server of an earlier configuration (pid {pid}) still has it"));
        }
        let copies = open_passed(name, &self.passed, &service.socket, !service.is_accepted())
            .map_err(|e| e.to_string())?;
        if copies.iter().any(|(_, kind)| kind.is_datagram()) && service.is_accepted() {
            return Err(format!(
                "{endpoint} is a socket of datagrams, which needs `wait = true`, or a `listen` pool"
            ));
        }
        Ok(copies.into_iter().map(|(fd, _)| Origin::Opened(fd, Vec::new())).collect())
    }

    /// The server that was lent a passed socket by a service that is gone: a copy of it is the same queue.
    fn server_with(&self, endpoint: &Endpoint) -> Option<i32> {
        let has =
            |session: &Session| session.settings.waits() && session.settings.endpoints.contains(endpoint);
        self.sessions.table.iter().find(|(_, session)| has(session)).map(|(_, session)| session.pid)
    }

    fn passed_and_unwanted(&self, sockets: &[NewSocket]) -> Vec<ListenerKey> {
        let kept = |key: ListenerKey| sockets.iter().any(|s| matches!(s.origin, Origin::Kept(k) if k == key));
        let passed = self.listeners.iter().filter(|(_, l)| matches!(l.endpoint, Endpoint::Passed(_)));
        passed.map(|(key, _)| key).filter(|key| !kept(*key)).collect()
    }

    /// The listeners that go away, and those that are about to since an earlier reload, by their ports.
    fn by_port(&self, close: &[ListenerKey]) -> HashMap<u16, Vec<ListenerKey>> {
        let retired = self.listeners.iter().filter(|(_, listener)| listener.retired).map(|(key, _)| key);
        let mut map: HashMap<u16, Vec<ListenerKey>> = HashMap::new();
        for key in close.iter().copied().chain(retired) {
            if let Some(listener) = self.listeners.get(key) {
                map.entry(port_of(&listener.endpoint)).or_default().push(key);
            }
        }
        map
    }

    /// A socket that stays: its options are changed where it is, or it is opened anew beside itself.
    fn keep_socket(
        &self,
        key: ListenerKey,
        service: &Service,
        tables: &Tables,
        undo: &mut Undo,
    ) -> Result<Origin, BindError> {
        let kept = Ok(Origin::Kept(key));
        let Some(listener) = self.listeners.get(key) else { return kept };
        let Some(running) = self.services.get(listener.service) else { return kept };
        self.refuse_anothers(key, service)?;
        let filter = self.filter_before_bind(&listener.endpoint, service, tables);
        let filter = filter.map_err(|why| BindError::of_rules(&listener.endpoint, why))?;
        if filter != listener.filter {
            try_out(&filter).map_err(|error| BindError::of_filter(&listener.endpoint, &error))?;
        }
        let (old, new) = (&running.settings.socket, &service.socket);
        let kind = SocketKind::of(listener.fd.as_fd()).unwrap_or(SocketKind::Tcp);
        match options::change(kind, old, new) {
            Change::Nothing => kept,
            Change::Apply => {
                undo.options.push((key, new.clone(), old.clone()));
                options::reapply(listener.fd.as_fd(), kind, old, new)
                    .map_err(|error| BindError::of_option(&listener.endpoint, &error))?;
                kept
            }
            Change::Reopen(_) => {
                let endpoint = listener.endpoint.clone();
                self.open_over(&endpoint, service, tables, vec![key], undo)
            }
        }
    }

    fn open_socket(
        &self,
        endpoint: &Endpoint,
        service: &Service,
        tables: &Tables,
        going: &HashMap<u16, Vec<ListenerKey>>,
        undo: &mut Undo,
    ) -> Result<Origin, BindError> {
        let overlaps = |key: &ListenerKey| {
            self.listeners.get(*key).is_some_and(|listener| listener.endpoint.overlaps(endpoint))
        };
        let over: Vec<ListenerKey> =
            going.get(&port_of(endpoint)).into_iter().flatten().copied().filter(overlaps).collect();
        match self.open_over(endpoint, service, tables, over, undo) {
            Err(error) if error.is_absence() => Ok(Origin::Absent(error.errno as i32)),
            Err(error) if error.is_unknown_family() && endpoint.is_optional() => Ok(Origin::LeftOut),
            other => other,
        }
    }

    /// Opens a socket beside those that are in its way. With `SO_REUSEPORT` set late on the old ones, the new
    /// one can be bound before they close.
    fn open_over(
        &self,
        endpoint: &Endpoint,
        service: &Service,
        tables: &Tables,
        over: Vec<ListenerKey>,
        undo: &mut Undo,
    ) -> Result<Origin, BindError> {
        if let Some(error) = over.iter().find_map(|&key| self.refuse_lent(endpoint, key)) {
            return Err(error);
        }
        let filter = self.filter_before_bind(endpoint, service, tables);
        let filter = filter.map_err(|why| BindError::of_rules(endpoint, why))?;
        for &key in &over {
            if let Some(fd) = self.listeners.fd(key)
                && allow_overlap(fd, true).is_ok()
            {
                undo.overlaps.push(key);
            }
        }
        let open = if over.is_empty() { open_with_filter } else { open_beside };
        let fd = open(endpoint, &service.socket, !service.is_accepted(), &filter)?;
        if let Some(identity) = identify_path(endpoint) {
            undo.paths.push((endpoint.clone(), identity));
        }
        Ok(Origin::Opened(fd, over))
    }

    /// A listener that another service's server has can't change hands: both would take from one queue.
    fn refuse_anothers(&self, key: ListenerKey, service: &Service) -> Result<(), BindError> {
        let Some(listener) = self.listeners.get(key) else { return Ok(()) };
        let is_its_own =
            self.services.get(listener.service).is_some_and(|running| *running.name() == service.name);
        match self.refuse_lent(&listener.endpoint, key).filter(|_| !is_its_own) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// A server that was given the old listener goes on with it: beside it a new one would share its clients.
    fn refuse_lent(&self, endpoint: &Endpoint, key: ListenerKey) -> Option<BindError> {
        let Some(Loan::Server(session)) = self.listeners.get(key)?.lent else { return None };
        let session = self.sessions.table.get(session)?;
        let (name, pid) = (&session.settings.name, session.pid);
        let why = format!("the server of {name} (pid {pid}) still has it: end it, or wait for its end");
        Some(BindError::in_use(endpoint, why))
    }

    pub(super) fn take_back(&self, undo: Undo) {
        for (key, new, old) in undo.options {
            if let Some(listener) = self.listeners.get(key) {
                // It had these options before; what the kernel refuses now, `superctl socket` shows.
                let kind = SocketKind::of(listener.fd.as_fd()).unwrap_or(SocketKind::Tcp);
                let _ = options::reapply(listener.fd.as_fd(), kind, &new, &old);
            }
        }
        for (endpoint, identity) in undo.paths {
            remove_path(&endpoint, identity);
        }
        for key in undo.overlaps {
            let wants = self.listeners.get(key).and_then(|l| self.services.get(l.service));
            let shared = wants.is_some_and(|service| service.settings.socket.reuse_port == Some(true));
            if let Some(fd) = self.listeners.fd(key).filter(|_| !shared) {
                let _ = allow_overlap(fd, false);
            }
        }
    }
}

/// Endpoints with different numbers never overlap.
fn port_of(endpoint: &Endpoint) -> u16 {
    endpoint.inet().map_or(0, |inet| inet.port)
}
