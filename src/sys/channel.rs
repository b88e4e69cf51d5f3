//! Channels between superd's processes: `SOCK_SEQPACKET` pairs that carry packets and descriptors.
//!
//! Nothing here ever waits: a full or an empty channel is an outcome, and the owner polls.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, socketpair};

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
        let mut control = Control([0; CONTROL_SIZE]);
        let mut vector = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        // SAFETY: a msghdr of zeroes is valid, and empty.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_iov = &raw mut vector;
        header.msg_iovlen = 1;
        header.msg_control = control.0.as_mut_ptr().cast();
        header.msg_controllen = CONTROL_SIZE as _;
        let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
        let len = loop {
            // SAFETY: the header points to one vector over `buffer` and to the control buffer, with their lengths.
            let result = unsafe { libc::recvmsg(self.0.as_raw_fd(), &raw mut header, flags) };
            match Errno::result(result) {
                Ok(len) => break usize::try_from(len).unwrap_or(0),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(Received::Empty),
                Err(Errno::ECONNRESET) => return Ok(Received::Closed),
                Err(error) => return Err(error.into()),
            }
        };
        // SAFETY: recvmsg has just filled in the header, and nobody else has looked at it.
        let fds = unsafe { take_descriptors(&header) };
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

    /// The descriptor itself, for whoever wraps it in his own way.
    pub fn into_fd(self) -> OwnedFd {
        self.0
    }
}

/// Room for the control message of [`MAX_FDS`] descriptors.
#[allow(clippy::cast_possible_truncation)] // 128
const CONTROL_SIZE: usize = {
    // SAFETY: CMSG_SPACE computes a length.
    unsafe { libc::CMSG_SPACE((MAX_FDS * size_of::<RawFd>()) as u32) as usize }
};

/// Aligned as control messages are.
#[repr(C, align(8))]
struct Control([u8; CONTROL_SIZE]);

/// The descriptors that came with a message. Where there was no room for all (`MSG_CTRUNC`) those that were
/// installed are there: nix's own iterator would leak them.
///
/// # Safety
/// `header` is as recvmsg left it, its control buffer is alive, and no descriptor in it was taken before.
unsafe fn take_descriptors(header: &libc::msghdr) -> Vec<OwnedFd> {
    let mut fds = Vec::new();
    // SAFETY: the caller's promise; CMSG_NXTHDR stays inside of msg_controllen, which the kernel has set, and each
    // message is as long as its own length says.
    unsafe {
        let mut part = libc::CMSG_FIRSTHDR(header);
        while let Some(message) = part.as_ref() {
            if (message.cmsg_level, message.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
                let bytes = message.cmsg_len.saturating_sub(libc::CMSG_LEN(0) as usize);
                let first = libc::CMSG_DATA(part);
                let place = |index| first.add(index * size_of::<RawFd>()).cast::<[u8; size_of::<RawFd>()]>();
                let numbers = (0..bytes / size_of::<RawFd>()).map(|i| RawFd::from_ne_bytes(place(i).read()));
                fds.extend(numbers.map(|number| OwnedFd::from_raw_fd(number)));
            }
            part = libc::CMSG_NXTHDR(header, part);
        }
    }
    fds
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
