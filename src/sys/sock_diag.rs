//! Whose process is at the other end of a tcp connection within this machine: the kernel's socket tables
//! (`sock_diag(7)`), asked for exactly that socket.
//!
//! The uid is that of the process that made the socket: later changes of user, and a descriptor handed on, don't
//! change it. A connection that somebody forwards is the forwarder's. The tables are those of the network
//! namespace in which they were opened; a user whom the user namespace does not know comes as 65534.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

use super::diag::{AF_INET, AF_INET6, ERROR, HEADER, SOCK_DIAG_BY_FAMILY, TCP, half, message, word};

/// An answer about one socket, with room for attributes that are not read.
const MOST: usize = 4096;

/// Datagrams that are read for one question: answers to earlier ones, which were given up, come first.
const PATIENCE: usize = 16;

/// `INET_DIAG_NOCOOKIE`: whatever the cookie is.
const NO_COOKIE: [u32; 2] = [u32::MAX; 2];

/// States of the kernel's `net/tcp_states.h` in which a socket is a process's: established, and half closed from
/// either side.
const OWNED: [u8; 4] = [1, 4, 5, 8];

/// Where things are in `struct inet_diag_msg`.
mod at {
    pub(super) const STATE: usize = 1;
    pub(super) const PORTS: usize = 4;
    pub(super) const CLIENT: usize = 8;
    pub(super) const LOCAL: usize = 24;
    pub(super) const UID: usize = 64;
    pub(super) const INODE: usize = 68;
}

/// Whose a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// The user who made the socket at the client's end.
    User(u32),
    /// No such socket is in this network namespace.
    NotFound,
    /// It is there, and nobody's any more: closed, or about to be. The kernel says uid 0 for some of these, which
    /// means nothing.
    Unsure,
}

/// The socket tables of this network namespace.
#[derive(Debug)]
pub struct SocketTables {
    netlink: OwnedFd,
    serial: u32,
}

impl SocketTables {
    /// Opens them; any user may.
    pub fn open() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let netlink =
            socket(AddressFamily::Netlink, SockType::Datagram, flags, SockProtocol::NetlinkSockDiag)?;
        Ok(Self { netlink, serial: 0 })
    }

    /// Whose is the socket at `client`, connected to `local`? It never waits. The client's address must be one of
    /// this machine: of another one's there is nothing in the tables, or something else.
    pub fn owner(&mut self, client: SocketAddr, local: SocketAddr) -> io::Result<Owner> {
        let Some(ends) = Ends::new(client, local) else { return Ok(Owner::NotFound) };
        self.serial = self.serial.wrapping_add(1);
        let mut request = message(libc::NLM_F_REQUEST, &ends.request());
        request.splice(8..12, self.serial.to_ne_bytes());
        send(self.netlink.as_raw_fd(), &request, MsgFlags::MSG_NOSIGNAL)?;
        let mut buffer = [0; MOST];
        for _ in 0..PATIENCE {
            // The answer is there when send returns.
            let length = match recv(self.netlink.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(length) => length,
                Err(Errno::EINTR | Errno::ENOBUFS) => continue,
                Err(error) => return Err(error.into()),
            };
            let datagram = buffer.get(..length).unwrap_or_default();
            if word(datagram, 8) == Some(self.serial) {
                return ends.read(datagram);
            }
        }
        Err(io::ErrorKind::InvalidData.into())
    }
}

/// A connection as its client's end has it, in the tables' own form.
struct Ends {
    family: u8,
    /// Two ports of 16 bits, in network order.
    ports: [u8; 4],
    client: [u8; 16],
    local: [u8; 16],
    /// A socket with a link-local address is bound to its interface, and found by it alone.
    interface: u32,
}

