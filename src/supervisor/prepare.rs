//! Preparing a configuration: everything about it that may fail, done beside what runs.
//!
//! New sockets are opened, changed options are set. If anything is refused, all of it is taken back, and the
//! running configuration is what it was.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use crate::config::settings::{self, Service, SocketOptions};
use crate::config::wire;
use crate::model::endpoint::Endpoint;
use crate::model::name::ServiceName;
use crate::model::place::Place;
use crate::service::reload::{Bound, ServicePlan, Wanted, plan_services, plan_sockets};
use crate::sys::kind::SocketKind;
use crate::sys::memory::SealedMap;
use crate::sys::overlap::allow_overlap;

use super::Supervisor;
use super::bind::{
    BindError, PathIdentity, identify_path, open_beside, open_listener, open_passed, remove_path,
};
use super::control::ControlServer;
use super::listeners::{ListenerKey, Loan};
use super::options::{self, Change};
use super::pidfile::PidFile;
use super::roles::role_plans;
use super::sessions::Session;

/// A configuration that only has to be put in force.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) daemon: settings::Daemon,
    pub(super) log: settings::Log,
    pub(super) services: Vec<NewService>,
    pub(super) changes: ServicePlan,
    /// Of every enabled service's endpoints, in their order.
    pub(super) sockets: Vec<NewSocket>,
    pub(super) close: Vec<ListenerKey>,
    pub(super) plans: OwnedFd,
    /// New plans of the roles, if they change with the configuration.
    pub(super) role_plans: Option<OwnedFd>,
    pub(super) first: Option<First>,
}

/// What superd takes once, at its start.
#[derive(Debug)]
pub(super) struct First {
    pub(super) pid_file: PidFile,
    pub(super) control: ControlServer,
}

/// A service of the new configuration.
#[derive(Debug)]
pub(super) struct NewService {
    pub(super) settings: Rc<Service>,
    pub(super) place: Place,
    pub(super) digest: u64,
    pub(super) plan: u32,
}

/// Where a socket of the new configuration comes from.
#[derive(Debug)]
pub(super) struct NewSocket {
    /// Its place in [`Prepared::services`].
    pub(super) service: usize,
    pub(super) endpoint: Endpoint,
    pub(super) origin: Origin,
}

/// See [`NewSocket`].
#[derive(Debug)]
pub(super) enum Origin {
    /// It is there.
    Kept(ListenerKey),
    /// It was opened, beside the listeners that it overlaps; those go away.
    Opened(OwnedFd, Vec<ListenerKey>),
    /// Its address or interface is not there.
    Absent(i32),
    /// The IPv6 half of a dual endpoint, on a machine without IPv6.
    LeftOut,
}

/// Of so many errors it is found out who has the place.
const HOLDERS: usize = 4;

/// What to take back if the preparation fails.
#[derive(Debug, Default)]
struct Undo {
    /// Options that were set, as (listener, new, old).
    options: Vec<(ListenerKey, SocketOptions, SocketOptions)>,
    /// Listeners that were made to allow another one beside.
    overlaps: Vec<ListenerKey>,
    /// Paths that were made.
    paths: Vec<(Endpoint, PathIdentity)>,
}

impl Supervisor {
    /// Prepares the configuration that a loader has sent. The errors are for the admin, one text each.
    pub(super) fn prepare(&mut self, config: &OwnedFd, plans: OwnedFd) -> Result<Prepared, Vec<String>> {
        let broken = |what: &str| vec![format!("the loader's configuration is malformed: {what}")];
        let map = SealedMap::open(config.as_fd()).map_err(|error| broken(&error.to_string()))?;
        let reader = wire::Reader::new(&map).map_err(|error| broken(&error.to_string()))?;
        let services = self.decode_services(&reader).map_err(|error| broken(&error.to_string()))?;
        let first = match self.generation {
            0 => Some(prepare_first(reader.daemon())?),
            _ => None,
        };
        let role_plans = self.prepare_role_plans(reader.daemon())?;
        let changes = self.compare(&services);
        let mut undo = Undo::default();
        match self.prepare_sockets(&services, &mut undo) {
            Ok((sockets, close)) => Ok(Prepared {
                daemon: reader.daemon().clone(),
                log: reader.log().clone(),
                services,
                changes,
                sockets,
                close,
                plans,
                role_plans,
                first,
            }),
            Err(errors) => {
                self.take_back(undo);
                Err(errors)
            }
        }
    }

