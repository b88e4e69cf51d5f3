//! Who may use a service: what the keys of access say together, and the [`Access`] that they make. Where they can
//! hold is [`super::reach`]'s.

use std::collections::BTreeSet;

use crate::model::pattern::ClientPattern;
use crate::model::user::{UserPattern, UserWord};

use super::access::{Access, Action, Clauses, HostsAccess, Placed, Rule, Rules};
use super::diagnostic::{Diagnostic, Report, Spot};
use super::draft::{Path, Said, ServiceDraft, Value, Values, Who};
use super::resolve::System;
use super::who;

const RULE: Path = ("", "rule");
const OTHERWISE: Path = ("", "otherwise");
const HOURS: Path = ("", "hours");
const END_SESSIONS: Path = ("", "end_sessions");
const FROM: Path = ("", "from");
const USERS: Path = ("", "users");
const ACTION: Path = ("", "action");
const MODE: Path = ("", "mode");
const BANNER: Path = ("", "banner");

/// The short form.
const SHORT: [Path; 4] = [("", "deny"), ("", "allow"), USERS, HOURS];

/// Judges the keys of a service with its defaults; `own` is what it says itself. Defaults that belong to a key
/// that is not there are taken out.
pub fn check(service: &mut ServiceDraft, own: &BTreeSet<Path>, report: &mut Report) {
    if service.values.is_said(RULE) {
        one_form(service, own, report);
        otherwise(service, report);
        for rule in service.values.rows(RULE) {
            self::rule(rule, report);
        }
    } else if let Some(spot) = unless_default(service, own, OTHERWISE) {
        let error = Diagnostic::error(
            "contradiction",
            &spot,
            "`otherwise` is for clients that no rule matches, and there are no rules",
        );
        report.add(error.hint("a rule has a table: `[[service.NAME.rule]]`"));
    }
    let ends = service.values.flag(END_SESSIONS) == Some(true);
    if ends
        && !service.values.is_said(HOURS)
        && let Some(spot) = unless_default(service, own, END_SESSIONS)
    {
        let error = Diagnostic::error(
            "contradiction",
            &spot,
            "`end_sessions` is for the end of `hours`, and the service has none",
        );
        report.add(error.hint("`hours = \"business\"`, a name of [hours]; those of a rule end no sessions"));
    }
}

/// Where a key is said by the service itself; one that comes from the defaults is taken out.
fn unless_default(service: &mut ServiceDraft, own: &BTreeSet<Path>, path: Path) -> Option<Spot> {
    let spot = service.values.spot(path).cloned()?;
    if !own.contains(&path) {
        service.values.remove(path);
        return None;
    }
    Some(spot)
}

/// Two answers to one question: which of them holds nobody should have to know.
fn one_form(service: &ServiceDraft, own: &BTreeSet<Path>, report: &mut Report) {
    let Some(rules) = service.values.rows(RULE).first() else { return };
    for path in SHORT {
        let Some(spot) = service.values.spot(path) else { continue };
        let message = format!("service {} has rules and `{}`, which is the other form", service.name, path.1);
        let other = if own.contains(&path) { RULE } else { path };
        let hint = if own.contains(&path) && own.contains(&RULE) {
            format!("write `{}` as a rule: the first that matches wins", path.1)
        } else {
            format!("`{} = \"none\"` in the service takes the default away", other.1)
        };
        let error = Diagnostic::error("two-forms", spot, message);
        report.add(error.also(&rules.spot, "the rules begin here").hint(hint));
    }
}

fn otherwise(service: &ServiceDraft, report: &mut Report) {
    let values = &service.values;
    if values.is_said(OTHERWISE) {
        return;
    }
    let Some(first) = values.rows(RULE).first() else { return };
    let message = format!("service {} has rules and no `otherwise`", service.name);
    let error = Diagnostic::error("missing", &first.spot, message);
    report.add(
        error.hint("`otherwise = \"deny\"` or \"allow\": what becomes of a client that no rule matches"),
    );
}

fn rule(rule: &Said<Values>, report: &mut Report) {
    let Said { value: values, spot } = rule;
    if !values.is_said(ACTION) {
        let error = Diagnostic::error("missing", spot, "the rule has no `action`");
        report.add(error.hint("`action = \"allow\"` or \"deny\""));
    }
    if ![FROM, USERS, HOURS].into_iter().any(|path| values.is_said(path)) {
        let error = Diagnostic::error("empty-rule", spot, "the rule says nothing of whom or when it matches");
        report.add(error.hint("`from = [\"any\"]` matches everybody; `otherwise` is for who is left"));
    }
    let refuses = values.text(ACTION) != Some("allow") && values.get(MODE).is_none();
    if let Some(spot) = values.spot(BANNER).filter(|_| !refuses) {
        let message = "`banner` is for who is refused, and this rule refuses nobody";
        report.add(Diagnostic::error("contradiction", spot, message).hint("leave it out"));
    }
}

/// Looks up the users; `None` after saying what is wrong, here or in the first step.
pub fn resolve(values: &Values, system: &dyn System, report: &mut Report) -> Option<Access> {
    let rules = if values.is_said(RULE) {
        let rows: Vec<_> = values.rows(RULE).iter().map(|row| resolve_rule(row, system, report)).collect();
        let otherwise = action(values, OTHERWISE).zip(values.spot(OTHERWISE));
        let otherwise = otherwise.map(|(value, spot)| Placed { place: report.place(spot), value });
        Rules::Ordered { rules: rows.into_iter().collect::<Option<_>>()?, otherwise: otherwise? }
    } else {
        Rules::Short(clauses(values, system, report)?)
    };
    let end_sessions = values.flag(END_SESSIONS).unwrap_or(false);
    Some(Access { rules, end_sessions, hosts_access: hosts_access(values) })
}

