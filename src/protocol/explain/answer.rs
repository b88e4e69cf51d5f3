//! Answering: the daemon's own judge, with a trace that writes, and facts that the admin has told.

use std::time::SystemTime;

use crate::config::settings::Service;
use crate::model::client::Client;
use crate::model::host::HostName;
use crate::policy::explain::{self, Outcome, explain};
use crate::policy::hosts_access::request::{self as hosts, End, Need};
use crate::policy::hosts_access::{Answer, Because, Decision, Tables as HostsTables, Verdict};
use crate::policy::judge::Policy;
use crate::policy::request::{Fact, Interfaces, Naming, Request, User};
use crate::policy::tables::Tables;
use crate::policy::truth::{Cause, Needs};

use super::asked::{Asked, Name};
use super::{Explained, Question, Step};

/// What a service judges its clients by.
#[derive(Debug, Clone, Copy)]
pub struct Judges<'j> {
    /// Its rules.
    pub policy: &'j Policy,
    /// hosts.allow and hosts.deny, if it asks them.
    pub hosts: Option<&'j HostsTables>,
    /// What the rules' names stand for.
    pub tables: &'j Tables,
    /// This host's addresses.
    pub interfaces: &'j Interfaces,
}

/// What would become of the client?
pub fn answer(
    question: &Question,
    asked: &Asked,
    service: &Service,
    judges: &Judges<'_>,
    now: SystemTime,
) -> Explained {
    let mut explained = Explained {
        service: question.service.clone(),
        client: shown(asked, &question.client),
        ..Explained::default()
    };
    ask_rules(&mut explained, asked, judges, asked.at.unwrap_or(now));
    if let Some(tables) = judges.hosts.filter(|_| explained.allowed) {
        ask_hosts(&mut explained, asked, tables, daemon(service));
    }
    explained
}

/// The name by which hosts.allow knows a service: that of its program, as it was with tcpd.
pub fn daemon(service: &Service) -> &str {
    let program = service.program().and_then(|program| program.path.file_name()?.to_str());
    program.unwrap_or(service.name.as_str())
}

/// The client without a port that nobody told.
fn shown(asked: &Asked, said: &str) -> String {
    match asked.client {
        Client::Inet(address) if address.port() == 0 => address.ip().to_string(),
        Client::User { .. } if asked.uid.is_none() => said.to_owned(),
        client => client.to_string(),
    }
}

/// What is known of the client so far.
struct Facts<'f> {
    names: Option<Fact<Naming<'f>>>,
    user: Fact<User<'f>>,
    ident: Fact<&'f str>,
}

impl<'f> Facts<'f> {
    fn told(asked: &'f Asked, interfaces: &Interfaces) -> Self {
        let names = asked.name.as_ref().map(|name| {
            Fact::Known(match name {
                Name::Confirmed(name) => Naming::Confirmed(std::slice::from_ref::<HostName>(name)),
                Name::None => Naming::NoName,
                Name::Mismatch => Naming::Mismatch,
            })
        });
        let known = asked.uid.map(|uid| Fact::Known(User { uid, groups: &[] }));
        let (user, ident) = match asked.client {
            Client::User { .. } => (known.unwrap_or(Fact::Failed), None),
            // Of a client elsewhere the kernel knows no user.
            Client::Inet(address) if !interfaces.is_local(address.ip()) => {
                (Fact::NotAsked, asked.user.as_deref())
            }
            Client::Inet(_) => (known.unwrap_or(Fact::NotAsked), asked.user.as_deref()),
        };
        Self { names, user, ident: ident.map_or(Fact::NotAsked, Fact::Known) }
    }

    /// Nobody says: as if it had been asked in vain.
    fn fail(&mut self, needs: Needs) {
        if needs.user {
            self.user = Fact::Failed;
        } else if needs.name {
            self.names = Some(Fact::Failed);
        } else {
            self.ident = Fact::Failed;
        }
    }
}

