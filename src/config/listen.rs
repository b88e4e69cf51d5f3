//! `listen`: where to listen, as it is said, and the endpoints that it stands for.

use std::net::IpAddr;
use std::path::Path;

use crate::model::endpoint::{Endpoint, Transport, UnixKind};
use crate::model::mux::MuxName;

use super::keys::nearest_word;
use super::values::Complaint;

pub use inet::{InetListen, Port};
pub use local::UnixListen;

use inet::Family;

mod inet;
mod local;

/// One place to listen; not all of it is looked up yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// `tcp:`, `udp:` and one family of them.
    Inet(InetListen),
    /// `unix:`, `unix-dgram:`, `unix-seqpacket:`.
    Unix(UnixListen),
    /// `systemd:`.
    Passed(String),
    /// `tcpmux:`: no socket of its own.
    TcpMux(MuxName),
}

impl Listen {
    /// Reads one; a relative path begins at `folder`.
    pub fn parse(text: &str, folder: &Path) -> Result<Self, Complaint> {
        let Some((protocol, rest)) = text.split_once(':') else { return Err(no_protocol(text)) };
        let inet = |transport, family| InetListen::parse(transport, family, rest).map(Self::Inet);
        let unix = |kind| UnixListen::parse(kind, rest, folder).map(Self::Unix);
        match protocol {
            "tcp" => inet(Transport::Tcp, Family::Both),
            "tcp4" => inet(Transport::Tcp, Family::V4),
            "tcp6" => inet(Transport::Tcp, Family::V6),
            "udp" => inet(Transport::Udp, Family::Both),
            "udp4" => inet(Transport::Udp, Family::V4),
            "udp6" => inet(Transport::Udp, Family::V6),
            "unix" => unix(UnixKind::Stream),
            "unix-dgram" => unix(UnixKind::Datagram),
            "unix-seqpacket" => unix(UnixKind::SeqPacket),
            "systemd" => local::passed(rest).map(Self::Passed),
            "tcpmux" => local::through_tcpmux(rest).map(Self::TcpMux),
            _ => Err(no_protocol(text)),
        }
    }

    /// The sockets that it stands for, without what is looked up: owners, and the port, which is given.
    pub fn endpoints(&self, port: u16) -> Vec<Endpoint> {
        match self {
            Self::Inet(inet) => inet.endpoints(port).collect(),
            Self::Unix(unix) => vec![Endpoint::Unix(unix.endpoint(None, None))],
            Self::Passed(name) => vec![Endpoint::Passed(name.clone())],
            Self::TcpMux(_) => Vec::new(),
        }
    }

    /// Does it hear other hosts? Of a passed socket nobody knows.
    pub fn hears_others(&self) -> bool {
        matches!(self, Self::Inet(inet) if inet.hears_others())
    }
}

/// The protocols that are served, for those who missed them.
const PROTOCOLS: [&str; 11] = [
    "tcp",
    "tcp4",
    "tcp6",
    "udp",
    "udp4",
    "udp6",
    "unix",
    "unix-dgram",
    "unix-seqpacket",
    "systemd",
    "tcpmux",
];

fn no_protocol(text: &str) -> Complaint {
    let complaint = Complaint::new(format!("`{text}` does not say a protocol"));
    match meant(text).filter(|meant| Listen::parse(meant, Path::new("/")).is_ok()) {
        Some(meant) => complaint.hint(format!("did you mean `{meant}`?")),
        None => complaint.hint(
            "it is PROTOCOL:[ADDRESS:]PORT[%INTERFACE], for example `tcp:79`; or `unix:PATH`, or `systemd:NAME`",
        ),
    }
}

