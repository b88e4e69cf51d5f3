//! One ban, as a value: who, from what, what for, until when; and its texts, which are the same for admins, in the
//! log and in the file that keeps bans.

use std::fmt;
use std::str::FromStr;
use std::time::Instant;

use crate::model::address::{Source, SourcePrefix};
use crate::model::client::Client;
use crate::model::mistake::Mistake;
use crate::model::name::ServiceName;
use crate::model::network::Network;
use crate::model::offence::Offence;

/// Who is banned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Banned {
    /// Every address of a network.
    Network(Network),
    /// A user of this machine.
    User(u32),
}

impl Banned {
    /// A whole source.
    pub fn of(source: Source, prefix: SourcePrefix) -> Self {
        match source {
            Source::Network(ip) => {
                Self::Network(Network::around(ip, if ip.is_ipv4() { prefix.v4 } else { prefix.v6 }))
            }
            Source::User(uid) => Self::User(uid),
        }
    }

    /// Is it one address, or one user?
    pub fn is_single(&self) -> bool {
        match self {
            Self::Network(network) => *network == Network::host(network.address()),
            Self::User(_) => true,
        }
    }

    /// A client that it holds, if it holds one alone.
    pub fn client(&self) -> Option<Client> {
        match self {
            Self::Network(network) => self.is_single().then(|| Client::Inet((network.address(), 0).into())),
            Self::User(uid) => Some(Client::User { uid: *uid, gid: 0, pid: 0 }),
        }
    }

    /// Of IPv6 or not, and how many leading bits; none of a user.
    pub fn length(&self) -> Option<(bool, u8)> {
        match self {
            Self::Network(network) => Some((network.address().is_ipv6(), network.prefix())),
            Self::User(_) => None,
        }
    }

    /// The source that it is the whole of.
    pub fn source(&self) -> Source {
        match self {
            Self::Network(network) => Source::Network(network.address()),
            Self::User(uid) => Source::User(*uid),
        }
    }
}

impl fmt::Display for Banned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
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
        text.parse().map(Self::Network).map_err(|mistake: Mistake| mistake.to_string())
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
        check("192.0.2.7/24", Err("`192.0.2.7/24` has bits set below its mask"));
        check("uid:alice", Err("`uid:alice` is no user"));
        check("example.org", Err("`example.org` is no address and no network"));
    }

    #[track_caller]
    fn check(text: &str, expected: Result<&str, &str>) {
        match (text.parse::<Banned>(), expected) {
            (Ok(banned), Ok(expected)) => assert_eq!(banned.to_string(), expected),
            (Err(why), Err(expected)) => assert!(why.starts_with(expected), "{why}"),
            (banned, _) => panic!("{text}: {banned:?}"),
        }
    }

    #[test]
    fn a_source_is_banned_as_a_whole() {
        for (address, expected) in [("192.0.2.7", "192.0.2.0/24"), ("2001:db8:1:2::7", "2001:db8:1::/48")] {
            let prefix = SourcePrefix { v4: 24, v6: 48 };
            let source = Source::of_address(address.parse().unwrap(), prefix);
            let banned = Banned::of(source, prefix);
            assert_eq!((banned.to_string().as_str(), banned.source()), (expected, source));
        }
    }
}
