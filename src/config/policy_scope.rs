//! A configuration in *policy scope*: superwrap's policy file. The language is the same; services have neither
//! listeners nor programs, and say who may use them, how often, and what is logged.
//!
//! Knows keys, nothing of superwrap's ways.

use std::path::PathBuf;
use std::time::Duration;

use crate::model::address::SourcePrefix;
use crate::model::name::ServiceName;
use crate::model::place::Place;
use crate::model::rate::{LoadAverage, Rate};

use super::access::{Access, Hours, Sets};
use super::admit;
use super::collect::{Section, Sections};
use super::diagnostic::{Diagnostic, Report};
use super::draft::{Draft, Path, ServiceDraft, Values};
use super::resolve::{self, System};
use super::settings::{Banners, Log, LogTarget, ServiceLog};

/// What superwrap is told.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// `[wrap]`.
    pub wrap: Wrap,
    /// `[log]`.
    pub log: Log,
    /// `[sets]`, without what their files hold.
    pub sets: Sets,
    /// `[hours]`.
    pub hours: Hours,
    /// Every service that the draft has.
    pub services: Vec<WrappedService>,
}

/// `[wrap]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrap {
    /// Where the real programs of links are; `None`: where they are by default.
    pub programs: Option<PathBuf>,
    /// How long a decision may take.
    pub deadline: Duration,
    /// Counts how often clients come.
    pub state: PathBuf,
}

impl Default for Wrap {
    fn default() -> Self {
        let state = PathBuf::from("/var/lib/superd/superwrap.state");
        Self { programs: None, deadline: Duration::from_secs(10), state }
    }
}

/// `[service.NAME]`, with its defaults filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct WrappedService {
    /// The name.
    pub name: ServiceName,
    /// Where its table stands.
    pub place: Place,
    /// Who may use it.
    pub access: Access,
    /// `limits.rate`
    pub rate: Option<Rate>,
    /// `limits.rate_per_source`
    pub rate_per_source: Option<Rate>,
    /// `limits.load`
    pub load: Option<LoadAverage>,
    /// `limits.source_prefix`
    pub source_prefix: SourcePrefix,
    /// Texts for clients.
    pub banners: Banners,
    /// What of it is logged.
    pub log: ServiceLog,
}

/// What can hold in a service.
const OF_A_SERVICE: [Path; 18] = [
    ("", "deny"),
    ("", "allow"),
    ("", "users"),
    ("", "hours"),
    ("", "rule"),
    ("", "otherwise"),
    ("", "hosts_access"),
    ("limits", "rate"),
    ("limits", "rate_per_source"),
    ("limits", "load"),
    ("limits", "source_prefix"),
    ("banner", "accept"),
    ("banner", "refuse"),
    ("banner", "busy"),
    ("log", "success"),
    ("log", "failure"),
    ("log", "facility"),
    ("log", "level"),
];

/// Whole tables that can be `"none"`.
const TABLES: [Path; 3] = [("", "limits"), ("", "banner"), ("", "log")];

/// `[wrap]` in the daemon's own configuration would do nothing.
pub fn refuse_wrap(wrap: Option<&Section>, report: &mut Report) {
    let Some(section) = wrap else { return };
    let error = Diagnostic::error("cannot-hold", &section.spot, "`[wrap]` is for superwrap, not for superd");
    report.add(error.hint("it stands in superwrap's policy file, /etc/superwrap.toml"));
}

/// Refuses what superwrap does not do.
pub fn check(sections: &Sections, report: &mut Report) {
    if let Some(section) = &sections.daemon {
        only(section, "[daemon]", &[("", "zone")], "superwrap is no daemon", report);
    }
    let services = sections.services.values().chain(&sections.defaults);
    for section in services {
        let holds = [&OF_A_SERVICE[..], &TABLES[..]].concat();
        only(section, "a service", &holds, "superwrap neither listens nor keeps sessions", report);
    }
    if let Some(section) = &sections.log {
        let target = section.values.text(("", "target"));
        let is_file = section.values.path(("", "target")).is_some() || target == Some("journal");
        if let Some(spot) = section.values.spot(("", "target")).filter(|_| is_file) {
            let error = Diagnostic::error("cannot-hold", spot, "superwrap logs to syslog, or to stderr");
            report.add(error.hint("`target = \"syslog\"`"));
        }
    }
}

fn only(section: &Section, what: &str, holds: &[Path], why: &str, report: &mut Report) {
    for path in section.values.paths().filter(|path| !holds.contains(path)) {
        let Some(said) = section.values.said(path) else { continue };
        let (table, key) = path;
        let key = if table.is_empty() { key.to_owned() } else { format!("{table}.{key}") };
        let message = format!("`{key}` of {what} can't hold in a policy: {why}");
        report.add(Diagnostic::error("cannot-hold", &said.spot, message));
    }
}

/// Looks everything up that the draft names; there is a policy only if the report has no error.
pub fn resolve(draft: &Draft, system: &dyn System, report: &mut Report) -> Option<Policy> {
    if let Some((zone, spot)) = draft.daemon.text(("", "zone")).zip(draft.daemon.spot(("", "zone"))) {
        resolve::check_zone(zone, spot, system, report);
    }
    let log = log(&draft.log, system, report);
    let services: Vec<Option<WrappedService>> =
        draft.services.iter().map(|service| wrapped(service, system, report)).collect();
    let hours = resolve::hours(draft, system, report);
    if report.has_errors() {
        return None;
    }
    let sets = resolve::sets(draft, report);
    let services = services.into_iter().collect::<Option<_>>()?;
    Some(Policy { wrap: wrap(&draft.wrap), log: log?, sets, hours, services })
}

/// `[log]`, with superwrap's own defaults.
pub fn log(values: &Values, system: &dyn System, report: &mut Report) -> Option<Log> {
    let log = resolve::log(values, system, report)?;
    let tag = if values.get(("", "tag")).is_some() { log.tag } else { "superwrap".to_owned() };
    let target = if log.target == LogTarget::Auto { LogTarget::Syslog } else { log.target };
    Some(Log { target, tag, ..log })
}

/// `[wrap]`, as far as it is right.
pub fn wrap(values: &Values) -> Wrap {
    let default = Wrap::default();
    Wrap {
        programs: values.path(("", "programs")).cloned(),
        deadline: values.time(("", "deadline")).unwrap_or(default.deadline),
        state: values.path(("", "state")).cloned().unwrap_or(default.state),
    }
}

fn wrapped(draft: &ServiceDraft, system: &dyn System, report: &mut Report) -> Option<WrappedService> {
    let values = &draft.values;
    Some(WrappedService {
        name: draft.name.clone(),
        place: report.place(&draft.spot),
        access: admit::resolve(values, system, report)?,
        rate: values.rate(("limits", "rate")),
        rate_per_source: values.rate(("limits", "rate_per_source")),
        load: values.load(("limits", "load")),
        source_prefix: resolve::source_prefix(values),
        banners: resolve::banners(values),
        log: resolve::service_log(values),
    })
}
