//! hosts.allow and hosts.deny, read and compiled where a load may hang.

use std::collections::BTreeMap;
use std::path::Path;

use crate::config::access::HostsAccess;
use crate::config::admit;
use crate::config::diagnostic::{Diagnostic, Report, Spot};
use crate::config::draft::{Draft, ServiceDraft};
use crate::config::files::{self, FileProblem, Files};
use crate::config::resolve::System;
use crate::config::situation::Situation;
use crate::config::ways::Way;
use crate::model::identity::Identity;
use crate::policy::hosts_access::expand::Template;
use crate::policy::hosts_access::options::{Action, Ending};
use crate::policy::hosts_access::rule::Rule;
use crate::policy::hosts_access::{Surroundings, TableText, Tables};
use crate::protocol::tables::{Hosts, HostsFiles};

/// As other banners.
const MAX_BANNER: usize = 4096;

/// Compiles the files of all services, each pair once. Without a system, users are not looked up.
pub fn compile(
    draft: &Draft,
    files: &dyn Files,
    system: Option<&dyn System>,
    situation: &Situation,
    report: &mut Report,
) -> Vec<(HostsFiles, Hosts)> {
    let mut asked: Vec<HostsFiles> = Vec::new();
    let mut compiled = Vec::new();
    let mut disk = Disk { files, system, situation };
    for service in &draft.services {
        let Some(said) = admit::hosts_access(&service.values) else { continue };
        let pair = (said.allow.clone(), said.deny.clone());
        let Some(spot) = service.values.spot(("", "hosts_access")).filter(|_| !asked.contains(&pair)) else {
            continue;
        };
        let tables = disk.tables(&said, spot, report);
        let services = draft.services.iter().filter(|service| {
            admit::hosts_access(&service.values)
                .is_some_and(|other| (&other.allow, &other.deny) == (&said.allow, &said.deny))
        });
        let daemons: Vec<String> = services.clone().map(daemon_name).collect();
        if let Some(tables) = tables {
            services.for_each(|service| tell_what_can_not_hold(service, &tables, report));
            let hosts = disk.with_what_they_name(tables, &daemons, spot, report);
            compiled.push((pair.clone(), hosts));
        }
        asked.push(pair);
    }
    compiled
}

/// Options that need a process for each client, in rules about a service that has none.
fn tell_what_can_not_hold(service: &ServiceDraft, tables: &Tables, report: &mut Report) {
    let kind = match Way::of(&service.values) {
        Some(Way::Builtin) => "built-in service",
        Some(Way::Handoff) => "pool",
        _ => return,
    };
    let daemon = daemon_name(service);
    for rule in tables.rules().filter(|rule| rule.may_concern(&daemon)) {
        let (Some(spot), Some((word, outcome))) = (report.spot(&rule.place), can_not_hold(rule, kind)) else {
            continue;
        };
        let message = format!("`{word}` can't hold for the {kind} `{}`: {outcome}", service.name);
        report.add(Diagnostic::warning("hosts-access", &spot, message));
    }
}

fn can_not_hold(rule: &Rule, kind: &str) -> Option<(&'static str, &'static str)> {
    if matches!(rule.ending, Ending::Twist(_)) {
        return Some(("twist", "its clients are refused"));
    }
    let spawns = |action: &Action| matches!(action, Action::Spawn(_)) && kind != "pool";
    let word = |action: &Action| action.of_process().or(spawns(action).then_some("spawn"));
    Some((rule.actions.iter().find_map(word)?, "it does nothing there"))
}

/// Compiles one pair of files, whoever names it.
pub fn compile_pair(
    pair: &HostsAccess,
    files: &dyn Files,
    situation: &Situation,
    report: &mut Report,
) -> Option<Tables> {
    let nowhere = Spot { file: 0, range: 0..0 };
    Disk { files, system: None, situation }.tables(pair, &nowhere, report)
}

struct Disk<'d> {
    files: &'d dyn Files,
    system: Option<&'d dyn System>,
    situation: &'d Situation,
}

