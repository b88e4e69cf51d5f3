//! The state of everything, for `superctl status` and `state.json`.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::time::Duration;

use crate::config::settings::Serves;
use crate::model::endpoint::Endpoint;
use crate::protocol::control::{DatagramStatus, ListenerStatus, ServiceStatus, Status};
use crate::service::admission::{Full, ServiceKey};
use crate::service::reason::Reason;
use crate::sys::{fd, process, socket};

use crate::sys::kind::SocketKind;
use crate::sys::sockopt::dropped;

use super::Supervisor;
use super::collecting::collects;
use super::listeners::{Listener, Loan};
use super::options;
use super::services::{DatagramCounts, Service};

impl Supervisor {
    /// The whole state.
    pub(super) fn status(&self) -> Status {
        let mut services: Vec<ServiceStatus> =
            self.services.iter().map(|(key, service)| self.service_status(key, service)).collect();
        services.sort_by(|a, b| a.name.cmp(&b.name));
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: process::own_pid(),
            generation: self.generation,
            uptime: self.now.saturating_duration_since(self.started).as_secs(),
            fds: fd::count_open(),
            services,
            sessions: self.admission.total(),
            workers: u32::try_from(self.workers.keys_of_pools().len()).unwrap_or(u32::MAX),
            launches: u32::try_from(self.launches.count()).unwrap_or(u32::MAX),
            pending: u32::try_from(self.judging.waiting()).unwrap_or(u32::MAX),
            strangers: self.strangers,
            dropped_log_lines: self.log.dropped(),
        }
    }

    /// The listeners of one service, with their options; none if there is no such service.
    pub(super) fn socket_status(&self, name: &str) -> Option<Vec<ListenerStatus>> {
        let service = self.services.get(self.services.by_name(name)?)?;
        let full = |listener: &Listener| {
            let fd = listener.fd.as_fd();
            ListenerStatus {
                options: SocketKind::of(fd).map(|kind| options::read_back(fd, kind)).unwrap_or_default(),
                queue: options::queue(fd),
                dropped: SocketKind::of(fd).is_ok_and(SocketKind::is_datagram).then(|| dropped(fd)).flatten(),
                ..bound_status(listener)
            }
        };
        let bound = service.listeners.iter().filter_map(|&key| self.listeners.get(key)).map(full);
        Some(bound.chain(absent_status(service)).chain(mux_status(service)).collect())
    }

    fn service_status(&self, key: ServiceKey, service: &Service) -> ServiceStatus {
        let (state, reason, retry) = self.state_of(key, service);
        let bound = service.listeners.iter().filter_map(|&key| self.listeners.get(key)).map(bound_status);
        let refused: BTreeMap<String, u64> = Reason::ALL
            .iter()
            .zip(service.refused)
            .filter(|(_, count)| *count > 0)
            .map(|(reason, count)| (reason.word().to_owned(), count))
            .collect();
        ServiceStatus {
            name: service.name().to_string(),
            state: state.to_owned(),
            reason,
            retry_in: retry.map(|wait| wait.as_secs_f64()),
            listeners: bound.chain(absent_status(service)).chain(mux_status(service)).collect(),
            sessions: self.admission.sessions(key),
            started: service.started,
            launch_failed: service.launch_failed,
            refused,
            workers: u32::try_from(self.workers.of_service(key).count()).unwrap_or(u32::MAX),
            datagrams: datagram_status(service),
        }
    }

    /// The state, its reason, and the time to the next try. What concerns all services comes first.
    pub(super) fn state_of(
        &self,
        key: ServiceKey,
        service: &Service,
    ) -> (&'static str, Option<String>, Option<Duration>) {
        if service.is_gone || self.is_ending() {
            return ("draining", None, None);
        }
        if !service.settings.enabled {
            return ("disabled", None, None);
        }
        if !self.launches.is_up() {
            return ("degraded", Some("launcher".to_owned()), None);
        }
        if let Some(absent) = service.absent.first() {
            let reason = format!("{} {}", process::errno_name(absent.errno), absent.endpoint);
            let retry = absent.retry_at.map(|at| at.saturating_duration_since(self.now));
            return ("degraded", Some(reason), retry);
        }
        if collects(&service.settings) && self.collecting.is_lost() {
            let retry = self.collecting.next_try().map(|at| at.saturating_duration_since(self.now));
            return ("degraded", Some("collector".to_owned()), retry);
        }
        if super::handlers::is_handled(&service.settings) && self.handlers.is_lost() {
            let retry = self.handlers.next_try().map(|at| at.saturating_duration_since(self.now));
            return ("degraded", Some("handlers".to_owned()), retry);
        }
        if super::resolving::needs_resolver(&service.settings) && self.resolver.is_lost() {
            return ("degraded", Some("resolver".to_owned()), None);
        }
        if let Some(pool) = service.pool.as_ref().filter(|pool| pool.said_degraded) {
            let retry = pool.rests_until().map(|at| at.saturating_duration_since(self.now));
            return ("degraded", Some("pool".to_owned()), retry);
        }
        if let Some(exhaustion) = &self.exhaustion {
            let retry = exhaustion.until.saturating_duration_since(self.now);
            return ("paused", Some(process::errno_name(exhaustion.errno)), Some(retry));
        }
        let rests = service.listeners.iter().filter_map(|&key| self.listeners.get(key)?.lent);
        let rest = rests.filter_map(|loan| match loan {
            Loan::Rest(until) => Some(until),
            Loan::Server(_) => None,
        });
        if let Some(until) = rest.max() {
            let retry = until.saturating_duration_since(self.now);
            return ("paused", Some("backoff".to_owned()), Some(retry));
        }
        match self.queued_by(key) {
            Some(Full { reason, until }) => {
                let retry = until.map(|until| until.saturating_duration_since(self.now));
                ("paused", Some(reason.word().to_owned()), retry)
            }
            None => ("online", None, None),
        }
    }
}

