//! superwrap's lines in the log, in the words of superd.log(5): to syslog, without ever waiting for it.
//!
//! A frame has no time: log daemons put theirs, and the time zone need not be read for every connection.

use std::io;
use std::io::Write as _;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::config::settings::{ClientDetail, Facility, Fallback, Format, Level, Log, LogTarget, ServiceLog};
use crate::model::place::Place;
use crate::model::session::SessionId;
use crate::policy::hosts_access::options::Action;
use crate::protocol::log::{Style, push_line};
use crate::protocol::resolve::Named;
use crate::service::reason::Reason;
use crate::service::record::{Event, Record};
use crate::sys::deadline::Deadline;
use crate::sys::process;

use super::client::{By, Visit};
use super::judging::Told;
use super::policy::Rules;
use super::program::Launch;
use super::refusal::Refusal;
use super::{REFUSED, status_of};

/// The log of this one decision.
pub(super) struct Journal {
    service: String,
    log: Log,
    of_service: ServiceLog,
    socket: Option<UnixDatagram>,
    /// A process that a shell started says it there, too.
    is_seen: bool,
}

impl Journal {
    /// As it is until the policy is known.
    pub(super) fn new(service: &str) -> Self {
        let log = Log {
            target: LogTarget::Syslog,
            facility: Facility(3),
            socket: PathBuf::from("/dev/log"),
            tag: "superwrap".to_owned(),
            fallback: Fallback::None,
            level: Level::Info,
            format: Format::Superd,
            client: ClientDetail::Full,
        };
        let of_service = ServiceLog { success: true, failure: true, facility: None, level: None };
        let socket = connect(&log.socket);
        Self { service: service.to_owned(), log, of_service, socket, is_seen: false }
    }

    /// What is said if the deadline passes.
    pub(super) fn expect(&mut self, visit: &Visit, deadline: &Deadline) {
        self.is_seen = visit.by == By::Nothing;
        let Some(socket) = &self.socket else { return };
        let refused = refused(visit, Reason::Undecided, None, None);
        let record = Record::about(&self.service, refused);
        deadline.say(socket.as_fd(), self.frame(&record, &self.line(&record)));
    }

    /// From now on as `[log]` says.
    pub(super) fn take_log(&mut self, log: Log) {
        if log.target != LogTarget::Syslog {
            self.keep(None);
        } else if log.socket != self.log.socket {
            self.keep(connect(&log.socket));
        }
        self.log = log;
    }

    /// From now on as the service says.
    pub(super) fn obey(&mut self, rules: &Rules, visit: &Visit, deadline: &Deadline) {
        self.of_service = rules.service_log;
        self.expect(visit, deadline);
    }

    /// The old one stays open: the deadline's line may be on its way to it.
    fn keep(&mut self, socket: Option<UnixDatagram>) {
        std::mem::forget(std::mem::replace(&mut self.socket, socket));
    }

    /// `severity` of hosts_options(5), for the line that follows.
    pub(super) fn take_severity(&mut self, actions: &[Action]) {
        for action in actions {
            let Action::Severity { facility, level } = action else { continue };
            let named =
                facility.as_deref().and_then(|name| Facility::NAMES.iter().find(|(known, _)| *known == name));
            self.of_service.facility =
                named.map(|(_, number)| Facility(*number)).or(self.of_service.facility);
            self.of_service.level = Some(match level.as_str() {
                "emerg" | "alert" | "crit" => Level::Crit,
                "err" => Level::Err,
                "warning" => Level::Warning,
                "notice" => Level::Notice,
                "debug" => Level::Debug,
                _ => Level::Info,
            });
        }
    }

    /// The client is let in.
    pub(super) fn start(&mut self, visit: &Visit, told: &Told) {
        if !self.of_service.success {
            return;
        }
        let event = Event::Start {
            session: session(),
            client: Some(visit.client),
            local: visit.local,
            pid: Some(process::own_pid()),
        };
        let record = Record::about(&self.service, event);
        let mut line = self.line(&record);
        if self.log.format == Format::Superd {
            // Both are clean: names of hosts, numbers, and what was made safe when it was read.
            for (key, value) in [("name", &told.name), ("user", &told.user)] {
                if let Some(value) = value {
                    let _ = write!(line, " {key}={value}");
                }
            }
        }
        self.send(&record, &line);
    }

