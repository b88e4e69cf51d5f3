//! The services that run, with what is counted for each.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::config::settings;
use crate::model::endpoint::Endpoint;
use crate::model::name::ServiceName;
use crate::model::place::Place;
use crate::protocol::step::Step;
use crate::service::admission::ServiceKey;
use crate::service::backoff::Backoff;
use crate::service::reason::Reason;

use super::admittance::Rules;
use super::listeners::ListenerKey;
use super::pools::PoolState;
use super::slab::Slab;
use super::timers::TimerId;

/// A service of the configuration in force, or one that is gone but for its sessions.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) settings: Rc<settings::Service>,
    /// Where its table stands now.
    pub(super) place: Place,
    /// Who may use it; what its names stand for changes without it.
    pub(super) rules: Rules,
    /// Of the settings; tells whether a reload changes it.
    pub(super) digest: u64,
    /// How it is launched. Once it is gone this stays, and with it its generation, whose plans are kept for one
    /// more.
    pub(super) plan: PlanId,
    /// It is in no configuration any more, and lives for its sessions.
    pub(super) is_gone: bool,
    pub(super) listeners: Vec<ListenerKey>,
    /// Endpoints whose address or interface is not there.
    pub(super) absent: Vec<Absent>,
    pub(super) bind_again: Option<TimerId>,
    pub(super) bind_backoff: Backoff,
    /// Launches that are asked for and not over.
    pub(super) in_flight: u32,
    pub(super) started: u64,
    /// What became of datagrams that the handlers read.
    pub(super) datagrams: DatagramCounts,
    pub(super) pool: Option<PoolState>,
    pub(super) launch_failed: u64,
    /// When a launch failed, and how, as it was last said.
    pub(super) last_failure: Option<(Instant, (Option<Step>, i32))>,
    pub(super) refused: [u64; Reason::ALL.len()],
    /// It was said that it is paused; `resumed` is still to come.
    pub(super) said_paused: Option<Reason>,
    pub(super) say_resumed: Option<TimerId>,
    /// When there may be room again, if time alone makes it.
    pub(super) room: Option<(Instant, TimerId)>,
    pub(super) said_degraded: bool,
    /// It was said that a server of it ends without serving.
    pub(super) said_resting: bool,
}

/// Of datagrams that the handlers read for a service.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct DatagramCounts {
    /// Bytes.
    pub(super) received: u64,
    /// Bytes.
    pub(super) sent: u64,
    /// Datagrams.
    pub(super) answered: u64,
    /// Datagrams that may not be answered.
    pub(super) refused: u64,
}

/// A launch plan: an index means nothing without its generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PlanId {
    pub(super) generation: u64,
    pub(super) index: u32,
}

/// An endpoint that can't be bound yet.
#[derive(Debug, Clone)]
pub(super) struct Absent {
    pub(super) endpoint: Endpoint,
    pub(super) errno: i32,
    pub(super) retry_at: Option<Instant>,
}

impl Service {
    pub(super) fn new(
        settings: Rc<settings::Service>,
        place: Place,
        rules: Rules,
        digest: u64,
        plan: PlanId,
    ) -> Self {
        Self {
            settings,
            place,
            rules,
            digest,
            plan,
            is_gone: false,
            listeners: Vec::new(),
            absent: Vec::new(),
            bind_again: None,
            bind_backoff: Self::fresh_backoff(),
            in_flight: 0,
            started: 0,
            datagrams: DatagramCounts::default(),
            pool: None,
            launch_failed: 0,
            last_failure: None,
            refused: [0; Reason::ALL.len()],
            said_paused: None,
            say_resumed: None,
            room: None,
            said_degraded: false,
            said_resting: false,
        }
    }

    pub(super) fn fresh_backoff() -> Backoff {
        Backoff::delayed(Duration::from_secs(1), Duration::from_mins(1))
    }

    pub(super) fn name(&self) -> &ServiceName {
        &self.settings.name
    }

    /// Do the workers of its pool fail, so that none is started for a while?
    pub(super) fn is_resting(&self) -> bool {
        self.pool.as_ref().is_some_and(|pool| pool.rests_until().is_some())
    }

    pub(super) fn count_refusal(&mut self, reason: Reason) {
        if let Some(place) = Reason::ALL.iter().position(|r| *r == reason)
            && let Some(count) = self.refused.get_mut(place)
        {
            *count += 1;
        }
    }
}

/// All services.
#[derive(Debug, Default)]
pub(super) struct Services {
    table: Slab<Service>,
    by_name: HashMap<ServiceName, ServiceKey>,
}

impl Services {
    pub(super) fn insert(&mut self, service: Service) -> ServiceKey {
        let name = service.name().clone();
        let key = self.table.insert(service);
        self.by_name.insert(name, key);
        key
    }

    pub(super) fn get(&self, key: ServiceKey) -> Option<&Service> {
        self.table.get(key)
    }

    pub(super) fn get_mut(&mut self, key: ServiceKey) -> Option<&mut Service> {
        self.table.get_mut(key)
    }

    pub(super) fn by_name(&self, name: &str) -> Option<ServiceKey> {
        self.by_name.get(name).copied()
    }

    pub(super) fn keys(&self) -> Vec<ServiceKey> {
        self.table.keys()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (ServiceKey, &Service)> {
        self.table.iter()
    }

    /// The service is in no configuration any more; its sessions go on.
    pub(super) fn retire(&mut self, key: ServiceKey) {
        if let Some(service) = self.table.get_mut(key) {
            service.is_gone = true;
            let name = service.settings.name.clone();
            if self.by_name.get(&name) == Some(&key) {
                self.by_name.remove(&name);
            }
        }
    }

    pub(super) fn remove(&mut self, key: ServiceKey) {
        self.table.remove(key);
    }
}
