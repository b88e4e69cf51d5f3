//! All options of a socket, as they are before somebody else has it: those of the configuration, and those that
//! superd leaves alone.

use std::os::fd::BorrowedFd;

use super::table::TABLE;
use crate::config::settings::SocketOptions;
use crate::sys::kind::SocketKind;
use crate::sys::sockopt::{self, Knob};

/// Values as the kernel gave them, in the order of [`TABLE`] and of [`OTHERS`]; `None` where there is none.
#[derive(Debug)]
pub struct Remembered {
    known: Vec<Option<Vec<u8>>>,
    others: Vec<Option<Vec<u8>>>,
}

impl Remembered {
    /// As they are now.
    pub fn of(fd: BorrowedFd<'_>, kind: SocketKind) -> Self {
        Self {
            known: TABLE.iter().map(|row| row.value(fd, kind)).collect(),
            others: OTHERS.iter().map(|other| other.value(fd, kind)).collect(),
        }
    }

    /// Sets those that differ: what the options ask for, else what was there. An error names what can't be.
    pub fn put_back(
        &self,
        fd: BorrowedFd<'_>,
        kind: SocketKind,
        options: &SocketOptions,
        changed: &mut Vec<&'static str>,
    ) -> Result<(), &'static str> {
        for (row, before) in TABLE.iter().zip(&self.known) {
            let hidden = row.name == "multicast_interface" && row.holds_on(kind) && !kind.is_ipv6();
            let now = row.value(fd, kind);
            if now == *before && !hidden {
                continue;
            }
            row.put_back(fd, kind, options, before.as_deref()).map_err(|_| row.name)?;
            // A reload may have changed it, not the server.
            if row.value(fd, kind) != now {
                changed.push(row.name);
            }
        }
        for (other, before) in OTHERS.iter().zip(&self.others) {
            if let Some(before) =
                before.as_ref().filter(|&before| other.value(fd, kind).as_ref() != Some(before))
            {
                sockopt::set_bytes(fd, other.knob, before).map_err(|_| other.name)?;
                changed.push(other.name);
            }
        }
        Ok(())
    }
}

/// An option that superd never sets.
struct Other {
    name: &'static str,
    knob: Knob,
}

impl Other {
    fn value(&self, fd: BorrowedFd<'_>, kind: SocketKind) -> Option<Vec<u8>> {
        let holds = match self.knob.level {
            libc::IPPROTO_IP => !kind.is_unix() && !kind.is_ipv6(),
            libc::IPPROTO_IPV6 => kind.is_ipv6(),
            libc::IPPROTO_TCP => kind.is_tcp(),
            libc::IPPROTO_UDP => kind.is_udp(),
            _ => true,
        };
        holds.then(|| sockopt::bytes(fd, self.knob).ok()).flatten()
    }
}

const fn other(name: &'static str, level: i32, option: i32) -> Other {
    Other { name, knob: Knob { level, name: option } }
}

const SOCKET: i32 = libc::SOL_SOCKET;
const IP: i32 = libc::IPPROTO_IP;
const IPV6: i32 = libc::IPPROTO_IPV6;
const TCP: i32 = libc::IPPROTO_TCP;
const UDP: i32 = libc::IPPROTO_UDP;

/// What would change how the next server hears or answers. `SO_BUF_LOCK` says whether a buffer is still tuned by
/// the kernel, and undoes that it was set (Linux 5.16).
const OTHERS: &[Other] = &[
    other("SO_BUF_LOCK", SOCKET, 72),
    other("SO_DONTROUTE", SOCKET, libc::SO_DONTROUTE),
    other("SO_PASSCRED", SOCKET, libc::SO_PASSCRED),
    other("SO_PASSSEC", SOCKET, libc::SO_PASSSEC),
    other("SO_TIMESTAMP", SOCKET, libc::SO_TIMESTAMP),
    other("SO_TIMESTAMPNS", SOCKET, libc::SO_TIMESTAMPNS),
    other("SO_TIMESTAMPING", SOCKET, libc::SO_TIMESTAMPING),
    other("SO_RXQ_OVFL", SOCKET, libc::SO_RXQ_OVFL),
    other("SO_PEEK_OFF", SOCKET, libc::SO_PEEK_OFF),
    other("SO_NO_CHECK", SOCKET, libc::SO_NO_CHECK),
    other("SO_BUSY_POLL", SOCKET, libc::SO_BUSY_POLL),
    other("SO_ZEROCOPY", SOCKET, libc::SO_ZEROCOPY),
    other("IP_OPTIONS", IP, libc::IP_OPTIONS),
    other("IP_PKTINFO", IP, libc::IP_PKTINFO),
    other("IP_RECVTTL", IP, libc::IP_RECVTTL),
    other("IP_RECVTOS", IP, libc::IP_RECVTOS),
    other("IP_RECVOPTS", IP, libc::IP_RECVOPTS),
    other("IP_RETOPTS", IP, libc::IP_RETOPTS),
    other("IP_RECVERR", IP, libc::IP_RECVERR),
    other("IP_RECVORIGDSTADDR", IP, libc::IP_RECVORIGDSTADDR),
    other("IP_MTU_DISCOVER", IP, libc::IP_MTU_DISCOVER),
    other("IP_MULTICAST_ALL", IP, libc::IP_MULTICAST_ALL),
    other("IPV6_RECVPKTINFO", IPV6, libc::IPV6_RECVPKTINFO),
    other("IPV6_RECVHOPLIMIT", IPV6, libc::IPV6_RECVHOPLIMIT),
    other("IPV6_RECVTCLASS", IPV6, libc::IPV6_RECVTCLASS),
    other("IPV6_RECVERR", IPV6, libc::IPV6_RECVERR),
    other("IPV6_MTU_DISCOVER", IPV6, libc::IPV6_MTU_DISCOVER),
    other("IPV6_DONTFRAG", IPV6, libc::IPV6_DONTFRAG),
    other("IPV6_MULTICAST_ALL", IPV6, 29),
    other("TCP_CORK", TCP, libc::TCP_CORK),
    other("TCP_SYNCNT", TCP, libc::TCP_SYNCNT),
    other("TCP_LINGER2", TCP, libc::TCP_LINGER2),
    other("TCP_CONGESTION", TCP, libc::TCP_CONGESTION),
    other("TCP_NOTSENT_LOWAT", TCP, libc::TCP_NOTSENT_LOWAT),
    other("TCP_SAVE_SYN", TCP, libc::TCP_SAVE_SYN),
    other("UDP_CORK", UDP, libc::UDP_CORK),
    other("UDP_SEGMENT", UDP, libc::UDP_SEGMENT),
    other("UDP_GRO", UDP, libc::UDP_GRO),
];
