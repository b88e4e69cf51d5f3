//! Networks: an address and how many of its leading bits count. IPv4-mapped IPv6 networks are IPv4 networks.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::mistake::Mistake;

/// The leading bits that IPv4-mapped IPv6 addresses share (RFC 4291 §2.5.5.2).
const MAPPED: u8 = 96;

/// A network whose host bits are zero; a single address is one of 32 or 128 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// The network; `None` where the prefix is too long, or where bits below it are set.
    pub fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        let whole = prefix <= width(address) && masked(address, prefix) == address;
        whole.then(|| Self::folded(address, prefix))
    }

    /// One address.
    pub fn host(address: IpAddr) -> Self {
        Self::folded(address, width(address))
    }

    /// The network of the address: bits below the prefix are cut off.
    pub fn around(address: IpAddr, prefix: u8) -> Self {
        let prefix = prefix.min(width(address));
        Self::folded(masked(address, prefix), prefix)
    }

    fn folded(address: IpAddr, prefix: u8) -> Self {
        match address {
            IpAddr::V6(ip) if prefix >= MAPPED => match ip.to_ipv4_mapped() {
                Some(ip) => Self { address: ip.into(), prefix: prefix - MAPPED },
                None => Self { address, prefix },
            },
            _ => Self { address, prefix },
        }
    }

    /// Its first address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// How many leading bits count.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Is the address in it? IPv4-mapped addresses count as IPv4, so that `::/0` is every IPv6 address and no
    /// IPv4 one.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(ip)) => (own.to_bits() ^ ip.to_bits()) & mask4(self.prefix) == 0,
            (IpAddr::V6(own), IpAddr::V6(ip)) => (own.to_bits() ^ ip.to_bits()) & mask6(self.prefix) == 0,
            _ => false,
        }
    }

    /// Is every address of the other in it?
    pub fn covers(&self, other: &Self) -> bool {
        self.prefix <= other.prefix && self.contains(other.address)
    }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn mask4(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32_u32.saturating_sub(prefix.into())).unwrap_or(0)
}

fn mask6(prefix: u8) -> u128 {
    u128::MAX.checked_shl(128_u32.saturating_sub(prefix.into())).unwrap_or(0)
}

fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits() & mask4(prefix)).into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & mask6(prefix)).into(),
    }
}

impl FromStr for Network {
    type Err = Mistake;

    /// `192.0.2.7`, `192.0.2.0/24`, `10.0.0.0/255.0.0.0`, `2001:db8::/32`.
    fn from_str(text: &str) -> Result<Self, Mistake> {
        let (address, length) = text.split_once('/').map_or((text, None), |(a, l)| (a, Some(l)));
        let address: IpAddr = address.parse().map_err(|_| no_network(text))?;
        let Some(length) = length else { return Ok(Self::host(address)) };
        let prefix = prefix(address, length).ok_or_else(|| no_prefix(text, length, address))?;
        Self::new(address, prefix).ok_or_else(|| {
            let network = Self { address: masked(address, prefix), prefix };
            Mistake::new(format!("`{text}` has bits set below its mask"))
                .hint(format!("write `{network}` for the network, or `{address}` for the host"))
        })
    }
}

fn prefix(address: IpAddr, length: &str) -> Option<u8> {
    if let (IpAddr::V4(_), Ok(mask)) = (address, length.parse::<Ipv4Addr>()) {
        let prefix = u8::try_from(mask.to_bits().leading_ones()).ok()?;
        return (mask4(prefix) == mask.to_bits()).then_some(prefix);
    }
    let digits = (1..=3).contains(&length.len()) && length.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| length.parse().ok()).flatten().filter(|prefix| *prefix <= width(address))
}

fn no_network(text: &str) -> Mistake {
    Mistake::new(format!("`{text}` is no address and no network"))
        .hint("addresses are written `192.0.2.7` or `2001:db8::7`, networks `192.0.2.0/24`")
}

fn no_prefix(text: &str, length: &str, address: IpAddr) -> Mistake {
    Mistake::new(format!("`{text}`: `{length}` is no length of a prefix"))
        .hint(format!("a prefix has 0 to {} bits", width(address)))
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.prefix == width(self.address) {
            return self.address.fmt(f);
        }
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl TryFrom<String> for Network {
    type Error = Mistake;
    fn try_from(text: String) -> Result<Self, Mistake> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_read_and_written() {
        for (text, expected) in [
            ("192.0.2.7", "192.0.2.7"),
            ("192.0.2.7/32", "192.0.2.7"),
            ("192.0.2.0/24", "192.0.2.0/24"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("10.0.0.0/255.0.0.0", "10.0.0.0/8"),
            ("::1", "::1"),
            ("::/0", "::/0"),
            ("2001:DB8::/32", "2001:db8::/32"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
            ("::/95", "::/95"),
        ] {
            assert_eq!(text.parse::<Network>().map(|network| network.to_string()).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for (text, message) in [
            ("", "`` is no address and no network"),
            ("a/8", "`a/8` is no address and no network"),
            ("192.0.2", "`192.0.2` is no address and no network"),
            ("010.0.0.1", "`010.0.0.1` is no address and no network"),
            ("192.0.2.0/33", "`192.0.2.0/33`: `33` is no length of a prefix"),
            ("192.0.2.0/", "`192.0.2.0/`: `` is no length of a prefix"),
            ("192.0.2.0/+8", "`192.0.2.0/+8`: `+8` is no length of a prefix"),
            ("192.0.2.0/255.0.255.0", "`192.0.2.0/255.0.255.0`: `255.0.255.0` is no length of a prefix"),
            ("::/129", "`::/129`: `129` is no length of a prefix"),
            ("192.0.2.1/24", "`192.0.2.1/24` has bits set below its mask"),
            ("::ffff:192.0.2.1/120", "`::ffff:192.0.2.1/120` has bits set below its mask"),
        ] {
            assert_eq!(text.parse::<Network>().map_err(|mistake| mistake.message), Err(message.to_owned()));
        }
        let hint = "write `192.0.2.0/24` for the network, or `192.0.2.1` for the host";
        assert_eq!("192.0.2.1/24".parse::<Network>().unwrap_err().hint.as_deref(), Some(hint));
    }

    #[test]
    fn networks_hold_addresses() {
        for (network, address, expected) in [
            ("192.0.2.0/24", "192.0.2.255", true),
            ("192.0.2.0/24", "::ffff:192.0.2.255", true),
            ("192.0.2.0/24", "192.0.3.0", false),
            ("0.0.0.0/0", "255.255.255.255", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "::1", true),
            ("::/0", "192.0.2.1", false),
            ("::/0", "::ffff:192.0.2.1", false),
            ("::ffff:0:0/96", "192.0.2.1", true),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
        ] {
            let network: Network = network.parse().unwrap();
            assert_eq!(network.contains(address.parse().unwrap()), expected, "{network} {address}");
        }
    }

    #[test]
    fn networks_cover_networks() {
        for (outer, inner, expected) in [
            ("10.0.0.0/8", "10.1.0.0/16", true),
            ("10.0.0.0/8", "10.0.0.0/8", true),
            ("10.1.0.0/16", "10.0.0.0/8", false),
            ("0.0.0.0/0", "::/0", false),
        ] {
            let (outer, inner): (Network, Network) = (outer.parse().unwrap(), inner.parse().unwrap());
            assert_eq!(outer.covers(&inner), expected, "{outer} {inner}");
        }
    }
}
