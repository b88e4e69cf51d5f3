//! What the supervisor writes to its log: records about services and sessions, and the count of refusals.

use crate::config::settings::{self, Level};
use crate::model::address::Source;
use crate::model::client::Client;
use crate::model::place::Place;
use crate::service::admission::ServiceKey;
use crate::service::reason::Reason;
use crate::service::record::{Event, Record, Told};
use crate::service::refusals::{Refusal, WINDOW};

use super::Supervisor;
use super::judging::Severity;

impl Supervisor {
    /// An event of superd's own, at a level.
    pub(super) fn log_event(&mut self, level: Level, event: Event<'_>) {
        self.log.write(&Record { level, facility: None, service: None, event });
    }

    /// A line about a session, as its service wants it.
    pub(super) fn log_session(&mut self, settings: &settings::Service, event: Event<'_>) {
        let settings::ServiceLog { facility, level, .. } = settings.log;
        let level = level.unwrap_or_else(|| event.level());
        self.log.write(&Record { level, facility, service: Some(settings.name.as_str()), event });
    }

    /// A refusal: the first of its kind has a line at once, the others a summary.
    pub(super) fn log_refusal(&mut self, key: ServiceKey, client: Client, source: Source, reason: Reason) {
        let Some(service) = self.services.get(key) else { return };
        if service.settings.log.failure {
            let rule = service.place.clone();
            self.log_ruling(key, (client, source), (reason, &rule), None, Severity::default());
        }
    }

    /// The same of a refusal by a rule.
    pub(super) fn log_ruling(
        &mut self,
        key: ServiceKey,
        (client, source): (Client, Source),
        (reason, rule): (Reason, &Place),
        told: Option<Told<'_>>,
        severity: Severity,
    ) {
        let Some(service) = self.services.get(key) else { return };
        let settings = &service.settings;
        let refusal = Refusal {
            service: settings.name.as_str(),
            facility: severity.facility.or(settings.log.facility),
            source,
            client,
            reason,
            rule: Some(rule),
            told,
        };
        if let Some(record) = self.refusals.note(self.now, refusal) {
            let level = severity.level.unwrap_or(record.level);
            self.log.write(&Record { level, ..record });
        }
    }

    /// Writes the summaries that are due.
    pub(super) fn write_refusals(&mut self) {
        while let Some(record) = self.refusals.due(self.now) {
            self.log.write(&record);
        }
    }

    /// Writes all summaries, at the end of superd.
    pub(super) fn write_all_refusals(&mut self) {
        while let Some(record) = self.refusals.due(self.now + WINDOW) {
            self.log.write(&record);
        }
    }

    /// A line about the state of a service, or of superd.
    pub(super) fn log_state(
        &mut self,
        key: Option<ServiceKey>,
        state: &str,
        reason: Option<&str>,
        level: Level,
    ) {
        let settings = key.and_then(|key| self.services.get(key)).map(|service| &service.settings);
        let facility = settings.and_then(|settings| settings.log.facility);
        let service = settings.map(|settings| settings.name.as_str());
        let event = Event::State { state, reason, endpoint: None, retry: None };
        self.log.write(&Record { level, facility, service, event });
    }
}
