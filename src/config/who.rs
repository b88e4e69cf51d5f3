//! As whom a service runs: names of users and groups to numbers. A user database that fails is not the same
//! as a user that does not exist.

use crate::model::identity::{Account, Identity};

use super::diagnostic::{Diagnostic, Report, Spot};
use super::draft::{Said, Values, Who};
use super::resolve::{Lookup, System, UserEntry};
use super::situation::Situation;

/// The user of a service: as whom it runs (`None`: as superd does), and what its environment says of it.
/// `None` after saying what is wrong.
pub fn of_service(
    values: &Values,
    system: &dyn System,
    situation: &Situation,
    report: &mut Report,
) -> Option<(Option<Identity>, Account)> {
    let wanted = wanted(values, system, report);
    if situation.root {
        return wanted.map(|(identity, account)| (Some(identity), account));
    }
    let own = system.uid(situation.uid).ok().flatten();
    Some((None, own.map_or_else(|| unnamed(situation.uid), |user| account(&user))))
}

fn wanted(values: &Values, system: &dyn System, report: &mut Report) -> Option<(Identity, Account)> {
    // Each is looked up also if another is wrong: all mistakes show at once.
    let group = values.who(("", "group")).map(|(who, spot)| group_id(who, spot, system, report));
    let groups = values.groups(("", "groups")).map(|groups| group_ids(groups, system, report));
    let (who, spot) = values.who(("", "user"))?;
    let (uid, entry) = user_entry(who, spot, system, report)?;
    let gid = match (group, who, &entry) {
        (Some(group), ..) => group?,
        (None, Who::Name(_), Some(user)) => user.gid,
        // A number needs its group said; the first step complained.
        (None, ..) => return None,
    };
    let groups = match (groups, &entry) {
        (Some(groups), _) => groups?,
        (None, Some(user)) => own_groups(user, gid, spot, system, report)?,
        (None, None) => Vec::new(),
    };
    let account = entry.as_ref().map_or_else(|| unnamed(uid), account);
    Some((Identity { uid, gid, groups }, account))
}

/// The number of a user, and its entry, which a number need not have.
fn user_entry(
    who: &Who,
    spot: &Spot,
    system: &dyn System,
    report: &mut Report,
) -> Option<(u32, Option<UserEntry>)> {
    let (found, name) = ask(who, system);
    let error = match (found, who) {
        (Ok(entry), Who::Id(id)) => return Some((*id, entry)),
        (Ok(Some(user)), Who::Name(_)) => return Some((user.uid, Some(user))),
        (Ok(None), Who::Name(_)) => {
            let hint =
                format!("`useradd --system {name}` makes one; `getent passwd` lists those that there are");
            Diagnostic::error("unknown-user", spot, format!("there is no user `{name}`")).hint(hint)
        }
        (Err(why), _) => failed("user", &name, &why, spot),
    };
    report.add(error);
    None
}

/// The user's entry, and what to call the user.
fn ask(who: &Who, system: &dyn System) -> (Lookup<UserEntry>, String) {
    match who {
        Who::Name(name) => (system.user(name), name.clone()),
        Who::Id(id) => (system.uid(*id), id.to_string()),
    }
}

/// The number of a user.
pub fn user_id(who: &Who, spot: &Spot, system: &dyn System, report: &mut Report) -> Option<u32> {
    match who {
        Who::Id(id) => Some(*id),
        Who::Name(_) => user_entry(who, spot, system, report).map(|(uid, _)| uid),
    }
}

/// The number of a group.
pub fn group_id(who: &Who, spot: &Spot, system: &dyn System, report: &mut Report) -> Option<u32> {
    let name = match who {
        Who::Id(id) => return Some(*id),
        Who::Name(name) => name,
    };
    match system.group(name) {
        Ok(Some(gid)) => Some(gid),
        Ok(None) => {
            let diagnostic = Diagnostic::error("unknown-group", spot, format!("there is no group `{name}`"));
            report.add(diagnostic.hint("`getent group` lists those that there are"));
            None
        }
        Err(why) => {
            report.add(failed("group", name, &why, spot));
            None
        }
    }
}

fn group_ids(groups: &[Said<Who>], system: &dyn System, report: &mut Report) -> Option<Vec<u32>> {
    let all: Vec<_> = groups.iter().map(|said| group_id(&said.value, &said.spot, system, report)).collect();
    all.into_iter().collect()
}

fn own_groups(
    user: &UserEntry,
    gid: u32,
    spot: &Spot,
    system: &dyn System,
    report: &mut Report,
) -> Option<Vec<u32>> {
    match system.groups_of(&user.name, gid) {
        Ok(groups) => Some(groups),
        Err(why) => {
            report.add(failed("groups of", &user.name, &why, spot));
            None
        }
    }
}

/// The user database does not answer.
pub fn failed(what: &str, name: &str, why: &str, spot: &Spot) -> Diagnostic {
    let message = format!("the user database can't be asked for the {what} `{name}`: {why}");
    Diagnostic::error("user-database", spot, message)
        .hint("numbers for user, group and groups = [] need less of it")
}

/// What a program finds of its user.
pub fn account(user: &UserEntry) -> Account {
    Account { name: user.name.clone(), home: user.home.clone(), shell: user.shell.clone() }
}

fn unnamed(uid: u32) -> Account {
    Account { name: uid.to_string(), home: "/".to_owned(), shell: "/bin/sh".to_owned() }
}

/// Whom the helping processes run as; it is missed only if something needs it, which `needed_by` says in words.
pub fn helper(
    values: &Values,
    needed_by: Option<(&Spot, String)>,
    system: &dyn System,
    report: &mut Report,
) -> Option<Identity> {
    let said = values.who(("", "helper_user"));
    let default = Who::Name("superd".to_owned());
    let who = said.map_or(&default, |(who, _)| who);
    let (entry, name) = ask(who, system);
    let why = match entry {
        // Deliberately no supplementary groups: the helpers need none.
        Ok(Some(user)) => return Some(Identity { uid: user.uid, gid: user.gid, groups: Vec::new() }),
        Ok(None) => format!("there is no user `{name}`, whom superd's helping processes run as"),
        Err(why) => format!("the user database can't be asked for the user `{name}`: {why}"),
    };
    let hint = format!("useradd --system --no-create-home --shell /usr/sbin/nologin {name}");
    let diagnostic = match (needed_by, said) {
        (Some((spot, need)), _) => Diagnostic::error("unknown-user", spot, format!("{why}; {need}")),
        (None, Some((_, spot))) => Diagnostic::warning("unknown-user", spot, why),
        (None, None) => return None,
    };
    report.add(diagnostic.hint(hint));
    None
}
