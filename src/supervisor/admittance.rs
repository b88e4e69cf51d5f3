//! What the rules of all services are judged by: the tables of the configuration in force, and this host's
//! addresses as they are now.

use std::rc::Rc;

use jiff::tz::TimeZone;

use crate::config::settings::{self, Level};
use crate::policy::judge::Policy;
use crate::policy::request::Interfaces;
use crate::policy::tables::Tables;
use crate::protocol::beside::{self, Beside};
use crate::protocol::tables::{Hosts, HostsFiles};
use crate::roles::loader::interfaces;

use super::Supervisor;

/// Of all services.
#[derive(Debug)]
pub(super) struct Admittance {
    /// Sets and hours.
    pub(super) tables: Tables,
    /// This host's addresses and networks.
    pub(super) interfaces: Interfaces,
    /// The zone of `[daemon]`.
    pub(super) zone: TimeZone,
    /// The same, for processes that have no files.
    pub(super) zone_bytes: Rc<[u8]>,
    hosts: Vec<(HostsFiles, Rc<Hosts>)>,
}

impl Default for Admittance {
    fn default() -> Self {
        let (tables, interfaces) = (Tables::default(), Interfaces::default());
        Self { tables, interfaces, zone: TimeZone::UTC, zone_bytes: Rc::new([]), hosts: Vec::new() }
    }
}

/// The rules of one service.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    /// Those of its own.
    pub(super) policy: Rc<Policy>,
    /// Those of hosts.allow and hosts.deny, if it asks them.
    pub(super) hosts: Option<Rc<Hosts>>,
}

impl Admittance {
    /// Takes those of a new configuration.
    pub(super) fn replace(&mut self, beside: Beside) {
        let Beside { tables, zone, zone_bytes, hosts } = beside;
        (self.tables, self.zone, self.zone_bytes, self.hosts) = (tables, zone, zone_bytes, hosts);
    }

    /// Takes the sets and hosts files alone.
    pub(super) fn replace_lists(&mut self, beside: Beside) {
        self.tables.replace_sets(beside.tables);
        self.hosts = beside.hosts;
    }

    /// The rules of a service; `before`: as they were, for the same settings.
    pub(super) fn rules(&self, settings: &settings::Service, before: Option<&Rc<Policy>>) -> Rules {
        let policy = before.map_or_else(|| Rc::new(Policy::new(&settings.access)), Rc::clone);
        let hosts = beside::hosts_of(&self.hosts, &settings.access).map(Rc::clone);
        Rules { policy, hosts }
    }
}

impl Supervisor {
    /// Asks the kernel for this host's addresses. What can't be asked stays as it was.
    pub(super) fn refresh_interfaces(&mut self) {
        match interfaces::own() {
            Ok(interfaces) => self.admittance.interfaces = interfaces,
            Err(error) => {
                let text = format!(
                    "`local` and `link` of rules may be out of date: the kernel does not say this host's addresses: {error}"
                );
                self.note(Level::Warning, &text);
            }
        }
    }
}
