//! The built-in services beside those of xinetd and GNU inetd, where these are installed: the same bytes, but
//! where docs/differences.md says otherwise. In a network of its own, which only root can make.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod harness;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use harness::world::own_network;
use harness::{Superd, needs_program, needs_root, until};

const SERVICES: [(&str, u16); 5] =
    [("echo", 7), ("discard", 9), ("daytime", 13), ("chargen", 19), ("time", 37)];

/// Another super-server, on the ports of the RFCs.
struct Peer(Child);

impl Peer {
    fn start(program: &str, arguments: &[&str], config: &str, folder: &Path) -> Self {
        let path = folder.join(program);
        std::fs::write(&path, config).unwrap();
        let file = harness::machine::find(program).unwrap();
        let mut command = Command::new(file);
        command.args(arguments).arg(&path).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let peer = Self(command.spawn().unwrap());
        until(program, || TcpStream::connect("127.0.0.1:37").ok());
        peer
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn superd() -> Superd {
    let service = |(name, port): (&str, u16)| {
        let port = port + 7000;
        let listen = format!("[\"tcp4:127.0.0.1:{port}\", \"udp4:127.0.0.1:{port}\"]");
        format!("[service.{name}]\nlisten = {listen}\nbuiltin = \"{name}\"\n")
    };
    Superd::with(&("[daemon]\nhelper_user = \"nobody\"\n".to_owned() + &SERVICES.map(service).concat()))
}

/// What comes for this, up to a length.
fn over_tcp(port: u16, said: &[u8], most: u64) -> Vec<u8> {
    let mut stream = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).unwrap();
    stream.set_read_timeout(Some(harness::DEADLINE)).unwrap();
    let _ = stream.write_all(said);
    let _ = stream.shutdown(Shutdown::Write);
    let mut told = Vec::new();
    let _ = stream.take(most).read_to_end(&mut told);
    told
}

fn over_udp(port: u16, said: &[u8]) -> Vec<u8> {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    // xinetd loses a datagram now and then: it is asked again.
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut buffer = vec![0; 70_000];
    let length = until("an answer", || {
        socket.send_to(said, ("127.0.0.1", port)).unwrap();
        socket.recv(&mut buffer).ok()
    });
    buffer.truncate(length);
    buffer
}

/// The clock may move on between two questions.
#[track_caller]
fn same(what: &str, other: &str, ask: impl Fn(u16) -> Vec<u8>) {
    if what.starts_with(other) {
        return;
    }
    let (_, port) = SERVICES.into_iter().find(|(name, _)| what.starts_with(name)).unwrap();
    until(what, || {
        let (theirs, ours) = (ask(port), ask(port + 7000));
        if what.contains("time") && theirs != ours && theirs.len() == ours.len() {
            return None;
        }
        let differ = ours.iter().zip(&theirs).position(|(ours, theirs)| ours != theirs);
        assert_eq!((differ, ours.len()), (None, theirs.len()), "{what}");
        Some(())
    });
}

/// `other` is said in another way by the peer.
fn compare(other: &str) {
    let _superd = superd();
    let most = 1 << 20;
    for said in [&b""[..], b"hello\r\n", &[b'x'; 10_000]] {
        same("echo over tcp", other, |port| over_tcp(port, said, most));
        same("discard over tcp", other, |port| over_tcp(port, said, most));
    }
    // Each has a ring of its own; the lines are the RFC's.
    for port in [19, 7019] {
        let told = over_tcp(port, b"", 74 * 300);
        assert!(told.chunks(74).all(|line| line.len() == 74 && line.ends_with(b"\r\n")), "{port}");
    }
    same("daytime over tcp", other, |port| over_tcp(port, b"", most));
    same("time over tcp", other, |port| over_tcp(port, b"", most));
    for said in [&b"x"[..], b"hello\r\n", &[b'x'; 1000]] {
        same("echo over udp", other, |port| over_udp(port, said));
    }
    same("daytime over udp", other, |port| over_udp(port, b"x"));
    same("time over udp", other, |port| over_udp(port, b"x"));
}

#[test]
fn xinetd_says_the_same() {
    needs_root!();
    needs_program!("xinetd");
    own_network();
    let entry = |(name, port): (&str, u16), (kind, protocol, wait): (&str, &str, &str)| {
        format!(
            "service {name}\n{{\n disable = no\n id = {name}-{kind}\n type = INTERNAL UNLISTED\n socket_type = {kind}\n \
             protocol = {protocol}\n port = {port}\n user = root\n wait = {wait}\n}}\n"
        )
    };
    let both = [("stream", "tcp", "no"), ("dgram", "udp", "yes")];
    let config: String = SERVICES.iter().flat_map(|service| both.map(|how| entry(*service, how))).collect();
    let folder = tempfile::tempdir().unwrap();
    let _peer = Peer::start("xinetd", &["-dontfork", "-f"], &config, folder.path());
    // It has a format of its own for the date.
    compare("daytime");
}

#[test]
fn gnu_inetd_says_the_same() {
    needs_root!();
    needs_program!("inetutils-inetd");
    own_network();
    let entry = |(name, _): (&str, u16)| {
        format!("{name} stream tcp nowait root internal\n{name} dgram udp wait root internal\n")
    };
    let config: String = SERVICES.map(entry).concat();
    let folder = tempfile::tempdir().unwrap();
    let _peer = Peer::start("inetutils-inetd", &["-d"], &config, folder.path());
    // On machines of 64 bits it sends four bytes too many.
    compare("time");
}
