//! Judging clients: an admitted connection is let in, refused, or waits aside until what its rules depend on is
//! known. The loop never waits with it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use crate::config::settings::{self, Facility, Level};
use crate::model::address::Source;
use crate::model::client::Client;
use crate::model::label::Label;
use crate::model::place::Place;
use crate::policy::hosts_access::request::Netgroup;
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
use super::muxing;
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
    /// It came through tcpmux, and waits for that one's answer.
    pub(super) through_mux: bool,
    /// What hosts.allow has it launched with.
    pub(super) overrides: Option<String>,
    /// The banner of hosts.allow.
    pub(super) welcome: Vec<u8>,
    /// How hosts.allow or hosts.deny wants it logged.
    pub(super) severity: Severity,
    /// Rules that only observe have had their lines.
    pub(super) observed: bool,
    /// Those by which it is let in, if they are to end it.
    pub(super) hours: Option<Label>,
}

/// What the option `severity` says; what it does not is the service's.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Severity {
    pub(super) facility: Option<Facility>,
    pub(super) level: Option<Level>,
}

/// What is known of a client.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) name: Option<Named>,
    /// That of the address that was asked.
    pub(super) local_name: Option<Named>,
    user: Option<Result<u32, ()>>,
    pub(super) ident: Option<Reply>,
    /// No answer is none.
    pub(super) netgroups: Vec<(Netgroup, Option<bool>)>,
}

/// A connection that waits for an answer.
#[derive(Debug)]
struct Pending {
    admitted: Admitted,
    rules: Rules,
    subject: Subject,
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
pub(super) enum Ruling {
    Serve,
    /// The rules let it in, hosts.allow and hosts.deny are still to be asked.
    AskHosts,
    Refuse {
        reason: Reason,
        rule: Place,
        banner: Option<Vec<u8>>,
        log: Option<bool>,
    },
    Ask(Subject),
}

/// What the resolver is asked, or the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Subject {
    /// Whose process it is.
    User,
    /// The name of the client.
    Name,
    /// The name of the address that it asked.
    LocalName,
    /// Whether it, or its user, is in a netgroup.
    Netgroup(Netgroup),
    /// Its ident server, which has so long.
    Ident(Duration),
}

