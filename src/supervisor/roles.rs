//! The supervisor's side of its roles: starting them through the launcher, and their channels.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::sys::signal::Signal;

use crate::config::settings::Level;
use crate::protocol::launch::Plan;
use crate::protocol::writer::Order;
use crate::sys::channel::Channel;
use crate::sys::process::{self, Ended, Status};

use super::Supervisor;
use super::launches::Job;
use super::sessions::ProcessOwner;

/// A role that the launcher starts. The numbers are indexes of their plans in generation 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum RoleKind {
    /// Loads the configuration once.
    Loader = 0,
    /// Writes files.
    Writer = 1,
}

impl RoleKind {
    /// Every role, in the order of its index.
    pub(super) const ALL: [Self; 2] = [Self::Loader, Self::Writer];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Loader => "loader",
            Self::Writer => "writer",
        }
    }

    /// How the launcher makes it.
    pub(super) fn plan(self) -> Plan {
        Plan::Role { name: self.name().to_owned(), identity: None }
    }
}

impl Supervisor {
    /// A role's process has ended; its channel says the same to whoever holds it.
    pub(super) fn role_ended(&mut self, kind: RoleKind, ended: Ended) {
        if ended.status != Status::Code(0) {
            let text = format!("the {} (pid {}) ended: {:?}", kind.name(), ended.pid, ended.status);
            self.note(Level::Warning, &text);
        }
    }

    /// Kills a role that hangs.
    pub(super) fn kill_role(&mut self, kind: RoleKind) {
        for pid in self.sessions.processes_of(ProcessOwner::Role(kind)) {
            process::signal_child(pid, Signal::SIGKILL);
        }
    }

    /// Has a file written whole, by a writer of its own.
    pub(super) fn write_file(&mut self, path: &Path, text: OwnedFd) -> io::Result<()> {
        let channel = self.start_role(RoleKind::Writer)?;
        let mut order = Vec::new();
        Order::State(path.as_os_str().as_bytes()).push(&mut order);
        // The writer ends when it has written, since the channel closes here.
        channel.send(&order, &[text.as_fd()])
    }

    /// Gives the log a writer, if it goes to a file and has none.
    pub(super) fn attach_writer(&mut self) {
        if !self.log.wants_writer() {
            return;
        }
        match self.start_role(RoleKind::Writer) {
            Ok(channel) => self.log.attach_writer(channel.into_fd()),
            Err(error) => self.note(Level::Err, &format!("the writer can't be started: {error}")),
        }
    }

    /// Asks the launcher for a role, and gives the supervisor's end of its channel. The role reads what is sent
    /// meanwhile when it is there; a role that can't be made closes the channel.
    pub(super) fn start_role(&mut self, kind: RoleKind) -> io::Result<Channel> {
        let (own, theirs) = Channel::pair()?;
        self.launches.enqueue(Job::Role(kind, Some(theirs.into_fd())));
        self.send_launches();
        Ok(own)
    }
}
