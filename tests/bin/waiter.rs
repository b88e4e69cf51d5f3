//! A server of the tests that is given its listener: it serves so many, or spoils the listener, or does nothing.
//!
//! | called as        | does                                                                        |
//! |------------------|-----------------------------------------------------------------------------|
//! | `datagrams N`    | answers N datagrams with its pid and their text, then exits                 |
//! | `accept N`       | accepts N connections from the descriptor that `LISTEN_FDS` names, likewise |
//! | `exit`           | exits at once                                                               |
//! | `fail`           | exits at once, with 1                                                       |
//! | `spoil WHAT N`   | does WHAT to the listener, then `datagrams N`; 0: exits after one datagram was taken |
//!
//! Knows nothing of superd but what `sd_listen_fds(3)` promises.

#![allow(clippy::unwrap_used)]

use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

fn main() {
    let words: Vec<String> = std::env::args().collect();
    let number = |place: usize| words.get(place).and_then(|word| word.parse().ok()).unwrap_or(0);
    match words.get(1).map(String::as_str) {
        Some("datagrams") => datagrams(number(2)),
        Some("accept") => accept(number(2)),
        Some("exit") => {}
        Some("fail") => std::process::exit(1),
        Some("spoil") => {
            datagrams(1);
            spoil(&words[2]);
        }
        _ => std::process::exit(64),
    }
}

/// A listener under its number, never closed here: it is another's, too.
fn listener<T: From<OwnedFd>>(number: RawFd) -> std::mem::ManuallyDrop<T> {
    // SAFETY: the descriptor was given to this process, and is not closed by it.
    std::mem::ManuallyDrop::new(T::from(unsafe { OwnedFd::from_raw_fd(number) }))
}

fn datagrams(count: usize) {
    let socket = listener::<UdpSocket>(0);
    let mut buffer = [0; 2048];
    for _ in 0..count {
        let (length, from) = socket.recv_from(&mut buffer).unwrap();
        let mut answer = format!("{} ", std::process::id()).into_bytes();
        answer.extend_from_slice(&buffer[..length]);
        socket.send_to(&answer, from).unwrap();
    }
}

fn accept(count: usize) {
    let pid: u32 = std::env::var("LISTEN_PID").unwrap().parse().unwrap();
    assert_eq!(pid, std::process::id());
    assert_eq!(std::env::var("LISTEN_FDS").unwrap(), "1");
    let socket = listener::<TcpListener>(3);
    for _ in 0..count {
        // A unix connection answers the same calls.
        let connection = nix::sys::socket::accept(socket.as_raw_fd()).unwrap();
        // SAFETY: accept has just made it.
        let connection = unsafe { OwnedFd::from_raw_fd(connection) };
        let name = std::env::var("LISTEN_FDNAMES").unwrap();
        nix::unistd::write(&connection, format!("{} {name}\n", std::process::id()).as_bytes()).unwrap();
    }
}

fn spoil(what: &str) {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    use nix::sys::socket::{Shutdown, setsockopt, shutdown, sockopt};
    let socket = listener::<UdpSocket>(0);
    match what {
        "nonblock" => {
            fcntl(&*socket, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        }
        "async" => {
            // SAFETY: F_SETOWN takes a number.
            unsafe { libc::fcntl(0, libc::F_SETOWN, libc::getpid()) };
            fcntl(&*socket, FcntlArg::F_SETFL(OFlag::O_ASYNC)).unwrap();
        }
        "option" => setsockopt(&*socket, sockopt::RcvBuf, &4096).unwrap(),
        "shutdown" => drop(shutdown(0, Shutdown::Both)),
        "connect" => socket.connect("127.0.0.1:9").unwrap(),
        _ => std::process::exit(64),
    }
}
