//! The second step: a [`Draft`] to a [`Config`]: names become numbers, programs are looked at, defaults are
//! filled in. The only place that makes a `Config`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::model::address::SourcePrefix;
use crate::model::endpoint::{InterfaceName, Transport};
use crate::model::offence::Offence;

use super::access::{Hours, NamedHours, Set, Sets};
use super::admit;
use super::conflict;
use super::diagnostic::{Diagnostic, Report, Spot};
use super::draft::{Draft, Said, ServiceDraft, SetDraft, Values};
use super::endpoints;
use super::mux;
use super::pools;
use super::program;
use super::serves;
use super::settings::{
    Ban, Banners, ClientDetail, Config, Daemon, Facility, Fallback, Format, Keepalive, Launcher, Level,
    Limits, Log, LogTarget, Multiplexer, OnLimit, Service, ServiceLog, SocketOptions, Timeouts,
};
use super::situation::Situation;
use super::ways::Way;
use super::who;

/// An entry of the user database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserEntry {
    /// The name.
    pub name: String,
    /// The number.
    pub uid: u32,
    /// The primary group.
    pub gid: u32,
    /// The home directory.
    pub home: String,
    /// The shell.
    pub shell: String,
}

/// What a path leads to, symbolic links followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathFacts {
    /// What it is.
    pub kind: PathKind,
    /// Permission bits.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

/// What a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// Neither.
    Other,
}

/// What was found: nothing, or the reason why nobody could look.
pub type Lookup<T> = Result<Option<T>, String>;

/// What the machine knows; the shell implements it, tests use a table.
pub trait System {
    /// A user by name.
    fn user(&self, name: &str) -> Lookup<UserEntry>;
    /// A user by number.
    fn uid(&self, uid: u32) -> Lookup<UserEntry>;
    /// A group's number.
    fn group(&self, name: &str) -> Lookup<u32>;
    /// The supplementary groups of a user whose primary group is `gid`.
    fn groups_of(&self, user: &str, gid: u32) -> Result<Vec<u32>, String>;
    /// Those who are in a group by the user database, sorted: its members, and the users whose primary group it is.
    fn members_of(&self, gid: u32) -> Result<Vec<u32>, String>;
    /// A port of /etc/services.
    fn port(&self, transport: Transport, name: &str) -> Lookup<u16>;
    /// Is there a time zone of this name?
    fn has_zone(&self, name: &str) -> bool;
    /// What `path` leads to inside of `root`.
    fn path(&self, root: &Path, path: &Path) -> Lookup<PathFacts>;
}

/// Looks everything up. What is wrong is added to the report; there is a `Config` only if the report, that of
/// the first step included, has no error.
pub fn resolve(
    draft: &Draft,
    system: &dyn System,
    situation: &Situation,
    report: &mut Report,
) -> Option<Config> {
    let daemon = daemon(draft, system, situation, report);
    let log = log(&draft.log, system, report);
    let services: Vec<Option<Service>> =
        draft.services.iter().map(|service| resolve_service(service, system, situation, report)).collect();
    let hours = hours(draft, system, report);
    conflict::find(draft, &|transport, name| system.port(transport, name).ok().flatten(), report);
    if report.has_errors() {
        return None;
    }
    Some(Config {
        daemon: daemon?,
        log: log?,
        services: services.into_iter().collect::<Option<_>>()?,
        sets: sets(draft, report),
        hours,
    })
}