fn clauses(values: &Values, system: &dyn System, report: &mut Report) -> Option<Clauses> {
    let clients = |key| {
        let spot = values.spot(("", key))?;
        Some(Placed { place: report.place(spot), value: plain(values.clients(("", key))?) })
    };
    let (deny, allow) = (clients("deny"), clients("allow"));
    let hours = values.label(HOURS);
    let hours = hours.map(|said| Placed { place: report.place(&said.spot), value: said.value.clone() });
    let place = values.spot(USERS).map(|spot| report.place(spot));
    let users = match place.zip(values.users(USERS)) {
        Some((place, words)) => Some(Placed { place, value: look_up(words, system, report)? }),
        None => None,
    };
    Some(Clauses { deny, allow, users, hours })
}

fn resolve_rule(rule: &Said<Values>, system: &dyn System, report: &mut Report) -> Option<Rule> {
    let values = &rule.value;
    let users = values.users(USERS).map(|words| look_up(words, system, report));
    Some(Rule {
        place: report.place(&rule.spot),
        from: values.clients(FROM).map(plain),
        users: users.map_or(Some(None), |users| users.map(Some))?,
        hours: values.label(HOURS).map(|said| said.value.clone()),
        action: action(values, ACTION)?,
        observe: values.get(MODE).is_some(),
        banner: values.bytes(BANNER),
        log: values.flag(("", "log")),
    })
}

fn plain(clients: &[Said<ClientPattern>]) -> Vec<ClientPattern> {
    clients.iter().map(|said| said.value.clone()).collect()
}

fn action(values: &Values, path: Path) -> Option<Action> {
    Some(match values.text(path)? {
        "allow" => Action::Allow,
        _ => Action::Deny,
    })
}

/// Where something is said that can't be judged before somebody was asked: names, ident, hosts.allow.
pub fn resolver_need(values: &Values) -> Option<&Spot> {
    let spot = |path| values.spot(path).filter(|_| asks(values, path));
    let keys = [("", "deny"), ("", "allow"), USERS];
    let rules = || {
        values.rows(RULE).iter().find(|rule| [FROM, USERS].into_iter().any(|path| asks(&rule.value, path)))
    };
    let hosts = || values.spot(("", "hosts_access")).filter(|_| hosts_access(values).is_some());
    keys.into_iter().find_map(spot).or_else(|| rules().map(|rule| &rule.spot)).or_else(hosts)
}

fn asks(values: &Values, path: Path) -> bool {
    let client = |said: &Said<ClientPattern>| said.value.asks_name();
    let user = |said: &Said<UserWord>| matches!(said.value, UserWord::Ident(_) | UserWord::AnyIdent);
    values.clients(path).is_some_and(|all| all.iter().any(client))
        || values.users(path).is_some_and(|all| all.iter().any(user))
}

/// `hosts_access`, with the paths that are not said.
pub fn hosts_access(values: &Values) -> Option<HostsAccess> {
    let path = ("", "hosts_access");
    let said = match values.get(path).map(|said| &said.value) {
        Some(Value::Inline(values)) => Some(values),
        Some(Value::Flag(true)) => None,
        _ => return None,
    };
    let file = |key: &'static str| {
        let said = said.and_then(|values| values.path(("", key)).cloned());
        said.unwrap_or_else(|| format!("/etc/hosts.{key}").into())
    };
    let watch = said.and_then(|values| values.flag(("", "watch"))).unwrap_or(false);
    Some(HostsAccess { allow: file("allow"), deny: file("deny"), watch })
}

/// Names to numbers; all that are wrong are said.
fn look_up(words: &[Said<UserWord>], system: &dyn System, report: &mut Report) -> Option<Vec<UserPattern>> {
    let all: Vec<_> = words.iter().map(|said| user(said, system, report)).collect();
    all.into_iter().collect()
}

fn user(said: &Said<UserWord>, system: &dyn System, report: &mut Report) -> Option<UserPattern> {
    let spot = &said.spot;
    let named = |name: &str| Who::Name(name.to_owned());
    match &said.value {
        UserWord::Name(name) => {
            let uid = who::user_id(&named(name), spot, system, report)?;
            Some(UserPattern::User { uid, word: name.clone() })
        }
        UserWord::Uid(uid) => Some(UserPattern::User { uid: *uid, word: format!("uid:{uid}") }),
        UserWord::Group(name) => {
            let gid = who::group_id(&named(name), spot, system, report)?;
            group(gid, format!("group:{name}"), spot, system, report)
        }
        UserWord::Gid(gid) => group(*gid, format!("gid:{gid}"), spot, system, report),
        UserWord::Ident(name) => Some(UserPattern::Ident(name.clone())),
        UserWord::AnyIdent => Some(UserPattern::AnyIdent),
    }
}

fn group(
    gid: u32,
    word: String,
    spot: &Spot,
    system: &dyn System,
    report: &mut Report,
) -> Option<UserPattern> {
    match system.members_of(gid) {
        Ok(members) => Some(UserPattern::Group { gid, members, word }),
        Err(why) => {
            report.add(who::failed("members of", &word, &why, spot));
            None
        }
    }
}
