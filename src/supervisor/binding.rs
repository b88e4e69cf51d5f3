//! Listeners that come and go while a configuration is in force: addresses that are not there yet, sockets
//! that break, and those that make room for others.

use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use crate::config::settings::{self, Level};
use crate::model::endpoint::Endpoint;
use crate::service::admission::ServiceKey;
use crate::service::record::{Event, Record};
use crate::sys::overlap::stop_new_handshakes;
use crate::sys::rtnetlink::InterfaceNews;
use crate::sys::{process, socket};

use super::Supervisor;
use super::bind::{BindError, open_with_filter, rejoin};
use super::listeners::ListenerKey;
use super::options;
use super::services::{Absent, Service};
use super::timers::Due;

/// How long a listener that makes room for another stays for handshakes that are under way: a SYN-ACK that was
/// lost is sent again after a second (RFC 6298).
const HANDSHAKE: Duration = Duration::from_millis(1500);

impl Supervisor {
    /// Waits for an address or an interface to appear.
    pub(super) fn wait_for_endpoint(&mut self, key: ServiceKey, absent: Absent) {
        let now = self.now;
        let Some(service) = self.services.get_mut(key) else { return };
        service.absent.push(absent);
        if service.bind_again.is_none() {
            let wait = service.bind_backoff.wait();
            service.bind_again = Some(self.timers.set(now + wait, Due::BindAgain(key)));
            for absent in &mut service.absent {
                absent.retry_at = Some(now + wait);
            }
        }
    }

    /// Tries once more to bind what is missing.
    pub(super) fn bind_again(&mut self, key: ServiceKey) {
        if self.is_ending() {
            return;
        }
        let Some(service) = self.services.get_mut(key) else { return };
        if let Some(timer) = service.bind_again.take() {
            self.timers.cancel(timer);
        }
        let settings = Rc::clone(&service.settings);
        let missing = std::mem::take(&mut service.absent);
        for mut absent in missing {
            match self.open_absent(&absent.endpoint, &settings) {
                Ok(fd) => {
                    let listener = self.listeners.insert(fd, key, absent.endpoint);
                    if let Some(service) = self.services.get_mut(key) {
                        service.listeners.push(listener);
                    }
                }
                Err(error) => {
                    absent.errno = error.errno as i32;
                    self.wait_for_endpoint(key, absent);
                }
            }
        }
        self.commit_pool(key);
        self.settle_datagrams();
        self.watch_service(key);
        self.say_degraded_or_online(key);
    }

    fn open_absent(&self, endpoint: &Endpoint, settings: &settings::Service) -> Result<OwnedFd, BindError> {
        let filter = self.filter_before_bind(endpoint, settings, &self.admittance.tables);
        let filter = filter.map_err(|why| BindError::of_rules(endpoint, why))?;
        open_with_filter(endpoint, &settings.socket, !settings.is_accepted(), &filter)
    }

    /// An address or an interface came or went.
    pub(super) fn on_interface_news(&mut self) {
        let changes = self.interface_news.as_mut().map(InterfaceNews::drain).unwrap_or_default();
        if changes.is_any() {
            self.refresh_interfaces();
            self.datagram_rules_are_stale();
        }
        if !changes.may_help() {
            return;
        }
        self.rejoin_groups();
        let waiting: Vec<ServiceKey> = self
            .services
            .iter()
            .filter(|(_, service)| !service.absent.is_empty())
            .map(|(key, _)| key)
            .collect();
        for key in waiting {
            self.bind_again(key);
        }
    }

    /// An interface that went took its memberships along; one that came gets them.
    fn rejoin_groups(&self) {
        let is_group = |endpoint: &Endpoint| endpoint.inet().is_some_and(|inet| inet.ip.is_multicast());
        for (_, listener) in self.listeners.iter().filter(|(_, listener)| is_group(&listener.endpoint)) {
            // An interface that is still missing is news again when it comes.
            let _ = rejoin(listener.fd.as_fd(), &listener.endpoint);
        }
    }