fn daemon(draft: &Draft, system: &dyn System, situation: &Situation, report: &mut Report) -> Option<Daemon> {
    let values = &draft.daemon;
    let path = |key, default: PathBuf| values.path(("", key)).cloned().unwrap_or(default);
    let control_group =
        values.who(("", "control_group")).map(|(who, spot)| who::group_id(who, spot, system, report));
    let needed_by = draft.services.iter().find_map(serves::helper_need);
    let helper = if situation.root { who::helper(values, needed_by, system, report) } else { None };
    let zone = values.text(("", "zone")).unwrap_or("local");
    if let Some(spot) = values.spot(("", "zone")) {
        check_zone(zone, spot, system, report);
    }
    let control = path("control", situation.runtime_dir.join("control.sock"));
    let beside = control.parent().unwrap_or(Path::new("/")).join("superd.pid");
    Some(Daemon {
        pid_file: path("pid_file", beside),
        control,
        control_group: control_group.flatten(),
        state_dir: path("state_dir", situation.state_dir.clone()),
        helper,
        multiplexer: word(values, ("", "multiplexer"), Multiplexer::Auto)?,
        launcher: word(values, ("", "launcher"), Launcher::Auto)?,
        max_sessions: values.number(("", "max_sessions")).unwrap_or(10_000),
        shutdown_grace: values.time(("", "shutdown_grace")).unwrap_or(Duration::from_secs(10)),
        never_ban: values.exempt(("", "never_ban")).to_vec(),
        zone: zone.to_owned(),
    })
}

pub(super) fn check_zone(zone: &str, spot: &Spot, system: &dyn System, report: &mut Report) {
    if zone != "local" && !system.has_zone(zone) {
        let diagnostic = Diagnostic::error("unknown-zone", spot, format!("there is no time zone `{zone}`"));
        report.add(diagnostic.hint("`timedatectl list-timezones` lists them; the package tzdata has them"));
    }
}

pub(super) fn sets(draft: &Draft, report: &Report) -> Sets {
    let set = |set: &SetDraft| Set {
        place: report.place(&set.spot),
        networks: set.networks.clone(),
        files: set.files.iter().map(|said| said.value.clone()).collect(),
        watch: set.watch,
    };
    draft.sets.iter().map(|(name, draft)| (name.clone(), set(draft))).collect()
}

pub(super) fn hours(draft: &Draft, system: &dyn System, report: &mut Report) -> Hours {
    let of_daemon = draft.daemon.text(("", "zone")).unwrap_or("local");
    let mut all = Hours::new();
    for (name, hours) in &draft.hours {
        if let Some(Said { value: zone, spot }) = &hours.zone {
            check_zone(zone, spot, system, report);
        }
        let zone = hours.zone.as_ref().map_or(of_daemon, |said| &said.value).to_owned();
        let hours = NamedHours { place: report.place(&hours.spot), windows: hours.windows.clone(), zone };
        all.insert(name.clone(), hours);
    }
    all
}

pub(super) fn log(values: &Values, system: &dyn System, report: &mut Report) -> Option<Log> {
    if let (Some(file), Some(spot)) = (values.path(("", "target")), values.spot(("", "target"))) {
        // Without it every line would be lost, and only the fallback would hear of it.
        let folder = file.parent().unwrap_or(Path::new("/"));
        program::directory(Path::new("/"), folder, "target", spot, system, report);
    }
    let target = match values.path(("", "target")) {
        Some(file) => LogTarget::File(file.clone()),
        None => word(values, ("", "target"), LogTarget::Auto)?,
    };
    Some(Log {
        target,
        facility: facility(values.text(("", "facility"))).unwrap_or(Facility(3)),
        socket: values.path(("", "socket")).cloned().unwrap_or_else(|| PathBuf::from("/dev/log")),
        tag: values.text(("", "tag")).unwrap_or("superd").to_owned(),
        fallback: word(values, ("", "fallback"), Fallback::Console)?,
        level: word(values, ("", "level"), Level::Info)?,
        format: word(values, ("", "format"), Format::Superd)?,
        client: word(values, ("", "client"), ClientDetail::Full)?,
    })
}

/// A word by the name that it has in the settings; the key table knows the same names, and a test holds it.
fn word<T: serde::de::DeserializeOwned>(
    values: &Values,
    path: (&'static str, &'static str),
    default: T,
) -> Option<T> {
    use serde::de::value::{Error, StrDeserializer};
    match values.text(path) {
        None => Some(default),
        Some(text) => T::deserialize(StrDeserializer::<Error>::new(text)).ok(),
    }
}

