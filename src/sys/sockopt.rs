//! Socket options by their level and name, where neither socket2 nor nix has a call of its own, and what
//! `TCP_INFO` says of a listening socket.
//!
//! Knows nothing of which options superd serves, nor of what they are called in a configuration.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{from_mut, from_ref};

use libc::{c_int, socklen_t};

/// A socket option as setsockopt(2) names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Knob {
    /// `SOL_SOCKET`, `IPPROTO_TCP`, …
    pub level: c_int,
    /// `SO_KEEPALIVE`, `TCP_NODELAY`, …
    pub name: c_int,
}

/// Sets an option whose value is an `int`.
pub fn set_int(fd: BorrowedFd<'_>, knob: Knob, value: c_int) -> io::Result<()> {
    // SAFETY: the pointer is to a live c_int, and the length is that of a c_int.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            knob.level,
            knob.name,
            from_ref(&value).cast(),
            socklen_of::<c_int>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Reads an option whose value is an `int`.
pub fn int(fd: BorrowedFd<'_>, knob: Knob) -> io::Result<c_int> {
    let mut value: c_int = 0;
    let mut length = socklen_of::<c_int>();
    // SAFETY: the kernel writes at most `length` bytes, which is the size of the live c_int it points to.
    let result = unsafe {
        libc::getsockopt(fd.as_raw_fd(), knob.level, knob.name, from_mut(&mut value).cast(), &raw mut length)
    };
    if result == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}

/// Sets an option of any type.
pub fn set_bytes(fd: BorrowedFd<'_>, knob: Knob, value: &[u8]) -> io::Result<()> {
    let length = socklen_t::try_from(value.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    // SAFETY: the pointer is to `length` readable bytes; the kernel copies them.
    let result =
        unsafe { libc::setsockopt(fd.as_raw_fd(), knob.level, knob.name, value.as_ptr().cast(), length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Reads an option of any type, as the bytes that the kernel gives.
pub fn bytes(fd: BorrowedFd<'_>, knob: Knob) -> io::Result<Vec<u8>> {
    let mut value = vec![0; MOST_BYTES];
    let mut length = socklen_t::try_from(value.len()).unwrap_or_default();
    // SAFETY: the kernel writes at most `length` bytes, which is the length of `value`.
    let result = unsafe {
        libc::getsockopt(fd.as_raw_fd(), knob.level, knob.name, value.as_mut_ptr().cast(), &raw mut length)
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    value.truncate(length as usize);
    Ok(value)
}

/// The accept queue of a listening tcp socket: connections that wait in it, and how many it holds at most.
pub fn accept_queue(fd: BorrowedFd<'_>) -> io::Result<[u32; 2]> {
    let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length = socklen_of::<libc::tcp_info>();
    // SAFETY: the kernel writes at most `length` bytes, which is the size of the live tcp_info.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: tcp_info is integers alone, and all its bytes were zeroed before the kernel wrote some.
    let info = unsafe { info.assume_init() };
    if c_int::from(info.tcpi_state) != TCP_LISTEN {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    Ok([info.tcpi_unacked, info.tcpi_sacked])
}

/// Packets that were dropped on their way into the socket: by its filter, or for want of room.
pub fn dropped(fd: BorrowedFd<'_>) -> Option<u32> {
    const SK_MEMINFO_DROPS: usize = 8;
    let words = bytes(fd, Knob { level: libc::SOL_SOCKET, name: libc::SO_MEMINFO }).ok()?;
    words.as_chunks().0.get(SK_MEMINFO_DROPS).map(|word| u32::from_ne_bytes(*word))
}

/// Takes a packet filter away; `EPERM` if it is locked.
pub fn detach_filter(fd: BorrowedFd<'_>) -> io::Result<()> {
    set_int(fd, Knob { level: libc::SOL_SOCKET, name: libc::SO_DETACH_FILTER }, 0)
}

/// Makes a datagram socket hear everybody again: connect(2) to `AF_UNSPEC`.
pub fn disconnect(fd: BorrowedFd<'_>) -> io::Result<()> {
    let nobody = libc::sockaddr { sa_family: 0, sa_data: [0; 14] }; // AF_UNSPEC is 0
    // SAFETY: the pointer is to a live sockaddr, and the length is that of a sockaddr.
    let result = unsafe { libc::connect(fd.as_raw_fd(), from_ref(&nobody), socklen_of::<libc::sockaddr>()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// More than any option that [`bytes`] is for: names of 16 bytes, pairs of words, 40 bytes of IP options.
const MOST_BYTES: usize = 64;

/// `tcpi_state` of a listening socket; only then do the two fields mean the queue.
const TCP_LISTEN: c_int = 10;

#[allow(clippy::cast_possible_truncation)] // sizes of C structs
fn socklen_of<T>() -> socklen_t {
    size_of::<T>() as socklen_t
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    #[test]
    fn an_int_is_read_back() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let knob = Knob { level: libc::IPPROTO_TCP, name: libc::TCP_KEEPCNT };
        set_int(listener.as_fd(), knob, 4).unwrap();
        assert_eq!(int(listener.as_fd(), knob).unwrap(), 4);
    }

    #[test]
    fn the_accept_queue_counts_who_waits() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let [waiting, limit] = accept_queue(listener.as_fd()).unwrap();
        assert_eq!(waiting, 0);
        assert!(limit >= 128, "{limit}");
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
        while accept_queue(listener.as_fd()).unwrap()[0] != 1 {
            assert!(std::time::Instant::now() < deadline, "the client never came to the queue");
            std::thread::yield_now();
        }
        assert!(accept_queue(client.as_fd()).is_err());
    }
}
