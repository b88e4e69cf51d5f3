//! The sessions: connections that are being served, from their admission to the last word about them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Instant;

use crate::config::settings::{self, Serves};
use crate::model::address::Source;
use crate::model::client::Client;
use crate::model::label::Label;
use crate::model::session::SessionId;
use crate::service::admission::ServiceKey;
use crate::sys::process::Ended;

use super::listeners::ListenerKey;
use super::services::PlanId;
use super::slab::Slab;
use super::timers::TimerId;
use super::workers::WorkerKey;

/// A session, as long as it lives.
pub(super) type SessionKey = usize;

/// One connection that is being served.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: SessionId,
    pub(super) service: ServiceKey,
    /// The settings that it began with; a reload does not change them.
    pub(super) settings: Rc<settings::Service>,
    /// How its program is made.
    pub(super) plan: PlanId,
    /// None of a server that waits by itself.
    pub(super) client: Option<Client>,
    pub(super) local: Option<SocketAddr>,
    pub(super) source: Option<Source>,
    /// The client's confirmed name and what its ident server says, where a rule asked for them.
    pub(super) names: [Option<String>; 2],
    /// What hosts.allow has it launched with.
    pub(super) overrides: Option<String>,
    /// The hours whose end ends it.
    pub(super) hours: Option<Label>,
    /// The worker that it was handed to.
    pub(super) worker: Option<WorkerKey>,
    /// Workers that have ended before they took it.
    pub(super) lost_workers: u32,
    /// The listener that it was lent, for `wait`.
    pub(super) lent: Option<ListenerKey>,
    /// superd's copy, until the child exists; with `timeout.drain`, until its end.
    pub(super) connection: Option<OwnedFd>,
    /// The pipe that becomes the program's standard error, until the child exists.
    pub(super) stderr: Option<OwnedFd>,
    pub(super) phase: Phase,
    /// When its launch was asked for, then when its program began.
    pub(super) since: Instant,
    /// Its process; 0 while there is none.
    pub(super) pid: i32,
    /// How the process ended. A launch's own report may come after it.
    pub(super) ended: Option<Ended>,
    /// Its next deadline: timeout, or KILL.
    pub(super) timer: Option<TimerId>,
    /// Why superd ended it.
    pub(super) cause: Option<&'static str>,
}

impl Session {
    /// Is a process made for it?
    pub(super) fn is_launched(&self) -> bool {
        matches!(self.settings.serves, Serves::Exec(_) | Serves::Wait(_))
    }

    /// The process that the log names; superd's own is not worth naming.
    pub(super) fn shown_pid(&self) -> Option<i32> {
        Some(self.pid).filter(|pid| *pid != 0)
    }
}

/// How far a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Waits for a slot or for the launcher.
    Queued,
    /// A worker was sent it, and has not taken it yet.
    Handed,
    /// The launcher has it, in this slot.
    Launching(u16),
    /// Its program runs, or its worker has it.
    Running,
    /// It could not be launched; its process, if there was one, is still to be reaped.
    Failed,
}

/// Whose process a pid is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProcessOwner {
    Session(SessionKey),
    Role(super::roles::RoleKind),
    Worker(WorkerKey),
    /// What hosts.allow or hosts.deny has beside a session.
    Command,
    Launcher,
}

/// All sessions, and the owners of all processes.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    pub(super) table: Slab<Session>,
    processes: HashMap<i32, ProcessOwner>,
}

impl Sessions {
    pub(super) fn own(&mut self, pid: i32, owner: ProcessOwner) {
        self.processes.insert(pid, owner);
    }

    pub(super) fn owner(&self, pid: i32) -> Option<ProcessOwner> {
        self.processes.get(&pid).copied()
    }

    pub(super) fn processes_of(&self, owner: ProcessOwner) -> Vec<i32> {
        self.processes.iter().filter(|(_, o)| **o == owner).map(|(pid, _)| *pid).collect()
    }

    pub(super) fn disown(&mut self, pid: i32) -> Option<ProcessOwner> {
        self.processes.remove(&pid)
    }
}
