//! Channels between superd's processes: `SOCK_SEQPACKET` pairs that carry packets and descriptors.
//!
//! Nothing here ever waits: a full or an empty channel is an outcome, and the owner polls.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, sendmsg,
    socketpair,
};

/// The most descriptors that one packet carries.
pub const MAX_FDS: usize = 32;

/// One end of a channel. It closes with its last copy; the other end then reads [`Received::Closed`].
#[derive(Debug)]
pub struct Channel(OwnedFd);

/// What [`Channel::receive`] found.
#[derive(Debug)]
pub enum Received {
    /// A packet: its length in the buffer, and the descriptors that came with it, close-on-exec.
    Packet {
        /// Bytes in the buffer.
        len: usize,
        /// In the order in which they were sent. Fewer than were sent if this process had no more room.
        fds: Vec<OwnedFd>,
    },
    /// Nothing is there now.
    Empty,
    /// The other end is gone.
    Closed,
}

impl Channel {
    /// Two connected ends, close-on-exec.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        Ok((Self(a), Self(b)))
    }

    /// Sends one packet. `WouldBlock` when the channel is full; other errors mean that it is broken.
    pub fn send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        loop {
            match sendmsg::<()>(self.0.as_raw_fd(), &[IoSlice::new(bytes)], control, flags, None) {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Takes one packet into `buffer`; what does not fit is cut off by the kernel.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Received> {
        let mut control = cmsg_space!([RawFd; MAX_FDS]);
        let mut slices = [IoSliceMut::new(buffer)];
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
        let message = loop {
            match recvmsg::<()>(self.0.as_raw_fd(), &mut slices, Some(&mut control), flags) {
                Ok(message) => break message,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(Received::Empty),
                Err(Errno::ECONNRESET) => return Ok(Received::Closed),
                Err(error) => return Err(error.into()),
            }
        };
        let mut fds = Vec::new();
        for part in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(raw) = part {
                // SAFETY: the kernel has just installed these descriptors for this call alone; nobody else
                // owns them.
                fds.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
            }
        }
        let len = message.bytes;
        Ok(if len == 0 { Received::Closed } else { Received::Packet { len, fds } })
    }

    /// Lets the channel hold so many bytes of unread packets, as far as the kernel allows.
    pub fn set_buffer(&self, bytes: usize) -> io::Result<()> {
        Ok(nix::sys::socket::setsockopt(&self.0, nix::sys::socket::sockopt::SndBuf, &bytes)?)
    }

    /// Nothing more is sent: the other end reads [`Received::Closed`] behind what is on its way, and may still
    /// answer.
    pub fn finish(&self) -> io::Result<()> {
        Ok(nix::sys::socket::shutdown(self.0.as_raw_fd(), nix::sys::socket::Shutdown::Write)?)
    }

    /// The end of the channel in both directions, found out by whoever polls either end.
    pub fn shut_down(&self) {
        // Only a channel that is closed already refuses.
        let _ = nix::sys::socket::shutdown(self.0.as_raw_fd(), nix::sys::socket::Shutdown::Both);
    }

    /// The descriptor itself, for whoever wraps it in his own way.
    pub fn into_fd(self) -> OwnedFd {
        self.0
    }
}

impl From<OwnedFd> for Channel {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_and_descriptors_cross() {
        let (a, b) = Channel::pair().unwrap();
        let mut buffer = [0; 16];
        assert!(matches!(b.receive(&mut buffer).unwrap(), Received::Empty));
        a.send(b"hello", &[a.as_fd(), b.as_fd()]).unwrap();
        a.send(b"again", &[]).unwrap();
        let Received::Packet { len, fds } = b.receive(&mut buffer).unwrap() else { panic!("no packet") };
        assert_eq!((&buffer[..len], fds.len()), (&b"hello"[..], 2));
        drop(fds);
        let Received::Packet { len, fds } = b.receive(&mut buffer).unwrap() else { panic!("no packet") };
        assert_eq!((&buffer[..len], fds.len()), (&b"again"[..], 0));
        drop(a);
        assert!(matches!(b.receive(&mut buffer).unwrap(), Received::Closed));
    }

    #[test]
    fn a_full_channel_would_block() {
        let (a, _b) = Channel::pair().unwrap();
        let error = (0..100_000).find_map(|_| a.send(&[0; 1024], &[]).err()).unwrap();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }
}
