//! hosts.allow and hosts.deny: asked after a service's own rules, and what their options have done.
//!
//! `twist` is the launch, with another command; `spawn` is a launch beside it, as the service's identity, with
//! nothing of the client but what the shell is told.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::config::settings::{Facility, Level, Serves};
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
use super::judging::{Admitted, Ruling, Severity, Subject};
use super::launches::Job;
use super::services::PlanId;
use super::sessions::ProcessOwner;
use super::timers::{Due, TimerId};

/// How long a client's ident server has, where a rule does not say (`hosts_options(5)`).
const IDENT: Duration = Duration::from_secs(10);

/// Commands beside sessions at once; what comes more is left out, so that no client can fork without end.
const MOST_COMMANDS: u32 = 64;

/// How long one may take; then it is killed, and whatever it has not put into a session of its own.
const TIME: Duration = Duration::from_mins(1);

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
    /// Those that are asked for, or run.
    count: u32,
    /// Those that run, by their pids.
    ends: HashMap<i32, TimerId>,
    said: Option<Instant>,
}

impl Commands {
    /// One has ended, or never began.
    pub(super) fn forget(&mut self) {
        self.count = self.count.saturating_sub(1);
    }

    /// Is there any?
    pub(super) fn are_running(&self) -> bool {
        self.count > 0
    }
}

/// What the options of a rule come to.
#[derive(Default)]
struct Effects {
    overrides: Overrides,
    /// Each with the world that the options before it have made.
    commands: Vec<(Vec<String>, Overrides)>,
    banner: Vec<u8>,
    severity: Severity,
    keepalive: bool,
    linger: Option<u32>,
}

impl Supervisor {
    /// What hosts.allow and hosts.deny say of a client that the rules let in.
    pub(super) fn hosts_ruling(&mut self, admitted: &mut Admitted, rules: &Rules) -> Ruling {
        let Some(hosts) = rules.hosts.clone() else { return Ruling::Serve };
        let daemon = admitted.settings.daemon_name().to_owned();
        let request = Request { daemon: &daemon, client: inet(admitted.client), local: admitted.local };
        let facts = facts_of(admitted);
        let decision = match hosts.tables.decide(&request, &facts) {
            Answer::Need(need) => return asked(&need),
            Answer::Decided(decision) => decision,
        };
        let values = Values { request: &request, facts: &facts, pid: std::process::id() };
        let Some(effects) = effects_of(&hosts, &decision, &daemon, &values) else {
            return refusal(Reason::HostsAccess, &decision, admitted, Vec::new());
        };
        let is_launched = matches!(admitted.settings.serves, Serves::Exec(_));
        if matches!(decision.verdict, Verdict::Twist(_)) && !is_launched {
            // Nothing of its own is launched for this client: it must not get the service instead.
            return refusal(Reason::HostsAccess, &decision, admitted, effects.banner);
        }
        self.take_effect(admitted, effects, &decision)
    }

