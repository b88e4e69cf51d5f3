//! Addresses of clients, and the source that limits are counted by.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::client::Client;

/// An IPv4-mapped IPv6 address (RFC 4291 §2.5.5.2) counts as the IPv4 address that it holds, everywhere.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) if address.is_ipv6() => SocketAddr::from((ip, address.port())),
        _ => address,
    }
}

/// How many leading bits of an address make one source, by family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourcePrefix {
    /// 0 to 32; 32 by default: every IPv4 address is a source of its own.
    pub v4: u8,
    /// 0 to 128; 64 by default: a host with a whole /64 is one source.
    pub v6: u8,
}

impl Default for SourcePrefix {
    fn default() -> Self {
        Self { v4: 32, v6: 64 }
    }
}

/// What a client counts as, for limits per source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// Its address, cut to the prefix.
    Network(IpAddr),
    /// Its user, by a unix socket.
    User(u32),
}

impl Source {
    /// The source of a client.
    pub fn of(client: &Client, prefix: SourcePrefix) -> Self {
        match client {
            Client::Inet(address) => Self::of_address(address.ip(), prefix),
            Client::User { uid, .. } => Self::User(*uid),
        }
    }

    /// The network of an address. IPv4-mapped addresses count as IPv4.
    pub fn of_address(client: IpAddr, prefix: SourcePrefix) -> Self {
        Self::Network(match client.to_canonical() {
            IpAddr::V4(ip) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(prefix.v4.min(32))).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits() & mask))
            }
            IpAddr::V6(ip) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(prefix.v6.min(128))).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & mask))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_networks() {
        let default = SourcePrefix::default();
        check("192.0.2.7", default, "192.0.2.7");
        check("::ffff:192.0.2.7", default, "192.0.2.7");
        check("2001:db8:1:2:3:4:5:6", default, "2001:db8:1:2::");
        check("192.0.2.7", SourcePrefix { v4: 24, v6: 64 }, "192.0.2.0");
        check("192.0.2.7", SourcePrefix { v4: 0, v6: 0 }, "0.0.0.0");
        check("2001:db8::1", SourcePrefix { v4: 0, v6: 0 }, "::");
        check("2001:db8::1", SourcePrefix { v4: 0, v6: 128 }, "2001:db8::1");
    }

    #[track_caller]
    fn check(client: &str, prefix: SourcePrefix, expected: &str) {
        let expected = Source::Network(expected.parse().unwrap());
        assert_eq!(Source::of_address(client.parse().unwrap(), prefix), expected);
    }

    #[test]
    fn mapped_addresses_fold_to_ipv4() {
        for (given, expected) in
            [("[::ffff:192.0.2.7]:5", "192.0.2.7:5"), ("[::1]:5", "[::1]:5"), ("192.0.2.7:5", "192.0.2.7:5")]
        {
            assert_eq!(canonical(given.parse().unwrap()).to_string(), expected);
        }
    }
}
