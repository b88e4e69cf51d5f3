//! The verdict: the rules of the policy, then hosts.allow and hosts.deny; what they depend on is found out on the way.

use std::time::{Instant, SystemTime};

use crate::model::pattern::ClientPattern;
use crate::policy::hosts_access;
use crate::policy::hosts_access::expand::Template;
use crate::policy::judge::Verdict;
use crate::policy::request::Interfaces;
use crate::protocol::ident::Reply;
use crate::protocol::resolve::Named;
use crate::service::reason::Reason;
use crate::sys::interfaces;

use super::Start;
use super::client::Visit;
use super::facts::Facts;
use super::hosts::{self, Outcome};
use super::journal::Journal;
use super::policy::{Rules, Service};
use super::refusal::Refusal;

/// A client that is let in.
#[derive(Debug, Default)]
pub(super) struct Admission {
    /// What the hosts files have done.
    pub(super) outcome: Outcome,
    /// In place of the program.
    pub(super) twist: Option<String>,
    /// What was found out, for the log.
    pub(super) told: Told,
}

/// Whom a client says, and is shown, to be.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) name: Option<String>,
    pub(super) user: Option<String>,
}

/// Judges until nothing more need be asked.
pub(super) fn judge(
    start: &Start,
    visit: &Visit,
    rules: &Rules,
    journal: &mut Journal,
    until: Instant,
) -> Result<Admission, Refusal> {
    let interfaces = interfaces_for(rules);
    let mut facts = Facts::default();
    if let Some(service) = &rules.service {
        overload(service)?;
        by_rules(service, start, visit, rules, &interfaces, &mut facts, journal, until)?;
    }
    let mut admission = Admission::default();
    if let Some(tables) = &rules.hosts {
        let said =
            hosts::ask(tables, visit, &mut facts, &interfaces, start, until).map_err(Refusal::trouble)?;
        let outcome = match said {
            Ok(outcome) => outcome,
            Err(refused) => {
                journal.take_severity(&refused.outcome.actions);
                return Err(Refusal {
                    rule: refused.rule,
                    beside: Some(refused.outcome),
                    banner: rules.banners.refuse.clone(),
                    ..Refusal::because(refused.reason)
                });
            }
        };
        journal.take_severity(&outcome.actions);
        let expand = |command: &Template| outcome.expand(command);
        admission.twist = outcome.twist.as_ref().map(expand).transpose().map_err(Refusal::trouble)?;
        admission.outcome = outcome;
    }
    admission.told = told(&facts);
    Ok(admission)
}

#[allow(clippy::too_many_arguments)] // the whole of what a decision is made of
fn by_rules(
    service: &Service,
    start: &Start,
    visit: &Visit,
    rules: &Rules,
    interfaces: &Interfaces,
    facts: &mut Facts,
    journal: &mut Journal,
    until: Instant,
) -> Result<(), Refusal> {
    let now = SystemTime::now();
    loop {
        let request = facts.request(visit, now, interfaces);
        let needs = match service.policy.judge(&request, &rules.tables) {
            Verdict::Allow { observed, .. } => {
                observed.iter().for_each(|rule| journal.observed(visit, &rule.place));
                return Ok(());
            }
            Verdict::Deny { cause, place, rule, .. } => {
                let banner = rule.and_then(|rule| rule.banner.clone());
                return Err(Refusal {
                    rule: Some(place.clone()),
                    banner: banner.or_else(|| rules.banners.refuse.clone()),
                    log: rule.and_then(|rule| rule.log),
                    naming: facts.name.clone(),
                    ..Refusal::because(cause.into())
                });
            }
            Verdict::Need(needs) => needs,
        };
        facts.ask(needs, visit, interfaces, start, until).map_err(Refusal::trouble)?;
    }
}

fn overload(service: &Service) -> Result<(), Refusal> {
    let Some(most) = service.settings.load else { return Ok(()) };
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let now = crate::model::rate::LoadAverage::of_last_minute(&text);
    let is_low = now.is_some_and(|now| now < most);
    if is_low { Ok(()) } else { Err(Refusal::because(Reason::Load).at(&service.settings.place)) }
}

/// The kernel is asked for this host's addresses only where a rule could tell the difference.
fn interfaces_for(rules: &Rules) -> Interfaces {
    let by_hosts = |tables: &hosts_access::Tables| tables.rules().any(hosts_access::rule::Rule::asks_user);
    let asks = rules.hosts.as_ref().is_some_and(by_hosts)
        || rules.access().is_some_and(|access| {
            access.asks_users()
                || access.patterns().any(|p| matches!(p, ClientPattern::Local | ClientPattern::Link))
        });
    let found = if asks { interfaces::addresses().unwrap_or_default() } else { Vec::new() };
    Interfaces::new(found.iter().map(|own| own.address), found.iter().map(|own| own.network))
}

fn told(facts: &Facts) -> Told {
    let name = match &facts.name {
        Some(Named::Confirmed(name)) => Some(name.to_string()),
        _ => None,
    };
    let user = match (&facts.user, &facts.ident) {
        (Some(Ok(uid)), _) => Some(format!("uid:{uid}")),
        (_, Some(Reply::User(name))) => Some(format!("ident:{name}")),
        _ => None,
    };
    Told { name, user }
}
