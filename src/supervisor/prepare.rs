//! Preparing a configuration: everything about it that may fail, done beside what runs.
//!
//! New sockets are opened, changed options are set. If anything is refused, all of it is taken back, and the
//! running configuration is what it was.

use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use crate::config::settings::{self, Service};
use crate::config::wire;
use crate::model::endpoint::Endpoint;
use crate::model::name::ServiceName;
use crate::model::place::Place;
use crate::protocol::beside::{self, Beside};
use crate::service::reload::{ServicePlan, plan_services};
use crate::sys::memory::SealedMap;

use super::Supervisor;
use super::control::ControlServer;
use super::listeners::ListenerKey;
use super::pidfile::PidFile;
use super::roles::role_plans;

mod sockets;

use sockets::Undo;

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
    /// What the rules need.
    pub(super) beside: Beside,
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

impl Supervisor {
    /// Prepares the configuration that a loader has sent. The errors are for the admin, one text each.
    pub(super) fn prepare(
        &mut self,
        config: &OwnedFd,
        plans: OwnedFd,
        tables: &OwnedFd,
    ) -> Result<Prepared, Vec<String>> {
        let broken = |what: &str| vec![format!("the loader's configuration is malformed: {what}")];
        let map = SealedMap::open(config.as_fd()).map_err(|error| broken(&error.to_string()))?;
        let reader = wire::Reader::new(&map).map_err(|error| broken(&error.to_string()))?;
        let services = self.decode_services(&reader).map_err(|error| broken(&error.to_string()))?;
        let tables = SealedMap::open(tables.as_fd()).map_err(|error| broken(&error.to_string()))?;
        let named = beside::Named { sets: reader.sets(), hours: reader.hours(), zone: &reader.daemon().zone };
        let beside = beside::open(tables, &named).map_err(|error| broken(&error.to_string()))?;
        let first = match self.generation {
            0 => Some(prepare_first(reader.daemon())?),
            _ => None,
        };
        let role_plans = self.prepare_role_plans(reader.daemon())?;
        let changes = self.compare(&services);
        // What rules of datagrams follow from is known before sockets are bound.
        self.refresh_interfaces();
        let mut undo = Undo::default();
        match self.prepare_sockets(&services, &beside.tables, &mut undo) {
            Ok((sockets, close)) => Ok(Prepared {
                daemon: reader.daemon().clone(),
                log: reader.log().clone(),
                services,
                changes,
                sockets,
                close,
                plans,
                beside,
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

    /// Only services that are new or changed are decoded. Of others at most the places are new.
    fn decode_services(&self, reader: &wire::Reader<'_>) -> Result<Vec<NewService>, wire::WireError> {
        let mut services = Vec::new();
        for (index, entry) in reader.services().enumerate() {
            let running = self.services.by_name(entry.name.as_str()).and_then(|key| self.services.get(key));
            let settings = match running {
                Some(service)
                    if service.digest == entry.digest && entry.has_its_places(&service.settings) =>
                {
                    Rc::clone(&service.settings)
                }
                Some(service) if service.digest == entry.digest => {
                    let mut moved = Service::clone(&service.settings);
                    entry.put_places(&mut moved);
                    Rc::new(moved)
                }
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
}

/// The lock that keeps a second superd out, and the control socket.
fn prepare_first(daemon: &settings::Daemon) -> Result<First, Vec<String>> {
    let pid_file = PidFile::acquire(&daemon.pid_file).map_err(|error| vec![error])?;
    let control = ControlServer::bind(&daemon.control, daemon.control_group)
        .map_err(|error| vec![format!("control socket {}: {error}", daemon.control.display())])?;
    Ok(First { pid_file, control })
}
