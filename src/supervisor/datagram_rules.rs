//! Rules of datagrams: a server that waits, or a handler, reads them before superd could judge them. So the kernel
//! does, by a filter on the socket, which is made anew when anything changes that it follows from: rules, sets, bans,
//! this host's addresses, the hours.
//!
//! The filter is not locked: a lock could never be undone, and a ban could not be put in force. Whatever a server
//! does to it is set right when it has ended (`lent`).

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use crate::config::settings::{self, Level, Serves};
use crate::model::client::Client;
use crate::model::endpoint::{Endpoint, Transport};
use crate::model::filter::{Instruction, NOTHING};
use crate::model::network::Network;
use crate::model::pattern::ClientPattern;
use crate::policy::filter::{self, Family, TooLong};
use crate::policy::judge::{Policy, Verdict};
use crate::policy::request::Request;
use crate::policy::table::Table;
use crate::policy::tables::Tables;
use crate::service::admission::ServiceKey;
use crate::sys;

use super::Supervisor;
use super::listeners::ListenerKey;
use super::timers::{Due, TimerId};

/// Strangers bring bans about: their filters are made so often at most.
const PACE: Duration = Duration::from_secs(1);

/// The clock on the wall may be set: where hours count, it is looked at so often.
const CLOCK: Duration = Duration::from_mins(1);

/// A program; empty where nobody is refused.
pub(super) type Filter = Rc<[Instruction]>;

/// When filters are made again.
#[derive(Debug, Default)]
pub(super) struct DatagramRules {
    is_stale: bool,
    settled: Option<Instant>,
    timer: Option<TimerId>,
    /// It was said that not all bans have room in the filters of these.
    crowded: HashSet<ServiceKey>,
}

/// What a filter follows from, beside what superd itself knows.
#[derive(Clone, Copy)]
struct Basis<'b> {
    settings: &'b settings::Service,
    policy: &'b Policy,
    tables: &'b Tables,
}

/// A filter, and how many bans it has no room for.
struct Made {
    filter: Filter,
    left_out: usize,
}

impl Supervisor {
    /// Something may have changed that filters follow from; they do so soon.
    pub(super) fn datagram_rules_are_stale(&mut self) {
        self.datagram_rules.is_stale = true;
    }

    /// Makes filters again, if they are stale, but not too often.
    pub(super) fn settle_stale_datagram_rules(&mut self) {
        if !self.datagram_rules.is_stale || self.is_ending() {
            return;
        }
        let due = self.datagram_rules.settled.map_or(self.now, |settled| settled + PACE);
        if due <= self.now {
            self.settle_datagram_rules();
        } else {
            self.datagram_rules.is_stale = false;
            self.settle_datagram_rules_at(due);
        }
    }

    /// Every socket of datagrams has the filter that its service wants now.
    pub(super) fn settle_datagram_rules(&mut self) {
        self.datagram_rules.is_stale = false;
        self.datagram_rules.settled = Some(self.now);
        let mut made: HashMap<(ServiceKey, Family), Filter> = HashMap::new();
        let sockets: Vec<(ListenerKey, ServiceKey, Family)> = self
            .listeners
            .iter()
            .filter_map(|(key, listener)| Some((key, listener.service, family(&listener.endpoint)?)))
            .collect();
        for (listener, service, family) in sockets {
            let filter = match made.get(&(service, family)) {
                Some(filter) => Rc::clone(filter),
                None => self.filter_now(service, family),
            };
            made.insert((service, family), Rc::clone(&filter));
            self.put_filter(listener, filter);
        }
        if let Some(timer) = self.datagram_rules.timer.take() {
            self.timers.cancel(timer);
        }
        if let Some(at) = self.next_hours(made.keys().map(|(service, _)| *service)) {
            self.settle_datagram_rules_at(at);
        }
    }

    fn settle_datagram_rules_at(&mut self, at: Instant) {
        if let Some(timer) = self.datagram_rules.timer.take() {
            self.timers.cancel(timer);
        }
        self.datagram_rules.timer = Some(self.timers.set(at, Due::DatagramRules));
    }

    /// When hours may begin or end for one of these services.
    fn next_hours(&self, services: impl Iterator<Item = ServiceKey>) -> Option<Instant> {
        let date = SystemTime::now();
        let next = services.filter_map(|key| {
            let service = self.services.get(key).filter(|service| is_ruled(&service.settings))?;
            let names = service.settings.access.hours();
            let hours = names.filter_map(|name| self.admittance.tables.hours(name));
            let next = |change: SystemTime| change.duration_since(date).unwrap_or_default().min(CLOCK);
            hours.map(|hours| hours.next_change(date).map_or(CLOCK, next)).min()
        });
        next.min().map(|wait| self.now + wait)
    }

    fn filter_now(&mut self, key: ServiceKey, family: Family) -> Filter {
        let Some(service) = self.services.get(key).filter(|service| is_ruled(&service.settings)) else {
            return Filter::default();
        };
        let basis = Basis {
            settings: &service.settings,
            policy: &service.rules.policy,
            tables: &self.admittance.tables,
        };
        let name = service.name().clone();
        match self.make_filter(basis, family) {
            Ok(Made { filter, left_out: 0 }) => {
                self.datagram_rules.crowded.remove(&key);
                filter
            }
            Ok(Made { filter, left_out }) => {
                if self.datagram_rules.crowded.insert(key) {
                    let text = format!(
                        "{left_out} bans have no room in the socket filter of {name}, and do not hold there: ban whole networks"
                    );
                    self.note(Level::Warning, &text);
                }
                filter
            }
            Err(error) => {
                let text = format!("{name} refuses all datagrams: {}", too_long(error));
                self.note(Level::Err, &text);
                Rc::new(NOTHING)
            }
        }
    }

