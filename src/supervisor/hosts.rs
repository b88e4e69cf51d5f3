//! hosts.allow and hosts.deny: asked after a service's own rules, and what their options have done.
//!
//! `twist` is the launch, with another command; `spawn` is a launch beside it, as the service's identity, with
//! nothing of the client but what the shell is told.

use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::config::settings::{Facility, Level};
use crate::model::client::Client;
use crate::model::name::ServiceName;
use crate::policy::hosts_access::expand::Values;
use crate::policy::hosts_access::options::Action;
use crate::policy::hosts_access::request::{End, Facts as HostsFacts, Naming, Need, Request, User};
use crate::policy::hosts_access::{Answer, Because, Decision, Verdict};
use crate::protocol::ident::Reply;
use crate::protocol::overrides::{MAX_TEXT, Overrides};
use crate::protocol::resolve::Named;
use crate::protocol::step::Step;
use crate::protocol::tables::Hosts;
use crate::service::reason::Reason;
use crate::sys::{fd, process, socket};

use super::Supervisor;
use super::admittance::Rules;
use super::judging::{Admitted, Facts, Ruling, Subject};
use super::launches::Job;
use super::services::PlanId;

/// How long a client's ident server has, where a rule does not say (hosts_options(5)).
const IDENT: Duration = Duration::from_secs(10);

/// Commands beside sessions at once; what comes more is left out, so that no client can fork without end.
const MOST_COMMANDS: u32 = 64;

/// The next line about a command that was left out, or failed.
const QUIET: Duration = Duration::from_mins(1);

/// A command that is to be run beside a session.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) service: ServiceName,
    pub(super) plan: PlanId,
    pub(super) overrides: Option<String>,
    /// Its standard descriptors.
    pub(super) null: OwnedFd,
}

/// All commands.
#[derive(Debug, Default)]
pub(super) struct Commands {
    count: u32,
    said: Option<Instant>,
}

impl Commands {
    /// One has ended.
    pub(super) fn end(&mut self) {
        self.count = self.count.saturating_sub(1);
    }
}

/// What the options of a rule come to.
#[derive(Default)]
struct Effects {
    overrides: Overrides,
    commands: Vec<Vec<String>>,
    banner: Vec<u8>,
    facility: Option<Facility>,
    level: Option<Level>,
    keepalive: bool,
    linger: Option<u32>,
}

impl Supervisor {
    /// What hosts.allow and hosts.deny say of a client that the rules let in.
    pub(super) fn hosts_ruling(&mut self, admitted: &mut Admitted, rules: &Rules) -> Ruling {
        let Some(hosts) = rules.hosts.clone() else { return Ruling::Serve };
        let daemon = admitted.settings.daemon_name().to_owned();
        let request = Request { daemon: &daemon, client: inet(admitted.client), local: admitted.local };
        let facts = facts_of(&admitted.facts);
        let decision = match hosts.tables.decide(&request, &facts) {
            Answer::Need(need) => return asked(&need, admitted),
            Answer::Decided(decision) => decision,
        };
        let values = Values { request: &request, facts: &facts, pid: std::process::id() };
        let Some(effects) = effects_of(&hosts, &decision, &daemon, &values) else {
            return refusal(Reason::HostsAccess, &decision, admitted, Vec::new());
        };
        self.take_effect(admitted, effects, &decision)
    }

    fn take_effect(&mut self, admitted: &mut Admitted, effects: Effects, decision: &Decision<'_>) -> Ruling {
        let Effects { overrides, commands, banner, facility, level, keepalive, linger } = effects;
        if facility.is_some() || level.is_some() {
            let settings = Rc::make_mut(&mut admitted.settings);
            settings.log.facility = facility.or(settings.log.facility);
            settings.log.level = level.or(settings.log.level);
        }
        for command in commands {
            self.run_beside(admitted, command, &overrides);
        }
        let reason = match decision.because {
            Because::Undecided(_) => Reason::Undecided,
            _ => Reason::HostsAccess,
        };
        if decision.verdict == Verdict::Deny {
            return refusal(reason, decision, admitted, banner);
        }
        let connection = admitted.connection.as_fd();
        if keepalive {
            let _ = socket::set_keepalive(connection);
        }
        if let Some(seconds) = linger {
            let _ = socket::set_linger(connection, Duration::from_secs(u64::from(seconds)));
        }
        if !banner.is_empty() {
            socket::send_now(connection, &banner);
        }
        match overrides.encode() {
            Some(text) if text.len() > MAX_TEXT => {
                refusal(Reason::HostsAccess, decision, admitted, Vec::new())
            }
            text => {
                admitted.overrides = text;
                Ruling::Serve
            }
        }
    }

    /// Runs a command as the service's identity, as `spawn` wants it.
    fn run_beside(&mut self, admitted: &Admitted, command: Vec<String>, like: &Overrides) {
        let settings = &admitted.settings;
        let plan = self.services.get(admitted.service).map(|service| service.plan);
        let (Some(plan), Ok(null)) = (plan, fd::open_null()) else { return };
        if self.commands.count >= MOST_COMMANDS || settings.program().is_none() {
            return self.say_of_command(&settings.name.to_string(), "is left out: there are too many");
        }
        let overrides = Overrides { command: Some(command), ..like.clone() }.encode();
        if overrides.as_ref().is_some_and(|text| text.len() > MAX_TEXT) {
            return self.say_of_command(&settings.name.to_string(), "is left out: it is too long");
        }
        self.commands.count += 1;
        let service = settings.name.clone();
        self.launches.enqueue(Job::Command(Command { service, plan, overrides, null }));
    }

