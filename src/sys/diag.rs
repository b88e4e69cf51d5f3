//! What only the kernel's socket tables tell of a socket (`sock_diag(7)`): how far it is shut down, and how many
//! clients wait at a unix listener.
//!
//! Best effort: a kernel without these tables says nothing.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};
use nix::sys::stat::fstat;

use super::kind::SocketKind;

/// `RCV_SHUTDOWN` and `SEND_SHUTDOWN`.
const SHUTDOWN_RECEIVE: u8 = 1;

pub(super) const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SHOW_QUEUE: u32 = 0x10; // UDIAG_SHOW_RQLEN
const UNIX_QUEUE: u16 = 4; // UNIX_DIAG_RQLEN
const UNIX_SHUTDOWN: u16 = 6; // UNIX_DIAG_SHUTDOWN
const INET_SHUTDOWN: u16 = 8; // INET_DIAG_SHUTDOWN

/// `struct nlmsghdr`.
pub(super) const HEADER: usize = 16;

/// An answer to a dump is at most this long (`NLMSG_GOODSIZE`, at most 32 KiB).
const MOST: usize = 32 * 1024;

/// What the tables say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Diagnosis {
    /// The directions that are shut down: 1 for receiving, 2 for sending.
    pub shutdown: u8,
    /// Clients that wait in a unix listener's queue; elsewhere bytes, or nothing.
    pub queue: Option<u32>,
}

impl Diagnosis {
    /// Can nothing be received any more?
    pub fn is_deaf(self) -> bool {
        self.shutdown & SHUTDOWN_RECEIVE != 0
    }
}

/// Looks up a unix or a udp socket. `None` for other ones, and where the kernel does not tell.
pub fn diagnose(fd: BorrowedFd<'_>, kind: SocketKind) -> Option<Diagnosis> {
    let inode = u32::try_from(fstat(fd).ok()?.st_ino).ok()?;
    let table = match kind {
        _ if kind.is_unix() => Table { message: 16, inode_at: 4, shutdown: UNIX_SHUTDOWN },
        _ if kind.is_udp() => Table { message: 72, inode_at: 68, shutdown: INET_SHUTDOWN },
        _ => return None,
    };
    let request = if kind.is_unix() { unix_request(inode) } else { udp_request(kind) };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let netlink = socket(AddressFamily::Netlink, SockType::Datagram, flags, SockProtocol::NetlinkSockDiag);
    let netlink: OwnedFd = netlink.ok()?;
    send(netlink.as_raw_fd(), &request, MsgFlags::MSG_NOSIGNAL).ok()?;
    let mut buffer = vec![0; MOST];
    loop {
        // Answers are there when send returns, and each next part of a dump when the one before is read.
        let length = recv(netlink.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT).ok()?;
        match table.search(buffer.get(..length)?, inode) {
            Search::Found(found) => return Some(found),
            Search::GoOn if !kind.is_unix() => {}
            Search::GoOn | Search::End => return None,
        }
    }
}

/// Exactly this inode, whatever its cookie is.
fn unix_request(inode: u32) -> Vec<u8> {
    let family = u32::from_ne_bytes([AF_UNIX, 0, 0, 0]);
    message(libc::NLM_F_REQUEST, &[family, u32::MAX, inode, SHOW_QUEUE, u32::MAX, u32::MAX])
}

