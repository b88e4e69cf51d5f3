//! What happened, as typed records: each becomes one log line in superd's or xinetd's wording, or journal
//! fields (`protocol::log`). The grammar is superd.log(5)'s.

use std::net::SocketAddr;
use std::time::Duration;

use crate::config::settings::{Facility, Level};
use crate::model::client::Client;
use crate::model::endpoint::Endpoint;
use crate::model::place::Place;
use crate::model::session::SessionId;

use super::ban::{Banned, Cause};
use super::reason::Reason;

/// A record, with what it takes to route it.
#[derive(Debug, Clone, PartialEq)]
pub struct Record<'a> {
    /// How important it is.
    pub level: Level,
    /// In place of the log's own facility.
    pub facility: Option<Facility>,
    /// The service it is about.
    pub service: Option<&'a str>,
    /// What happened.
    pub event: Event<'a>,
}

impl<'a> Record<'a> {
    /// A record about a service, at the event's own level.
    pub fn about(service: &'a str, event: Event<'a>) -> Self {
        Self { level: event.level(), facility: None, service: Some(service), event }
    }

    /// A record about superd itself, at the event's own level.
    pub fn general(event: Event<'a>) -> Self {
        Self { level: event.level(), facility: None, service: None, event }
    }

    /// Prose for the admin.
    pub fn note(level: Level, text: &'a str) -> Self {
        Self { level, facility: None, service: None, event: Event::Note { text } }
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event<'a> {
    /// A client is being served.
    Start {
        /// The session.
        session: SessionId,
        /// The client; none of a server that waits.
        client: Option<Client>,
        /// The address that it asked.
        local: Option<SocketAddr>,
        /// The process that serves it; none of superd's own services.
        pid: Option<i32>,
    },
    /// A session is over.
    End {
        /// The session.
        session: SessionId,
        /// The client; none of a server that waits.
        client: Option<Client>,
        /// The process that served it; none of superd's own services.
        pid: Option<i32>,
        /// How that ended, if it was the session's own.
        status: Option<ExitStatus>,
        /// Since its start.
        duration: Duration,
        /// User and system time of the process, if it was the session's own.
        cpu: Option<Duration>,
        /// Bytes that came from the client and were sent to it, where that is known.
        bytes: Option<(u64, u64)>,
        /// superd ended it: `timeout`, `shutdown`; or it was lost with its worker: `handler-lost`.
        cause: Option<&'a str>,
    },
    /// A client was answered at once: the start and the end of a session in one.
    Answered {
        /// The session.
        session: SessionId,
        /// The client.
        client: Client,
        /// The address that it asked.
        local: Option<SocketAddr>,
        /// Bytes that were sent to it.
        sent: u64,
    },
    /// A client was refused.
    Refuse {
        /// The client.
        client: Client,
        /// Why.
        reason: Reason,
        /// Where the limit or rule stands.
        rule: Option<&'a Place>,
        /// What is known of its name, where a rule asked for it.
        told: Option<Told<'a>>,
        /// How many refusals of the same source the line stands for; more than one in a summary alone.
        count: u64,
    },
    /// A rule that only observes would have refused a client that was let in.
    Observed {
        /// The client.
        client: Client,
        /// Where the rule stands.
        rule: &'a Place,
    },
    /// Refusals of sources that there was no room to keep apart.
    RefuseOthers {
        /// How many.
        count: u64,
    },
    /// A source is banned from the service, or from all.
    Ban {
        /// The source.
        who: Banned,
        /// What for.
        cause: Cause,
        /// For how long.
        length: Duration,
        /// Bans before it that there was no line for.
        others: u64,
    },
    /// An admin has lifted a ban.
    Unban {
        /// The source.
        who: Banned,
    },
    /// A program could not be started.
    LaunchFailed {
        /// The session.
        session: SessionId,
        /// The client; none of a server that waits.
        client: Option<Client>,
        /// The step that failed (`set user`, `exec`).
        step: &'a str,
        /// The error, as the kernel names it (`EPERM`).
        error: &'a str,
        /// The program.
        program: &'a str,
    },
    /// A line that a program wrote to its standard error.
    Stderr {
        /// The session.
        session: SessionId,
        /// The line, untrusted.
        line: &'a [u8],
        /// Lines that were dropped before it.
        dropped: u64,
    },
    /// A service changed its state: `online`, `paused`, `degraded`, `draining`, `disabled`.
    State {
        /// The new state.
        state: &'a str,
        /// Why: `connections`, `EADDRNOTAVAIL`, `launcher`.
        reason: Option<&'a str>,
        /// The endpoint that it is about.
        endpoint: Option<&'a Endpoint>,
        /// The next try.
        retry: Option<Duration>,
    },
    /// The configuration was loaded.
    Reload {
        /// The new generation.
        generation: u64,
        /// Services that did not change.
        kept: usize,
        /// Services that did.
        changed: usize,
        /// Services that are new.
        opened: usize,
        /// Services that are gone.
        closed: usize,
    },
    /// The configuration was refused; the running one goes on.
    ReloadRefused {
        /// The first line of the error.
        error: &'a str,
        /// How many errors there are.
        errors: usize,
    },
    /// superd ends.
    Stop {
        /// Sessions that were alive at the end.
        sessions: usize,
    },
    /// A word to the admin in prose.
    Note {
        /// The text; may hold untrusted bytes, which are escaped.
        text: &'a str,
    },
}

impl Event<'_> {
    /// How important it is where the configuration says nothing else.
    pub fn level(&self) -> Level {
        match self {
            Self::Start { .. } | Self::End { .. } | Self::Answered { .. } | Self::Stderr { .. } => {
                Level::Info
            }
            Self::LaunchFailed { .. } | Self::ReloadRefused { .. } => Level::Err,
            Self::State { state: "degraded", .. } => Level::Warning,
            Self::Refuse { .. }
            | Self::Observed { .. }
            | Self::RefuseOthers { .. }
            | Self::Ban { .. }
            | Self::Unban { .. }
            | Self::State { .. }
            | Self::Reload { .. }
            | Self::Stop { .. }
            | Self::Note { .. } => Level::Notice,
        }
    }
}

/// What is known of a client's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told<'a> {
    /// The name, if there is one.
    pub name: Option<&'a str>,
    /// How sure it is: `confirmed`, `mismatch`, `none`, `failed`.
    pub naming: &'a str,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// exit(2)'s argument.
    Code(i32),
    /// The number of the signal that ended it.
    Signal(i32),
}