/// Asks the judge, until nothing is open.
fn ask_rules(explained: &mut Explained, asked: &Asked, judges: &Judges<'_>, moment: SystemTime) {
    let mut facts = Facts::told(asked, judges.interfaces);
    loop {
        let request = Request {
            name: facts.names.unwrap_or(Fact::NotAsked),
            user: facts.user,
            ident: facts.ident,
            ..Request::new(asked.client, moment, judges.interfaces)
        };
        let explanation = explain(judges.policy, &request, judges.tables);
        if let Outcome::Need(needs) = explanation.outcome {
            let needs = needs.cheapest();
            explained.untold.push(needs.words());
            facts.fail(needs);
            continue;
        }
        let is_open = explanation.steps.iter().any(|step| step.answer == "unknown");
        if is_open && facts.user == Fact::Failed && asked.client.address().is_none() {
            explained.untold.push(Needs::USER.words());
        }
        explained.steps = explanation.steps.into_iter().map(Step::from).collect();
        return conclude(explained, explanation.outcome);
    }
}

fn conclude(explained: &mut Explained, outcome: Outcome) {
    match outcome {
        Outcome::Allow { place, observed } => {
            explained.allowed = true;
            explained.rule = place;
            explained.observed = observed;
        }
        Outcome::Deny { cause, place, doubt } => {
            explained.reason = Some(cause.word().to_owned());
            explained.rule = Some(place);
            explained.doubt = doubt.map(str::to_owned);
        }
        Outcome::Need(needs) => explained.doubt = Some(needs.words()),
    }
}

impl From<explain::Step> for Step {
    fn from(step: explain::Step) -> Self {
        let explain::Step { place, part, answer, because } = step;
        Self { place: Some(place), part, answer: answer.to_owned(), because }
    }
}

/// Asks hosts.allow and hosts.deny, until nothing is open.
fn ask_hosts(explained: &mut Explained, asked: &Asked, tables: &HostsTables, daemon: &str) {
    let request = hosts::Request { daemon, client: asked.client.address(), local: None };
    let mut facts = hosts::Facts {
        client_name: asked.name.as_ref().map(|name| match name {
            Name::Confirmed(name) => hosts::Naming::Confirmed(vec![name.clone()]),
            Name::None => hosts::Naming::Unknown,
            Name::Mismatch => hosts::Naming::Paranoid,
        }),
        user: asked.user.as_deref().map(hosts::User::named),
        ..hosts::Facts::default()
    };
    loop {
        let untold = match tables.decide(&request, &facts) {
            Answer::Decided(decision) => return conclude_hosts(explained, &decision),
            Answer::Need(Need::Name(End::Client)) => {
                facts.client_name = Some(hosts::Naming::Failed);
                "the name".to_owned()
            }
            Answer::Need(Need::Name(End::Local)) => {
                facts.local_name = Some(hosts::Naming::Failed);
                "the name of the local address".to_owned()
            }
            Answer::Need(Need::User(_)) => {
                facts.user = Some(hosts::User::Failed);
                "the ident answer".to_owned()
            }
            Answer::Need(Need::Netgroup(netgroup)) => {
                let doubt = format!("who is in the netgroup {} was not asked", netgroup.group);
                return leave_open(explained, doubt);
            }
        };
        if !explained.untold.contains(&untold) {
            explained.untold.push(untold);
        }
    }
}

/// What can't be told lets nobody in.
fn leave_open(explained: &mut Explained, doubt: String) {
    explained.allowed = false;
    explained.reason = Some(Cause::Undecided.word().to_owned());
    explained.doubt = Some(doubt.clone());
    let (part, answer) = ("hosts_access".to_owned(), "unknown".to_owned());
    explained.steps.push(Step { place: None, part, answer, because: Some(doubt) });
}

