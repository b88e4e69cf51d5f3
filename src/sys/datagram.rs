//! Many datagrams in one system call, to a socket whatever it may be doing.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// What became of datagrams that were to be sent.
#[derive(Debug)]
pub enum Sent {
    /// The first so many are on their way; at least one.
    Some(usize),
    /// The socket takes none at the moment: wait for POLLOUT.
    Full,
    /// The first is longer than the socket can take.
    TooLong,
    /// The kernel has no memory for it at the moment, and will not say when it has.
    NoMemory,
    /// Nobody is there, or the socket is broken.
    Failed(io::Error),
}

/// Datagrams in one call, at most.
pub const BATCH: usize = 64;

/// Sends the first [`BATCH`] of `datagrams`; never waits, never raises SIGPIPE.
pub fn send<'a>(socket: BorrowedFd, datagrams: impl Iterator<Item = &'a [u8]>) -> Sent {
    // SAFETY: both are plain C structures of numbers and pointers, for which all bits zero is a value.
    let (mut vectors, mut headers): ([libc::iovec; BATCH], [libc::mmsghdr; BATCH]) =
        unsafe { std::mem::zeroed() };
    let mut count = 0;
    for ((vector, header), datagram) in vectors.iter_mut().zip(&mut headers).zip(datagrams) {
        vector.iov_base = datagram.as_ptr().cast_mut().cast();
        vector.iov_len = datagram.len();
        header.msg_hdr.msg_iov = vector;
        header.msg_hdr.msg_iovlen = 1;
        count += 1;
    }
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    loop {
        // SAFETY: the first `count` headers point to one vector each, of `vectors`, which points to a slice
        // that lives as long as 'a; the kernel reads the slices and writes only into `headers`.
        let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), count, flags as _) };
        match usize::try_from(sent) {
            Ok(sent) => return Sent::Some(sent),
            Err(_) => match outcome(io::Error::last_os_error()) {
                None => {}
                Some(outcome) => return outcome,
            },
        }
    }
}

/// `None`: to be called again.
fn outcome(error: io::Error) -> Option<Sent> {
    Some(match error.raw_os_error() {
        Some(libc::EINTR) => return None,
        Some(libc::EAGAIN) => Sent::Full,
        Some(libc::EMSGSIZE) => Sent::TooLong,
        Some(libc::ENOBUFS | libc::ENOMEM) => Sent::NoMemory,
        _ => Sent::Failed(error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixDatagram;

    #[test]
    fn datagrams_arrive_whole_and_in_order_until_the_socket_is_full() {
        let (here, there) = UnixDatagram::pair().unwrap();
        let lines: Vec<_> = (0..1000).map(|n| format!("line {n}")).collect();
        let mut sent = 0;
        loop {
            match send(here.as_fd(), lines.iter().skip(sent).map(String::as_bytes)) {
                Sent::Some(count) => sent += count,
                Sent::Full => break,
                other => panic!("{other:?}"),
            }
        }
        assert!(sent > 0 && sent < lines.len(), "{sent}");
        let mut buffer = [0; 100];
        for line in lines.iter().take(sent) {
            let length = there.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], line.as_bytes());
        }
    }

    #[test]
    fn outcomes_are_told_apart() {
        let (here, there) = UnixDatagram::pair().unwrap();
        let long = vec![b'x'; 4 << 20];
        assert!(matches!(send(here.as_fd(), [&long[..]].into_iter()), Sent::TooLong));
        drop(there);
        assert!(matches!(send(here.as_fd(), [&b"x"[..]].into_iter()), Sent::Failed(_)));
    }
}
