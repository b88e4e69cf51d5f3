//! Putting a prepared configuration in force: nothing here can fail.

use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use crate::config::settings::{self, Level, SocketOptions};
use crate::model::endpoint::Endpoint;
use crate::model::name::ServiceName;
use crate::protocol::control::ReloadReport;
use crate::service::admission::ServiceKey;
use crate::service::record::Event;
use crate::sys::fd::set_nonblocking;
use crate::sys::overlap::allow_overlap;

use super::Supervisor;
use super::bind::set_path_rights;
use super::listeners::{ListenerKey, Loan};
use super::prepare::{NewService, NewSocket, Origin, Prepared};
use super::services::{Absent, PlanId, Service};

impl Supervisor {
    /// From here on the new configuration is the one.
    pub(super) fn commit(&mut self, prepared: Prepared) -> ReloadReport {
        let Prepared { mut daemon, log, services, changes, sockets, close, plans, beside, role_plans, first } =
            prepared;
        self.generation += 1;
        let mut warnings = self.keep_until_restart(&mut daemon);
        if let Some(first) = first {
            self.pid_file = Some(first.pid_file);
            self.control = Some(first.control);
        }
        self.commit_log(log);
        let roles_passed = role_plans.map_or(Ok(()), |plans| self.launches.use_role_plans(plans));
        let passed = self.launches.use_plans(self.generation, plans);
        if roles_passed.and(passed).is_err() {
            // It is full, broken or gone; the next launcher gets them.
            self.give_up_launcher();
        }
        self.admittance.replace(beside);
        let keys: Vec<ServiceKey> =
            services.into_iter().map(|service| self.commit_service(service)).collect();
        for socket in sockets {
            let Some(&key) = keys.get(socket.service) else { continue };
            self.commit_socket(key, socket);
        }
        for key in close {
            self.close_unwanted(key);
        }
        for name in &changes.closed {
            self.retire_service(name);
        }
        self.admission.set_max_sessions(daemon.max_sessions);
        if let Err(error) = self.listeners.settle(daemon.multiplexer) {
            warnings.push(format!("listeners are polled one by one: {error}"));
        }
        self.daemon = Some(Rc::new(daemon));
        if self.generation == 1 {
            self.take_kept_bans();
        }
        self.settle_datagram_rules();
        self.settle_collecting();
        for &key in &keys {
            self.commit_pool(key);
        }
        self.launches.forget_plans(&self.plans_of_pools());
        self.settle_handlers();
        self.settle_resolver();
        self.end_sessions_of_hours();
        self.send_launches();
        self.watch_all();
        for &key in &keys {
            self.say_degraded_or_online(key);
        }
        let [kept, changed, opened, closed] =
            [&changes.kept, &changes.changed, &changes.opened, &changes.closed].map(Vec::len);
        let event = Event::Reload { generation: self.generation, kept, changed, opened, closed };
        self.log_event(Level::Notice, event);
        let names = |list: Vec<ServiceName>| list.iter().map(ServiceName::to_string).collect();
        ReloadReport {
            generation: self.generation,
            kept: names(changes.kept),
            changed: names(changes.changed),
            opened: names(changes.opened),
            closed: names(changes.closed),
            warnings,
        }
    }

    /// What superd took at its start stays until its end, and each reload says so again.
    fn keep_until_restart(&self, new: &mut settings::Daemon) -> Vec<String> {
        let Some(old) = &self.daemon else { return Vec::new() };
        let rows = [
            ("control", old.control != new.control),
            ("control_group", old.control_group != new.control_group),
            ("pid_file", old.pid_file != new.pid_file),
        ];
        let changed = rows.into_iter().filter(|(_, changed)| *changed);
        new.control.clone_from(&old.control);
        new.control_group = old.control_group;
        new.pid_file.clone_from(&old.pid_file);
        changed
            .map(|(key, _)| format!("[daemon] {key} has changed: it takes effect when superd is restarted"))
            .collect()
    }

    fn commit_log(&mut self, log: settings::Log) {
        if self.log_settings.as_ref() != Some(&log) {
            self.log.reconfigure(&log);
            self.log_settings = Some(log);
        }
        self.attach_writer();
    }