/// All udp sockets of the family: they are found by address alone, and several may have one.
fn udp_request(kind: SocketKind) -> Vec<u8> {
    let family = if kind.is_ipv6() { AF_INET6 } else { AF_INET };
    let head = u32::from_ne_bytes([family, UDP, 0, 0]);
    let mut words = [0; 14];
    (words[0], words[1]) = (head, u32::MAX);
    message(libc::NLM_F_REQUEST | libc::NLM_F_DUMP, &words)
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // small constants of the kernel
mod bytes {
    pub(super) const AF_UNIX: u8 = libc::AF_UNIX as u8;
    pub(in crate::sys) const AF_INET: u8 = libc::AF_INET as u8;
    pub(in crate::sys) const AF_INET6: u8 = libc::AF_INET6 as u8;
    pub(in crate::sys) const TCP: u8 = libc::IPPROTO_TCP as u8;
    pub(super) const UDP: u8 = libc::IPPROTO_UDP as u8;
    pub(super) const DONE: u16 = libc::NLMSG_DONE as u16;
    pub(in crate::sys) const ERROR: u16 = libc::NLMSG_ERROR as u16;
}
pub(super) use bytes::{AF_INET, AF_INET6, ERROR, TCP};
use bytes::{AF_UNIX, DONE, UDP};

pub(super) fn message(flags: i32, body: &[u32]) -> Vec<u8> {
    let length = u32::try_from(HEADER + size_of_val(body)).unwrap_or_default();
    let kind_and_flags =
        [SOCK_DIAG_BY_FAMILY, u16::try_from(flags).unwrap_or_default()].map(u16::to_ne_bytes);
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind_and_flags.as_flattened());
    bytes.extend([0; 8]);
    bytes.extend(body.iter().flat_map(|word| word.to_ne_bytes()));
    bytes
}

/// How one family's answers are laid out.
struct Table {
    message: usize,
    inode_at: usize,
    shutdown: u16,
}

enum Search {
    Found(Diagnosis),
    GoOn,
    End,
}

impl Table {
    fn search(&self, mut datagram: &[u8], inode: u32) -> Search {
        while let Some((length, kind)) = word(datagram, 0).zip(half(datagram, 4)) {
            let Some(answer) = datagram.get(HEADER..length as usize) else { break };
            if kind == DONE || kind == ERROR {
                return Search::End;
            }
            if word(answer, self.inode_at) == Some(inode) {
                return Search::Found(self.attributes(answer.get(self.message..).unwrap_or_default()));
            }
            datagram = datagram.get((length as usize).next_multiple_of(4)..).unwrap_or_default();
        }
        Search::GoOn
    }

    fn attributes(&self, mut bytes: &[u8]) -> Diagnosis {
        let mut found = Diagnosis::default();
        while let Some((length, kind)) = half(bytes, 0).zip(half(bytes, 2)) {
            let Some(value) = bytes.get(4..usize::from(length)) else { break };
            if kind == self.shutdown {
                found.shutdown = value.first().copied().unwrap_or_default();
            } else if kind == UNIX_QUEUE && self.shutdown == UNIX_SHUTDOWN {
                found.queue = word(value, 0);
            }
            bytes = bytes.get(usize::from(length).next_multiple_of(4)..).unwrap_or_default();
        }
        found
    }
}

pub(super) fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

pub(super) fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Shutdown, UdpSocket};
    use std::os::fd::AsFd;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

    #[test]
    fn shutdowns_are_seen() {
        for (address, kind) in [("127.0.0.1:0", SocketKind::Udp), ("[::1]:0", SocketKind::Udp6)] {
            for (how, expected) in [(Shutdown::Read, 1), (Shutdown::Write, 2), (Shutdown::Both, 3)] {
                let socket = UdpSocket::bind(address).unwrap();
                assert_eq!(diagnose(socket.as_fd(), kind).unwrap().shutdown, 0, "{address}");
                // ENOTCONN is said, and the directions are shut down all the same.
                let _ = socket2::SockRef::from(&socket).shutdown(how);
                assert_eq!(diagnose(socket.as_fd(), kind).unwrap().shutdown, expected, "{address} {how:?}");
            }
        }
    }

    #[test]
    fn clients_of_a_unix_listener_are_counted() {
        let name = format!("superd-diag-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(name).unwrap();
        let listener = UnixListener::bind_addr(&address).unwrap();
        let queue = || diagnose(listener.as_fd(), SocketKind::UnixStream).unwrap().queue;
        assert_eq!(queue(), Some(0));
        let _clients =
            [UnixStream::connect_addr(&address).unwrap(), UnixStream::connect_addr(&address).unwrap()];
        assert_eq!(queue(), Some(2));
    }
}
