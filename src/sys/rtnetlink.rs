//! News of addresses and interfaces: a netlink socket that the kernel tells what came and went.
//!
//! Says only that something changed: what a listener needs is found out by binding it. An IPv6 address can be
//! bound once duplicate detection is over, and the kernel announces it again then.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};

/// The longest answer to one readiness: a burst is cut here, and goes on in the next turn of the loop.
const MAX_DATAGRAMS: usize = 64;

/// More than the kernel puts into one announcement; a longer one is taken as a change unread.
const MAX_DATAGRAM: usize = 32 * 1024;

/// `struct nlmsghdr`: length, type, flags, sequence number, port.
const HEADER: usize = 16;

/// Announcements of links and addresses.
#[derive(Debug)]
pub struct InterfaceNews {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

/// What was announced.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Changes {
    /// An address or a link came, or is not what it was.
    pub added: bool,
    /// An address or a link went.
    pub removed: bool,
    /// Announcements were lost: anything may have come.
    pub overflow: bool,
}

impl Changes {
    /// Is it worth to try again what could not be bound?
    pub fn may_help(self) -> bool {
        self.added || self.overflow
    }

    /// Are this host's addresses perhaps others now?
    pub fn is_any(self) -> bool {
        self.added || self.removed || self.overflow
    }
}

impl Changes {
    /// Looks for links and addresses among these messages. Any bytes will do.
    fn read(&mut self, mut datagram: &[u8]) {
        while let Some((length, kind)) = header(datagram) {
            self.added |= matches!(kind, libc::RTM_NEWLINK | libc::RTM_NEWADDR);
            self.removed |= matches!(kind, libc::RTM_DELLINK | libc::RTM_DELADDR);
            // Messages begin at multiples of four; the last one need not be filled up.
            let Some(rest) = datagram.get(length.next_multiple_of(4)..) else { break };
            datagram = rest;
        }
    }
}

impl InterfaceNews {
    /// Listens from now on. Fails where there is no netlink (some sandboxes): superd then goes by time alone.
    pub fn open() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
        let groups = libc::RTMGRP_LINK | libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR;
        bind(std::os::fd::AsRawFd::as_raw_fd(&socket), &NetlinkAddr::new(0, groups.cast_unsigned()))?;
        Ok(Self { socket, buffer: vec![0; MAX_DATAGRAM] })
    }

    /// Reads what waits, at most so much as is good for one turn of the loop.
    pub fn drain(&mut self) -> Changes {
        let mut changes = Changes::default();
        for _ in 0..MAX_DATAGRAMS {
            // MSG_TRUNC makes the kernel say how long the datagram was, also where the buffer is shorter.
            let fd = std::os::fd::AsRawFd::as_raw_fd(&self.socket);
            match recv(fd, &mut self.buffer, MsgFlags::MSG_TRUNC) {
                Ok(length) => match self.buffer.get(..length) {
                    Some(datagram) => changes.read(datagram),
                    None => changes.overflow = true,
                },
                Err(Errno::EINTR) => {}
                Err(Errno::ENOBUFS) => changes.overflow = true,
                Err(_) => break,
            }
        }
        changes
    }
}

impl AsFd for InterfaceNews {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Length and type of the first message, if it is whole.
fn header(datagram: &[u8]) -> Option<(usize, u16)> {
    let length = u32::from_ne_bytes(datagram.get(0..4)?.try_into().ok()?);
    let kind = u16::from_ne_bytes(datagram.get(4..6)?.try_into().ok()?);
    let length = usize::try_from(length).ok()?;
    (HEADER..=datagram.len()).contains(&length).then_some((length, kind))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::process::Command;

    fn message(kind: u16, body: usize) -> Vec<u8> {
        let mut bytes = u32::try_from(HEADER + body).unwrap().to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.resize(HEADER + body, 0xee);
        bytes
    }

    #[test]
    fn messages_are_told_apart() {
        let gone = message(libc::RTM_DELADDR, 8);
        let odd = message(libc::RTM_DELLINK, 5);
        let came = message(libc::RTM_NEWADDR, 8);
        let padded = [&odd[..], &[0; 3], &came[..]].concat();
        let mut endless = came.clone();
        endless[..4].copy_from_slice(&u32::MAX.to_ne_bytes());
        let rows: [(&str, &[u8], (bool, bool)); 9] = [
            ("nothing", &[], (false, false)),
            ("too short", &came[..15], (false, false)),
            ("gone", &gone, (false, true)),
            ("came", &came, (true, false)),
            ("gone, came", &[&gone[..], &came[..]].concat(), (true, true)),
            ("padded", &padded, (true, true)),
            ("last one unpadded", &odd, (false, true)),
            ("no length", &[0; 64], (false, false)),
            ("longer than all", &endless, (false, false)),
        ];
        for (what, bytes, expected) in rows {
            let mut changes = Changes::default();
            changes.read(bytes);
            assert_eq!((changes.added, changes.removed), expected, "{what}");
        }
    }

    /// Gives this test's thread, and what it starts, a network of its own.
    fn enter_network_namespace() -> bool {
        // SAFETY: unshare takes no pointer, and a new network namespace concerns this thread alone.
        let entered = unsafe { libc::unshare(libc::CLONE_NEWNET) } == 0;
        if !entered {
            eprintln!("skipped: needs root");
        }
        entered
    }

    fn ip(arguments: &str) {
        let status = Command::new("ip").args(arguments.split(' ')).status().unwrap();
        assert!(status.success(), "ip {arguments}");
    }

    fn next(news: &mut InterfaceNews) -> Changes {
        let mut fds = [PollFd::new(news.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut fds, PollTimeout::from(5000u16)).unwrap(), 1, "no news came");
        news.drain()
    }

    #[test]
    fn a_link_and_an_address_are_news_and_silence_is_none() {
        if !enter_network_namespace() {
            return;
        }
        let mut news = InterfaceNews::open().unwrap();
        assert_eq!(news.drain(), Changes::default());
        ip("link set lo up");
        assert!(next(&mut news).added);
        ip("addr add 127.9.9.9/32 dev lo");
        assert!(next(&mut news).added);
        ip("addr del 127.9.9.9/32 dev lo");
        assert_eq!(next(&mut news), Changes { removed: true, ..Changes::default() });
    }

    #[test]
    fn lost_announcements_are_a_change() {
        if !enter_network_namespace() {
            return;
        }
        ip("link set lo up");
        let mut news = InterfaceNews::open().unwrap();
        socket2::SockRef::from(&news).set_recv_buffer_size(1).unwrap();
        for _ in 0..20 {
            ip("addr add 127.9.9.9/32 dev lo");
            ip("addr del 127.9.9.9/32 dev lo");
        }
        assert!(next(&mut news).overflow);
    }
}
