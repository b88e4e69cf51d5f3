//! Who is there: what standard input is, and who is at its other end. Without a socket, whoever runs superwrap.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::sys::socket::{MsgFlags, recv, send};
use socket2::{Domain, SockRef, Type};

use crate::model::address::canonical;
use crate::model::client::Client;
use crate::sys::borrowed_rights::Caller;
use crate::sys::{peer, process, socket};

/// The number of a user whom nobody knows.
const NOBODY_AT_ALL: u32 = u32::MAX;

/// Bytes that are read from a client that is refused, so that what is sent to it is not lost to a reset.
const MOST_DISCARDED: usize = 64 * 1024;

/// A client, and how it came.
#[derive(Debug)]
pub(super) struct Visit {
    /// Who.
    pub(super) client: Client,
    /// The address that it asked.
    pub(super) local: Option<SocketAddr>,
    /// The groups of its process, where the kernel says them.
    pub(super) groups: Vec<u32>,
    /// It chose the way of its packets.
    pub(super) has_source_route: bool,
    /// How.
    pub(super) by: By,
}

/// What standard input is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// No socket.
    Nothing,
    /// A connection.
    Connection,
    /// A socket of datagrams, the first of which says who it is.
    Datagrams,
}

/// Looks at standard input.
pub(super) fn look(caller: &Caller) -> io::Result<Visit> {
    let stdin = io::stdin();
    let fd = stdin.as_fd();
    let socket = SockRef::from(&fd);
    let kind = match socket.r#type() {
        Ok(kind) => kind,
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOTSOCK | libc::EBADF)) => {
            return Visit::of_caller(caller);
        }
        Err(error) => return Err(error),
    };
    if socket.is_listener()? {
        return Err(io::Error::other("it is a socket that listens, and has no client"));
    }
    let by = if kind == Type::DGRAM { By::Datagrams } else { By::Connection };
    match socket.domain()? {
        Domain::IPV4 | Domain::IPV6 => of_internet(fd, &socket, by),
        Domain::UNIX => Ok(of_unix(fd, by)),
        _ => Err(io::Error::other("it is a socket neither of the internet nor of this machine")),
    }
}

fn of_internet(fd: BorrowedFd<'_>, socket: &SockRef<'_>, by: By) -> io::Result<Visit> {
    let client = match socket.peer_addr() {
        Err(error) if error.kind() == ErrorKind::NotConnected && by == By::Datagrams => sender(fd)?,
        Err(error) if error.kind() == ErrorKind::NotConnected => {
            return Err(io::Error::other("its client is gone already"));
        }
        found => found?.as_socket().ok_or(ErrorKind::InvalidData)?,
    };
    let has_source_route = by == By::Connection && socket::has_source_route(fd);
    let local = socket::local_address(fd);
    Ok(Visit { client: Client::Inet(canonical(client)), local, groups: Vec::new(), has_source_route, by })
}

/// Who sent the first datagram, which stays where it is.
fn sender(fd: BorrowedFd<'_>) -> io::Result<SocketAddr> {
    let mut none = [0; 1];
    // inetd starts a server when there is something; a checksum that is wrong is seen only now.
    recv(fd.as_raw_fd(), &mut none, MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT)?;
    let sender = SockRef::from(&fd).peek_sender()?;
    sender.as_socket().ok_or_else(|| ErrorKind::InvalidData.into())
}

fn of_unix(fd: BorrowedFd<'_>, by: By) -> Visit {
    let found = peer::credentials(fd);
    let (client, groups) = match found {
        Ok(who) => {
            let client = Client::User { uid: who.uid, gid: who.gid, pid: who.pid };
            (client, [who.groups, vec![who.gid]].concat())
        }
        // Nobody in particular sends datagrams to a socket that is not connected.
        Err(_) => (Client::User { uid: NOBODY_AT_ALL, gid: NOBODY_AT_ALL, pid: 0 }, Vec::new()),
    };
    Visit { client, local: None, groups, has_source_route: false, by }
}

impl Visit {
    fn of_caller(caller: &Caller) -> io::Result<Self> {
        let client = Client::User { uid: caller.uid, gid: caller.gid, pid: process::own_pid() };
        let (groups, by) = (caller.groups()?, By::Nothing);
        Ok(Self { client, local: None, groups, has_source_route: false, by })
    }

    /// Sends a text, as far as there is room for it now.
    pub(super) fn send(&self, text: &[u8]) {
        if self.by == By::Connection {
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            let _ = send(io::stdin().as_raw_fd(), text, flags);
        }
    }

    /// Sends the client away. A datagram that is refused is taken, or inetd would start the next server for it.
    pub(super) fn see_off(&self, banner: Option<&[u8]>) {
        let stdin = io::stdin();
        let mut buffer = [0; 4096];
        match self.by {
            By::Nothing => {}
            By::Datagrams => drop(recv(stdin.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT)),
            By::Connection => {
                banner.inspect(|banner| self.send(banner));
                socket::finish_sending(stdin.as_fd());
                let mut room = MOST_DISCARDED;
                while room > 0
                    && let Ok(length @ 1..) = recv(stdin.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT)
                {
                    room = room.saturating_sub(length);
                }
            }
        }
    }
}