fn facility(name: Option<&str>) -> Option<Facility> {
    let name = name?;
    Facility::NAMES.iter().find(|(known, _)| *known == name).map(|(_, number)| Facility(*number))
}

fn resolve_service(
    draft: &ServiceDraft,
    system: &dyn System,
    situation: &Situation,
    report: &mut Report,
) -> Option<Service> {
    let values = &draft.values;
    let endpoints: Vec<_> = values
        .listens()
        .iter()
        .map(|said| endpoints::of_listen(&said.value, &said.spot, system, situation, report))
        .collect();
    let serves = serves::resolve(values, system, situation, report);
    let access = admit::resolve(values, system, report);
    Some(Service {
        name: draft.name.clone(),
        place: report.place(&draft.spot),
        enabled: values.flag(("", "enabled")).unwrap_or(true),
        endpoints: endpoints.into_iter().collect::<Option<Vec<_>>>()?.concat(),
        mux_names: mux::names(draft).map(|(name, _)| name.clone()).collect(),
        socket: socket(values),
        serves: serves?,
        access: access?,
        limits: limits(values)?,
        ban: ban(values),
        timeouts: Timeouts {
            session: values.time(("timeout", "session")),
            kill_after: values.time(("timeout", "kill_after")).unwrap_or(Duration::from_secs(5)),
            drain: values.time(("timeout", "drain")),
            handshake: values.time(("timeout", "handshake")).unwrap_or(Duration::from_secs(10)),
            idle: values.time(("timeout", "idle")),
        },
        banners: banners(values),
        log: service_log(values),
    })
}

pub(super) fn banners(values: &Values) -> Banners {
    Banners {
        accept: values.bytes(("banner", "accept")),
        refuse: values.bytes(("banner", "refuse")),
        busy: values.bytes(("banner", "busy")),
    }
}

pub(super) fn service_log(values: &Values) -> ServiceLog {
    ServiceLog {
        success: values.flag(("log", "success")).unwrap_or(true),
        failure: values.flag(("log", "failure")).unwrap_or(true),
        facility: facility(values.text(("log", "facility"))),
        level: word(values, ("log", "level"), Level::Info).filter(|_| values.get(("log", "level")).is_some()),
    }
}

fn limits(values: &Values) -> Option<Limits> {
    let lifted = values.is_cleared(("limits", "connections"));
    let default_connections = match Way::of(values)? {
        Way::Wait => Some(1),
        Way::Listen => None,
        // What the workers take holds also where nothing else does.
        Way::Handoff => pools::capacity(values),
        Way::Builtin => (!lifted).then_some(4096),
        Way::Exec | Way::Relay => (!lifted).then_some(256),
    };
    Some(Limits {
        connections: values.number(("limits", "connections")).or(default_connections),
        per_source: values.number(("limits", "per_source")),
        rate: values.rate(("limits", "rate")),
        rate_per_source: values.rate(("limits", "rate_per_source")),
        load: values.load(("limits", "load")),
        on_limit: word(values, ("limits", "on_limit"), OnLimit::Queue)?,
        source_prefix: source_prefix(values),
    })
}

pub(super) fn source_prefix(values: &Values) -> SourcePrefix {
    let prefix = values.inline(("limits", "source_prefix"));
    let default = SourcePrefix::default();
    SourcePrefix {
        v4: prefix.and_then(|p| p.number(("", "v4"))).unwrap_or(default.v4),
        v6: prefix.and_then(|p| p.number(("", "v6"))).unwrap_or(default.v6),
    }
}

