//! What the rules of all services are judged by: the tables of the configuration in force, and this host's
//! addresses as they are now.

use std::rc::Rc;
use std::time::SystemTime;

use jiff::tz::TimeZone;

use crate::config::settings::{self, Level};
use crate::model::client::Client;
use crate::model::pattern::ClientPattern;
use crate::policy::judge::Policy;
use crate::policy::matching;
use crate::policy::request::{Interfaces, Request};
use crate::policy::tables::Tables;
use crate::policy::truth::Truth;
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

    /// Is the client one of these? By what is known of it as soon as it connects: names are not.
    pub(super) fn is_among(&self, patterns: &[ClientPattern], client: &Client) -> bool {
        let request = Request::new(*client, SystemTime::UNIX_EPOCH, &self.interfaces);
        let matches = |pattern| matching::client(pattern, &request, &self.tables);
        patterns.iter().any(|pattern| matches!(matches(pattern), Truth::Yes(_)))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::table::Table;

    fn admittance() -> Admittance {
        let (own, link) = ("192.0.2.1".parse().unwrap(), "192.0.2.0/24".parse().unwrap());
        let mut admittance =
            Admittance { interfaces: Interfaces::new([own], [link]), ..Admittance::default() };
        let office = "198.51.100.0/24".parse().unwrap();
        admittance.tables.put_set("office".parse().unwrap(), Table::of(&[office]));
        admittance
    }

    #[test]
    fn who_is_never_banned_is_known_by_the_address() {
        let inet = |text: &str| -> Client { text.parse().unwrap() };
        let user = Client::User { uid: 7, gid: 7, pid: 1 };
        check("192.0.2.0/24", inet("192.0.2.7:1"), true);
        check("192.0.2.0/24", inet("198.51.100.7:1"), false);
        check("192.0.2.0/24", user, false);
        check("unix", user, true);
        check("unix", inet("192.0.2.7:1"), false);
        check("any", user, true);
        check("local", inet("127.0.0.9:1"), true);
        check("local", inet("192.0.2.1:1"), true);
        check("local", inet("192.0.2.7:1"), false);
        check("link", inet("192.0.2.7:1"), true);
        check("link", inet("198.51.100.7:1"), false);
        check("@office", inet("198.51.100.7:1"), true);
        check("@office", inet("192.0.2.7:1"), false);
        check("@missing", inet("192.0.2.7:1"), false);
        assert!(!admittance().is_among(&[], &user));
    }

    #[track_caller]
    fn check(pattern: &str, client: Client, expected: bool) {
        let found = admittance().is_among(&[pattern.parse().unwrap()], &client);
        assert_eq!(found, expected, "{pattern} {client}");
    }
}