impl Ends {
    /// IPv4-mapped sockets are in the table of IPv4. `None`: the two ends can't be those of one connection.
    fn new(client: SocketAddr, local: SocketAddr) -> Option<Self> {
        let (own, theirs) = (client.ip().to_canonical(), local.ip().to_canonical());
        let family = match (own, theirs) {
            (IpAddr::V4(_), IpAddr::V4(_)) => AF_INET,
            (IpAddr::V6(_), IpAddr::V6(_)) => AF_INET6,
            _ => return None,
        };
        let interface = match client {
            SocketAddr::V6(address) if family == AF_INET6 => address.scope_id(),
            _ => 0,
        };
        let [[a, b], [c, d]] = [client.port(), local.port()].map(u16::to_be_bytes);
        Some(Self { family, ports: [a, b, c, d], client: padded(own), local: padded(theirs), interface })
    }

    /// `struct inet_diag_req_v2`.
    fn request(&self) -> Vec<u32> {
        let words = |bytes: &[u8]| -> Vec<u32> {
            bytes.as_chunks().0.iter().map(|word| u32::from_ne_bytes(*word)).collect()
        };
        let head = [u32::from_ne_bytes([self.family, TCP, 0, 0]), u32::MAX];
        let addresses = [words(&self.ports), words(&self.client), words(&self.local)].concat();
        [&head[..], &addresses, &[self.interface], &NO_COOKIE].concat()
    }

    fn read(&self, datagram: &[u8]) -> io::Result<Owner> {
        let kind = half(datagram, 4);
        let body = datagram.get(HEADER..).unwrap_or_default();
        if kind == Some(ERROR) {
            let errno = word(body, 0).map_or(0, u32::cast_signed).wrapping_neg();
            return match errno {
                libc::ENOENT => Ok(Owner::NotFound),
                errno => Err(io::Error::from_raw_os_error(errno)),
            };
        }
        let found = body.get(at::STATE).zip(word(body, at::UID)).zip(word(body, at::INODE));
        let Some(((state, uid), inode)) = found.filter(|_| kind == Some(SOCK_DIAG_BY_FAMILY)) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        Ok(match () {
            // Where there is no such connection the kernel gives a listener of the client's port, if there is one.
            () if !self.is_of(body) => Owner::NotFound,
            () if OWNED.contains(state) && inode != 0 => Owner::User(uid),
            () => Owner::Unsure,
        })
    }

    /// A mapped socket is found by its IPv4 addresses, and may show them either way.
    fn is_of(&self, body: &[u8]) -> bool {
        let address = |at: usize| body.get(at..at + 16);
        let is = |found: Option<&[u8]>, wanted: &[u8; 16]| {
            let mapped = found.and_then(|bytes| bytes.strip_prefix(&MAPPED));
            found == Some(wanted) || (self.family == AF_INET && mapped == wanted.get(..4))
        };
        body.get(at::PORTS..at::PORTS + 4) == Some(&self.ports)
            && is(address(at::CLIENT), &self.client)
            && is(address(at::LOCAL), &self.local)
    }
}

/// What stands before the IPv4 address in an IPv4-mapped one.
const MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

