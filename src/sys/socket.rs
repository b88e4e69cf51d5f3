//! Sockets: accepting and the little that is done to accepted ones.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, Shutdown, UnixAddr, getpeername, getsockname, getsockopt, sockopt};

use crate::model::address::canonical;
use crate::model::client::Client;

/// The length of a `sockaddr_storage`.
#[allow(clippy::cast_possible_truncation)] // 128
const STORAGE: libc::socklen_t = size_of::<libc::sockaddr_storage>() as libc::socklen_t;

/// What accept4(2) said.
#[derive(Debug)]
pub enum Accepted {
    /// A connection, blocking and close-on-exec, and its client.
    Connection(OwnedFd, Client),
    /// Nobody waits.
    Empty,
    /// This one is gone before it was taken; there may be more.
    Aborted,
    /// No descriptor or no memory for it, here or in the whole system: EMFILE, ENFILE, ENOBUFS, ENOMEM.
    Exhausted(i32),
    /// The listener is broken.
    Broken(i32),
}

/// Takes one connection from a listener that does not block.
///
/// accept(2): errors that are the network's, not the listener's, are handed to the caller of accept and mean
/// that one connection is gone.
pub fn accept(listener: BorrowedFd<'_>) -> Accepted {
    // SAFETY: all-zero bytes are a valid sockaddr_storage.
    let mut address: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let mut length = STORAGE;
    // SAFETY: the address is valid for writes of `length` bytes; the listener is open.
    let fd = unsafe {
        libc::accept4(listener.as_raw_fd(), (&raw mut address).cast(), &raw mut length, libc::SOCK_CLOEXEC)
    };
    match Errno::result(fd) {
        Ok(fd) => {
            // SAFETY: the kernel has just made this descriptor for this call.
            let fd = unsafe { OwnedFd::from_raw_fd(fd) };
            match client_of(fd.as_fd(), &address) {
                Some(client) => Accepted::Connection(fd, client),
                None => Accepted::Aborted,
            }
        }
        Err(Errno::EAGAIN) => Accepted::Empty,
        Err(error @ (Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM)) => {
            Accepted::Exhausted(error as i32)
        }
        Err(error @ (Errno::EBADF | Errno::EINVAL | Errno::ENOTSOCK | Errno::EFAULT)) => {
            Accepted::Broken(error as i32)
        }
        Err(_) => Accepted::Aborted,
    }
}

fn client_of(connection: BorrowedFd<'_>, address: &libc::sockaddr_storage) -> Option<Client> {
    if i32::from(address.ss_family) == libc::AF_UNIX {
        let credentials = getsockopt(&connection, sockopt::PeerCredentials).ok()?;
        let (uid, gid, pid) = (credentials.uid(), credentials.gid(), credentials.pid());
        return Some(Client::User { uid, gid, pid });
    }
    address_of(address).map(|address| Client::Inet(canonical(address)))
}

/// The path of a unix socket, or `@` and its abstract name.
pub fn unix_name(fd: BorrowedFd<'_>) -> Option<String> {
    let address: UnixAddr = getsockname(fd.as_raw_fd()).ok()?;
    let name = address.as_abstract().map(|name| format!("@{}", String::from_utf8_lossy(name)));
    name.or_else(|| Some(address.path()?.to_string_lossy().into_owned()))
}

/// The path that the client of a unix socket has bound, if it has one that is text.
pub fn client_path(connection: BorrowedFd<'_>) -> Option<String> {
    let address: UnixAddr = getpeername(connection.as_raw_fd()).ok()?;
    address.path()?.to_str().map(str::to_owned)
}

pub(super) fn address_of(storage: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match i32::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that these bytes are a sockaddr_in, which is smaller and no more
            // strictly aligned than the storage.
            let raw = unsafe { &*std::ptr::from_ref(storage).cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from_bits(u32::from_be(raw.sin_addr.s_addr));
            Some(SocketAddr::new(IpAddr::V4(ip), u16::from_be(raw.sin_port)))
        }
        libc::AF_INET6 => {
            // SAFETY: as above, for a sockaddr_in6.
            let raw = unsafe { &*std::ptr::from_ref(storage).cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(raw.sin6_addr.s6_addr);
            let port = u16::from_be(raw.sin6_port);
            Some(SocketAddrV6::new(ip, port, u32::from_be(raw.sin6_flowinfo), raw.sin6_scope_id).into())
        }
        _ => None,
    }
}

