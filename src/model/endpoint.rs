//! Endpoints: what a service wants to bind.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The longest interface name, IFNAMSIZ less its final NUL.
pub const MAX_INTERFACE_NAME: usize = 15;

/// The name of a network interface.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InterfaceName(String);

impl InterfaceName {
    /// 1 to 15 bytes, no blank, no control byte, no `/` and no `%` (the kernel's `dev_valid_name`; `%` is
    /// its pattern character).
    pub fn new(text: &str) -> Option<Self> {
        let good = (1..=MAX_INTERFACE_NAME).contains(&text.len())
            && text != "."
            && text != ".."
            && !text
                .bytes()
                .any(|b| b.is_ascii_whitespace() || b.is_ascii_control() || b == b'/' || b == b'%');
        good.then(|| Self(text.to_owned()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for InterfaceName {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::new(&text).ok_or_else(|| format!("`{text}` is no interface name"))
    }
}

impl From<InterfaceName> for String {
    fn from(name: InterfaceName) -> Self {
        name.0
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One socket that a service wants: `tcp:79` is two of these, `[::]` and `0.0.0.0`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Endpoint {
    /// An address and a port.
    Inet(InetEndpoint),
    /// A path, or an abstract name.
    Unix(UnixEndpoint),
    /// A socket that the service manager passes under this name.
    Passed(String),
}

/// What an internet socket carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// Connections.
    Tcp,
    /// Datagrams.
    Udp,
}

/// An endpoint of the internet protocols.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct InetEndpoint {
    /// tcp or udp.
    pub transport: Transport,
    /// The address; IPv6 sockets are always v6-only. A multicast address is a group to join.
    pub ip: IpAddr,
    /// 0 lets the kernel choose (tests, demos).
    pub port: u16,
    /// The interface that a link-local address belongs to (`[fe80::1%eth0]`).
    pub zone: Option<InterfaceName>,
    /// The interface that the socket is bound to (`tcp:79%eth0`, `SO_BINDTODEVICE`), or on which a group is
    /// joined.
    pub interface: Option<InterfaceName>,
    /// The half of `tcp:79` that is left out where the kernel has no IPv6.
    pub optional: bool,
}

/// What a unix socket carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnixKind {
    /// `unix:`
    Stream,
    /// `unix-dgram:`
    Datagram,
    /// `unix-seqpacket:`
    SeqPacket,
}

/// An endpoint of the unix protocol.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct UnixEndpoint {
    /// Stream, datagram or seqpacket.
    pub kind: UnixKind,
    /// Where.
    pub name: UnixName,
    /// Who owns the path; `None`: superd's own user.
    pub owner: Option<u32>,
    /// The path's group; `None`: superd's own.
    pub group: Option<u32>,
    /// The path's mode.
    pub mode: u32,
}

/// Where a unix socket is found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnixName {
    /// In the file system.
    Path(PathBuf),
    /// In the abstract name space.
    Abstract(String),
}

impl Endpoint {
    /// Would both want the same packets?
    pub fn overlaps(&self, other: &Endpoint) -> bool {
        match (self, other) {
            (Self::Inet(a), Self::Inet(b)) => a.overlaps(b),
            (Self::Unix(a), Self::Unix(b)) => a.name == b.name,
            (Self::Passed(a), Self::Passed(b)) => a == b,
            _ => false,
        }
    }

    /// Does it hear connections, not datagrams? Of a passed socket its type tells, when it is there.
    pub fn is_datagram(&self) -> bool {
        match self {
            Self::Inet(inet) => inet.transport == Transport::Udp,
            Self::Unix(unix) => unix.kind == UnixKind::Datagram,
            Self::Passed(_) => false,
        }
    }

    /// The same socket, whoever wants it and however: endpoints with equal keys are served by one socket.
    pub fn key(&self) -> EndpointKey {
        EndpointKey(match self.clone() {
            Self::Inet(inet) => Self::Inet(InetEndpoint { optional: false, ..inet }),
            // Owner and mode can be changed where the socket is.
            Self::Unix(unix) => Self::Unix(UnixEndpoint { owner: None, group: None, mode: 0, ..unix }),
            passed @ Self::Passed(_) => passed,
        })
    }

