//! What waits at a socket, looked at without taking it: tells whether a server took what had woken it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::fd::{AsRawFd, BorrowedFd};

use super::diag::diagnose;
use super::kind::SocketKind;
use super::sockopt::accept_queue;

/// So much of a datagram is compared.
const LOOKED_AT: usize = 64;

/// What waits at a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// Nothing.
    Nothing,
    /// A datagram, first in the queue; the same number is the same sender, length, beginning and moment of its
    /// coming. A unix socket keeps no moments: there a client that says the same again can't be told apart.
    Datagram(u64),
    /// So many clients.
    Clients(u32),
    /// The kernel does not tell.
    Unknown,
}

/// Looks at a listener. Nothing of it changes, and nothing is waited for.
pub fn waiting(fd: BorrowedFd<'_>, kind: SocketKind) -> Waiting {
    let clients = match kind {
        _ if kind.is_datagram() => return first_datagram(fd),
        _ if kind.is_tcp() => accept_queue(fd).ok().map(|[waiting, _]| waiting),
        _ => diagnose(fd, kind).and_then(|found| found.queue),
    };
    clients
        .map_or(Waiting::Unknown, |count| if count == 0 { Waiting::Nothing } else { Waiting::Clients(count) })
}

/// A datagram that came before the kernel had switched its stamps on has none: each look gives it the time of the
/// look. Two looks tell.
fn first_datagram(fd: BorrowedFd<'_>) -> Waiting {
    let (Some((_, before)), Some((mut hasher, moment))) = (peek(fd), peek(fd)) else {
        return Waiting::Nothing;
    };
    moment.filter(|_| moment == before).hash(&mut hasher);
    Waiting::Datagram(hasher.finish())
}

/// The first datagram without its moment, and that.
fn peek(fd: BorrowedFd<'_>) -> Option<(DefaultHasher, Option<[i64; 2]>)> {
    let mut buffer = [0_u8; LOOKED_AT];
    let mut address = [0_u8; size_of::<libc::sockaddr_storage>()];
    #[allow(clippy::cast_possible_truncation)] // 128
    let mut address_length = address.len() as libc::socklen_t;
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT | libc::MSG_TRUNC;
    // SAFETY: the kernel writes at most the lengths given, which are those of the two arrays; it copies the
    // address byte by byte, so that its alignment does not matter.
    let length = unsafe {
        libc::recvfrom(
            fd.as_raw_fd(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            flags,
            address.as_mut_ptr().cast(),
            &raw mut address_length,
        )
    };
    // MSG_TRUNC makes it the datagram's own length. An error that waits is taken, and is nobody's datagram.
    let length = usize::try_from(length).ok()?;
    let mut hasher = DefaultHasher::new();
    (address.get(..address_length as usize), length, buffer.get(..length.min(LOOKED_AT))).hash(&mut hasher);
    Some((hasher, moment_of_last(fd)))
}

/// When the datagram came that was looked at last, as the kernel has stamped it (socket(7), `SIOCGSTAMPNS`): the
/// one thing by which two datagrams with the same bytes differ. Asking switches the stamps on, so that the first
/// answer of a socket may be none.
fn moment_of_last(fd: BorrowedFd<'_>) -> Option<[i64; 2]> {
    const SIOCGSTAMPNS_NEW: libc::Ioctl = 0x8010_8907; // _IOR(0x89, 7, long long[2])
    let mut moment = [0_i64; 2];
    // SAFETY: the kernel writes two 64-bit numbers to the array.
    let answer = unsafe { libc::ioctl(fd.as_raw_fd(), SIOCGSTAMPNS_NEW, moment.as_mut_ptr()) };
    (answer == 0).then_some(moment)
}

/// Lets a socket of datagrams note the moments of their coming from now on.
pub fn note_moments(fd: BorrowedFd<'_>) {
    let _ = moment_of_last(fd);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::fd::AsFd;
    use std::time::{Duration, Instant};

    /// Looks until there is something.
    fn something(fd: BorrowedFd<'_>, kind: SocketKind) -> Waiting {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            match waiting(fd, kind) {
                Waiting::Nothing => assert!(Instant::now() < deadline, "nothing came"),
                found => return found,
            }
        }
    }

    /// The kernel does it by and by.
    fn switch_stamps_on(socket: &UdpSocket, sender: &UdpSocket) {
        let deadline = Instant::now() + Duration::from_secs(5);
        let looks = || [0; 2].map(|_| peek(socket.as_fd()).and_then(|(_, moment)| moment));
        loop {
            sender.send_to(b"x", socket.local_addr().unwrap()).unwrap();
            something(socket.as_fd(), SocketKind::Udp);
            let [one, other] = looks();
            socket.recv(&mut [0; 1]).unwrap();
            if one.is_some() && one == other {
                return;
            }
            assert!(Instant::now() < deadline, "the kernel stamps nothing");
        }
    }

    #[test]
    fn datagrams_are_told_apart_and_stay() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let [one, other] = [0; 2].map(|_| UdpSocket::bind("127.0.0.1:0").unwrap());
        note_moments(socket.as_fd());
        switch_stamps_on(&socket, &one);
        let look = || something(socket.as_fd(), SocketKind::Udp);
        let at = socket.local_addr().unwrap();
        assert_eq!(waiting(socket.as_fd(), SocketKind::Udp), Waiting::Nothing);
        let mut seen = Vec::new();
        let [long, longer] = [100, 101].map(|length| vec![b'x'; length]);
        for (from, text) in [
            (&one, &b"a"[..]),
            (&one, b"b"),
            (&one, b"b"),
            (&other, b"b"),
            (&one, b""),
            (&one, &long),
            (&one, &longer),
        ] {
            from.send_to(text, at).unwrap();
            let found = look();
            assert_eq!(look(), found, "looking changes nothing");
            assert!(!seen.contains(&found), "{text:?}");
            seen.push(found);
            assert_eq!(socket.recv(&mut [0; 200]).unwrap(), text.len());
        }
    }

    #[test]
    fn clients_are_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(waiting(listener.as_fd(), SocketKind::Tcp), Waiting::Nothing);
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert_eq!(something(listener.as_fd(), SocketKind::Tcp), Waiting::Clients(1));
    }
}
