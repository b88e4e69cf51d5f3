//! A listener that is lent to a `wait` server, and made again as it was when the server has ended.
//!
//! The server has the same open socket: whatever it did to it stays. Two things can't be seen, so they are not
//! put back: groups that it joined beyond the listener's own, and a choice it attached for `reuse_port`. A source
//! filter on the listener's group is one more.
//!
//! Knows nothing of sessions.

use std::io;
use std::os::fd::BorrowedFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{SockAddr, SockRef};

use crate::config::settings::SocketOptions;
use crate::model::endpoint::Endpoint;
use crate::model::filter::Instruction;
use crate::supervisor::bind::rejoin;
use crate::supervisor::options::{self, Remembered};
use crate::sys::diag::diagnose;
use crate::sys::filter::{attached, is_locked, replace};
use crate::sys::group;
use crate::sys::kind::SocketKind;
use crate::sys::signalled::Description;
use crate::sys::sockopt::disconnect;

/// What a listener was like before it was lent.
#[derive(Debug)]
pub struct Lent {
    kind: SocketKind,
    description: Description,
    address: SockAddr,
    interface: u32,
    /// `None`: one of eBPF, which can't be read.
    filter: Option<Vec<Instruction>>,
    locked: bool,
    options: Remembered,
}

/// What was found when it came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Restored {
    /// It is as it was.
    Same,
    /// These were changed, and are as they were.
    Changed(Vec<&'static str>),
    /// It can't be made what it was: it is to be opened anew. With the reason.
    Gone(&'static str),
}

impl Lent {
    /// Looks at a listener, just before it is lent.
    pub fn remember(fd: BorrowedFd<'_>) -> io::Result<Self> {
        let kind = SocketKind::of(fd)?;
        Ok(Self {
            kind,
            description: Description::of(fd)?,
            address: SockRef::from(&fd).local_addr()?,
            interface: group::bound_interface(fd).unwrap_or(0),
            filter: attached(fd).ok(),
            locked: is_locked(fd),
            options: Remembered::of(fd, kind),
        })
    }

    /// Its filter was replaced while it was lent: this is the one that it is to have.
    pub fn expect_filter(&mut self, filter: &[Instruction]) {
        self.filter = Some(filter.to_vec());
    }

    /// superd accepts from it by now: it is not to block when it is put back, not even for an instant, in which
    /// another process that has it could call accept.
    pub fn stay_nonblocking(&mut self) {
        self.description.flags |= libc::O_NONBLOCK;
    }

    /// Puts back what differs. `options` are those of the service, by now perhaps other ones than it was lent with.
    pub fn restore(&self, fd: BorrowedFd<'_>, endpoint: &Endpoint, options: &SocketOptions) -> Restored {
        let mut changed = Vec::new();
        match self.put_back(fd, endpoint, options, &mut changed) {
            Err(reason) => Restored::Gone(reason),
            Ok(()) if changed.is_empty() => Restored::Same,
            Ok(()) => Restored::Changed(changed),
        }
    }

    fn put_back(
        &self,
        fd: BorrowedFd<'_>,
        endpoint: &Endpoint,
        options: &SocketOptions,
        changed: &mut Vec<&'static str>,
    ) -> Result<(), &'static str> {
        if SocketKind::of(fd).ok() != Some(self.kind) && !self.kind.is_group() {
            return Err("family");
        }
        self.put_back_description(fd, changed)?;
        self.disconnect(fd, changed)?;
        self.listen_again(fd, options, changed)?;
        if self.is_shut_down(fd) {
            return Err("shutdown");
        }
        if !SockRef::from(&fd).local_addr().is_ok_and(|now| now == self.address) {
            return Err("address");
        }
        self.put_back_interface(fd, changed)?;
        self.put_back_filter(fd, changed)?;
        self.options.put_back(fd, self.kind, options, changed)?;
        if self.kind.is_group() {
            // EADDRINUSE inside tells that it never left; an interface that is away comes back with its news.
            let _ = rejoin(fd, endpoint);
        }
        Ok(())
    }

    fn put_back_description(
        &self,
        fd: BorrowedFd<'_>,
        changed: &mut Vec<&'static str>,
    ) -> Result<(), &'static str> {
        let now = Description::of(fd).map_err(|_| "flags")?;
        if now != self.description {
            self.description.set(fd).map_err(|_| "flags")?;
            changed.push(if now.flags == self.description.flags { "owner" } else { "flags" });
        }
        Ok(())
    }

    /// A datagram socket that is connected hears one client alone. One whose port the kernel chose loses it here.
    fn disconnect(&self, fd: BorrowedFd<'_>, changed: &mut Vec<&'static str>) -> Result<(), &'static str> {
        if self.kind.is_datagram() && SockRef::from(&fd).peer_addr().is_ok() {
            disconnect(fd).map_err(|_| "connected")?;
            changed.push("connected");
        }
        Ok(())
    }

    /// After a shutdown for receiving, or a disconnect, a tcp socket is bound and listens no more; its queue is
    /// lost, and its place is not.
    fn listen_again(
        &self,
        fd: BorrowedFd<'_>,
        options: &SocketOptions,
        changed: &mut Vec<&'static str>,
    ) -> Result<(), &'static str> {
        let listens = SockRef::from(&fd).is_listener().unwrap_or(false);
        if self.kind.is_datagram() || listens {
            return Ok(());
        }
        options::listen(fd, options).map_err(|_| "listening")?;
        changed.push("listening");
        Ok(())
    }

    fn is_shut_down(&self, fd: BorrowedFd<'_>) -> bool {
        let shut = |shutdown: u8| if self.kind.is_datagram() { shutdown != 0 } else { shutdown & 1 != 0 };
        is_hung_up(fd) || diagnose(fd, self.kind).is_some_and(|found| shut(found.shutdown))
    }

    fn put_back_interface(
        &self,
        fd: BorrowedFd<'_>,
        changed: &mut Vec<&'static str>,
    ) -> Result<(), &'static str> {
        if self.kind.is_unix() || group::bound_interface(fd).is_ok_and(|now| now == self.interface) {
            return Ok(());
        }
        group::bind_to_interface(fd, self.interface).map_err(|_| "interface")?;
        changed.push("interface");
        Ok(())
    }

    fn put_back_filter(
        &self,
        fd: BorrowedFd<'_>,
        changed: &mut Vec<&'static str>,
    ) -> Result<(), &'static str> {
        // The server has locked it: it could never follow the rules again.
        if is_locked(fd) && !self.locked {
            return Err("filter");
        }
        let now = attached(fd).ok();
        match &self.filter {
            same if *same == now => Ok(()),
            None => Err("filter"),
            Some(filter) => {
                replace(fd, filter).map_err(|_| "filter")?;
                changed.push("filter");
                Ok(())
            }
        }
    }
}

/// Where the kernel's tables tell nothing: POLLHUP is that of both directions.
pub(super) fn is_hung_up(fd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(fd, PollFlags::empty())];
    let found = poll(&mut fds, PollTimeout::ZERO).is_ok();
    found && fds.iter().any(|fd| fd.revents().is_some_and(|events| events.contains(PollFlags::POLLHUP)))
}

#[cfg(test)]
mod tests;