/// The address that a connection came to, or that a listener has.
pub fn local_address(socket: BorrowedFd<'_>) -> Option<SocketAddr> {
    // SAFETY: all-zero bytes are a valid sockaddr_storage.
    let mut address: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let mut length = STORAGE;
    // SAFETY: the address is valid for writes of `length` bytes; the socket is open.
    let result = unsafe { libc::getsockname(socket.as_raw_fd(), (&raw mut address).cast(), &raw mut length) };
    (result == 0).then(|| address_of(&address)).flatten().map(canonical)
}

/// Takes what is wrong with a socket (`SO_ERROR`); 0 if nothing is.
pub fn take_error(socket: BorrowedFd<'_>) -> i32 {
    getsockopt(&socket, sockopt::SocketError).unwrap_or(libc::EBADF)
}

/// Sends a few bytes into the empty buffer of a fresh connection, without waiting; what does not fit is
/// dropped. Gives how many bytes went.
pub fn send_now(connection: BorrowedFd<'_>, bytes: &[u8]) -> usize {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    // A client that is gone, or a full buffer, loses the banner; there is nothing to do about it.
    nix::sys::socket::send(connection.as_raw_fd(), bytes, flags).unwrap_or(0)
}

/// No more is sent: the client reads an end of file behind what is on its way.
pub fn finish_sending(connection: BorrowedFd<'_>) {
    let _ = nix::sys::socket::shutdown(connection.as_raw_fd(), Shutdown::Write);
}

/// `SO_KEEPALIVE`.
pub fn set_keepalive(connection: BorrowedFd<'_>) -> io::Result<()> {
    socket2::SockRef::from(&connection).set_keepalive(true)
}

/// `SO_LINGER`.
pub fn set_linger(connection: BorrowedFd<'_>, time: Duration) -> io::Result<()> {
    socket2::SockRef::from(&connection).set_linger(Some(time))
}

/// Did this IPv4 client choose the way of its packets (RFC 791, loose and strict source route)? Answers would go
/// that way, so that its address means nothing.
pub fn has_source_route(connection: BorrowedFd<'_>) -> bool {
    let mut options = [0_u8; 40];
    let mut length: libc::socklen_t = 40;
    // SAFETY: the kernel writes at most `length` bytes, which is the array's.
    let result = unsafe {
        libc::getsockopt(
            connection.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_OPTIONS,
            options.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    result == 0 && source_routed(options.get(..length as usize).unwrap_or_default())
}

fn source_routed(mut options: &[u8]) -> bool {
    const END: u8 = 0;
    const NOTHING: u8 = 1;
    const LOOSE: u8 = 131;
    const STRICT: u8 = 137;
    while let Some((&kind, rest)) = options.split_first() {
        match (kind, rest.first()) {
            (LOOSE | STRICT, _) => return true,
            (END, _) | (_, None | Some(0 | 1)) if kind != NOTHING => return false,
            (NOTHING, _) => options = rest,
            (_, length) => options = options.get(length.map_or(2, |n| usize::from(*n))..).unwrap_or_default(),
        }
    }
    false
}

/// What a client that is being seen off sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discarded {
    /// Nothing more for now.
    Waiting,
    /// The client has closed, or is gone.
    Closed,
}

/// Throws away what a client has sent, at most 64 KiB a call, without copying it (`MSG_TRUNC`, tcp(7)).
pub fn discard(connection: BorrowedFd<'_>) -> Discarded {
    let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
    // SAFETY: with MSG_TRUNC a tcp socket drops the bytes and writes nothing to the buffer, which may be null.
    let n = unsafe { libc::recv(connection.as_raw_fd(), std::ptr::null_mut(), 64 * 1024, flags) };
    match Errno::result(n) {
        Ok(0) => Discarded::Closed,
        Ok(_) | Err(Errno::EAGAIN | Errno::EINTR) => Discarded::Waiting,
        Err(_) => Discarded::Closed,
    }
}