    /// Roles that run as the helpers' user have plans that name it.
    fn prepare_role_plans(&self, new: &settings::Daemon) -> Result<Option<OwnedFd>, Vec<String>> {
        if self.daemon.as_ref().is_some_and(|old| old.helper == new.helper) {
            return Ok(None);
        }
        let plans = role_plans(new.helper.as_ref());
        plans.map(Some).map_err(|error| vec![format!("the plans of superd's processes: {error}")])
    }

    /// Only services that are new or changed are decoded.
    fn decode_services(&self, reader: &wire::Reader<'_>) -> Result<Vec<NewService>, wire::WireError> {
        let mut services = Vec::new();
        for (index, entry) in reader.services().enumerate() {
            let running = self.services.by_name(entry.name.as_str()).and_then(|key| self.services.get(key));
            let settings = match running {
                Some(service) if service.digest == entry.digest => Rc::clone(&service.settings),
                _ => Rc::new(entry.decode()?),
            };
            let plan = u32::try_from(index).unwrap_or(u32::MAX);
            services.push(NewService { settings, place: entry.place.clone(), digest: entry.digest, plan });
        }
        Ok(services)
    }

    fn compare(&self, services: &[NewService]) -> ServicePlan {
        let running: Vec<(&ServiceName, u64)> =
            self.services.iter().filter(|(_, s)| !s.is_gone).map(|(_, s)| (s.name(), s.digest)).collect();
        let new: Vec<(&ServiceName, u64)> = services.iter().map(|s| (&s.settings.name, s.digest)).collect();
        plan_services(&running, &new)
    }

    fn prepare_sockets(
        &self,
        services: &[NewService],
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
                Some(key) => self.keep_socket(key, &service.settings, undo),
                None => self.open_socket(endpoint, &service.settings, &going, undo),
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
            let listener: &super::listeners::Listener = listener;
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
        let copies =
            open_passed(name, &self.passed, &service.socket, service.wait).map_err(|e| e.to_string())?;
        if copies.iter().any(|(_, kind)| kind.is_datagram()) && !service.wait {
            return Err(format!("{endpoint} is a socket of datagrams, which needs `wait = true`"));
        }
        Ok(copies.into_iter().map(|(fd, _)| Origin::Opened(fd, Vec::new())).collect())
    }

    /// The server that was lent a passed socket by a service that is gone: a copy of it is the same queue.
    fn server_with(&self, endpoint: &Endpoint) -> Option<i32> {
        let has = |session: &Session| session.settings.wait && session.settings.endpoints.contains(endpoint);
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
    fn keep_socket(&self, key: ListenerKey, service: &Service, undo: &mut Undo) -> Result<Origin, BindError> {
        let kept = Ok(Origin::Kept(key));
        let Some(listener) = self.listeners.get(key) else { return kept };
        let Some(running) = self.services.get(listener.service) else { return kept };
        self.refuse_anothers(key, service)?;
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
                self.open_over(&endpoint, service, vec![key], undo)
            }
        }
    }

    fn open_socket(
        &self,
        endpoint: &Endpoint,
        service: &Service,
        going: &HashMap<u16, Vec<ListenerKey>>,
        undo: &mut Undo,
    ) -> Result<Origin, BindError> {
        let overlaps = |key: &ListenerKey| {
            self.listeners.get(*key).is_some_and(|listener| listener.endpoint.overlaps(endpoint))
        };
        let over: Vec<ListenerKey> =
            going.get(&port_of(endpoint)).into_iter().flatten().copied().filter(overlaps).collect();
        match self.open_over(endpoint, service, over, undo) {
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
        over: Vec<ListenerKey>,
        undo: &mut Undo,
    ) -> Result<Origin, BindError> {
        if let Some(error) = over.iter().find_map(|&key| self.refuse_lent(endpoint, key)) {
            return Err(error);
        }
        for &key in &over {
            if let Some(fd) = self.listeners.fd(key)
                && allow_overlap(fd, true).is_ok()
            {
                undo.overlaps.push(key);
            }
        }
        let open = if over.is_empty() { open_listener } else { open_beside };
        let fd = open(endpoint, &service.socket, service.wait)?;
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

    fn take_back(&self, undo: Undo) {
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

/// The lock that keeps a second superd out, and the control socket.
fn prepare_first(daemon: &settings::Daemon) -> Result<First, Vec<String>> {
    let pid_file = PidFile::acquire(&daemon.pid_file).map_err(|error| vec![error])?;
    let control = ControlServer::bind(&daemon.control, daemon.control_group)
        .map_err(|error| vec![format!("control socket {}: {error}", daemon.control.display())])?;
    Ok(First { pid_file, control })
}

/// Endpoints with different numbers never overlap.
fn port_of(endpoint: &Endpoint) -> u16 {
    endpoint.inet().map_or(0, |inet| inet.port)
}
