//! Waiting: ppoll(2) over an array, and an epoll set for arrays that would be too long.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::SigSet;

/// What to wait for this turn, as the kernel wants it. An index is a place in the array.
#[derive(Debug, Default)]
pub struct PollSet {
    fds: Vec<libc::pollfd>,
    /// Waits in a row that found something ready, and let no signal in.
    busy: u32,
}

/// After so many waits that had not to wait, signals are let in all the same.
const BUSY: u32 = 8;

/// What a wait ended with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// So many descriptors are ready.
    Ready(usize),
    /// A signal came.
    Signal,
    /// The time is over.
    Timeout,
}

/// What is ready on a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Readiness {
    /// There is something to read or to accept, or the other side is gone.
    pub read: bool,
    /// There is room to write.
    pub write: bool,
    /// `POLLERR`, `POLLHUP` or `POLLNVAL`.
    pub broken: bool,
}

impl PollSet {
    /// Forgets all descriptors.
    pub fn clear(&mut self) {
        self.fds.clear();
    }

    /// Adds a descriptor; its index is what [`PollSet::ready`] takes. The descriptor must stay open until the
    /// next wait is over: the owner rebuilds the set each turn.
    pub fn push(&mut self, fd: BorrowedFd<'_>, read: bool, write: bool) -> usize {
        let events = if read { libc::POLLIN } else { 0 } | if write { libc::POLLOUT } else { 0 };
        self.fds.push(libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 });
        self.fds.len() - 1
    }

    /// Waits with `mask` as the signal mask, so that a signal that is blocked otherwise comes here and only
    /// here. `None` waits for ever. An error is ppoll's own (ENOMEM, EINVAL): nothing is ready then.
    ///
    /// ppoll(2) that finds something ready at once puts the old mask back before a pending signal is delivered
    /// (Linux since 5.2): who is always busy would never hear of one. So signals are let in apart, now and then.
    pub fn wait(&mut self, timeout: Option<Duration>, mask: &SigSet) -> io::Result<Woken> {
        let time = timeout.map(|t| libc::timespec {
            tv_sec: libc::time_t::try_from(t.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: libc::c_long::from(t.subsec_nanos()),
        });
        let time = time.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        for slot in &mut self.fds {
            slot.revents = 0;
        }
        // SAFETY: the array is valid for its length, `time` and `mask` outlive the call.
        let n = unsafe {
            libc::ppoll(self.fds.as_mut_ptr(), self.fds.len() as libc::nfds_t, time, mask.as_ref())
        };
        match Errno::result(n) {
            Ok(0) => Ok(Woken::Timeout),
            Ok(n) => {
                self.let_signals_in(mask);
                Ok(Woken::Ready(usize::try_from(n).unwrap_or(0)))
            }
            Err(Errno::EINTR) => {
                self.busy = 0;
                Ok(Woken::Signal)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn let_signals_in(&mut self, mask: &SigSet) {
        self.busy += 1;
        if self.busy < BUSY {
            return;
        }
        self.busy = 0;
        let no_time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: no array, of length 0; `no_time` and `mask` outlive the call.
        unsafe { libc::ppoll(std::ptr::null_mut(), 0, &raw const no_time, mask.as_ref()) };
    }

    /// What is ready at `index` after a wait.
    pub fn ready(&self, index: usize) -> Readiness {
        let revents = self.fds.get(index).map_or(0, |slot| slot.revents);
        Readiness {
            read: revents & (libc::POLLIN | libc::POLLHUP | libc::POLLERR) != 0,
            write: revents & (libc::POLLOUT | libc::POLLERR) != 0,
            broken: revents & (libc::POLLERR | libc::POLLHUP | libc::POLLNVAL) != 0,
        }
    }
}

/// What somebody waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interest {
    /// Something to read.
    pub read: bool,
    /// Room to write.
    pub write: bool,
}

impl From<Interest> for EpollFlags {
    fn from(wanted: Interest) -> Self {
        let mut flags = Self::empty();
        flags.set(Self::EPOLLIN, wanted.read);
        flags.set(Self::EPOLLOUT, wanted.write);
        flags
    }
}

/// A set of descriptors that the kernel keeps. Its own descriptor is readable while one of them is.
#[derive(Debug)]
pub struct EpollSet {
    set: Epoll,
    events: Vec<EpollEvent>,
}

impl EpollSet {
    /// An empty set, close-on-exec.
    pub fn new() -> io::Result<Self> {
        let set = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        Ok(Self { set, events: vec![EpollEvent::empty(); 64] })
    }

    /// Begins to watch `fd` for reading; events carry `key`.
    pub fn add(&self, fd: BorrowedFd<'_>, key: u64) -> io::Result<()> {
        Ok(self.set.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, key))?)
    }

    /// Begins to watch `fd`, of which several sets have a copy, for reading: what comes wakes one of those who
    /// wait, not all (`EPOLLEXCLUSIVE`).
    pub fn add_shared(&self, fd: BorrowedFd<'_>, key: u64) -> io::Result<()> {
        Ok(self.set.add(fd, EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLEXCLUSIVE, key))?)
    }

    /// Begins to watch `fd` for what is wanted; events carry `key`.
    pub fn watch(&self, fd: BorrowedFd<'_>, key: u64, wanted: Interest) -> io::Result<()> {
        Ok(self.set.add(fd, EpollEvent::new(wanted.into(), key))?)
    }

    /// Watches `fd`, which is in the set, for something else.
    pub fn change(&self, fd: BorrowedFd<'_>, key: u64, wanted: Interest) -> io::Result<()> {
        Ok(self.set.modify(fd, &mut EpollEvent::new(wanted.into(), key))?)
    }

    /// Waits until something is ready, at most for `timeout`; `None` waits for ever. The number of events.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        // Rounded up: who waits for a deadline would spin through its last millisecond.
        let milliseconds = timeout.map(|time| time.as_nanos().div_ceil(1_000_000));
        let timeout = milliseconds.map_or(EpollTimeout::NONE, |time| {
            i32::try_from(time).ok().and_then(|time| time.try_into().ok()).unwrap_or(EpollTimeout::MAX)
        });
        match self.set.wait(&mut self.events, timeout) {
            Err(Errno::EINTR) => Ok(0),
            other => Ok(other?),
        }
    }

    /// Key and readiness of one event of the last wait.
    pub fn event(&self, index: usize) -> Option<(u64, Readiness)> {
        let event = self.events.get(index)?;
        let broken = event.events().intersects(EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP);
        let read = broken || event.events().contains(EpollFlags::EPOLLIN);
        let write = broken || event.events().contains(EpollFlags::EPOLLOUT);
        Some((event.data(), Readiness { read, write, broken }))
    }

    /// Ends to watch `fd`.
    pub fn remove(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        Ok(self.set.delete(fd)?)
    }

    /// The keys that are ready now, at most 64 at a time, without waiting.
    pub fn ready(&mut self, into: &mut Vec<(u64, bool)>) -> io::Result<()> {
        let n = match self.set.wait(&mut self.events, EpollTimeout::ZERO) {
            Err(Errno::EINTR) => 0,
            other => other?,
        };
        let broken = EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP;
        into.extend(
            self.events.iter().take(n).map(|event| (event.data(), event.events().intersects(broken))),
        );
        Ok(())
    }
}

impl AsFd for EpollSet {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.set.0.as_fd()
    }
}

impl AsRawFd for EpollSet {
    fn as_raw_fd(&self) -> RawFd {
        self.set.0.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{fd, signal};
    use nix::sys::signal::{Signal, raise};

    #[test]
    fn a_signal_comes_also_to_who_is_always_busy() {
        let (reading, writing) = fd::pipe().unwrap();
        drop(writing);
        let flag = signal::flag(Signal::SIGWINCH).unwrap();
        signal::block(&[Signal::SIGWINCH]).unwrap();
        raise(Signal::SIGWINCH).unwrap();
        let mut set = PollSet::default();
        let came = (0..100).any(|_| {
            set.clear();
            set.push(reading.as_fd(), true, false);
            set.wait(None, &SigSet::empty()).unwrap();
            flag.take()
        });
        assert!(came, "the signal is still pending");
    }
}
