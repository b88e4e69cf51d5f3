//! `superctl explain`, answered from what is in force: rules, tables, addresses, bans and limits.
//!
//! Nothing is asked of anybody for it, and nothing is counted.

use std::time::SystemTime;

use crate::model::address::Source;
use crate::protocol::explain::answer::{Judges, answer};
use crate::protocol::explain::asked::Asked;
use crate::protocol::explain::{Explained, Question, Standing};
use crate::service::admission::ServiceKey;
use crate::service::reason::Reason;

use super::Supervisor;

impl Supervisor {
    /// What would become of a client. The error is for the admin.
    pub(super) fn explain(&mut self, question: &Question) -> Result<Explained, String> {
        let key = self.services.by_name(&question.service);
        let found = key.and_then(|key| Some((key, self.services.get(key)?)));
        let (key, service) = found.ok_or_else(|| format!("there is no service `{}`", question.service))?;
        let now = SystemTime::now();
        let asked = Asked::read(question, &self.admittance.zone, now)?;
        let judges = Judges {
            policy: &service.rules.policy,
            hosts: service.rules.hosts.as_ref().map(|hosts| &hosts.tables),
            tables: &self.admittance.tables,
            interfaces: &self.admittance.interfaces,
        };
        let mut explained = answer(question, &asked, &service.settings, &judges, now);
        if asked.at.is_none() {
            self.add_standing(&mut explained, key, &asked);
        }
        Ok(explained)
    }

    /// Bans and limits come before the rules, as they do for a connection.
    fn add_standing(&mut self, explained: &mut Explained, key: ServiceKey, asked: &Asked) {
        let Some(service) = self.services.get(key) else { return };
        let (settings, place) = (service.settings.clone(), service.place.clone());
        let (state, reason, _) = self.state_of(key, service);
        let source = Source::of(&asked.client, settings.limits.source_prefix);
        let ban = self.ban_of(&settings.name, &asked.client).map(|ban| self.ban_status(&ban));
        let moment = self.moment();
        let limit = self.admission.would_refuse(key, &settings.limits, source, moment);
        // A full service lets its clients wait, unless it is told to close.
        let limit = limit.filter(|_| self.queued_by(key).is_none());
        if let Some(reason) = ban.as_ref().map(|_| Reason::Ban).or(limit) {
            explained.allowed = false;
            explained.reason = Some(reason.word().to_owned());
            explained.rule = Some(place);
            explained.doubt = None;
        }
        explained.now = Some(Standing {
            state: state.to_owned(),
            reason,
            sessions: self.admission.sessions(key),
            of_source: self.admission.of_source(key, source),
            per_source: settings.limits.per_source,
            ban,
        });
    }
}
