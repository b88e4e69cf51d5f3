//! Clients of tcpmux (RFC 1078) on their way to the service that they ask for.
//!
//! The handlers read the name and close their copy; superd has kept its own. The name is looked up here, among
//! the services that listen for it and no others, and the connection is taken in there as one from a listener
//! would be: banned, counted, judged. What is said before the other service's first byte is superd's.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use crate::config::settings::{self, Builtin, Serves};
use crate::model::address::{Source, SourcePrefix};
use crate::model::client::Client;
use crate::model::mux::MuxName;
use crate::service::admission::ServiceKey;
use crate::service::reason::Reason;

use super::Supervisor;
use super::accept::Entry;
use super::services::Service;
use super::sessions::{Phase, SessionKey};
use super::workers::WorkerKey;

/// The service begins behind it.
pub(super) const GO: &[u8] = b"+Go\r\n";

/// The service is there; who was refused learns no more of why.
const REFUSED: &[u8] = b"-Refused\r\n";

const UNKNOWN: &[u8] = b"-Service not available\r\n";

/// As much as surely goes into the empty buffer of a fresh connection.
const LONGEST_HELP: usize = 4096;

/// Does it lead to other services?
pub(super) fn is_mux(settings: &settings::Service) -> bool {
    matches!(settings.serves, Serves::Builtin(Builtin::TcpMux))
}

/// What a client that is refused is told; `None`: nothing.
pub(super) fn farewell(through_mux: bool, banner: Option<&[u8]>) -> Option<Vec<u8>> {
    let word = if through_mux { REFUSED } else { b"" };
    let text = [word, banner.unwrap_or_default()].concat();
    Some(text).filter(|text| !text.is_empty())
}

impl Supervisor {
    /// The handlers have read the name that a client asks for. `false`: they were not asked to.
    pub(super) fn on_name(
        &mut self,
        key: SessionKey,
        worker: WorkerKey,
        id: u64,
        name: Option<&MuxName>,
        received: u64,
    ) -> bool {
        let Some(session) = self.sessions.table.get_mut(key) else { return false };
        if session.phase != Phase::Running || !is_mux(&session.settings) {
            return false;
        }
        let (client, local, is_over) = (session.client, session.local, session.cause.is_some());
        let connection = session.connection.take();
        self.end_handed(key, Some((received, 0)), None);
        self.worker_lets_go(worker, id);
        if let (Some(connection), Some(client), false) = (connection, client, is_over || self.is_ending()) {
            self.lead(name, connection, client, local);
        }
        true
    }

    fn lead(
        &mut self,
        name: Option<&MuxName>,
        connection: OwnedFd,
        client: Client,
        local: Option<SocketAddr>,
    ) {
        if name.is_some_and(MuxName::is_help) {
            return self.farewells.say(connection, self.mux_help().as_bytes(), self.now);
        }
        let Some(service) = name.and_then(|name| self.service_behind_mux(name)) else {
            return self.farewells.say(connection, UNKNOWN, self.now);
        };
        if self.services.get(service).is_some_and(Service::is_resting) {
            let source = Source::of(&client, SourcePrefix::default());
            return self.refuse(service, connection, client, source, Reason::Launch, true);
        }
        self.look_at_load(service);
        self.take_in(service, connection, client, Entry::Mux(local));
        self.touched.push(service);
    }

    fn service_behind_mux(&self, name: &MuxName) -> Option<ServiceKey> {
        self.behind_mux().find(|(_, settings)| settings.mux_names.contains(name)).map(|(key, _)| key)
    }

    fn behind_mux(&self) -> impl Iterator<Item = (ServiceKey, &settings::Service)> {
        let all = self.services.iter().filter(|(_, service)| !service.is_gone && service.settings.enabled);
        all.map(|(key, service)| (key, &*service.settings))
    }

    /// All names, a line each, as far as they go into one send.
    fn mux_help(&self) -> String {
        let mut names: Vec<&str> =
            self.behind_mux().flat_map(|(_, settings)| &settings.mux_names).map(MuxName::as_str).collect();
        names.sort_unstable();
        let mut text = String::new();
        for name in names {
            if text.len() + name.len() + 2 > LONGEST_HELP {
                break;
            }
            text.push_str(name);
            text.push_str("\r\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_refused_learns_no_more_than_that() {
        let check = |through_mux, banner: Option<&str>, expected: Option<&str>| {
            let told = farewell(through_mux, banner.map(str::as_bytes));
            assert_eq!(told.as_deref(), expected.map(str::as_bytes));
        };
        check(false, None, None);
        check(false, Some("busy\n"), Some("busy\n"));
        check(true, None, Some("-Refused\r\n"));
        check(true, Some("busy\n"), Some("-Refused\r\nbusy\n"));
    }
}