    /// It could not be launched.
    pub(super) fn command_failed(&mut self, command: &Command, step: Option<Step>, errno: i32) {
        self.commands.end();
        let step = step.map_or("start", Step::words);
        let text = format!("failed at {step}: {}", process::errno_name(errno));
        self.say_of_command(&command.service.to_string(), &text);
    }

    /// Clients bring them about: one line a minute.
    fn say_of_command(&mut self, service: &str, what: &str) {
        if self.commands.said.is_none_or(|said| self.now >= said + QUIET) {
            self.commands.said = Some(self.now);
            self.note(Level::Warning, &format!("a command that hosts.allow has run for {service} {what}"));
        }
    }
}

fn inet(client: Client) -> Option<std::net::SocketAddr> {
    match client {
        Client::Inet(address) => Some(address),
        Client::User { .. } => None,
    }
}

fn facts_of(facts: &Facts) -> HostsFacts {
    HostsFacts {
        client_name: facts.name.as_ref().map(naming),
        local_name: facts.local_name.as_ref().map(naming),
        user: facts.ident.as_ref().map(|reply| match reply {
            Reply::User(name) => User::named(name.as_str()),
            Reply::NoUser => User::Unknown,
            Reply::Failed => User::Failed,
        }),
        netgroups: Vec::new(),
    }
}

fn naming(named: &Named) -> Naming {
    match named {
        Named::Confirmed(name) => Naming::confirmed([name.as_str()]),
        Named::NoName => Naming::Unknown,
        Named::Mismatch(_) => Naming::Paranoid,
        Named::Failed => Naming::Failed,
    }
}

fn asked(need: &Need, admitted: &Admitted) -> Ruling {
    Ruling::Ask(match need {
        Need::Name(End::Client) => Subject::Name,
        Need::Name(End::Local) => Subject::LocalName,
        Need::User(within) => Subject::Ident(within.unwrap_or(IDENT)),
        // Nobody is asked for netgroups: the loader refuses files that name some.
        Need::Netgroup(_) => {
            return Ruling::Refuse {
                reason: Reason::Undecided,
                rule: admitted.settings.place.clone(),
                banner: None,
                log: None,
            };
        }
    })
}

fn refusal(reason: Reason, decision: &Decision<'_>, admitted: &Admitted, banner: Vec<u8>) -> Ruling {
    let rule = match decision.because {
        Because::Rule(place) | Because::Undecided(place) => place.clone(),
        Because::Unreadable(_) | Because::NoRule => admitted.settings.place.clone(),
    };
    Ruling::Refuse { reason, rule, banner: Some(banner).filter(|banner| !banner.is_empty()), log: None }
}

/// What is to be done for a client. None: a text has become too long, which no rule means.
fn effects_of(hosts: &Hosts, decision: &Decision<'_>, daemon: &str, values: &Values<'_>) -> Option<Effects> {
    let mut effects = Effects::default();
    for action in decision.actions {
        match action {
            Action::Severity { facility, level } => {
                effects.facility = facility.as_deref().and_then(facility_named).or(effects.facility);
                effects.level = level_named(level).or(effects.level);
            }
            Action::Spawn(template) => effects.commands.push(template.shell_command(values).ok()?.to_vec()),
            Action::Banners(folder) => {
                if let Some(template) = hosts.banners.get(&format!("{folder}/{daemon}")) {
                    effects.banner.extend(template.expand(values).ok()?.replace('\n', "\r\n").into_bytes());
                }
            }
            Action::KeepAlive => effects.keepalive = true,
            Action::Linger(seconds) => effects.linger = Some(*seconds),
            // The user has been asked for when it was judged.
            Action::Rfc931(_) => {}
            Action::Nice(more) => effects.overrides.nice = *more,
            Action::SetEnv { name, value } => {
                effects.overrides.env.insert(name.clone(), value.expand(values).ok()?);
            }
            Action::Umask(mask) => effects.overrides.umask = Some(*mask),
            Action::User { user, group } => {
                effects.overrides.identity = Some(hosts.users.get(user)?.clone());
                if let Some(group) = group {
                    effects.overrides.gid = Some(*hosts.groups.get(group)?);
                }
            }
            Action::Group(group) => {
                effects.overrides.gid = Some(*hosts.groups.get(group)?);
            }
        }
    }
    if let Verdict::Twist(template) = decision.verdict {
        effects.overrides.command = Some(template.shell_command(values).ok()?.to_vec());
    }
    Some(effects)
}

fn facility_named(name: &str) -> Option<Facility> {
    Facility::NAMES.iter().find(|(known, _)| *known == name).map(|(_, number)| Facility(*number))
}

fn level_named(name: &str) -> Option<Level> {
    Some(match name {
        "emerg" | "alert" | "crit" => Level::Crit,
        "err" | "error" => Level::Err,
        "warning" | "warn" => Level::Warning,
        "notice" => Level::Notice,
        "info" => Level::Info,
        "debug" => Level::Debug,
        _ => return None,
    })
}