impl Disk<'_> {
    fn tables(&mut self, said: &HostsAccess, spot: &Spot, report: &mut Report) -> Option<Tables> {
        let disk = &*self;
        let mut table = |path: &Path, default: &str| match disk.bytes(path) {
            Ok(bytes) => Some(Some(bytes)),
            // As libwrap has it: without a file there are no rules. One that is named must be there.
            Err(Problem::Missing) if path == Path::new(default) => Some(None),
            Err(problem) => {
                let message = format!("`hosts_access`: can't use {}: {problem}", path.display());
                report.add(Diagnostic::error(problem.code(), spot, message));
                None
            }
        };
        let allow = table(&said.allow, "/etc/hosts.allow");
        let deny = table(&said.deny, "/etc/hosts.deny");
        let (allow, deny) = (allow?, deny?);
        let names = (said.allow.display().to_string(), said.deny.display().to_string());
        Tables::compile(
            (&names.0, table_text(allow.as_deref())),
            (&names.1, table_text(deny.as_deref())),
            self,
            report,
        )
    }

    /// Looks up the users and groups of options, and reads banners.
    fn with_what_they_name(
        &self,
        tables: Tables,
        daemons: &[String],
        spot: &Spot,
        report: &mut Report,
    ) -> Hosts {
        let (mut users, mut groups, mut banners) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for action in tables.rules().flat_map(|rule| &rule.actions) {
            match action {
                Action::User { user, group } => {
                    users.extend(self.identity(user).map(|identity| (user.clone(), identity)));
                    groups.extend(group.iter().filter_map(|group| self.group(group)));
                }
                Action::Group(group) => groups.extend(self.group(group)),
                Action::Banners(folder) => {
                    for path in daemons.iter().map(|daemon| format!("{folder}/{daemon}")) {
                        match self.banner(&path) {
                            Ok(banner) => banners.extend(banner.map(|banner| (path, banner))),
                            Err(why) => {
                                let message = format!("`hosts_access`: can't use the banner {path}: {why}");
                                report.add(Diagnostic::error("hosts-access", spot, message));
                            }
                        }
                    }
                }
                _ => {}
            }
        }
        Hosts { tables, users, groups, banners }
    }

    fn identity(&self, name: &str) -> Option<Identity> {
        let system = self.system?;
        let user = system.user(name).ok().flatten()?;
        let groups = system.groups_of(name, user.gid).unwrap_or_default();
        Some(Identity { uid: user.uid, gid: user.gid, groups })
    }

    fn group(&self, name: &str) -> Option<(String, u32)> {
        let gid = self.system?.group(name).ok().flatten()?;
        Some((name.to_owned(), gid))
    }

    /// A daemon without a file has no banner, as libwrap has it.
    fn banner(&self, path: &str) -> Result<Option<Template>, String> {
        match self.bytes(Path::new(path)) {
            Err(Problem::Missing) => Ok(None),
            Err(problem) => Err(problem.to_string()),
            Ok(bytes) if bytes.len() > MAX_BANNER => Err(format!("it is longer than {MAX_BANNER} bytes")),
            Ok(bytes) => Template::of_banner(&String::from_utf8_lossy(&bytes)).map(Some),
        }
    }

    fn bytes(&self, path: &Path) -> Result<Vec<u8>, Problem> {
        let file = self.files.read(path).map_err(|problem| match problem {
            FileProblem::Missing => Problem::Missing,
            other => Problem::Unreadable(other.to_string()),
        })?;
        match files::distrust(&file, self.situation) {
            Some(why) => Err(Problem::Untrusted(why)),
            None => Ok(file.bytes),
        }
    }
}

/// What the files call a service: the name of its process, else its own.
fn daemon_name(service: &ServiceDraft) -> String {
    let said = service.values.text(("", "argv0")).map(str::to_owned);
    let program = said.or_else(|| service.values.texts(("", "exec")).first().map(|said| said.value.clone()));
    let name = program.as_deref().and_then(|program| program.rsplit('/').next()).unwrap_or_default();
    if name.is_empty() { service.name.to_string() } else { name.to_owned() }
}

fn table_text(bytes: Option<&[u8]>) -> TableText<'_> {
    bytes.map_or(TableText::Missing, TableText::Text)
}

impl Surroundings for Disk<'_> {
    fn read(&mut self, path: &str) -> Result<Vec<u8>, String> {
        self.bytes(Path::new(path)).map_err(|problem| problem.to_string())
    }

    fn has_user(&mut self, name: &str) -> bool {
        // Who can't be asked for is missed where the command is run.
        self.system.is_none_or(|system| !matches!(system.user(name), Ok(None)))
    }

    fn has_group(&mut self, name: &str) -> bool {
        self.system.is_none_or(|system| !matches!(system.group(name), Ok(None)))
    }
}

/// Why a file can't be used.
enum Problem {
    Missing,
    Unreadable(String),
    Untrusted(String),
}

impl Problem {
    fn code(&self) -> &'static str {
        match self {
            Self::Missing | Self::Unreadable(_) => "unreadable",
            Self::Untrusted(_) => "untrusted",
        }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing => FileProblem::Missing.fmt(f),
            Self::Unreadable(why) | Self::Untrusted(why) => f.write_str(why),
        }
    }
}