fn padded(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        }
        IpAddr::V6(ip) => ip.octets(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpListener, TcpStream};
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    fn own_uid() -> u32 {
        nix::unistd::geteuid().as_raw()
    }

    /// A client's end and superd's, by a listener at `listen` and a client that connects to `connect`.
    fn connected(listen: &str, connect: &str) -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind((listen, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = TcpStream::connect((connect, port)).unwrap();
        (client, listener.accept().unwrap().0)
    }

    #[track_caller]
    fn owner_of(connection: &TcpStream) -> Owner {
        let (client, local) = (connection.peer_addr().unwrap(), connection.local_addr().unwrap());
        SocketTables::open().unwrap().owner(client, local).unwrap()
    }

    #[test]
    fn clients_of_every_family_are_known() {
        for (listen, connect) in [
            ("127.0.0.1", "127.0.0.1"),
            ("::1", "::1"),
            // superd's end is IPv6, the client's IPv4.
            ("::", "127.0.0.1"),
            // The other way about.
            ("127.0.0.1", "::ffff:127.0.0.1"),
            ("::", "::ffff:127.0.0.1"),
        ] {
            let (_client, accepted) = connected(listen, connect);
            assert_eq!(owner_of(&accepted), Owner::User(own_uid()), "{listen} {connect}");
        }
    }

    #[test]
    fn a_client_that_only_writes_no_more_is_known() {
        let (client, accepted) = connected("127.0.0.1", "127.0.0.1");
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(owner_of(&accepted), Owner::User(own_uid()));
        let (_client, accepted) = connected("127.0.0.1", "127.0.0.1");
        accepted.shutdown(Shutdown::Write).unwrap();
        assert_eq!(owner_of(&accepted), Owner::User(own_uid()));
    }

    #[test]
    fn a_client_that_has_closed_is_nobody_and_never_root() {
        for (listen, connect) in [("127.0.0.1", "127.0.0.1"), ("::1", "::1")] {
            let (client, accepted) = connected(listen, connect);
            let ends = (accepted.peer_addr().unwrap(), accepted.local_addr().unwrap());
            drop(client);
            assert_eq!(owner_of(&accepted), Owner::Unsure, "{listen}: half closed");
            drop(accepted);
            let mut tables = SocketTables::open().unwrap();
            assert_eq!(tables.owner(ends.0, ends.1).unwrap(), Owner::Unsure, "{listen}: in TIME-WAIT");
        }
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        let (client, accepted) = connected("127.0.0.1", "127.0.0.1");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (client, local) = (client.local_addr().unwrap(), accepted.local_addr().unwrap());
        let mut tables = SocketTables::open().unwrap();
        for (client, local) in [
            (client, SocketAddr::from(([127, 0, 0, 1], 1))),
            (client, SocketAddr::from(([127, 0, 0, 2], local.port()))),
            (listener.local_addr().unwrap(), local),
            ("192.0.2.7:5".parse().unwrap(), local),
            ("[::1]:5".parse().unwrap(), local),
        ] {
            assert_eq!(tables.owner(client, local).unwrap(), Owner::NotFound, "{client} {local}");
        }
        assert_eq!(tables.owner(client, local).unwrap(), Owner::User(own_uid()));
    }

    #[test]
    fn a_client_of_another_user_is_that_user() {
        if own_uid() != 0 {
            eprintln!("skipped: needs root");
            return;
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let script =
            format!("exec 3<>/dev/tcp/127.0.0.1/{}; read -r line", listener.local_addr().unwrap().port());
        let mut command = Command::new("bash");
        command.args(["-c", &script]).stdin(Stdio::piped()).uid(65534).gid(65534);
        let mut child = command.spawn().unwrap();
        let (mut accepted, _) = listener.accept().unwrap();
        assert_eq!(owner_of(&accepted), Owner::User(65534));
        child.stdin.take().unwrap().write_all(b"go\n").unwrap();
        assert!(child.wait().unwrap().success());
        assert_eq!(accepted.read(&mut [0]).unwrap(), 0);
        assert_eq!(owner_of(&accepted), Owner::Unsure);
    }

    /// Whatever is cut of an answer: it is an error, and nobody's.
    #[test]
    fn answers_may_be_anything() {
        let ends = Ends::new("127.0.0.1:5".parse().unwrap(), "127.0.0.1:6".parse().unwrap()).unwrap();
        let mut answer = vec![0; HEADER + 72];
        answer[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        answer[HEADER + at::STATE] = OWNED[0];
        answer[HEADER + at::PORTS..][..4].copy_from_slice(&ends.ports);
        answer[HEADER + at::CLIENT..][..16].copy_from_slice(&ends.client);
        answer[HEADER + at::LOCAL..][..16].copy_from_slice(&ends.local);
        answer[HEADER + at::UID] = 77;
        assert_eq!(ends.read(&answer).unwrap(), Owner::Unsure, "no inode");
        answer[HEADER + at::INODE] = 1;
        assert_eq!(ends.read(&answer).unwrap(), Owner::User(u32::from_ne_bytes([77, 0, 0, 0])));
        for cut in 0..answer.len() {
            assert!(ends.read(&answer[..cut]).is_err(), "{cut}");
        }
        for state in (0..16).filter(|state| !OWNED.contains(state)) {
            answer[HEADER + at::STATE] = state;
            assert_eq!(ends.read(&answer).unwrap(), Owner::Unsure, "{state}");
        }
    }
}
