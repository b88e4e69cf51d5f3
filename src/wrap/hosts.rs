//! hosts.allow and hosts.deny: asked as libwrap is, and what they ask in turn found out.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use nix::unistd::{Uid, User as Account};

use crate::model::place::Place;
use crate::policy::hosts_access::expand::{Template, Values};
use crate::policy::hosts_access::options::Action;
use crate::policy::hosts_access::request::{
    End, Facts as Known, Member, Naming, Need, Netgroup, Request, User,
};
use crate::policy::hosts_access::{Answer, Because, Decision, Tables, Verdict};
use crate::policy::request::Interfaces;
use crate::protocol::ident::Reply;
use crate::protocol::resolve::Named;
use crate::service::reason::Reason;
use crate::sys::{netgroup, process};

use super::Start;
use super::asking;
use super::client::Visit;
use super::facts::Facts;
use super::nss::{self, Database};

/// More questions than any request has: each is asked once.
const MOST_QUESTIONS: usize = 64;

/// What the tables say, and what that was made of: commands are filled in with it.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// What is done, in this order.
    pub(super) actions: Vec<Action>,
    /// In place of the program.
    pub(super) twist: Option<Template>,
    daemon: String,
    client: Option<SocketAddr>,
    local: Option<SocketAddr>,
    known: Known,
}

/// Who is refused by the tables, and why.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) reason: Reason,
    pub(super) rule: Option<Place>,
    pub(super) outcome: Outcome,
}

/// What the tables say. An error is one of this machine.
pub(super) fn ask(
    tables: &Tables,
    visit: &Visit,
    facts: &mut Facts,
    interfaces: &Interfaces,
    start: &Start,
    until: Instant,
) -> Result<Result<Outcome, Refused>, String> {
    let daemon = start.arguments.service.clone();
    let (client, local) = (visit.client.address(), visit.local);
    let request = Request { daemon: &daemon, client, local };
    let mut known = Known::default();
    for _ in 0..MOST_QUESTIONS {
        match tables.decide(&request, &known) {
            Answer::Need(need) => learn(need, &mut known, visit, facts, interfaces, start, until)?,
            Answer::Decided(decision) => {
                let (verdict, reason, rule) = read(&decision, &known);
                let actions = decision.actions.to_vec();
                let twist = match decision.verdict {
                    Verdict::Twist(command) => Some(command.clone()),
                    _ => None,
                };
                let outcome = Outcome { actions, twist, daemon: daemon.clone(), client, local, known };
                return Ok(if verdict { Ok(outcome) } else { Err(Refused { reason, rule, outcome }) });
            }
        }
    }
    Err("the hosts files ask without an end".to_owned())
}

/// Is it let in; if not, why; and by which line?
fn read(decision: &Decision<'_>, known: &Known) -> (bool, Reason, Option<Place>) {
    let by_what = match known {
        Known { user: Some(_), .. } => Reason::User,
        Known { client_name: Some(_), .. } => Reason::Name,
        _ => Reason::Address,
    };
    let (reason, rule) = match decision.because {
        Because::Rule(place) => (by_what, Some(place.clone())),
        Because::Undecided(place) => (Reason::Undecided, Some(place.clone())),
        Because::Unreadable(path) => (Reason::Undecided, Some(Place { file: path.to_owned(), line: 1 })),
        Because::NoRule => (by_what, None),
    };
    (decision.verdict != Verdict::Deny, reason, rule)
}

fn learn(
    need: Need,
    known: &mut Known,
    visit: &Visit,
    facts: &mut Facts,
    interfaces: &Interfaces,
    start: &Start,
    until: Instant,
) -> Result<(), String> {
    match need {
        Need::Name(End::Client) => known.client_name = Some(naming(facts.ask_name(visit, start, until)?)),
        Need::Name(End::Local) => {
            let named = match visit.local {
                Some(local) => asking::name(local.ip().to_canonical(), start, until)?,
                None => Named::NoName,
            };
            known.local_name = Some(naming(&named));
        }
        Need::User(within) => {
            let until = within.map_or(until, |within: Duration| until.min(Instant::now() + within));
            known.user = Some(user(visit, facts, interfaces, start, until)?);
        }
        Need::Netgroup(asked) => {
            nss::need(Database::Netgroups, start)?;
            let Netgroup { group, member } = &asked;
            let is_in = match member {
                Member::Host(host) => netgroup::has_host(group, host),
                Member::User(user) => netgroup::has_user(group, user),
            };
            known.netgroups.push((asked, Some(is_in)));
        }
    }
    Ok(())
}

fn naming(named: &Named) -> Naming {
    match named {
        Named::Confirmed(name) => Naming::confirmed([name.as_str()]),
        Named::NoName => Naming::Unknown,
        Named::Mismatch(_) => Naming::Paranoid,
        Named::Failed => Naming::Failed,
    }
}

/// The kernel's word where it has one; else that of the client's own machine, as with libwrap.
fn user(
    visit: &Visit,
    facts: &mut Facts,
    interfaces: &Interfaces,
    start: &Start,
    until: Instant,
) -> Result<User, String> {
    if let Ok(uid) = facts.ask_user(visit, interfaces) {
        nss::need(Database::Users, start)?;
        return Ok(match Account::from_uid(Uid::from_raw(uid)) {
            Ok(Some(account)) => User::named(&account.name),
            Ok(None) => User::named(&uid.to_string()),
            Err(_) => User::Failed,
        });
    }
    Ok(match facts.ask_ident(visit, until) {
        Reply::User(name) => User::named(name.as_str()),
        Reply::NoUser => User::Unknown,
        Reply::Failed => User::Failed,
    })
}

impl Outcome {
    /// Fills a text in.
    pub(super) fn expand(&self, template: &Template) -> Result<String, String> {
        let request = Request { daemon: &self.daemon, client: self.client, local: self.local };
        let pid = process::own_pid().unsigned_abs();
        let values = Values { request: &request, facts: &self.known, pid };
        template.expand(&values).map_err(|error| error.to_string())
    }

    /// As libwrap knows it.
    pub(super) fn daemon(&self) -> &str {
        &self.daemon
    }
}
