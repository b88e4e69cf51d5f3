//! The supervisor's side of its roles: starting them through the launcher, and their channels.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::sys::signal::Signal;

use crate::config::settings::Level;
use crate::model::identity::Identity;
use crate::protocol::launch::Plan;
use crate::protocol::plans;
use crate::protocol::writer::{Order, REPORT_LENGTH, Report};
use crate::sys::channel::{Channel, Received};
use crate::sys::memory::sealed;
use crate::sys::process::{self, Ended, Status};

use super::Supervisor;
use super::launches::Job;
use super::sessions::ProcessOwner;
use super::timers::Due;

/// A role that the launcher starts. The numbers are indexes of their plans in generation 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum RoleKind {
    /// Loads the configuration once.
    Loader = 0,
    /// Writes files.
    Writer = 1,
    /// Collects standard errors.
    Collector = 2,
    /// Serve built-in services.
    Handlers = 3,
    /// Asks who clients are.
    Resolver = 4,
}

impl RoleKind {
    /// Every role, in the order of its index.
    pub(super) const ALL: [Self; 5] =
        [Self::Loader, Self::Writer, Self::Collector, Self::Handlers, Self::Resolver];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Loader => "loader",
            Self::Writer => "writer",
            Self::Collector => "collector",
            Self::Handlers => "handlers",
            Self::Resolver => "resolver",
        }
    }

    /// How the launcher makes it, with the helpers' user of a configuration.
    fn plan(self, helper: Option<&Identity>) -> Plan {
        let identity = match self {
            Self::Loader | Self::Writer => None,
            Self::Collector | Self::Handlers | Self::Resolver => helper.cloned(),
        };
        Plan::Role { name: self.name().to_owned(), identity }
    }
}

/// How the launcher makes each role, laid out for it.
pub(super) fn role_plans(helper: Option<&Identity>) -> io::Result<OwnedFd> {
    sealed("superd-plans", &plans::encode(&RoleKind::ALL.map(|kind| kind.plan(helper))))
}

impl Supervisor {
    /// A role's process has ended; its channel says the same to whoever holds it.
    pub(super) fn role_ended(&mut self, kind: RoleKind, ended: Ended) {
        if ended.status != Status::Code(0) {
            let how = match ended.status {
                Status::Code(code) => format!("with status {code}"),
                Status::Signal(signal) => format!("by {}", process::signal_name(signal)),
            };
            let text = format!("the {} (pid {}) ended {how}", kind.name(), ended.pid);
            self.note(Level::Warning, &text);
        }
    }

    /// Kills a role that hangs.
    pub(super) fn kill_role(&mut self, kind: RoleKind) {
        for pid in self.sessions.processes_of(ProcessOwner::Role(kind)) {
            process::signal_child(pid, Signal::SIGKILL);
        }
    }

    /// Has the state written to a file, by a writer of its own. It ends when it has written, since nothing more
    /// comes.
    pub(super) fn write_state(&mut self, path: &Path, text: &OwnedFd) -> io::Result<()> {
        self.state_writer = Some(self.start_writing(path, text)?);
        Ok(())
    }

    /// Has a file replaced by a writer of its own, which reports over the channel and ends.
    pub(super) fn start_writing(&mut self, path: &Path, text: &OwnedFd) -> io::Result<Channel> {
        let channel = self.start_role(RoleKind::Writer)?;
        let mut order = Vec::new();
        Order::State { path: path.as_os_str().as_bytes() }.push(&mut order);
        channel.send(&order, &[text.as_fd()])?;
        channel.finish()?;
        Ok(channel)
    }

    /// The writer of the state has something to say, or has ended.
    pub(super) fn on_state_writer(&mut self) {
        let mut packet = [0; REPORT_LENGTH];
        let received = self.state_writer.as_ref().map(|channel| channel.receive(&mut packet));
        match received {
            Some(Ok(Received::Packet { .. })) => {
                if let Some(report) = Report::read(&packet) {
                    self.say_state_written(report.errno);
                }
            }
            Some(Ok(Received::Empty)) | None => {}
            Some(Ok(Received::Closed) | Err(_)) => self.state_writer = None,
        }
    }

    fn say_state_written(&mut self, errno: i32) {
        let path = self.state_file().unwrap_or_default();
        let path = path.display();
        match errno {
            0 => self.note(Level::Notice, &format!("the state is written to {path}")),
            errno => {
                let why = process::errno_name(errno);
                self.note(Level::Err, &format!("the state can't be written to {path}: {why}"));
            }
        }
    }

    /// Gives the log a writer, if it goes to a file and has none.
    pub(super) fn attach_writer(&mut self) {
        if self.log.wants_writer().is_none() || !self.launches.is_up() {
            return;
        }
        if let Ok(channel) = self.start_role(RoleKind::Writer) {
            self.log.attach_writer(channel.into_fd());
        }
    }

    /// The log's writer has something to say, or has ended.
    pub(super) fn on_log_writer(&mut self) {
        // The log says by itself, where it can, that its file can't be written.
        self.log.on_writer();
        if self.log.writer().is_none() {
            let wait = self.writer_backoff.wait();
            self.timers.set(self.now + wait, Due::AttachWriter);
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
