//! A channel between superd's processes: a `SOCK_SEQPACKET` pair that carries packets and descriptors.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, sendmsg,
    socketpair,
};

/// Descriptors in one packet, at most.
pub const MAX_FDS: usize = 16;

/// One end of a channel.
#[derive(Debug)]
pub struct Channel(OwnedFd);

impl Channel {
    /// Both ends of a new channel, closed on exec.
    pub fn pair() -> io::Result<(Self, Self)> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (a, b) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        Ok((Self(a), Self(b)))
    }

    /// Sends a packet without waiting: `WouldBlock` if the channel is full.
    pub fn send(&self, bytes: &[u8], fds: &[BorrowedFd]) -> io::Result<()> {
        let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let control = if raw.is_empty() { &[] } else { &rights[..] };
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        sendmsg::<()>(self.0.as_raw_fd(), &[IoSlice::new(bytes)], control, flags, None)?;
        Ok(())
    }

    /// Takes the next packet without waiting, cut to the buffer; zero bytes when the other end is closed.
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
        let mut control = nix::cmsg_space!([RawFd; MAX_FDS]);
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
        let mut vectors = [IoSliceMut::new(buffer)];
        let packet = recvmsg::<()>(self.0.as_raw_fd(), &mut vectors, Some(&mut control), flags)?;
        let mut fds = Vec::new();
        for message in packet.cmsgs()? {
            if let ControlMessageOwned::ScmRights(raw) = message {
                // SAFETY: the kernel has just made these descriptors for us, and nobody else knows them.
                fds.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
            }
        }
        Ok((packet.bytes, fds))
    }
}

impl From<OwnedFd> for Channel {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl From<Channel> for OwnedFd {
    fn from(channel: Channel) -> Self {
        channel.0
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
    use std::io::Read;

    #[test]
    fn packets_carry_descriptors_and_an_end() {
        let (here, there) = Channel::pair().unwrap();
        let (mut reader, writer) = std::io::pipe().unwrap();
        here.send(b"take", &[writer.as_fd()]).unwrap();
        drop(writer);
        let mut buffer = [0; 100];
        let (length, fds) = there.recv(&mut buffer).unwrap();
        assert_eq!((&buffer[..length], fds.len()), (&b"take"[..], 1));
        drop(fds);
        assert_eq!(reader.read(&mut buffer).unwrap(), 0);
        assert_eq!(there.recv(&mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(here);
        assert_eq!(there.recv(&mut buffer).unwrap().0, 0);
    }
}