    /// Says it when a service begins or ceases to lack an endpoint.
    pub(super) fn say_degraded_or_online(&mut self, key: ServiceKey) {
        let now = self.now;
        let Some(service) = self.services.get_mut(key) else { return };
        let is_degraded = !service.absent.is_empty();
        if is_degraded == service.said_degraded {
            return;
        }
        service.said_degraded = is_degraded;
        if !is_degraded {
            service.bind_backoff = Service::fresh_backoff();
        }
        if !service.settings.enabled {
            return;
        }
        let Some(service) = self.services.get(key) else { return };
        let name = Some(service.name().as_str());
        let Some(absent) = service.absent.first() else {
            return self.log_state(Some(key), "online", None, Level::Notice);
        };
        let errno = process::errno_name(absent.errno);
        let event = Event::State {
            state: "degraded",
            reason: Some(&errno),
            endpoint: Some(&absent.endpoint),
            retry: absent.retry_at.map(|at| at.saturating_duration_since(now)),
        };
        let facility = service.settings.log.facility;
        self.log.write(&Record { level: Level::Warning, facility, service: name, event });
    }

    /// Has somebody shut this listener down? An error that only waits to be read is not that.
    pub(super) fn is_listener_gone(&self, key: ListenerKey) -> bool {
        self.listeners.fd(key).is_some_and(|fd| socket::take_error(fd) == 0)
    }

    /// A listener that does not listen any more is made again.
    pub(super) fn reopen_broken(&mut self, key: ListenerKey, errno: i32) {
        let Some(listener) = self.listeners.get(key) else { return };
        let (service, endpoint, retired) = (listener.service, listener.endpoint.clone(), listener.retired);
        self.listeners.close(key);
        let Some(running) = self.services.get_mut(service) else { return };
        running.listeners.retain(|k| *k != key);
        if retired {
            return;
        }
        let text = format!(
            "{endpoint} of {} is broken ({}): opened anew",
            running.name(),
            process::errno_name(errno)
        );
        self.note(Level::Warning, &text);
        self.wait_for_endpoint(service, Absent { endpoint, errno, retry_at: None });
        self.bind_again(service);
    }

    /// A listener that another one has taken the place of: no handshake begins on it any more, those under way
    /// are completed, and whoever comes out of it is the other's client.
    pub(super) fn retire_listener(&mut self, key: ListenerKey, heir: ServiceKey) {
        let Some(listener) = self.listeners.get_mut(key) else { return };
        // Where the kernel refuses it, new clients are served from here until it closes.
        let _ = stop_new_handshakes(listener.fd.as_fd());
        if !listener.retired {
            self.timers.set(self.now + HANDSHAKE, Due::CloseRetired(key));
        }
        listener.retired = true;
        let before = std::mem::replace(&mut listener.service, heir);
        if let Some(service) = self.services.get_mut(before) {
            service.listeners.retain(|other| *other != key);
        }
        if let Some(service) = self.services.get_mut(heir) {
            service.listeners.push(key);
        }
    }

    /// Nobody wants this listener any more: who has come is served, then it closes.
    pub(super) fn close_unwanted(&mut self, key: ListenerKey) {
        let Some(listener) = self.listeners.get(key) else { return };
        if listener.retired {
            return;
        }
        self.drain_and_close(key);
    }

    /// The time of a retired listener is over, unless its service has no room yet for who waits there.
    pub(super) fn close_retired(&mut self, key: ListenerKey) {
        if !self.listeners.get(key).is_some_and(|listener| listener.retired) {
            return;
        }
        self.accept_until_empty(key);
        let queue = self.listeners.fd(key).and_then(options::queue);
        if queue.is_some_and(|[waiting, _]| waiting > 0) {
            self.timers.set(self.now + HANDSHAKE, Due::CloseRetired(key));
        } else {
            self.drain_and_close(key);
        }
    }

    fn drain_and_close(&mut self, key: ListenerKey) {
        let Some(service) = self.listeners.get(key).map(|listener| listener.service) else { return };
        self.accept_until_empty(key);
        self.listeners.close(key);
        if let Some(service) = self.services.get_mut(service) {
            service.listeners.retain(|k| *k != key);
        }
    }
}
