//! A server of the tests that is given its listener: it serves so many, or spoils the listener, or does nothing.
//!
//! | called as            | does                                                                            |
//! |----------------------|---------------------------------------------------------------------------------|
//! | `datagrams N`        | answers N datagrams with its pid and their text, then exits; after one that     |
//! |                      | says `hold` it goes no further, and waits for a signal                          |
//! | `accept N`           | accepts N connections from the descriptor that `LISTEN_FDS` names, likewise     |
//! | `hold`               | takes nothing, and waits for a signal                                           |
//! | `exit`               | exits at once                                                                   |
//! | `fail`               | exits at once, with 1                                                           |
//! | `spoil WHAT`         | answers one datagram, does WHAT to the listener, and exits                      |
//! | `spoil-on WHAT`     | answers one datagram, does WHAT to the listener, and goes on like `datagrams`   |
//! | `spoil-stream WHAT`  | accepts one connection, does WHAT to the listener, and exits                    |
//!
//! Knows nothing of superd but what `sd_listen_fds(3)` promises.

#![allow(clippy::unwrap_used)]

use std::mem::{ManuallyDrop, MaybeUninit};
use std::net::UdpSocket;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use socket2::Socket;

fn main() {
    let words: Vec<String> = std::env::args().collect();
    let number = |place: usize| words.get(place).and_then(|word| word.parse().ok()).unwrap_or(0);
    match words.get(1).map(String::as_str) {
        Some("datagrams") => datagrams(number(2)),
        Some("accept") => accept(number(2)),
        Some("hold") => hold(),
        Some("exit") => {}
        Some("fail") => std::process::exit(1),
        Some("spoil") => {
            datagrams(1);
            spoil(&words[2]);
        }
        Some("spoil-on") => {
            datagrams(1);
            spoil(&words[2]);
            datagrams(usize::MAX);
        }
        Some("spoil-stream") => {
            accept(1);
            spoil(&words[2]);
        }
        _ => std::process::exit(64),
    }
}

/// A listener under its number, never closed here: it is another's, too.
fn listener<T: From<OwnedFd>>(number: RawFd) -> ManuallyDrop<T> {
    // SAFETY: the descriptor was given to this process, and is not closed by it.
    ManuallyDrop::new(T::from(unsafe { OwnedFd::from_raw_fd(number) }))
}

/// A client of a unix socket has an address, too, if it is bound.
fn datagrams(count: usize) {
    let socket = listener::<Socket>(0);
    for _ in 0..count {
        let mut buffer = [MaybeUninit::<u8>::uninit(); 2048];
        let (length, from) = socket.recv_from(&mut buffer).unwrap();
        // SAFETY: the kernel has written so many bytes.
        let text: Vec<u8> = buffer[..length].iter().map(|byte| unsafe { byte.assume_init() }).collect();
        let answer = [format!("{} ", std::process::id()).as_bytes(), &text].concat();
        socket.send_to(&answer, &from).unwrap();
        if text == b"hold" {
            hold();
        }
    }
}

fn accept(count: usize) {
    let pid: u32 = std::env::var("LISTEN_PID").unwrap().parse().unwrap();
    assert_eq!(pid, std::process::id());
    assert_eq!(std::env::var("LISTEN_FDS").unwrap(), "1");
    let socket = listener::<Socket>(3);
    for _ in 0..count {
        let (connection, _) = socket.accept().unwrap();
        let name = std::env::var("LISTEN_FDNAMES").unwrap();
        connection.send(format!("{} {name}\n", std::process::id()).as_bytes()).unwrap();
    }
}

fn hold() -> ! {
    loop {
        std::thread::park();
    }
}

fn spoil(what: &str) {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    use nix::sys::socket::{Shutdown, setsockopt, shutdown, sockopt};
    let socket = listener::<UdpSocket>(0);
    match what {
        "nothing" => {}
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
        "shutdown-read" => drop(shutdown(0, Shutdown::Read)),
        "detach-filter" => socket2::SockRef::from(&*socket).detach_filter().unwrap(),
        "lock-filter" => {
            let (on, size) = (1, 4);
            // SAFETY: the pointer is to a live int, whose size is 4.
            let locked = unsafe {
                libc::setsockopt(
                    0,
                    libc::SOL_SOCKET,
                    libc::SO_LOCK_FILTER,
                    std::ptr::from_ref::<i32>(&on).cast(),
                    size,
                )
            };
            assert_eq!(locked, 0);
        }
        "connect" => socket.connect("127.0.0.1:9").unwrap(),
        _ => std::process::exit(64),
    }
}
