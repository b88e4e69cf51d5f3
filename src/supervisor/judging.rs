//! Judging clients: an admitted connection is let in, refused, or waits aside until what its rules depend on is
//! known. The loop never waits with it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use crate::config::settings;
use crate::model::address::Source;
use crate::model::client::Client;
use crate::model::label::Label;
use crate::model::place::Place;
use crate::policy::judge::Verdict;
use crate::policy::request::{Fact, Interfaces, Request, User};
use crate::policy::truth::Needs;
use crate::protocol::ident::Reply;
use crate::protocol::resolve::{Answer, Named, Question};
use crate::service::admission::ServiceKey;
use crate::service::reason::Reason;
use crate::service::record::Event;
use crate::sys::sock_diag::{Owner, SocketTables};
use crate::sys::socket;

use super::Supervisor;
use super::admittance::{Admittance, Rules};
use super::timers::{Due, TimerId};

/// Connections that may wait for answers, over all services, and of one source.
const MOST: usize = 1024;
const MOST_OF_SOURCE: usize = 16;

/// How long the name service and a client's ident server have.
const NAME_WITHIN: Duration = Duration::from_secs(5);
const IDENT_WITHIN: Duration = Duration::from_secs(3);

/// What the resolver may be late by: it has a deadline of its own.
const LATE: Duration = Duration::from_secs(1);

/// A connection that is counted in its limits, on its way to be served.
#[derive(Debug)]
pub(super) struct Admitted {
    pub(super) service: ServiceKey,
    pub(super) settings: Rc<settings::Service>,
    pub(super) connection: OwnedFd,
    pub(super) client: Client,
    pub(super) local: Option<SocketAddr>,
    pub(super) source: Source,
    pub(super) facts: Facts,
    /// Those by which it is let in, if they are to end it.
    pub(super) hours: Option<Label>,
}

/// What is known of a client.
#[derive(Debug, Default)]
pub(super) struct Facts {
    name: Option<Named>,
    user: Option<Result<u32, ()>>,
    ident: Option<Reply>,
}

/// A connection that waits for an answer.
#[derive(Debug)]
struct Pending {
    admitted: Admitted,
    rules: Rules,
    timer: TimerId,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Judging {
    /// By the numbers of their questions.
    pending: HashMap<u64, Pending>,
    serial: u64,
}

/// What becomes of a connection; a verdict without its loans.
enum Ruling {
    Serve { hours: Option<Label> },
    Refuse { reason: Reason, rule: Place, banner: Option<Vec<u8>>, log: Option<bool> },
    Ask(Needs),
}

impl Facts {
    pub(super) fn request<'r>(
        &'r self,
        client: Client,
        local: Option<SocketAddr>,
        interfaces: &'r Interfaces,
    ) -> Request<'r> {
        let user = match (client, &self.user) {
            (Client::User { uid, .. }, _) | (_, &Some(Ok(uid))) => Fact::Known(User { uid, groups: &[] }),
            (_, Some(Err(()))) => Fact::Failed,
            (_, None) => Fact::NotAsked,
        };
        Request {
            local,
            name: self.name.as_ref().map_or(Fact::NotAsked, Named::fact),
            user,
            ident: self.ident.as_ref().map_or(Fact::NotAsked, Reply::fact),
            ..Request::new(client, SystemTime::now(), interfaces)
        }
    }

    /// The confirmed name, and the ident server's word, for the program.
    pub(super) fn names(&self) -> [Option<String>; 2] {
        let name = match &self.name {
            Some(Named::Confirmed(name)) => Some(name.to_string()),
            _ => None,
        };
        let info = match &self.ident {
            Some(Reply::User(name)) => Some(name.to_string()),
            _ => None,
        };
        [name, info]
    }
}

impl Judging {
    /// Connections that wait for answers.
    pub(super) fn waiting(&self) -> usize {
        self.pending.len()
    }

    fn of_source(&self, source: Source) -> usize {
        self.pending.values().filter(|pending| pending.admitted.source == source).count()
    }
}

impl Supervisor {
    /// Judges a connection that was counted, and does what the verdict says.
    pub(super) fn judge(&mut self, admitted: Admitted) {
        if admitted.settings.access.is_open() {
            return self.serve(admitted);
        }
        if socket::has_source_route(admitted.connection.as_fd()) {
            let rule = admitted.settings.place.clone();
            return self.refuse_by_rule(admitted, Reason::SourceRoute, &rule, None, None);
        }
        let Some(rules) = self.services.get(admitted.service).map(|service| service.rules.clone()) else {
            return self.serve(admitted);
        };
        self.judge_by(admitted, rules);
    }

    fn judge_by(&mut self, mut admitted: Admitted, rules: Rules) {
        loop {
            match self.ruling(&admitted, &rules) {
                Ruling::Serve { hours } => return self.serve(Admitted { hours, ..admitted }),
                Ruling::Refuse { reason, rule, banner, log } => {
                    return self.refuse_by_rule(admitted, reason, &rule, banner.as_deref(), log);
                }
                Ruling::Ask(needs) if needs.cheapest().user => self.ask_user(&mut admitted),
                Ruling::Ask(needs) => return self.ask(admitted, rules, needs),
            }
        }
    }

