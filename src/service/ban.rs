//! One ban, as a value: who, from what, what for, until when; and its texts, which are the same for admins, in the
//! log and in the file that keeps bans.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Instant;

use ipnetwork::IpNetwork;

use crate::model::address::{Source, SourcePrefix};
use crate::model::name::ServiceName;
use crate::model::offence::Offence;

/// Who is banned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Banned {
    /// Every address of a network.
    Network(IpNetwork),
    /// A user of this machine.
    User(u32),
}

impl Banned {
    /// A whole source.
    pub fn of(source: Source, prefix: SourcePrefix) -> Self {
        match source {
            Source::Network(ip) => Self::network(ip, if ip.is_ipv4() { prefix.v4 } else { prefix.v6 }),
            Source::User(uid) => Self::User(uid),
        }
    }

    /// The network of so many leading bits that an address is in.
    pub fn network(ip: IpAddr, length: u8) -> Self {
        let length = length.min(if ip.is_ipv4() { 32 } else { 128 });
        let prefix = SourcePrefix { v4: length, v6: length };
        let first = match Source::of_address(ip, prefix) {
            Source::Network(first) => first,
            Source::User(_) => ip,
        };
        // The length fits, so that this is the network.
        Self::Network(IpNetwork::new(first, length).unwrap_or_else(|_| IpNetwork::from(ip)))
    }

    /// Is it one address, or one user?
    pub fn is_single(&self) -> bool {
        match self {
            Self::Network(network) => network.prefix() == if network.is_ipv4() { 32 } else { 128 },
            Self::User(_) => true,
        }
    }

    /// Of IPv6 or not, and how many leading bits; none of a user.
    pub fn length(&self) -> Option<(bool, u8)> {
        match self {
            Self::Network(network) => Some((network.is_ipv6(), network.prefix())),
            Self::User(_) => None,
        }
    }

    /// The source that it is the whole of.
    pub fn source(&self) -> Source {
        match self {
            Self::Network(network) => Source::Network(network.ip()),
            Self::User(uid) => Source::User(*uid),
        }
    }
}

impl fmt::Display for Banned {
    /// A single address stands without its prefix.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(network) if self.is_single() => network.ip().fmt(f),
            Self::Network(network) => network.fmt(f),
            Self::User(uid) => write!(f, "uid:{uid}"),
        }
    }
}

impl FromStr for Banned {
    type Err = String;

    /// `192.0.2.7`, `192.0.2.0/24`, `2001:db8::/64`, `uid:1000`.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(uid) = text.strip_prefix("uid:") {
            return uid.parse().map(Self::User).map_err(|_| format!("`{text}` is no user"));
        }
        if let Ok(ip) = text.parse::<IpAddr>() {
            // An IPv4-mapped address counts as the IPv4 address.
            return Ok(Self::Network(IpNetwork::from(ip.to_canonical())));
        }
        let given: IpNetwork =
            text.parse().map_err(|_| format!("`{text}` is no address, no network and no uid:NUMBER"))?;
        if given.ip() == given.network() {
            return Ok(Self::Network(given));
        }
        let (network, length) = (given.network(), given.prefix());
        Err(format!("`{text}` has bits set below its mask: write `{network}/{length}`"))
    }
}

/// What a ban is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The client gave offence often enough.
    Offence(Offence),
    /// An admin has said so.
    Admin,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Offence(offence) => offence.fmt(f),
            Self::Admin => f.write_str("admin"),
        }
    }
}

/// A ban.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ban {
    /// Who.
    pub who: Banned,
    /// From what; `None`: from every service.
    pub service: Option<ServiceName>,
    /// What for.
    pub cause: Cause,
    /// Its end.
    pub until: Instant,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_banned_have_one_text() {
        check("192.0.2.7", Ok("192.0.2.7"));
        check("192.0.2.7/32", Ok("192.0.2.7"));
        check("192.0.2.0/24", Ok("192.0.2.0/24"));
        check("::ffff:192.0.2.7", Ok("192.0.2.7"));
        check("2001:db8::/64", Ok("2001:db8::/64"));
        check("2001:db8::7", Ok("2001:db8::7"));
        check("uid:1000", Ok("uid:1000"));
        check("192.0.2.7/24", Err("`192.0.2.7/24` has bits set below its mask: write `192.0.2.0/24`"));
        check("uid:alice", Err("`uid:alice` is no user"));
        check("example.org", Err("`example.org` is no address, no network and no uid:NUMBER"));
    }

    #[track_caller]
    fn check(text: &str, expected: Result<&str, &str>) {
        let banned = text.parse::<Banned>().map(|banned| banned.to_string());
        assert_eq!(banned, expected.map(str::to_owned).map_err(str::to_owned));
    }

    #[test]
    fn a_source_is_banned_as_a_whole() {
        for (address, expected) in [
            ("192.0.2.7", "192.0.2.0/24"),
            ("2001:db8:1:2::7", "2001:db8:1::/48"),
        ] {
            let prefix = SourcePrefix { v4: 24, v6: 48 };
            let source = Source::of_address(address.parse().unwrap(), prefix);
            let banned = Banned::of(source, prefix);
            assert_eq!((banned.to_string().as_str(), banned.source()), (expected, source));
        }
    }
}