impl From<Needs> for Subject {
    fn from(needs: Needs) -> Self {
        match needs.cheapest() {
            Needs { user: true, .. } => Self::User,
            Needs { name: true, .. } => Self::Name,
            _ => Self::Ident(IDENT_WITHIN),
        }
    }
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
            let mut ruling = self.ruling(&mut admitted, &rules);
            if matches!(ruling, Ruling::AskHosts) {
                ruling = self.hosts_ruling(&mut admitted, &rules);
            }
            match ruling {
                Ruling::AskHosts => return,
                Ruling::Serve => return self.serve(admitted),
                Ruling::Refuse { reason, rule, banner, log } => {
                    return self.refuse_by_rule(admitted, reason, &rule, banner.as_deref(), log);
                }
                Ruling::Ask(Subject::User) => self.ask_user(&mut admitted),
                Ruling::Ask(subject) => return self.ask(admitted, rules, subject),
            }
        }
    }

    fn ruling(&mut self, admitted: &mut Admitted, rules: &Rules) -> Ruling {
        let Admittance { interfaces, tables, .. } = &self.admittance;
        let request = admitted.facts.request(admitted.client, admitted.local, interfaces);
        match rules.policy.judge(&request, tables) {
            Verdict::Allow { rule, observed } => {
                let hours =
                    rules.policy.hours(rule).filter(|_| admitted.settings.access.end_sessions).cloned();
                // It is judged again with every answer that hosts.allow wants.
                let said = std::mem::replace(&mut admitted.observed, true);
                let new = observed.into_iter().filter(|_| !said);
                let places: Vec<Place> = new.map(|rule| rule.place.clone()).collect();
                for rule in &places {
                    let event = Event::Observed { client: admitted.client, rule };
                    self.log_session(&admitted.settings, event);
                }
                admitted.hours = hours;
                if rules.hosts.is_some() { Ruling::AskHosts } else { Ruling::Serve }
            }
            Verdict::Deny { cause, place, rule, .. } => Ruling::Refuse {
                reason: cause.into(),
                rule: place.clone(),
                banner: rule.and_then(|rule| rule.banner.clone()),
                log: rule.and_then(|rule| rule.log),
            },
            Verdict::Need(needs) => Ruling::Ask(needs.into()),
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
    fn ask(&mut self, mut admitted: Admitted, rules: Rules, subject: Subject) {
        let crowded =
            self.judging.pending.len() >= MOST || self.judging.of_source(admitted.source) >= MOST_OF_SOURCE;
        self.judging.serial += 1;
        let id = self.judging.serial;
        let name = |address: SocketAddr| Question::Name {
            id,
            address: address.ip().to_canonical(),
            within: NAME_WITHIN,
        };
        let question = match (&subject, admitted.client, admitted.local) {
            _ if crowded => None,
            (Subject::Name, Client::Inet(client), _) => Some(name(client)),
            (Subject::LocalName, _, Some(local)) => Some(name(local)),
            (Subject::Netgroup(netgroup), ..) => {
                Some(Question::Netgroup { id, netgroup: netgroup.clone(), within: NAME_WITHIN })
            }
            (&Subject::Ident(within), Client::Inet(client), Some(local)) => {
                Some(Question::Ident { id, client, local, within })
            }
            _ => None,
        };
        if !question.is_some_and(|question| self.ask_resolver(question)) {
            admitted.facts.fail(&subject);
            return self.judge_by(admitted, rules);
        }
        let within = if let &Subject::Ident(within) = &subject { within } else { NAME_WITHIN };
        let timer = self.timers.set(self.now + within + LATE, Due::AnswerLate(id));
        self.judging.pending.insert(id, Pending { admitted, rules, subject, timer });
    }

    /// The resolver has answered.
    pub(super) fn on_resolved(&mut self, answer: Answer) {
        let id = match answer {
            Answer::Ready => return,
            Answer::Name { id, .. } | Answer::Netgroup { id, .. } | Answer::Ident { id, .. } => id,
        };
        // One that came too late is about nobody.
        let Some(mut pending) = self.take_pending(id) else { return };
        pending.admitted.facts.learn(&pending.subject, answer);
        self.judge_by(pending.admitted, pending.rules);
    }

    /// There is no answer, and none comes any more.
    pub(super) fn answer_is_late(&mut self, id: u64) {
        let Some(mut pending) = self.take_pending(id) else { return };
        pending.admitted.facts.fail(&pending.subject);
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
            self.log_ruling(admitted.service, who, (reason, rule), told, admitted.severity);
        }
        if let Some(service) = self.services.get_mut(admitted.service) {
            service.count_refusal(reason);
        }
        self.give_back(admitted.service, Some(admitted.source));
        let banner = banner.or(admitted.settings.banners.refuse.as_deref());
        if let Some(text) = muxing::farewell(admitted.through_mux, banner) {
            self.farewells.say(admitted.connection, &text, self.now);
        }
    }
}

impl Facts {
    /// An answer of another kind than the question is none.
    fn learn(&mut self, subject: &Subject, answer: Answer) {
        match (subject, answer) {
            (Subject::Name, Answer::Name { named, .. }) => self.name = Some(named),
            (Subject::LocalName, Answer::Name { named, .. }) => self.local_name = Some(named),
            (Subject::Netgroup(netgroup), Answer::Netgroup { is_member, .. }) => {
                self.netgroups.push((netgroup.clone(), is_member));
            }
            (Subject::Ident(_), Answer::Ident { reply, .. }) => self.ident = Some(reply),
            (subject, _) => self.fail(subject),
        }
    }

    fn fail(&mut self, subject: &Subject) {
        match subject {
            Subject::Name => self.name = Some(Named::Failed),
            Subject::LocalName => self.local_name = Some(Named::Failed),
            Subject::Ident(_) => self.ident = Some(Reply::Failed),
            Subject::Netgroup(netgroup) => self.netgroups.push((netgroup.clone(), None)),
            Subject::User => self.user = Some(Err(())),
        }
    }
}