    fn ruling(&mut self, admitted: &Admitted, rules: &Rules) -> Ruling {
        let Admittance { interfaces, tables, .. } = &self.admittance;
        let request = admitted.facts.request(admitted.client, admitted.local, interfaces);
        match rules.policy.judge(&request, tables) {
            Verdict::Allow { rule, observed } => {
                let hours =
                    rules.policy.hours(rule).filter(|_| admitted.settings.access.end_sessions).cloned();
                let places: Vec<Place> = observed.into_iter().map(|rule| rule.place.clone()).collect();
                for rule in &places {
                    let event = Event::Observed { client: admitted.client, rule };
                    self.log_session(&admitted.settings, event);
                }
                Ruling::Serve { hours }
            }
            Verdict::Deny { cause, place, rule, .. } => Ruling::Refuse {
                reason: cause.into(),
                rule: place.clone(),
                banner: rule.and_then(|rule| rule.banner.clone()),
                log: rule.and_then(|rule| rule.log),
            },
            Verdict::Need(needs) => Ruling::Ask(needs),
        }
    }

    /// The kernel knows it at once: nobody waits for that.
    fn ask_user(&mut self, admitted: &mut Admitted) {
        let found = match (admitted.client, admitted.local) {
            (Client::Inet(client), Some(local)) if self.admittance.interfaces.is_local(client.ip()) => {
                self.owner_of(client, local)
            }
            _ => Err(()),
        };
        admitted.facts.user = Some(found);
    }

    fn owner_of(&mut self, client: SocketAddr, local: SocketAddr) -> Result<u32, ()> {
        if self.socket_tables.is_none() {
            self.socket_tables = SocketTables::open().ok();
        }
        match self.socket_tables.as_mut().map(|tables| tables.owner(client, local)) {
            Some(Ok(Owner::User(uid))) => Ok(uid),
            Some(Ok(Owner::NotFound | Owner::Unsure)) | None => Err(()),
            Some(Err(_)) => {
                self.socket_tables = None;
                Err(())
            }
        }
    }

    /// Has the resolver ask; the connection waits aside.
    fn ask(&mut self, mut admitted: Admitted, rules: Rules, needs: Needs) {
        let by_name = needs.cheapest().name;
        let crowded =
            self.judging.pending.len() >= MOST || self.judging.of_source(admitted.source) >= MOST_OF_SOURCE;
        self.judging.serial += 1;
        let id = self.judging.serial;
        let question = match (admitted.client, admitted.local) {
            _ if crowded => None,
            (Client::Inet(client), _) if by_name => {
                Some(Question::Name { id, address: client.ip().to_canonical(), within: NAME_WITHIN })
            }
            (Client::Inet(client), Some(local)) => {
                Some(Question::Ident { id, client, local, within: IDENT_WITHIN })
            }
            _ => None,
        };
        if !question.is_some_and(|question| self.ask_resolver(&question)) {
            admitted.facts.fail(by_name);
            return self.judge_by(admitted, rules);
        }
        let within = if by_name { NAME_WITHIN } else { IDENT_WITHIN };
        let timer = self.timers.set(self.now + within + LATE, Due::AnswerLate(id));
        self.judging.pending.insert(id, Pending { admitted, rules, timer });
    }

    /// The resolver has answered.
    pub(super) fn on_resolved(&mut self, answer: Answer) {
        let (id, name, ident) = match answer {
            Answer::Ready => return,
            Answer::Name { id, named } => (id, Some(named), None),
            Answer::Ident { id, reply } => (id, None, Some(reply)),
        };
        // One that came too late is about nobody.
        let Some(mut pending) = self.take_pending(id) else { return };
        if name.is_some() {
            pending.admitted.facts.name = name;
        }
        if ident.is_some() {
            pending.admitted.facts.ident = ident;
        }
        self.judge_by(pending.admitted, pending.rules);
    }

    /// There is no answer, and none comes any more.
    pub(super) fn answer_is_late(&mut self, id: u64) {
        let Some(mut pending) = self.take_pending(id) else { return };
        let by_name = pending.admitted.facts.name.is_none();
        pending.admitted.facts.fail(by_name);
        self.judge_by(pending.admitted, pending.rules);
    }

    fn take_pending(&mut self, id: u64) -> Option<Pending> {
        let pending = self.judging.pending.remove(&id)?;
        self.timers.cancel(pending.timer);
        Some(pending)
    }

    /// superd ends, or the resolver is gone: nobody waits any longer.
    pub(super) fn fail_all_questions(&mut self) {
        let ids: Vec<u64> = self.judging.pending.keys().copied().collect();
        for id in ids {
            self.answer_is_late(id);
        }
    }

    /// Refuses a connection that was counted.
    fn refuse_by_rule(
        &mut self,
        admitted: Admitted,
        reason: Reason,
        rule: &Place,
        banner: Option<&[u8]>,
        log: Option<bool>,
    ) {
        if log.unwrap_or(admitted.settings.log.failure) {
            let told = admitted.facts.name.as_ref().map(Named::told);
            let who = (admitted.client, admitted.source);
            self.log_ruling(admitted.service, who, reason, rule, told);
        }
        if let Some(service) = self.services.get_mut(admitted.service) {
            service.count_refusal(reason);
        }
        self.give_back(admitted.service, Some(admitted.source));
        if let Some(banner) = banner.or(admitted.settings.banners.refuse.as_deref()) {
            self.farewells.say(admitted.connection, banner, self.now);
        }
    }
}

impl Facts {
    fn fail(&mut self, by_name: bool) {
        if by_name {
            self.name = Some(Named::Failed);
        } else {
            self.ident = Some(Reply::Failed);
        }
    }
}
