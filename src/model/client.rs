//! Clients: the remote party of a connection, as the kernel names it.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Client {
    /// An address of the internet; IPv4-mapped ones are folded.
    Inet(SocketAddr),
    /// A process of this machine, by a unix socket: who it was when it connected (`SO_PEERCRED`).
    User {
        /// Its effective user.
        uid: u32,
        /// Its effective group.
        gid: u32,
        /// Its process; by now it may be another's.
        pid: i32,
    },
}

impl Client {
    /// Its address, if it has one.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Inet(address) => Some(*address),
            Self::User { .. } => None,
        }
    }
}

impl From<SocketAddr> for Client {
    fn from(address: SocketAddr) -> Self {
        Self::Inet(address)
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => address.fmt(f),
            Self::User { uid, .. } => write!(f, "uid:{uid}"),
        }
    }
}

impl FromStr for Client {
    type Err = std::net::AddrParseError;

    /// Reads an address and a port.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self::Inet)
    }
}
