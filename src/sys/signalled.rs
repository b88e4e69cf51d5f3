//! The flags of an open file description, and whom it sends signals to: what all that share it can change.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

const F_SETOWN_EX: libc::c_int = 15;
const F_GETOWN_EX: libc::c_int = 16;
const F_SETSIG: libc::c_int = 10;
const F_GETSIG: libc::c_int = 11;

/// Flags, owner and signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Description {
    /// `F_GETFL`.
    pub flags: i32,
    /// `F_GETOWN_EX`: a kind and a number.
    owner: Owner,
    /// `F_GETSIG`.
    signal: i32,
}

/// `struct f_owner_ex`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct Owner {
    kind: libc::c_int,
    pid: libc::pid_t,
}

impl PartialEq for Owner {
    /// Nobody is nobody, whatever kind.
    fn eq(&self, other: &Self) -> bool {
        self.pid == other.pid && (self.pid == 0 || self.kind == other.kind)
    }
}

impl Eq for Owner {}

impl Description {
    /// As it is now.
    pub fn of(fd: BorrowedFd<'_>) -> io::Result<Self> {
        let fd = fd.as_raw_fd();
        let mut owner = Owner::default();
        // SAFETY: F_GETOWN_EX writes one struct f_owner_ex to the live one that it points to.
        Errno::result(unsafe { libc::fcntl(fd, F_GETOWN_EX, &raw mut owner) })?;
        // SAFETY: F_GETFL takes no argument.
        let flags = Errno::result(unsafe { libc::fcntl(fd, libc::F_GETFL) })?;
        // SAFETY: F_GETSIG takes no argument.
        let signal = Errno::result(unsafe { libc::fcntl(fd, F_GETSIG) })?;
        Ok(Self { flags, owner, signal })
    }

    /// The same, but that this process is signalled.
    #[must_use]
    pub fn owned_by(self, pid: u32, signal: i32) -> Self {
        const PROCESS: libc::c_int = 1; // F_OWNER_PID
        Self { owner: Owner { kind: PROCESS, pid: pid.cast_signed() }, signal, ..self }
    }

    /// Makes it so again. First the flags: without `O_ASYNC` nobody is signalled.
    pub fn set(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        let fd = fd.as_raw_fd();
        // SAFETY: F_SETFL takes a number.
        Errno::result(unsafe { libc::fcntl(fd, libc::F_SETFL, self.flags) })?;
        // SAFETY: F_SETOWN_EX reads one struct f_owner_ex from the live one that it points to.
        Errno::result(unsafe { libc::fcntl(fd, F_SETOWN_EX, &raw const self.owner) })?;
        // SAFETY: F_SETSIG takes a number.
        Errno::result(unsafe { libc::fcntl(fd, F_SETSIG, self.signal) })?;
        Ok(())
    }
}
