//! The policy: /etc/superwrap.toml or the file that was named, read for the one service that is asked for. Without
//! any, hosts.allow and hosts.deny, as tcpd has it.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::access::{Access, HostsAccess};
use crate::config::diagnostic::Report;
use crate::config::draft::{Draft, ServiceDraft, Values};
use crate::config::load;
use crate::config::policy_scope::{self, Wrap, WrappedService};
use crate::config::settings::{Banners, ServiceLog};
use crate::config::situation::{Scope, Situation};
use crate::model::label::Label;
use crate::model::name::ServiceName;
use crate::model::pattern::ClientPattern;
use crate::model::user::UserWord;
use crate::policy::hosts_access;
use crate::policy::hosts_access::options::Action;
use crate::policy::hours::Hours;
use crate::policy::judge;
use crate::policy::table::Table;
use crate::policy::tables::Tables;
use crate::roles::loader::files::Disk;
use crate::roles::loader::system::Machine;
use crate::roles::loader::{hosts, lists, zones};
use crate::sys::process;

use super::Start;
use super::journal::Journal;
use super::nss::{self, Database};
use super::refusal::Refusal;

/// Until a policy says another.
pub(super) const DEADLINE: Duration = Duration::from_secs(10);

const POLICY: &str = "/etc/superwrap.toml";

/// What one service is judged by.
pub(super) struct Rules {
    pub(super) wrap: Wrap,
    pub(super) service_log: ServiceLog,
    pub(super) banners: Banners,
    /// `None`: the hosts files alone.
    pub(super) service: Option<Service>,
    pub(super) tables: Tables,
    pub(super) hosts: Option<hosts_access::Tables>,
}

/// The service, as the policy file has it.
pub(super) struct Service {
    pub(super) settings: WrappedService,
    pub(super) policy: judge::Policy,
}

/// Reads the policy. What is wrong with it refuses everybody: half a policy is none.
pub(super) fn load(start: &Start, journal: &mut Journal) -> Result<Rules, Refusal> {
    let situation = situation(start);
    match &start.arguments.policy {
        Some(path) => from_file(path, start, &situation, journal),
        None => match fs::symlink_metadata(POLICY) {
            Err(error) if error.kind() == ErrorKind::NotFound => hosts_alone(start, &situation),
            _ => from_file(Path::new(POLICY), start, &situation, journal),
        },
    }
}

fn situation(start: &Start) -> Situation {
    let is_lent = start.caller.is_lent;
    let uid = process::effective_uid();
    let variable = |name: &str| Some((name.to_owned(), std::env::var(name).ok()?));
    Situation {
        scope: Scope::Policy,
        root: is_lent || uid == 0,
        // Where rights are lent, root's files alone are believed.
        uid: if is_lent { 0 } else { uid },
        cwd: std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/")),
        // Where rights are lent, this process has no environment of its own.
        environment: ["TZ"].into_iter().filter_map(variable).collect(),
        ..Situation::of_root()
    }
}

fn hosts_alone(start: &Start, situation: &Situation) -> Result<Rules, Refusal> {
    let pair = HostsAccess { allow: "/etc/hosts.allow".into(), deny: "/etc/hosts.deny".into(), watch: false };
    let mut report = Report::default();
    let tables = hosts::compile_pair(&pair, &Disk, situation, &mut report);
    let tables = tables.ok_or_else(|| wrong(&report))?;
    need_users_of(&tables, start)?;
    Ok(Rules {
        wrap: Wrap {
            state: start.arguments.state.clone().unwrap_or(Wrap::default().state),
            ..Wrap::default()
        },
        service_log: ServiceLog { success: true, failure: true, facility: None, level: None },
        banners: Banners::default(),
        service: None,
        tables: Tables::default(),
        hosts: Some(tables),
    })
}

