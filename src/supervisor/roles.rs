//! The supervisor's side of its roles: starting them through the launcher, and their channels.

use std::io;

use crate::protocol::launch::Plan;
use crate::sys::channel::Channel;

use super::Supervisor;
use super::launches::Job;

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
    /// Asks the launcher for a role, and gives the supervisor's end of its channel. The role reads what is sent
    /// meanwhile when it is there; a role that can't be made closes the channel.
    pub(super) fn start_role(&mut self, kind: RoleKind) -> io::Result<Channel> {
        let (own, theirs) = Channel::pair()?;
        self.launches.enqueue(Job::Role(kind, Some(theirs.into_fd())));
        self.send_launches();
        Ok(own)
    }
}