fn meant(text: &str) -> Option<String> {
    if text.starts_with(['/', '@']) {
        return Some(format!("unix:{text}"));
    }
    let bare = text.strip_prefix("*:").unwrap_or(text);
    let Some((slip, rest)) = bare.split_once(':') else { return Some(format!("tcp:{bare}")) };
    match nearest_word(PROTOCOLS.into_iter(), slip) {
        Some(near) => Some(format!("{near}:{rest}")),
        None if slip.parse::<IpAddr>().is_ok() || slip.starts_with('[') => Some(format!("tcp:{bare}")),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listens_become_endpoints() {
        check("tcp:79", Ok("tcp6:79 tcp4:79"));
        check("tcp4:79", Ok("tcp4:79"));
        check("tcp6:79", Ok("tcp6:79"));
        check("tcp:0", Ok("tcp6:0 tcp4:0"));
        check("tcp:127.0.0.1:79", Ok("tcp:127.0.0.1:79"));
        check("tcp:[::1]:79", Ok("tcp:[::1]:79"));
        check("tcp:[fe80::1%eth0]:79", Ok("tcp:[fe80::1%eth0]:79"));
        check("tcp:79%eth0", Ok("tcp6:79%eth0 tcp4:79%eth0"));
        check("tcp:79%eth0:1", Ok("tcp6:79%eth0:1 tcp4:79%eth0:1"));
        check("tcp4:192.0.2.7:79%eth0", Ok("tcp:192.0.2.7:79%eth0"));
        check("tcp:0.0.0.0:79", Ok("tcp4:79"));
        check("79", Err("`79` does not say a protocol"));
        check("*:79", Err("`*:79` does not say a protocol"));
        check("tpc:79", Err("`tpc:79` does not say a protocol"));
        check("tcp:", Err("the port is missing"));
        check("tcp:65536", Err("`65536` is no port: they end at 65535"));
        check("tcp:-1", Err("`-1` is no port"));
        check("tcp:*:79", Err("`*` is no address"));
        check("tcp:localhost:79", Err("`localhost` is no address"));
        check("tcp:::1:79", Err("`::1` needs brackets"));
        check("tcp:[::1]79", Err("`[::1]79` is no address and port"));
        check("tcp:[::1", Err("`[::1` is no address and port"));
        check("tcp4:[::1]:79", Err("`::1` is of the other family"));
        check("tcp6:127.0.0.1:79", Err("`127.0.0.1` is of the other family"));
        check("tcp:224.0.0.1:79", Err("tcp can't listen at `224.0.0.1`, which is no address of one host"));
        check("tcp:[::ffff:192.0.2.7]:79", Err("`::ffff:192.0.2.7` is the IPv4 address `192.0.2.7`"));
        check("tcp:[fe80::1]:79", Err("`fe80::1` is link-local: each interface may have it"));
        check("tcp:[2001:db8::1%eth0]:79", Err("`2001:db8::1` is not link-local, and has no zone"));
        check("tcp:79%", Err("`` can't be the name of an interface"));
        check("tcp:79%a/b", Err("`a/b` can't be the name of an interface"));
        check("udp:79", Ok("udp6:79 udp4:79"));
        check("udp4:79", Ok("udp4:79"));
        check("udp6:tftp", Ok("udp6:1"));
        check("udp:224.0.0.251:79%eth0", Ok("udp:224.0.0.251:79%eth0"));
        check("udp:[ff02::fb]:79%eth0", Ok("udp:[ff02::fb]:79%eth0"));
        check("udp:[ff02::fb%eth0]:79", Ok("udp:[ff02::fb]:79%eth0"));
        check("udp:[ff02::fb%eth0]:79%eth0", Ok("udp:[ff02::fb]:79%eth0"));
        check("udp:[ff0e::fb]:79", Ok("udp:[ff0e::fb]:79"));
        check("udp:255.255.255.255:79", Ok("udp:255.255.255.255:79"));
        check(
            "tcp:255.255.255.255:79",
            Err("tcp can't listen at `255.255.255.255`, which is no address of one host"),
        );
        check("udp:[ff02::fb]:79", Err("the group `ff02::fb` is another one on each link"));
        check(
            "udp:[ff02::fb%eth0]:79%eth1",
            Err("the group `ff02::fb` is on one interface, and this says `eth0` and `eth1`"),
        );
        check("udp:224.0.0.251%eth0:79", Err("`224.0.0.251` is no port"));
        check("tcpmux:x", Ok(""));
        check(
            "tcpmux:Help",
            Err("`Help` is no name of a service: a client of tcpmux asks for the list by it"),
        );
        check(&format!("tcpmux:{}", "x".repeat(65)), Err("the name has 65 bytes, and 64 are the most"));
        check("tcpmux:", Err("the name is missing"));
        check("tcpmux:a b", Err("`a b` is no name of tcpmux: they are printable ASCII without blanks"));
    }

    #[test]
    fn local_listens_become_endpoints() {
        let long = |n: usize| "x".repeat(n);
        check("unix:/run/x.sock", Ok("unix:/run/x.sock"));
        check("unix:x.sock", Ok("unix:/etc/x.sock"));
        check("unix:@x", Ok("unix:@x"));
        check("unix-dgram:/run/x", Ok("unix-dgram:/run/x"));
        check("unix-seqpacket:@x", Ok("unix-seqpacket:@x"));
        check("systemd:web (1)", Ok("systemd:web (1)"));
        check("unix:", Err("the path is missing"));
        check("unix:@", Err("the name is missing"));
        check("unix:/run/", Err("`/run/` names a folder, not a socket"));
        check("systemd:", Err("the name is missing"));
        check(
            "systemd:a:b",
            Err("`a:b` is no name of a passed socket: they are printable ASCII without `:`"),
        );
        check("/run/x", Err("`/run/x` does not say a protocol"));
        for (prefix, most) in [("unix:/", 106), ("unix:@", 106), ("systemd:", 255), ("unix:", 102)] {
            let good = Listen::parse(&format!("{prefix}{}", long(most)), Path::new("/etc"));
            assert!(good.is_ok(), "{prefix} {good:?}");
            let bad = Listen::parse(&format!("{prefix}{}", long(most + 1)), Path::new("/etc"));
            assert!(bad.unwrap_err().message.contains("are the most"), "{prefix}");
        }
    }

    #[test]
    fn slips_are_guessed() {
        for (text, hint) in [
            ("79", "did you mean `tcp:79`?"),
            ("*:79", "did you mean `tcp:79`?"),
            ("upd:79", "did you mean `udp:79`?"),
            ("unix-gram:/x", "did you mean `unix-dgram:/x`?"),
            ("127.0.0.1:79", "did you mean `tcp:127.0.0.1:79`?"),
            ("/run/x", "did you mean `unix:/run/x`?"),
            ("@x", "did you mean `unix:@x`?"),
        ] {
            assert_eq!(
                Listen::parse(text, Path::new("/")).unwrap_err().hint.as_deref(),
                Some(hint),
                "{text}"
            );
        }
    }

    #[track_caller]
    fn check(text: &str, expected: Result<&str, &str>) {
        let got = Listen::parse(text, Path::new("/etc")).map_err(|c| c.message).map(|listen| {
            let port = match &listen {
                Listen::Inet(InetListen { port: Port::Number(number), .. }) => *number,
                _ => 1,
            };
            listen.endpoints(port).iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        });
        assert_eq!(got.as_deref().map_err(String::as_str), expected, "{text}");
    }
}