    /// Does the kernel choose where it is bound? Such a socket is nobody else's.
    pub fn is_chosen_by_kernel(&self) -> bool {
        matches!(self, Self::Inet(InetEndpoint { port: 0, .. }))
    }

    /// The internet endpoint that it is.
    pub fn inet(&self) -> Option<&InetEndpoint> {
        match self {
            Self::Inet(inet) => Some(inet),
            Self::Unix(_) | Self::Passed(_) => None,
        }
    }

    /// Is it of IPv6?
    pub fn is_ipv6(&self) -> bool {
        self.inet().is_some_and(|inet| inet.ip.is_ipv6())
    }

    /// May it be left out where the kernel does not know its family?
    pub fn is_optional(&self) -> bool {
        matches!(self, Self::Inet(InetEndpoint { optional: true, .. }))
    }
}

impl From<InetEndpoint> for Endpoint {
    fn from(inet: InetEndpoint) -> Self {
        Self::Inet(inet)
    }
}

/// See [`Endpoint::key`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EndpointKey(Endpoint);

impl InetEndpoint {
    /// Is it every address of its family?
    pub fn is_wildcard(&self) -> bool {
        self.ip.is_unspecified()
    }

    /// Would both want the same packets: same transport, family and port, and addresses and interfaces that
    /// meet? A port that the kernel chooses meets nothing; a multicast group meets itself alone, since a
    /// wildcard socket hears no group that it has not joined.
    pub fn overlaps(&self, other: &InetEndpoint) -> bool {
        let wildcard = |a: &Self, b: &Self| a.is_wildcard() && !b.ip.is_multicast();
        let addresses_meet = wildcard(self, other)
            || wildcard(other, self)
            || (self.ip == other.ip && self.zone == other.zone);
        let interfaces_meet = match (&self.interface, &other.interface) {
            (Some(a), Some(b)) => a == b,
            _ => true,
        };
        self.transport == other.transport
            && self.port != 0
            && self.port == other.port
            && self.ip.is_ipv4() == other.ip.is_ipv4()
            && addresses_meet
            && interfaces_meet
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(inet) => inet.fmt(f),
            Self::Unix(unix) => unix.fmt(f),
            Self::Passed(name) => write!(f, "systemd:{name}"),
        }
    }
}