fn from_file(
    path: &Path,
    start: &Start,
    situation: &Situation,
    journal: &mut Journal,
) -> Result<Rules, Refusal> {
    let (draft, mut report) = load::load(path, &Disk, situation);
    if let Some(log) =
        draft.as_ref().and_then(|draft| policy_scope::log(&draft.log, &Machine::default(), &mut report))
    {
        // Also what is wrong with the rest of the policy is said there.
        journal.take_log(log);
    }
    let name = service_name(&start.arguments.service);
    let draft = draft.map(|mut draft| {
        draft.services.retain(|service| Some(&service.name) == name.as_ref());
        keep_what_is_used(&mut draft);
        draft
    });
    let Some(draft) = draft.filter(|_| !report.has_errors()) else { return Err(wrong(&report)) };
    let Some(service) = draft.services.first() else {
        let name = name.map_or_else(|| "?".to_owned(), |name| name.as_str().to_owned());
        return Err(Refusal::trouble(format!("{} has no [service.{name}]", path.display())));
    };
    if names_users(service) {
        nss::need(Database::Users, start).map_err(Refusal::trouble)?;
    }
    let contents = lists::read(&draft, &Disk, situation, &mut report);
    let hosts =
        hosts::compile(&draft, &Disk, None, situation, &mut report).pop().map(|(_, hosts)| hosts.tables);
    let policy = policy_scope::resolve(&draft, &Machine::default(), &mut report);
    let Some(mut policy) = policy.filter(|_| !report.has_errors()) else { return Err(wrong(&report)) };
    if let Some(tables) = &hosts {
        need_users_of(tables, start)?;
    }
    let mut tables = Tables::default();
    for (name, networks) in contents {
        tables.put_set(name, Table::of(&networks));
    }
    for (name, hours) in policy.hours {
        let zone = zones::one(&hours.zone, &situation.environment)
            .map_err(|error| Refusal::trouble(format!("the time zone `{}`: {error}", hours.zone)))?;
        tables.put_hours(name, Hours::new(hours.windows, zone));
    }
    if let Some(state) = &start.arguments.state {
        policy.wrap.state.clone_from(state);
    }
    let Some(settings) = policy.services.pop() else { return Err(wrong(&report)) };
    Ok(Rules {
        wrap: policy.wrap,
        service_log: settings.log,
        banners: settings.banners.clone(),
        service: Some(Service { policy: judge::Policy::new(&settings.access), settings }),
        tables,
        hosts,
    })
}

/// The first thing that is wrong with the policy.
fn wrong(report: &Report) -> Refusal {
    let (errors, _) = report.complaints();
    Refusal::trouble(
        errors.into_iter().next().map_or_else(|| "the policy is wrong".to_owned(), |error| error.line),
    )
}

/// What a service name can't have in it becomes `-`: `in.telnetd` is `[service.in-telnetd]`.
fn service_name(program: &str) -> Option<ServiceName> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    let name: String =
        program.chars().map(|c| c.to_ascii_lowercase()).map(|c| if plain(c) { c } else { '-' }).collect();
    ServiceName::new(&name).ok()
}

/// Lists and hours of other services cost their time, and may be wrong by themselves.
fn keep_what_is_used(draft: &mut Draft) {
    let lists = |values: &Values| -> Vec<Label> {
        let rules = values.rows(("", "rule")).iter().filter_map(|rule| rule.value.clients(("", "from")));
        let short = ["deny", "allow"].into_iter().filter_map(|key| values.clients(("", key)));
        let sets = short.chain(rules).flatten().filter_map(|said| match &said.value {
            ClientPattern::Set(name) => Some(name.clone()),
            _ => None,
        });
        sets.collect()
    };
    let hours = |values: &Values| -> Vec<Label> {
        let rules = values.rows(("", "rule")).iter().filter_map(|rule| rule.value.label(("", "hours")));
        values.label(("", "hours")).into_iter().chain(rules).map(|said| said.value.clone()).collect()
    };
    let sets: Vec<Label> = draft.services.iter().flat_map(|service| lists(&service.values)).collect();
    let times: Vec<Label> = draft.services.iter().flat_map(|service| hours(&service.values)).collect();
    draft.sets.retain(|name, _| sets.contains(name));
    draft.hours.retain(|name, _| times.contains(name));
}

/// Must the user database be asked?
fn names_users(service: &ServiceDraft) -> bool {
    let rules = service.values.rows(("", "rule")).iter().filter_map(|rule| rule.value.users(("", "users")));
    let users = service.values.users(("", "users")).into_iter().chain(rules).flatten();
    let mut asks =
        users.map(|said| !matches!(said.value, UserWord::Uid(_) | UserWord::Ident(_) | UserWord::AnyIdent));
    asks.any(|asks| asks)
}

/// Users of options are looked up when a client has matched: too late to become another process.
fn need_users_of(tables: &hosts_access::Tables, start: &Start) -> Result<(), Refusal> {
    let takes = |action: &Action| matches!(action, Action::User { .. } | Action::Group(_));
    if tables.rules().any(|rule| rule.actions.iter().any(takes)) {
        nss::need(Database::Users, start).map_err(Refusal::trouble)?;
    }
    Ok(())
}

impl Rules {
    /// The access that the policy file gives.
    pub(super) fn access(&self) -> Option<&Access> {
        self.service.as_ref().map(|service| &service.settings.access)
    }
}

/// Checks a policy file as a whole, for `superd check --policy`.
pub fn check(path: &Path, resolves: bool, situation: &Situation) -> Report {
    let situation = Situation { scope: Scope::Policy, environment: BTreeMap::new(), ..situation.clone() };
    let (draft, mut report) = load::load(path, &Disk, &situation);
    let Some(draft) = draft else { return report };
    lists::read(&draft, &Disk, &situation, &mut report);
    let machine = Machine::default();
    let system = resolves.then_some(&machine as &dyn crate::config::resolve::System);
    hosts::compile(&draft, &Disk, system, &situation, &mut report);
    crate::policy::warnings::warn(&draft, &mut report);
    if resolves {
        // The report alone counts here.
        let _ = policy_scope::resolve(&draft, &machine, &mut report);
    }
    report
}