/// None where no handler reads datagrams for it.
fn datagram_status(service: &Service) -> Option<DatagramStatus> {
    let settings = &service.settings;
    let is_read =
        matches!(settings.serves, Serves::Builtin(_)) && settings.endpoints.iter().any(Endpoint::is_datagram);
    let DatagramCounts { received, sent, answered, refused } = service.datagrams;
    is_read.then_some(DatagramStatus { received, sent, answered, refused })
}

/// Where the kernel has it: an address, or the name of a unix socket.
fn bound_at(listener: &Listener) -> Option<String> {
    match socket::local_address(listener.fd.as_fd()) {
        Some(address) => Some(address.to_string()),
        None => socket::unix_name(listener.fd.as_fd()),
    }
}

fn bound_status(listener: &Listener) -> ListenerStatus {
    ListenerStatus {
        endpoint: listener.endpoint.to_string(),
        bound: bound_at(listener),
        error: None,
        options: BTreeMap::new(),
        queue: None,
        dropped: None,
    }
}

/// Its names, while clients of tcpmux reach it by them.
fn mux_status(service: &Service) -> impl Iterator<Item = ListenerStatus> + '_ {
    let is_reached = service.settings.enabled && !service.is_gone;
    let names = service.settings.mux_names.iter().filter(move |_| is_reached);
    names.map(|name| ListenerStatus {
        endpoint: format!("tcpmux:{name}"),
        bound: None,
        error: None,
        options: BTreeMap::new(),
        queue: None,
        dropped: None,
    })
}

fn absent_status(service: &Service) -> impl Iterator<Item = ListenerStatus> + '_ {
    service.absent.iter().map(|absent| ListenerStatus {
        endpoint: absent.endpoint.to_string(),
        bound: None,
        error: Some(process::errno_name(absent.errno)),
        options: BTreeMap::new(),
        queue: None,
        dropped: None,
    })
}