impl fmt::Display for InetEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.transport {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
        };
        match (self.ip, &self.zone) {
            (IpAddr::V4(Ipv4Addr::UNSPECIFIED), _) => write!(f, "{protocol}4:{}", self.port)?,
            (IpAddr::V6(Ipv6Addr::UNSPECIFIED), _) => write!(f, "{protocol}6:{}", self.port)?,
            (IpAddr::V4(ip), _) => write!(f, "{protocol}:{ip}:{}", self.port)?,
            (IpAddr::V6(ip), None) => write!(f, "{protocol}:[{ip}]:{}", self.port)?,
            (IpAddr::V6(ip), Some(zone)) => write!(f, "{protocol}:[{ip}%{zone}]:{}", self.port)?,
        }
        match &self.interface {
            Some(interface) => write!(f, "%{interface}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for UnixEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            UnixKind::Stream => "unix:",
            UnixKind::Datagram => "unix-dgram:",
            UnixKind::SeqPacket => "unix-seqpacket:",
        })?;
        match &self.name {
            UnixName::Path(path) => write!(f, "{}", path.display()),
            UnixName::Abstract(name) => write!(f, "@{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inet(transport: Transport, ip: &str, port: u16) -> InetEndpoint {
        InetEndpoint {
            transport,
            ip: ip.parse().unwrap(),
            port,
            zone: None,
            interface: None,
            optional: false,
        }
    }

    fn unix(kind: UnixKind, name: UnixName, mode: u32) -> Endpoint {
        Endpoint::Unix(UnixEndpoint { kind, name, owner: None, group: None, mode })
    }

    fn endpoint(ip: &str, port: u16, interface: Option<&str>) -> Endpoint {
        let interface = interface.and_then(InterfaceName::new);
        Endpoint::Inet(InetEndpoint { interface, ..inet(Transport::Tcp, ip, port) })
    }

    #[test]
    fn overlap_is_about_packets() {
        let rows = [
            (("0.0.0.0", 79, None), ("127.0.0.1", 79, None), true),
            (("0.0.0.0", 79, None), ("127.0.0.1", 80, None), false),
            (("0.0.0.0", 79, None), ("::", 79, None), false),
            (("127.0.0.1", 79, None), ("127.0.0.2", 79, None), false),
            (("127.0.0.1", 79, None), ("127.0.0.1", 79, None), true),
            (("0.0.0.0", 79, Some("eth0")), ("0.0.0.0", 79, Some("eth1")), false),
            (("0.0.0.0", 79, Some("eth0")), ("0.0.0.0", 79, None), true),
            (("0.0.0.0", 0, None), ("0.0.0.0", 0, None), false),
        ];
        for (a, b, expected) in rows {
            let (x, y) = (endpoint(a.0, a.1, a.2), endpoint(b.0, b.1, b.2));
            assert_eq!(x.overlaps(&y), expected, "{a:?} {b:?}");
            assert_eq!(y.overlaps(&x), expected, "{b:?} {a:?}");
        }
    }

    #[test]
    fn other_families_meet_themselves() {
        let udp = |ip: &str| Endpoint::Inet(inet(Transport::Udp, ip, 79));
        let path = |text: &str| unix(UnixKind::Stream, UnixName::Path(text.into()), 0o600);
        let passed = |name: &str| Endpoint::Passed(name.to_owned());
        for (a, b, expected) in [
            (udp("0.0.0.0"), endpoint("0.0.0.0", 79, None), false),
            (udp("0.0.0.0"), udp("127.0.0.1"), true),
            (udp("0.0.0.0"), udp("224.0.0.251"), false),
            (udp("224.0.0.251"), udp("224.0.0.251"), true),
            (path("/a"), path("/a"), true),
            (path("/a"), unix(UnixKind::Datagram, UnixName::Path("/a".into()), 0o600), true),
            (path("/a"), unix(UnixKind::Stream, UnixName::Abstract("/a".into()), 0o600), false),
            (passed("a"), passed("a"), true),
            (passed("a"), path("/a"), false),
        ] {
            assert_eq!(a.overlaps(&b), expected, "{a} {b}");
            assert_eq!(b.overlaps(&a), expected, "{b} {a}");
        }
    }

    #[test]
    fn keys_are_about_the_socket_alone() {
        let path = |mode| unix(UnixKind::Stream, UnixName::Path("/a".into()), mode);
        assert_eq!(path(0o600).key(), path(0o666).key());
        assert_ne!(path(0o600).key(), unix(UnixKind::SeqPacket, UnixName::Path("/a".into()), 0o600).key());
        let half = InetEndpoint { optional: true, ..inet(Transport::Tcp, "::", 79) };
        assert_eq!(Endpoint::Inet(half).key(), endpoint("::", 79, None).key());
        assert_ne!(endpoint("::", 79, None).key(), Endpoint::Inet(inet(Transport::Udp, "::", 79)).key());
    }

    #[test]
    fn endpoints_read_as_they_are_written() {
        assert_eq!(endpoint("0.0.0.0", 79, None).to_string(), "tcp4:79");
        assert_eq!(endpoint("::", 79, Some("eth0")).to_string(), "tcp6:79%eth0");
        assert_eq!(endpoint("::1", 79, None).to_string(), "tcp:[::1]:79");
        assert_eq!(endpoint("127.0.0.1", 79, None).to_string(), "tcp:127.0.0.1:79");
        assert_eq!(unix(UnixKind::Stream, UnixName::Path("/run/x".into()), 0).to_string(), "unix:/run/x");
        let name = UnixName::Abstract("x".into());
        assert_eq!(unix(UnixKind::SeqPacket, name, 0).to_string(), "unix-seqpacket:@x");
        assert_eq!(Endpoint::Passed("http".into()).to_string(), "systemd:http");
    }

    #[test]
    fn interface_names_are_the_kernels() {
        for (text, good) in [
            ("eth0", true),
            ("", false),
            ("a/b", false),
            ("0123456789abcdef", false),
            ("..", false),
            ("a%", false),
        ] {
            assert_eq!(InterfaceName::new(text).is_some(), good, "{text:?}");
        }
    }
}
