//! Kinds of listening sockets: which protocol they speak and what they carry.
//!
//! A kind is read off a socket itself where nobody knows how it was made. Knows nothing of endpoints.

use std::io;
use std::os::fd::BorrowedFd;

use nix::sys::socket::{SockType, getsockopt, sockopt};

use super::socket::local_address;
use super::sockopt::{Knob, int};

/// What a listener is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SocketKind {
    /// tcp over IPv4.
    Tcp,
    /// tcp over IPv6.
    Tcp6,
    /// udp over IPv4, bound to anything but a group.
    Udp,
    /// udp over IPv6, bound to anything but a group.
    Udp6,
    /// udp over IPv4, bound to a multicast group.
    Group,
    /// udp over IPv6, bound to a multicast group.
    Group6,
    /// A unix socket of connections.
    UnixStream,
    /// A unix socket of datagrams.
    UnixDatagram,
    /// A unix socket of connections that keep packets apart.
    UnixSeqPacket,
}

impl SocketKind {
    /// Asks the socket. `EPROTONOSUPPORT` for one that no service can be served by.
    pub fn of(fd: BorrowedFd<'_>) -> io::Result<Self> {
        let domain = int(fd, Knob { level: libc::SOL_SOCKET, name: libc::SO_DOMAIN })?;
        let protocol = int(fd, Knob { level: libc::SOL_SOCKET, name: libc::SO_PROTOCOL })?;
        let carried = getsockopt(&fd, sockopt::SockType)?;
        let in_group = || local_address(fd).is_some_and(|at| at.ip().is_multicast());
        Ok(match (domain, carried, protocol) {
            (libc::AF_INET, SockType::Stream, libc::IPPROTO_TCP) => Self::Tcp,
            (libc::AF_INET6, SockType::Stream, libc::IPPROTO_TCP) => Self::Tcp6,
            (libc::AF_INET, SockType::Datagram, libc::IPPROTO_UDP) if in_group() => Self::Group,
            (libc::AF_INET6, SockType::Datagram, libc::IPPROTO_UDP) if in_group() => Self::Group6,
            (libc::AF_INET, SockType::Datagram, libc::IPPROTO_UDP) => Self::Udp,
            (libc::AF_INET6, SockType::Datagram, libc::IPPROTO_UDP) => Self::Udp6,
            (libc::AF_UNIX, SockType::Stream, _) => Self::UnixStream,
            (libc::AF_UNIX, SockType::Datagram, _) => Self::UnixDatagram,
            (libc::AF_UNIX, SockType::SeqPacket, _) => Self::UnixSeqPacket,
            _ => return Err(io::Error::from_raw_os_error(libc::EPROTONOSUPPORT)),
        })
    }

    /// Is its level of options that of IPv6?
    pub fn is_ipv6(self) -> bool {
        matches!(self, Self::Tcp6 | Self::Udp6 | Self::Group6)
    }

    /// tcp.
    pub fn is_tcp(self) -> bool {
        matches!(self, Self::Tcp | Self::Tcp6)
    }

    /// udp, in a group or not.
    pub fn is_udp(self) -> bool {
        matches!(self, Self::Udp | Self::Udp6) || self.is_group()
    }

    /// Bound to a multicast group.
    pub fn is_group(self) -> bool {
        matches!(self, Self::Group | Self::Group6)
    }

    /// A unix socket.
    pub fn is_unix(self) -> bool {
        matches!(self, Self::UnixStream | Self::UnixDatagram | Self::UnixSeqPacket)
    }

    /// Does it carry datagrams, and never listens?
    pub fn is_datagram(self) -> bool {
        self.is_udp() || self == Self::UnixDatagram
    }
}