    fn commit_service(&mut self, new: NewService) -> ServiceKey {
        let NewService { settings, place, digest, plan } = new;
        let plan = PlanId { generation: self.generation, index: plan };
        let Some(key) = self.services.by_name(settings.name.as_str()) else {
            let rules = self.admittance.rules(&settings, None);
            return self.services.insert(Service::new(settings, place, rules, digest, plan));
        };
        self.admission.change(key, &settings.limits, self.now);
        if let Some(service) = self.services.get_mut(key) {
            let (was, is) = (service.settings.enabled, settings.enabled);
            // Places are in the rules, too: the same settings at another place have new ones.
            let same = Rc::ptr_eq(&service.settings, &settings).then_some(&service.rules.policy);
            service.rules = self.admittance.rules(&settings, same);
            service.settings = settings;
            service.place = place;
            service.digest = digest;
            service.plan = plan;
            // Those that an earlier reload has retired go on until their time is over.
            service.listeners.retain(|listener| self.listeners.is_retired_of(*listener, key));
            service.absent.clear();
            if let Some(timer) = service.bind_again.take() {
                self.timers.cancel(timer);
            }
            if was != is {
                self.log_state(Some(key), if is { "online" } else { "disabled" }, None, Level::Notice);
            }
        }
        key
    }

    fn commit_socket(&mut self, key: ServiceKey, socket: NewSocket) {
        let NewSocket { endpoint, origin, .. } = socket;
        match origin {
            Origin::Kept(listener) => {
                self.keep_listener(key, listener, endpoint);
                self.give_listener(key, listener);
            }
            Origin::Opened(fd, over) => {
                if !over.is_empty() {
                    self.leave_overlap(key, &fd);
                }
                let listener = self.listeners.insert(fd, key, endpoint);
                self.give_listener(key, listener);
                for old in over {
                    if self.services.get(key).is_some_and(|service| !service.settings.is_accepted()) {
                        // Two listeners would be two servers.
                        self.listeners.close(old);
                    } else {
                        self.retire_listener(old, key);
                    }
                }
            }
            Origin::Absent(errno) => self.wait_for_endpoint(key, Absent { endpoint, errno, retry_at: None }),
            Origin::LeftOut => {}
        }
    }

    /// A listener that stays is as its service wants it now, but while a server has it.
    fn keep_listener(&mut self, key: ServiceKey, listener: ListenerKey, endpoint: Endpoint) {
        let accepted = self.services.get(key).is_some_and(|service| service.settings.is_accepted());
        let owner = self.listeners.get(listener).map(|kept| kept.service);
        let has_workers = !accepted && owner.is_some_and(|owner| self.is_lent_to_workers(owner, listener));
        let Some(kept) = self.listeners.get_mut(listener) else { return };
        if !has_workers && !matches!(kept.lent, Some(Loan::Server(_))) {
            // Neither can fail on a socket that is open and a path that is superd's.
            let _ = set_nonblocking(kept.fd.as_fd(), accepted);
        }
        if kept.endpoint != endpoint {
            let _ = set_path_rights(&endpoint);
        }
        kept.service = key;
        kept.endpoint = endpoint;
    }

    fn give_listener(&mut self, key: ServiceKey, listener: ListenerKey) {
        if let Some(service) = self.services.get_mut(key) {
            service.listeners.push(listener);
        }
    }

    /// `SO_REUSEPORT` was for the moment of the bind alone, unless the service asks for it.
    fn leave_overlap(&self, key: ServiceKey, fd: &OwnedFd) {
        let wants = |options: &SocketOptions| options.reuse_port == Some(true);
        if !self.services.get(key).is_some_and(|service| wants(&service.settings.socket)) {
            // If it stays set, a user's other processes could bind beside: no harm that a bind would not do.
            let _ = allow_overlap(fd.as_fd(), false);
        }
    }

    /// The service is gone from the configuration; its sessions run on under its name.
    fn retire_service(&mut self, name: &ServiceName) {
        let Some(key) = self.services.by_name(name.as_str()) else { return };
        self.end_pool(key);
        if let Some(service) = self.services.get_mut(key) {
            // What an earlier reload has retired nobody inherits. The others are closed, or another service's.
            for listener in std::mem::take(&mut service.listeners) {
                if self.listeners.is_retired_of(listener, key) {
                    self.listeners.close(listener);
                }
            }
            service.absent.clear();
            let room = service.room.take().map(|(_, timer)| timer);
            for timer in [service.bind_again.take(), service.say_resumed.take(), room].into_iter().flatten() {
                self.timers.cancel(timer);
            }
        }
        if self.admission.sessions(key) > 0 {
            self.log_state(Some(key), "draining", None, Level::Notice);
            self.services.retire(key);
        } else {
            self.services.retire(key);
            self.forget_service(key);
        }
    }
}