fn conclude_hosts(explained: &mut Explained, decision: &Decision<'_>) {
    let (place, because, cause) = match decision.because {
        Because::Rule(place) => (Some(place.clone()), None, Cause::Name),
        Because::Undecided(place) => {
            (Some(place.clone()), Some("a look-up failed".to_owned()), Cause::Undecided)
        }
        Because::Unreadable(path) => (None, Some(format!("{path} can't be read")), Cause::Name),
        Because::NoRule => (None, Some("no rule matches".to_owned()), Cause::Name),
    };
    let word = match decision.verdict {
        Verdict::Allow => "allow",
        Verdict::Deny => "deny",
        Verdict::Twist(_) => "twist",
    };
    if decision.verdict == Verdict::Deny {
        explained.allowed = false;
        explained.reason = Some(cause.word().to_owned());
        explained.doubt.clone_from(&because);
    }
    if place.is_some() {
        explained.rule.clone_from(&place);
    }
    let (part, answer) = ("hosts_access".to_owned(), word.to_owned());
    explained.steps.push(Step { place, part, answer, because });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::access::{Access, Action, Clauses, Placed, Rule, Rules};
    use crate::model::place::Place;
    use crate::protocol::explain::Question;
    use jiff::tz::TimeZone;

    fn clause<T>(line: u32, value: T) -> Placed<T> {
        Placed { place: Place { file: "x.toml".to_owned(), line }, value }
    }

    fn list<T: std::str::FromStr>(texts: &[&str]) -> Vec<T> {
        texts.iter().filter_map(|text| text.parse().ok()).collect()
    }

    fn short(deny: &[&str], allow: &[&str], users: &[&str]) -> Rules {
        let users: Vec<_> = users
            .iter()
            .map(|name| crate::model::user::UserPattern::User { word: (*name).to_owned(), uid: 7 })
            .collect();
        Rules::Short(Clauses {
            deny: (!deny.is_empty()).then(|| clause(1, list(deny))),
            allow: (!allow.is_empty()).then(|| clause(2, list(allow))),
            users: (!users.is_empty()).then(|| clause(3, users)),
            hours: None,
        })
    }

    #[track_caller]
    fn check(rules: &Rules, question: &Question, expected: &str, untold: &[&str]) {
        let access = Access { rules: rules.clone(), ..Access::default() };
        let (tables, interfaces) = (Tables::default(), Interfaces::default());
        let judges =
            Judges { policy: &Policy::new(&access), hosts: None, tables: &tables, interfaces: &interfaces };
        let asked = Asked::read(question, &TimeZone::UTC, SystemTime::UNIX_EPOCH).unwrap();
        let mut explained = Explained::default();
        ask_rules(&mut explained, &asked, &judges, SystemTime::UNIX_EPOCH);
        let verdict = match (&explained.reason, &explained.rule) {
            (None, _) if explained.allowed => "allowed".to_owned(),
            (reason, rule) => {
                format!("{} {}", reason.as_deref().unwrap_or("?"), rule.as_ref().map_or(0, |r| r.line))
            }
        };
        assert_eq!(
            (verdict.as_str(), &explained.untold[..]),
            (expected, &untold.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>()[..]),
            "{question:?}"
        );
    }

    fn who(client: &str) -> Question {
        Question { client: client.to_owned(), ..Question::default() }
    }

    fn named(client: &str, name: &str) -> Question {
        Question { name: Some(name.to_owned()), ..who(client) }
    }

    #[test]
    fn what_is_not_told_is_unknown() {
        let names = short(&["192.0.2.1"], &[".example.org", "192.0.2.9"], &[]);
        check(&names, &who("192.0.2.1"), "address 1", &[]);
        check(&names, &who("192.0.2.9"), "allowed", &[]);
        check(&names, &who("192.0.2.2"), "undecided 2", &["the name"]);
        check(&names, &named("192.0.2.2", "a.example.org"), "allowed", &[]);
        check(&names, &named("192.0.2.2", "unknown"), "name 2", &[]);
        check(&names, &named("192.0.2.2", "paranoid"), "name 2", &[]);
        let users = short(&[], &[], &["operator"]);
        check(&users, &who("uid:7"), "allowed", &[]);
        check(&users, &who("uid:8"), "user 3", &[]);
        check(&users, &who("unix"), "undecided 3", &["the user"]);
        check(&users, &who("127.0.0.1"), "undecided 3", &["the user"]);
        check(&users, &Question { uid: Some(7), ..who("127.0.0.1") }, "allowed", &[]);
        check(&users, &Question { uid: Some(7), ..who("192.0.2.1") }, "undecided 3", &[]);
    }

    #[test]
    fn rules_are_named() {
        let rule = |line, from: &str, action| Rule {
            place: Place { file: "x.toml".to_owned(), line },
            from: Some(vec![from.parse().unwrap()]),
            users: None,
            hours: None,
            action,
            observe: false,
            banner: None,
            log: None,
        };
        let rules = vec![rule(5, "192.0.2.0/24", Action::Allow), rule(9, ".bad.example", Action::Deny)];
        let otherwise = Placed { place: Place { file: "x.toml".to_owned(), line: 12 }, value: Action::Allow };
        let rules = Rules::Ordered { rules, otherwise };
        check(&rules, &who("192.0.2.1"), "allowed", &[]);
        check(&rules, &who("198.51.100.1"), "undecided 9", &["the name"]);
        check(&rules, &named("198.51.100.1", "a.bad.example"), "name 9", &[]);
        check(&rules, &named("198.51.100.1", "a.good.example"), "allowed", &[]);
    }
}