/// One key of the table switches it on. A decoy always bans, at once, and for being come to alone.
fn ban(values: &Values) -> Option<Ban> {
    let is_decoy = values.text(("", "builtin")) == Some("sensor");
    let (after, on): (_, &[Offence]) =
        if is_decoy { (1, &[]) } else { (20, &[Offence::Refused, Offence::Rate]) };
    let says = ["after", "within", "for", "on"].iter().any(|key| values.get(("ban", key)).is_some());
    (says || is_decoy).then(|| Ban {
        after: values.number(("ban", "after")).unwrap_or(after),
        within: values.time(("ban", "within")).unwrap_or(Duration::from_mins(1)),
        length: values.time(("ban", "for")).unwrap_or(Duration::from_hours(1)),
        on: values.offences(("ban", "on")).unwrap_or(on).to_vec(),
        never: values.exempt(("ban", "never")).to_vec(),
    })
}

fn socket(values: &Values) -> SocketOptions {
    let keepalive = values.inline(("socket", "keepalive")).map(|inner| Keepalive {
        idle: inner.time(("", "idle")),
        interval: inner.time(("", "interval")),
        count: inner.number(("", "count")),
    });
    SocketOptions {
        backlog: values.number(("socket", "backlog")),
        keepalive,
        user_timeout: values.time(("socket", "user_timeout")),
        linger: values.time(("socket", "linger")),
        nodelay: values.flag(("socket", "nodelay")),
        receive_buffer: values.size(("socket", "receive_buffer")),
        send_buffer: values.size(("socket", "send_buffer")),
        receive_timeout: values.time(("socket", "receive_timeout")),
        send_timeout: values.time(("socket", "send_timeout")),
        receive_low_water: values.size(("socket", "receive_low_water")),
        ttl: values.number(("socket", "ttl")),
        min_ttl: values.number(("socket", "min_ttl")),
        tos: values.number(("socket", "tos")),
        max_segment: values.number(("socket", "max_segment")),
        oob_inline: values.flag(("socket", "oob_inline")),
        reuse_address: values.flag(("socket", "reuse_address")),
        reuse_port: values.flag(("socket", "reuse_port")),
        defer_accept: values.time(("socket", "defer_accept")),
        fast_open: values.number(("socket", "fast_open")),
        free_bind: values.flag(("socket", "free_bind")),
        transparent: values.flag(("socket", "transparent")),
        mark: values.number(("socket", "mark")),
        priority: values.number(("socket", "priority")),
        broadcast: values.flag(("socket", "broadcast")),
        multicast_ttl: values.number(("socket", "multicast_ttl")),
        multicast_loop: values.flag(("socket", "multicast_loop")),
        multicast_interface: values.text(("socket", "multicast_interface")).and_then(InterfaceName::new),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::diagnostic::Spot;
    use crate::config::draft::Value;
    use crate::config::keys::{self, Key, Kind};

    #[test]
    fn every_word_of_the_key_table_is_understood() {
        check(keys::DAEMON, "multiplexer", &Multiplexer::Auto);
        check(keys::DAEMON, "launcher", &Launcher::Auto);
        check(keys::LOG, "target", &LogTarget::Auto);
        check(keys::LOG, "fallback", &Fallback::None);
        check(keys::LOG, "level", &Level::Info);
        check(keys::LOG, "format", &Format::Superd);
        check(keys::LOG, "client", &ClientDetail::None);
        check(keys::SERVICE, "stderr", &crate::config::settings::Stderr::Null);
    }

    #[track_caller]
    fn check<T: serde::de::DeserializeOwned + Clone>(table: &'static [Key], name: &'static str, some: &T) {
        let (Kind::Word(words) | Kind::WordOrPath(words)) = keys::find(table, name).unwrap().kind else {
            panic!("{name} is no word");
        };
        for text in words {
            let mut values = Values::default();
            values.insert(("", name), Value::Text((*text).to_owned()), Spot { file: 0, range: 0..0 });
            assert!(super::word(&values, ("", name), some.clone()).is_some(), "{name} = {text}");
        }
    }
}
