//! Built-in services that need no byte from their client: daytime, time and qotd on connections, and the decoy,
//! which has no answer.
//!
//! The answer is one send into the empty buffer of a fresh connection, which can't block. A session begins and
//! ends with it, and has one line in the log.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use jiff::Timestamp;

use crate::config::settings::{self, Builtin};
use crate::model::address::Source;
use crate::model::client::Client;
use crate::model::offence::Offence;
use crate::model::session::SessionId;
use crate::protocol::builtin;
use crate::service::admission::ServiceKey;
use crate::service::record::Event;
use crate::sys::socket;

use super::Supervisor;

impl Supervisor {
    /// Answers a client, and closes.
    pub(super) fn answer_at_once(
        &mut self,
        key: ServiceKey,
        settings: &Rc<settings::Service>,
        builtin: &Builtin,
        (connection, client, local): (OwnedFd, Client, Option<SocketAddr>),
    ) {
        self.serial += 1;
        let now = Timestamp::now().to_zoned(self.admittance.zone.clone());
        // Quotes are picked by the clock: nobody gains from guessing one.
        let pick = u64::try_from(now.timestamp().subsec_nanosecond()).unwrap_or(0) / 1000;
        let answer = builtin::answer(builtin, &now, pick);
        let sent = socket::send_now(connection.as_fd(), &answer);
        // Bytes that nobody has read would make the close a reset, which destroys the answer.
        socket::discard(connection.as_fd());
        drop(connection);
        if let Some(service) = self.services.get_mut(key) {
            service.started += 1;
        }
        if settings.log.success {
            let session = SessionId { epoch: self.epoch, serial: self.serial };
            let sent = u64::try_from(sent).unwrap_or(0);
            self.log_session(settings, Event::Answered { session, client, local, sent });
        }
        // Only who has made a connection over tcp has an address that is its own.
        if let (Builtin::Sensor, Client::Inet(_)) = (builtin, client) {
            let source = Source::of(&client, settings.limits.source_prefix);
            self.count_offence(key, &client, source, Offence::Sensor);
        }
    }
}
