//! Endpoints: what a service wants to bind.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

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
pub struct Endpoint {
    /// The address; IPv6 sockets are always v6-only.
    pub ip: IpAddr,
    /// 0 lets the kernel choose (tests, demos).
    pub port: u16,
    /// The interface that a link-local address belongs to (`[fe80::1%eth0]`).
    pub zone: Option<InterfaceName>,
    /// The interface that the socket is bound to (`tcp:79%eth0`, `SO_BINDTODEVICE`).
    pub interface: Option<InterfaceName>,
    /// The half of `tcp:79` that is left out where the kernel has no IPv6.
    pub optional: bool,
}

impl Endpoint {
    /// Is it every address of its family?
    pub fn is_wildcard(&self) -> bool {
        self.ip.is_unspecified()
    }

    /// Would both want the same packets: same family and port, and addresses and interfaces that meet?
    /// A port that the kernel chooses meets nothing.
    pub fn overlaps(&self, other: &Endpoint) -> bool {
        let same_family = self.ip.is_ipv4() == other.ip.is_ipv4();
        let addresses_meet =
            self.is_wildcard() || other.is_wildcard() || (self.ip == other.ip && self.zone == other.zone);
        let interfaces_meet = match (&self.interface, &other.interface) {
            (Some(a), Some(b)) => a == b,
            _ => true,
        };
        self.port != 0 && self.port == other.port && same_family && addresses_meet && interfaces_meet
    }

    /// Do both want the same socket? Whether one of them is optional does not matter.
    pub fn is_same_socket(&self, other: &Endpoint) -> bool {
        self.ip == other.ip
            && self.port == other.port
            && self.zone == other.zone
            && self.interface == other.interface
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.ip, &self.zone) {
            (IpAddr::V4(Ipv4Addr::UNSPECIFIED), _) => write!(f, "tcp4:{}", self.port)?,
            (IpAddr::V6(Ipv6Addr::UNSPECIFIED), _) => write!(f, "tcp6:{}", self.port)?,
            (IpAddr::V4(ip), _) => write!(f, "tcp:{ip}:{}", self.port)?,
            (IpAddr::V6(ip), None) => write!(f, "tcp:[{ip}]:{}", self.port)?,
            (IpAddr::V6(ip), Some(zone)) => write!(f, "tcp:[{ip}%{zone}]:{}", self.port)?,
        }
        match &self.interface {
            Some(interface) => write!(f, "%{interface}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(ip: &str, port: u16, interface: Option<&str>) -> Endpoint {
        Endpoint {
            ip: ip.parse().unwrap(),
            port,
            zone: None,
            interface: interface.and_then(InterfaceName::new),
            optional: false,
        }
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
    fn endpoints_read_as_they_are_written() {
        assert_eq!(endpoint("0.0.0.0", 79, None).to_string(), "tcp4:79");
        assert_eq!(endpoint("::", 79, Some("eth0")).to_string(), "tcp6:79%eth0");
        assert_eq!(endpoint("::1", 79, None).to_string(), "tcp:[::1]:79");
        assert_eq!(endpoint("127.0.0.1", 79, None).to_string(), "tcp:127.0.0.1:79");
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