    fn take_effect(&mut self, admitted: &mut Admitted, effects: Effects, decision: &Decision<'_>) -> Ruling {
        let Effects { overrides, commands, banner, severity, keepalive, linger } = effects;
        admitted.severity = severity;
        if severity.facility.is_some() || severity.level.is_some() {
            let settings = Rc::make_mut(&mut admitted.settings);
            settings.log.facility = severity.facility.or(settings.log.facility);
            settings.log.level = severity.level.or(settings.log.level);
        }
        for (command, world) in commands {
            self.run_beside(admitted, &Overrides { command: Some(command), ..world });
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
        admitted.welcome = banner;
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
    fn run_beside(&mut self, admitted: &Admitted, overrides: &Overrides) {
        let settings = &admitted.settings;
        let plan = self.services.get(admitted.service).map(|service| service.plan);
        let overrides = overrides.encode();
        let left_out = if settings.program().is_none() {
            Some("is left out: superd serves it by itself, as nobody that a command could be run as")
        } else if self.commands.count >= MOST_COMMANDS {
            Some("is left out: there are too many")
        } else if overrides.as_ref().is_some_and(|text| text.len() > MAX_TEXT) {
            Some("is left out: it is too long")
        } else {
            None
        };
        if let Some(why) = left_out {
            return self.say_of_command(&settings.name.to_string(), why);
        }
        let (Some(plan), Ok(null)) = (plan, fd::open_null()) else { return };
        self.commands.count += 1;
        let service = settings.name.clone();
        self.launches.enqueue(Job::Command(Command { service, plan, overrides, null }));
    }

    /// Its process exists.
    pub(super) fn command_has_process(&mut self, pid: i32) {
        let timer = self.timers.set(self.now + TIME, Due::CommandLate(pid));
        self.commands.ends.insert(pid, timer);
    }

    /// Its process was reaped.
    pub(super) fn command_ended(&mut self, pid: i32) {
        self.commands.forget();
        if let Some(timer) = self.commands.ends.remove(&pid) {
            self.timers.cancel(timer);
        }
    }

    /// It has had its time.
    pub(super) fn command_is_late(&mut self, pid: i32) {
        if self.commands.ends.remove(&pid).is_some()
            && self.sessions.owner(pid) == Some(ProcessOwner::Command)
        {
            process::signal_child(pid, Signal::SIGKILL);
            let text = format!("a command of hosts.allow or hosts.deny, pid {pid}, was killed after 60 s");
            self.note(Level::Warning, &text);
        }
    }

    /// superd ends, and the grace is over.
    pub(super) fn kill_commands(&mut self) {
        for pid in self.sessions.processes_of(ProcessOwner::Command) {
            process::signal_child(pid, Signal::SIGKILL);
        }
    }

    /// It could not be launched. A process that was made for it all the same is reaped, and counted then.
    pub(super) fn command_failed(&mut self, command: &Command, made: bool, step: Option<Step>, errno: i32) {
        if !made {
            self.commands.forget();
        }
        let step = step.map_or("start", Step::words);
        let text = format!("failed at {step}: {}", process::errno_name(errno));
        self.say_of_command(&command.service.to_string(), &text);
    }

    /// Clients bring them about: one line a minute.
    fn say_of_command(&mut self, service: &str, what: &str) {
        if self.commands.said.is_none_or(|said| self.now >= said + QUIET) {
            self.commands.said = Some(self.now);
            self.note(
                Level::Warning,
                &format!("a command of hosts.allow or hosts.deny for {service} {what}"),
            );
        }
    }
}

fn inet(client: Client) -> Option<std::net::SocketAddr> {
    match client {
        Client::Inet(address) => Some(address),
        Client::User { .. } => None,
    }
}

/// Of a client without an address there is nothing to find out: it has no name, and no ident server.
fn facts_of(admitted: &Admitted) -> HostsFacts {
    let facts = &admitted.facts;
    let has_address = inet(admitted.client).is_some();
    let user = |reply: &Reply| match reply {
        Reply::User(name) => User::named(name.as_str()),
        Reply::NoUser => User::Unknown,
        Reply::Failed => User::Failed,
    };
    HostsFacts {
        client_name: facts.name.as_ref().map(naming).or((!has_address).then_some(Naming::Unknown)),
        local_name: facts
            .local_name
            .as_ref()
            .map(naming)
            .or((admitted.local.is_none()).then_some(Naming::Unknown)),
        user: facts.ident.as_ref().map(user).or((!has_address).then_some(User::Unknown)),
        netgroups: facts.netgroups.clone(),
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

fn asked(need: &Need) -> Ruling {
    Ruling::Ask(match need {
        Need::Name(End::Client) => Subject::Name,
        Need::Name(End::Local) => Subject::LocalName,
        Need::User(within) => Subject::Ident(within.unwrap_or(IDENT)),
        Need::Netgroup(netgroup) => Subject::Netgroup(netgroup.clone()),
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
                let Severity { facility: before, level: level_before } = effects.severity;
                let facility = facility.as_deref().and_then(facility_named).or(before);
                effects.severity = Severity { facility, level: level_named(level).or(level_before) };
            }
            Action::Spawn(template) => {
                let command = template.shell_command(values).ok()?.to_vec();
                effects.commands.push((command, effects.overrides.clone()));
            }
            Action::Banners(folder) => {
                if let Some(template) = hosts.banners.get(&format!("{folder}/{daemon}")) {
                    effects.banner.extend(template.expand(values).ok()?.replace('\n', "\r\n").into_bytes());
                }
            }
            Action::KeepAlive => effects.keepalive = true,
            Action::Linger(seconds) => effects.linger = Some(*seconds),
            // The user has been asked for when it was judged.
            Action::Rfc931(_) => {}
            Action::Nice(more) => {
                effects.overrides.nice = effects.overrides.nice.saturating_add(*more);
            }
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
