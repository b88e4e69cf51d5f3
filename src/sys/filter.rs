//! Socket filters on sockets: attached, read back, taken away.
//!
//! A filter judges a packet when it comes; what is in the queue stays. Another one takes its place in one step,
//! unless `SO_LOCK_FILTER` has locked it: that can't be undone, by root neither. Knows nothing of what a program says.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use libc::socklen_t;
use socket2::{Domain, SockFilter, SockRef, Socket, Type};

use crate::model::filter::Instruction;

use super::sockopt::{Knob, detach_filter, int};

/// The most instructions that a program may have (linux/bpf_common.h).
const BPF_MAXINSNS: usize = 4096;

/// Has the socket judge by this program from now on; by none if it is empty. After an error all is as it was.
///
/// `ENOMEM`: `net.core.optmem_max` has no room for it beside the one before. `EPERM`: that one is locked.
pub fn replace(fd: BorrowedFd<'_>, program: &[Instruction]) -> io::Result<()> {
    if program.is_empty() {
        return match detach_filter(fd) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            result => result,
        };
    }
    let code: Vec<SockFilter> =
        program.iter().map(|line| SockFilter::new(line.code, line.jt, line.jf, line.k)).collect();
    SockRef::from(&fd).attach_filter(&code)
}

/// Does the kernel take the program? Tried on a socket that nobody has.
pub fn try_out(program: &[Instruction]) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM.cloexec(), None)?;
    replace(socket.as_fd(), program)
}

/// The program that is attached; empty without one. `EACCES`: it is one of eBPF.
pub fn attached(fd: BorrowedFd<'_>) -> io::Result<Vec<Instruction>> {
    const NONE: libc::sock_filter = libc::sock_filter { code: 0, jt: 0, jf: 0, k: 0 };
    let mut code = vec![NONE; BPF_MAXINSNS];
    // Of this option alone the length counts instructions, not bytes.
    let mut length = socklen_t::try_from(code.len()).unwrap_or_default();
    // SAFETY: the kernel writes at most `length` instructions, which is how many `code` holds.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_GET_FILTER,
            code.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    code.truncate(length as usize);
    Ok(code.iter().map(|line| Instruction { code: line.code, jt: line.jt, jf: line.jf, k: line.k }).collect())
}

/// Can the filter, or that there is none, not be changed any more?
pub fn is_locked(fd: BorrowedFd<'_>) -> bool {
    let knob = Knob { level: libc::SOL_SOCKET, name: libc::SO_LOCK_FILTER };
    int(fd, knob).is_ok_and(|locked| locked != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::filter::{JUMP_EQUAL, LOAD, NETWORK_HEADER, NOTHING, RETURN};
    use crate::sys::sockopt::set_int;
    use std::net::UdpSocket;
    use std::time::Duration;

    /// Lets in all but this word at this place of the IP header.
    fn all_but(offset: u32, word: u32) -> Vec<Instruction> {
        let line = |code, jt, jf, k| Instruction { code, jt, jf, k };
        vec![
            line(LOAD, 0, 0, NETWORK_HEADER + offset),
            line(JUMP_EQUAL, 0, 1, word),
            line(RETURN, 0, 0, 0),
            line(RETURN, 0, 0, u32::MAX),
        ]
    }

    fn heard(socket: &UdpSocket, sources: &[&str]) -> Vec<String> {
        for source in sources {
            UdpSocket::bind((*source, 0)).unwrap().send_to(b"x", socket.local_addr().unwrap()).unwrap();
        }
        let mut heard = Vec::new();
        // Over loopback they are there when send_to returns.
        while let Ok((_, from)) = socket.recv_from(&mut [0; 8]) {
            heard.push(from.ip().to_string());
        }
        heard
    }

    fn socket(at: &str) -> UdpSocket {
        let socket = UdpSocket::bind((at, 0)).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        socket
    }

    #[test]
    fn the_source_is_read_from_the_ip_header() {
        let four = socket("127.0.0.1");
        let program = all_but(12, u32::from_be_bytes([127, 0, 0, 2]));
        replace(four.as_fd(), &program).unwrap();
        assert_eq!(attached(four.as_fd()).unwrap(), program);
        assert_eq!(heard(&four, &["127.0.0.1", "127.0.0.2", "127.0.0.3"]), ["127.0.0.1", "127.0.0.3"]);
        let six = socket("::1");
        replace(six.as_fd(), &all_but(8 + 12, 2)).unwrap();
        assert_eq!(heard(&six, &["::1"]), ["::1"]);
        replace(six.as_fd(), &all_but(8 + 12, 1)).unwrap();
        assert!(heard(&six, &["::1"]).is_empty());
    }

    #[test]
    fn a_filter_gives_way_to_another_and_to_none() {
        let socket = socket("127.0.0.1");
        assert!(attached(socket.as_fd()).unwrap().is_empty());
        replace(socket.as_fd(), &[]).unwrap();
        replace(socket.as_fd(), &NOTHING).unwrap();
        assert!(heard(&socket, &["127.0.0.1"]).is_empty());
        replace(socket.as_fd(), &all_but(12, 0)).unwrap();
        assert_eq!(heard(&socket, &["127.0.0.1"]).len(), 1);
        replace(socket.as_fd(), &[]).unwrap();
        assert!(attached(socket.as_fd()).unwrap().is_empty());
    }

    #[test]
    fn a_lock_is_for_ever_and_for_everybody() {
        let socket = socket("127.0.0.1");
        replace(socket.as_fd(), &NOTHING).unwrap();
        assert!(!is_locked(socket.as_fd()));
        let knob = Knob { level: libc::SOL_SOCKET, name: libc::SO_LOCK_FILTER };
        set_int(socket.as_fd(), knob, 1).unwrap();
        assert!(is_locked(socket.as_fd()));
        for outcome in [set_int(socket.as_fd(), knob, 0), replace(socket.as_fd(), &[])] {
            assert_eq!(outcome.unwrap_err().raw_os_error(), Some(libc::EPERM));
        }
    }
}
