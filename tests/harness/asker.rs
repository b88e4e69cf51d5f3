//! A client of datagrams: it asks, and waits for the answers of `waiter`.

use std::fs;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use socket2::{Domain, SockAddr, Socket, Type};

use super::DEADLINE;

/// A socket of datagrams that is connected to a service.
pub struct Asker(pub Socket);

impl Asker {
    /// Of a service at an address.
    #[track_caller]
    pub fn of(address: SocketAddr) -> Self {
        let any = if address.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
        let any: SocketAddr = any.parse().expect("an address");
        Self::new(Domain::for_address(address), &any.into(), &address.into())
    }

    /// Of a unix service at a path; the answers come to a path of the asker's own.
    #[track_caller]
    pub fn at(path: &Path, own: &Path) -> Self {
        let [service, address] = [path, own].map(|path| SockAddr::unix(path).expect("a short path"));
        let asker = Self::new(Domain::UNIX, &address, &service);
        // The server may be another user.
        fs::set_permissions(own, fs::Permissions::from_mode(0o666)).expect("chmod");
        asker
    }

    #[track_caller]
    fn new(domain: Domain, own: &SockAddr, service: &SockAddr) -> Self {
        let socket = Socket::new(domain, Type::DGRAM, None).expect("socket");
        socket.set_read_timeout(Some(DEADLINE)).expect("SO_RCVTIMEO");
        socket.bind(own).expect("bind");
        socket.connect(service).expect("connect");
        Self(socket)
    }

    /// Sends `text`.
    #[track_caller]
    pub fn send(&self, text: &str) {
        self.0.send(text.as_bytes()).expect("send a datagram");
    }

    /// The server's pid, from its answer to `text`.
    #[track_caller]
    pub fn ask(&self, text: &str) -> i32 {
        self.send(text);
        self.hear(text)
    }

    /// The pid of the server that answers to an earlier `text`.
    #[track_caller]
    pub fn hear(&self, text: &str) -> i32 {
        let mut buffer = [MaybeUninit::<u8>::uninit(); 2048];
        let length =
            self.0.recv(&mut buffer).unwrap_or_else(|error| panic!("no answer to `{text}`: {error}"));
        // SAFETY: the kernel has written so many bytes.
        let answer: Vec<u8> = buffer[..length].iter().map(|byte| unsafe { byte.assume_init() }).collect();
        let answer = String::from_utf8(answer).expect("text");
        let (pid, rest) = answer.split_once(' ').expect("a pid and the question");
        assert_eq!(rest, text);
        pid.parse().expect("a pid")
    }
}
