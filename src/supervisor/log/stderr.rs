//! Standard error, written without ever waiting for who reads it.
//!
//! Other processes share its open file description, so `O_NONBLOCK` must not be set on it. A pipe or
//! terminal is opened anew by /proc/self/fd, which gives a description of our own to set it on; a socket has
//! `MSG_DONTWAIT`. Else poll is asked first, and no more is written than a ready pipe takes (`PIPE_BUF`). A
//! regular file is always ready: there a hung disk is waited for.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, send};

/// Bytes that one write may have: `PIPE_BUF`.
pub(super) const MAX_WRITE: usize = 4096;

/// Standard error, or what stands for it.
#[derive(Debug)]
pub(super) enum Stderr {
    /// A description of our own, that does not wait.
    Own(File),
    /// A socket.
    Socket(OwnedFd),
    /// A description that others share.
    Shared(File),
}

impl Stderr {
    /// This process's standard error.
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self::of(io::stderr().as_fd().try_clone_to_owned()?))
    }

    /// What stands for it in `fd`.
    pub(super) fn of(fd: OwnedFd) -> Self {
        let file = File::from(fd);
        let Ok(kind) = file.metadata().map(|metadata| metadata.file_type()) else {
            return Self::Shared(file);
        };
        if kind.is_socket() {
            return Self::Socket(file.into());
        }
        if kind.is_fifo() || kind.is_char_device() {
            let path = format!("/proc/self/fd/{}", file.as_raw_fd());
            let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
            if let Ok(own) = OpenOptions::new().write(true).custom_flags(flags).open(path) {
                return Self::Own(own);
            }
        }
        Self::Shared(file)
    }

    /// Writes some of at most [`MAX_WRITE`] bytes; `WouldBlock` where it would have to wait.
    pub(super) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Own(file) => (&*file).write(bytes),
            Self::Socket(fd) => {
                let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
                Ok(send(fd.as_raw_fd(), bytes, flags)?)
            }
            Self::Shared(file) if is_writable(file.as_fd()) => (&*file).write(bytes),
            Self::Shared(_) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl AsFd for Stderr {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Own(file) | Self::Shared(file) => file.as_fd(),
            Self::Socket(fd) => fd.as_fd(),
        }
    }
}

/// Errors count as writable: the write says what they are.
fn is_writable(fd: BorrowedFd) -> bool {
    poll(&mut [PollFd::new(fd, PollFlags::POLLOUT)], PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_full_pipe_or_socket_is_not_waited_for() {
        let (_reader, writer) = io::pipe().unwrap();
        fill(&Stderr::of(writer.into()));
        let (_here, there) = UnixStream::pair().unwrap();
        fill(&Stderr::of(there.into()));
        let (_reader, writer) = io::pipe().unwrap();
        fill(&Stderr::Shared(File::from(OwnedFd::from(writer))));
    }

    #[track_caller]
    fn fill(stderr: &Stderr) {
        let mut written = 0;
        let error = loop {
            match stderr.write(&[b'x'; MAX_WRITE]) {
                Ok(count) => written += count,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert!(written >= MAX_WRITE);
    }

    #[test]
    fn the_shared_description_is_left_alone() {
        let (_reader, writer) = io::pipe().unwrap();
        let copy = writer.try_clone().unwrap();
        assert!(matches!(Stderr::of(writer.into()), Stderr::Own(_)));
        let flags = nix::fcntl::fcntl(copy, nix::fcntl::FcntlArg::F_GETFL).unwrap();
        assert_eq!(flags & libc::O_NONBLOCK, 0);
    }
}