    /// The filter by rules that are not in force yet.
    pub(super) fn filter_before_bind(
        &self,
        endpoint: &Endpoint,
        settings: &settings::Service,
        tables: &Tables,
    ) -> Result<Filter, String> {
        let Some(family) = family(endpoint).filter(|_| is_ruled(settings)) else {
            return Ok(Filter::default());
        };
        let policy = Policy::new(&settings.access);
        let made = self.make_filter(Basis { settings, policy: &policy, tables }, family);
        made.map(|made| made.filter).map_err(too_long)
    }

    /// Bans that end first are left out where there is no room for all.
    fn make_filter(&self, basis: Basis<'_>, family: Family) -> Result<Made, TooLong> {
        let bans = self.banned_networks(&basis.settings.name);
        let filter = |bans: &[Network]| self.filter_with_bans(basis, family, bans);
        let first = match filter(&bans) {
            Ok(filter) => return Ok(Made { filter, left_out: 0 }),
            Err(error) if bans.is_empty() => return Err(error),
            Err(_) => filter(&[])?,
        };
        let mut best = Made { filter: first, left_out: bans.len() };
        let (mut fits, mut too_many) = (0, bans.len());
        while too_many - fits > 1 {
            let middle = fits.midpoint(too_many);
            match filter(bans.get(bans.len() - middle..).unwrap_or_default()) {
                Ok(filter) => (fits, best) = (middle, Made { filter, left_out: bans.len() - middle }),
                Err(_) => too_many = middle,
            }
        }
        Ok(best)
    }

    fn filter_with_bans(
        &self,
        basis: Basis<'_>,
        family: Family,
        bans: &[Network],
    ) -> Result<Filter, TooLong> {
        let never: &[ClientPattern] = self.daemon.as_ref().map_or(&[], |daemon| &daemon.never_ban);
        let interfaces = &self.admittance.interfaces;
        let patterns = basis.settings.access.patterns();
        let mut networks = filter::networks(patterns, basis.tables, interfaces);
        if !bans.is_empty() {
            networks.extend(filter::networks(never.iter(), basis.tables, interfaces));
            networks.extend(bans);
        }
        let (banned, now) = (Table::of(bans), SystemTime::now());
        let may = |ip: IpAddr| {
            let client = Client::Inet((ip, 0).into());
            let request = Request::new(client, now, interfaces);
            let is_allowed = matches!(basis.policy.judge(&request, basis.tables), Verdict::Allow { .. });
            is_allowed && (!banned.contains(ip) || self.is_never_banned(&client))
        };
        Ok(filter::program(family, &networks, may)?.unwrap_or_default().into())
    }

    /// Where it can't be attached, the socket hears nobody rather than whom it should not.
    fn put_filter(&mut self, key: ListenerKey, filter: Filter) {
        let Some(listener) = self.listeners.get_mut(key).filter(|listener| listener.filter != filter) else {
            return;
        };
        let fd = listener.fd.as_fd();
        let deaf = || sys::filter::replace(fd, &NOTHING);
        let outcome = match sys::filter::replace(fd, &filter) {
            Err(error) if error.raw_os_error() == Some(libc::ENOMEM) => {
                // Without the one before there may be room.
                deaf().and_then(|()| sys::filter::replace(fd, &filter))
            }
            outcome => outcome,
        };
        let is_deaf = outcome.as_ref().is_err_and(|error| error.raw_os_error() != Some(libc::EPERM));
        listener.filter = if is_deaf { Rc::new(NOTHING) } else { filter };
        if let Some(keepsake) = &mut listener.keepsake {
            keepsake.expect_filter(&listener.filter);
        }
        let endpoint = listener.endpoint.clone();
        if let Err(error) = outcome {
            let consequence = if is_deaf {
                "it hears nobody; net.core.optmem_max may be too small"
            } else {
                "its server has locked another one, which holds until that server ends"
            };
            let text = format!("the socket filter of {endpoint} can't be changed: {error}: {consequence}");
            self.note(Level::Err, &text);
        }
    }
}

/// Does somebody else read its datagrams before superd could judge their senders?
fn is_ruled(settings: &settings::Service) -> bool {
    match &settings.serves {
        Serves::Wait(_) | Serves::Builtin(_) => true,
        Serves::Pool(_) => !settings.is_accepted(),
        Serves::Exec(_) => false,
    }
}

/// What a socket of datagrams hears. That of IPv6 hears no IPv4.
fn family(endpoint: &Endpoint) -> Option<Family> {
    let inet = endpoint.inet().filter(|inet| inet.transport == Transport::Udp)?;
    Some(if inet.ip.is_ipv6() { Family::V6 } else { Family::V4 })
}

fn too_long(TooLong { instructions }: TooLong) -> String {
    let most = filter::MOST;
    format!(
        "its rules need a socket filter of {instructions} instructions, and there is room for {most}: name fewer or larger networks"
    )
}
