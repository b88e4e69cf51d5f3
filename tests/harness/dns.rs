//! A name server for one network of a test: it says what its script says, be it true or not.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use super::world::run;

/// What is said to a question.
#[derive(Debug, Clone)]
pub enum Says {
    /// These records, all of the type that was asked for, but aliases.
    Records(Vec<Record>),
    /// The name is there, and has none of these.
    NoData,
    /// There is no such name.
    NoName,
    /// The server itself has failed.
    ServerFails,
    /// Nothing.
    Nothing,
    /// This, when the test has called [`NameServer::release`].
    Held(Vec<Record>),
}

/// One record.
#[derive(Debug, Clone)]
pub enum Record {
    /// An address of the name.
    Address(IpAddr),
    /// A name of the address, in parts of any bytes.
    Pointer(Vec<Vec<u8>>),
    /// The name is another one's alias, whose address this is.
    Alias(&'static str, IpAddr),
}

/// The name of an address.
pub fn pointer(name: &str) -> Record {
    Record::Pointer(name.split('.').map(|part| part.as_bytes().to_vec()).collect())
}

/// The server; it ends with this.
pub struct NameServer {
    address: SocketAddr,
    release: Sender<()>,
    thread: Option<JoinHandle<()>>,
}

impl NameServer {
    /// At port 53 of 127.0.0.1. The script gets the name, in lower case, and the type: A, AAAA or PTR.
    pub fn start(script: impl Fn(&str, &str) -> Says + Send + 'static) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:53").expect("bind port 53");
        let address = socket.local_addr().expect("an address");
        let (release, released) = channel();
        let thread = std::thread::spawn(move || {
            let mut packet = [0; 1500];
            loop {
                let (length, from) = socket.recv_from(&mut packet).expect("a question");
                // An empty datagram is the end.
                let Some(question) = packet.get(..length).filter(|packet| packet.len() > 12) else { return };
                let (name, kind) = asked(question);
                let said = script(&name, kind);
                if matches!(said, Says::Held(_)) {
                    released.recv().expect("to be released");
                }
                if let Some(answer) = answer(question, &said) {
                    socket.send_to(&answer, from).expect("send an answer");
                }
            }
        });
        Self { address, release, thread: Some(thread) }
    }

    /// Says what was held back.
    pub fn release(&self) {
        self.release.send(()).expect("the server is there");
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("bind");
        socket.send_to(&[], self.address).expect("send the end");
        let failed = self.thread.take().is_some_and(|thread| thread.join().is_err());
        // Another panic while a test fails would hide the first.
        assert!(!failed || std::thread::panicking(), "the name server has failed");
    }
}

/// Makes this thread's resolver ask 127.0.0.1, and know these lines of /etc/hosts. Needs `own_mounts`.
pub fn own_resolver(folder: &Path, resolv_conf: &str, hosts: &str) {
    let files = [
        ("resolv.conf", format!("nameserver 127.0.0.1\n{resolv_conf}\n")),
        ("hosts", hosts.to_owned()),
        ("nsswitch.conf", "hosts: files dns\npasswd: files\n".to_owned()),
    ];
    for (name, text) in files {
        let (from, to) = (folder.join(name), format!("/etc/{name}"));
        std::fs::write(&from, text).expect("write");
        run(&["mount", "--bind", from.to_str().expect("a plain path"), &to]);
    }
}

/// The name of an address in the tree of addresses.
pub fn reverse(address: IpAddr) -> String {
    match address {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(ip) => {
            let digits = format!("{:032x}", ip.to_bits());
            digits.chars().rev().flat_map(|digit| [digit, '.']).collect::<String>() + "ip6.arpa"
        }
    }
}

/// In seconds.
const TIME_TO_LIVE: u32 = 1;

const A: u16 = 1;
const CNAME: u16 = 5;
const PTR: u16 = 12;
const AAAA: u16 = 28;

fn asked(question: &[u8]) -> (String, &'static str) {
    let mut parts = Vec::new();
    let mut rest = &question[12..];
    while rest[0] != 0 {
        let (part, after) = rest[1..].split_at(rest[0].into());
        parts.push(String::from_utf8_lossy(part).to_lowercase());
        rest = after;
    }
    let kind = match u16::from_be_bytes([rest[1], rest[2]]) {
        A => "A",
        AAAA => "AAAA",
        PTR => "PTR",
        other => panic!("asked for type {other} of {parts:?}"),
    };
    (parts.join("."), kind)
}

/// Header, question and answers, whose names are the one that was asked for (RFC 1035, section 4.1).
fn answer(question: &[u8], said: &Says) -> Option<Vec<u8>> {
    let (code, records): (u8, &[Record]) = match said {
        Says::Records(records) | Says::Held(records) => (0, records),
        Says::NoData => (0, &[]),
        Says::NoName => (3, &[]),
        Says::ServerFails => (2, &[]),
        Says::Nothing => return None,
    };
    let mut packet = question[..2].to_vec();
    packet.extend([0x85, 0x80 | code]);
    let resources: Vec<Resource> = records.iter().flat_map(resources).collect();
    let count = u16::try_from(resources.len()).expect("few records");
    packet.extend([1_u16, count, 0, 0].map(u16::to_be_bytes).as_flattened());
    packet.extend(&question[12..]);
    for (owner, kind, body) in resources {
        packet.extend(owner);
        packet.extend([kind, 1].map(u16::to_be_bytes).as_flattened());
        packet.extend(TIME_TO_LIVE.to_be_bytes());
        packet.extend(u16::try_from(body.len()).expect("a short record").to_be_bytes());
        packet.extend(body);
    }
    Some(packet)
}

/// Whose, of which type, and what.
type Resource = (Vec<u8>, u16, Vec<u8>);

fn resources(record: &Record) -> Vec<Resource> {
    // The name that was asked for, by its place in the packet.
    let asked = || vec![0xc0, 12];
    match record {
        Record::Address(ip) => vec![address(asked(), *ip)],
        Record::Pointer(parts) => vec![(asked(), PTR, name(parts.iter().map(Vec::as_slice)))],
        Record::Alias(of, ip) => {
            let of = name(of.split('.').map(str::as_bytes));
            vec![(asked(), CNAME, of.clone()), address(of, *ip)]
        }
    }
}

fn address(owner: Vec<u8>, ip: IpAddr) -> Resource {
    match ip {
        IpAddr::V4(ip) => (owner, A, ip.octets().to_vec()),
        IpAddr::V6(ip) => (owner, AAAA, ip.octets().to_vec()),
    }
}

fn name<'a>(parts: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in parts {
        bytes.push(u8::try_from(part.len()).expect("a short part"));
        bytes.extend(part);
    }
    bytes.push(0);
    bytes
}