    /// It is not.
    pub(super) fn refuse(&mut self, visit: &Visit, refusal: &Refusal) {
        if let Some(trouble) = &refusal.trouble {
            self.note(trouble);
        }
        let (reason, rule) = (refusal.reason, refusal.rule.as_ref());
        if self.is_seen {
            let place = rule.map(|place| format!(" ({place})")).unwrap_or_default();
            eprintln!("superwrap: {} is refused: {}{place}", self.service, reason.word());
        }
        if refusal.log.unwrap_or(self.of_service.failure) {
            let refused = refused(visit, reason, rule, refusal.naming.as_ref());
            self.say(&Record::about(&self.service.clone(), refused));
        }
    }

    /// A rule that only observes would have refused it.
    pub(super) fn observed(&mut self, visit: &Visit, rule: &Place) {
        let event = Event::Observed { client: visit.client, rule };
        self.say(&Record::about(&self.service.clone(), event));
    }

    /// The program can't be run; what this process ends with then.
    pub(super) fn launch_failed(&mut self, visit: &Visit, launch: &Launch, error: &io::Error) -> u8 {
        let program = launch.program();
        let name = error.raw_os_error().map_or_else(|| error.to_string(), process::errno_name);
        let (session, client) = (session(), Some(visit.client));
        let event = Event::LaunchFailed { session, client, step: "exec", error: &name, program: &program };
        self.say(&Record::about(&self.service.clone(), event));
        if self.is_seen {
            eprintln!("superwrap: {program}: {error}");
        }
        status_of(error)
    }

    /// Nothing can be decided, and nobody is known who could be refused.
    pub(super) fn give_up(&mut self, why: &str) -> u8 {
        self.is_seen = true;
        self.note(why);
        REFUSED
    }

    fn note(&mut self, text: &str) {
        let service = self.service.clone();
        self.say(&Record { service: Some(&service), ..Record::note(Level::Err, text) });
        if self.is_seen {
            eprintln!("superwrap: {text}");
        }
    }

    fn say(&mut self, record: &Record<'_>) {
        let line = self.line(record);
        self.send(record, &line);
    }

    fn line(&self, record: &Record<'_>) -> Vec<u8> {
        let mut line = Vec::new();
        push_line(&mut line, record, Style { format: self.log.format, client: self.log.client });
        line
    }

    fn send(&self, record: &Record<'_>, line: &[u8]) {
        let level = self.level(record);
        if level > self.log.level {
            return;
        }
        if self.log.target == LogTarget::Stderr {
            let _ = io::stderr().write_all(&[line, b"\n"].concat());
        } else if let Some(socket) = &self.socket {
            // A log daemon that is slow costs a line, not a client its connection.
            let _ = socket.send(&self.frame(record, line));
        }
    }

    /// RFC 3164 as local log daemons take it: the priority, the tag, the line.
    fn frame(&self, record: &Record<'_>, line: &[u8]) -> Vec<u8> {
        let facility = self.of_service.facility.unwrap_or(self.log.facility);
        let priority = (u32::from(facility.0) << 3) | self.level(record) as u32;
        let mut frame = format!("<{priority}>{}[{}]: ", self.log.tag, process::own_pid()).into_bytes();
        frame.extend_from_slice(line);
        frame
    }

    fn level(&self, record: &Record<'_>) -> Level {
        match record.event {
            Event::Note { .. } | Event::LaunchFailed { .. } => record.level,
            _ => self.of_service.level.unwrap_or(record.level),
        }
    }
}

fn connect(path: &Path) -> Option<UnixDatagram> {
    let socket = UnixDatagram::unbound().ok()?;
    socket.set_nonblocking(true).ok()?;
    socket.connect(path).ok()?;
    Some(socket)
}

fn refused<'a>(
    visit: &Visit,
    reason: Reason,
    rule: Option<&'a Place>,
    named: Option<&'a Named>,
) -> Event<'a> {
    Event::Refuse { client: visit.client, reason, rule, told: named.map(Named::told), count: 1 }
}

/// The second, and the process, which no other has in that second.
fn session() -> SessionId {
    let epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    SessionId { epoch, serial: process::own_pid().unsigned_abs().into() }
}
