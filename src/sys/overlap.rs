//! Two listeners for the same packets, for the time of a change: how the new one comes beside the old one,
//! and how the old one stops to be found by new clients while it is still there for those it has.
//!
//! Knows nothing of when superd does so.

use std::io;
use std::os::fd::BorrowedFd;

use socket2::{SockFilter, SockRef};

use crate::sys::sockopt::{Knob, set_int};

/// Lets another socket of the same user bind and listen where this one does (or no longer lets it).
///
/// The other one must have `SO_REUSEPORT` set before its bind; this one may get it late.
pub fn allow_overlap(listener: BorrowedFd<'_>, allowed: bool) -> io::Result<()> {
    SockRef::from(&listener).set_reuse_port(allowed)
}

/// No handshake begins on this listener any more. Those under way are completed and come to its accept queue.
///
/// A client that comes now finds the other listener, or is refused if there is none. Of two listeners with the very
/// same address the other must have left the overlap before (`allow_overlap(other, false)`): among those that share
/// an address the kernel picks without looking at the interface, and one that got the SYN can't answer it.
///
/// The listener is kept, and accepted from, for as long as a handshake may take; then it is closed.
/// Where the listener can't be hidden (it is bound to an interface, and superd has no `CAP_NET_RAW`) its new clients
/// are not answered instead: they ask again after a second. After an error it is as it was.
pub fn stop_new_handshakes(listener: BorrowedFd<'_>) -> io::Result<()> {
    hide(listener).or_else(|_| drop_syns(listener))
}

/// Binds the listener to an interface that does not exist.
///
/// The kernel compares the interface of a listener when it looks one up for a SYN; a handshake that has begun
/// is found by its addresses and carries the interface it began with. It does not ask whether the index is one
/// of an interface, and hands out indices from 1 on.
fn hide(listener: BorrowedFd<'_>) -> io::Result<()> {
    set_int(listener, Knob { level: libc::SOL_SOCKET, name: libc::SO_BINDTOIFINDEX }, i32::MAX)
}

/// Attaches a socket filter that drops a SYN and nothing else: not the ACK that completes a handshake.
///
/// A filter of a tcp socket sees the packet from its TCP header on; byte 13 holds the flags. Connections that
/// are accepted from now on inherit it, to no effect: no SYN comes for them.
fn drop_syns(listener: BorrowedFd<'_>) -> io::Result<()> {
    const LOAD_BYTE: u16 = 0x30; // BPF_LD | BPF_B | BPF_ABS
    const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
    const JUMP_IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    const SYN: u32 = 0x02;
    const SYN_OR_ACK: u32 = 0x12;
    SockRef::from(&listener).attach_filter(&[
        SockFilter::new(LOAD_BYTE, 0, 0, 13),
        SockFilter::new(AND, 0, 0, SYN_OR_ACK),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, SYN),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;
    use std::time::Duration;

    /// What becomes of a client that waits in the queue, and of one that comes later.
    fn check(address: &str, stop: fn(BorrowedFd<'_>) -> io::Result<()>, later: ErrorKind) {
        let listener = TcpListener::bind(address).unwrap();
        let at = listener.local_addr().unwrap();
        let waiting = TcpStream::connect(at).unwrap();
        stop(listener.as_fd()).unwrap();
        let error = TcpStream::connect_timeout(&at, Duration::from_millis(200)).unwrap_err();
        assert_eq!(error.kind(), later, "{address}");
        let (_, client) = listener.accept().unwrap();
        assert_eq!(client, waiting.local_addr().unwrap());
    }

    #[test]
    fn a_hidden_listener_is_not_found_and_keeps_its_queue() {
        check("127.0.0.1:0", hide, ErrorKind::ConnectionRefused);
        check("[::1]:0", hide, ErrorKind::ConnectionRefused);
        check("127.0.0.1:0", stop_new_handshakes, ErrorKind::ConnectionRefused);
    }

    #[test]
    fn a_filtered_listener_does_not_answer_and_keeps_its_queue() {
        // Some kernels refuse socket filters to all but root.
        let probe = TcpListener::bind("127.0.0.1:0").unwrap();
        if drop_syns(probe.as_fd()).is_err_and(|e| e.kind() == ErrorKind::PermissionDenied) {
            eprintln!("skipped: needs root");
            return;
        }
        check("127.0.0.1:0", drop_syns, ErrorKind::TimedOut);
        check("[::1]:0", drop_syns, ErrorKind::TimedOut);
    }
}
