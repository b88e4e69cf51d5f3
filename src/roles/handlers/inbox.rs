//! What one thread of the handlers is told by the others: orders that came to whoever took the packet.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex};

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::datagrams::Listener;
use super::lock;

/// What all threads are told; each does what concerns it.
#[derive(Debug, Clone)]
pub(super) enum Notice {
    /// This connection has had its time.
    End(u64),
    /// Answer the datagrams of this socket.
    Listen(Arc<Listener>),
    /// Let go of this socket.
    Forget(u64),
}

/// One thread's. Its descriptor is readable while there is something in it.
#[derive(Debug)]
pub(super) struct Inbox {
    bell: EventFd,
    notices: Mutex<Vec<Notice>>,
}

impl Inbox {
    pub(super) fn new() -> io::Result<Self> {
        let bell = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(Self { bell, notices: Mutex::default() })
    }

    pub(super) fn put(&self, notice: Notice) {
        lock(&self.notices).push(notice);
        self.wake();
    }

    pub(super) fn wake(&self) {
        // It fails where it is readable already.
        let _ = self.bell.write(1);
    }

    pub(super) fn take(&self) -> Vec<Notice> {
        // First the bell: what is put behind it rings again.
        let _ = self.bell.read();
        std::mem::take(&mut *lock(&self.notices))
    }
}

impl AsFd for Inbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}
