//! What is asked about: a client of a daemon, what has been found out about it so far, and what else a rule
//! may need to know.
//!
//! Knows nothing of how names and users are looked up.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::model::host::HostName;

/// A client that came to a daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request<'a> {
    /// The name of the daemon's program, without its folder.
    pub daemon: &'a str,
    /// Where the client is; `None` if it has no address (a unix socket). IPv4-mapped addresses count as IPv4.
    pub client: Option<SocketAddr>,
    /// The address that it came to.
    pub local: Option<SocketAddr>,
}

impl Request<'_> {
    pub(super) fn address(&self, end: End) -> Option<IpAddr> {
        let address = match end {
            End::Client => self.client,
            End::Local => self.local,
        };
        address.map(|address| address.ip().to_canonical())
    }
}

/// One end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Who came.
    Client,
    /// This host.
    Local,
}

/// What has been found out. `None` is "nobody has asked yet".
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// The client's name.
    pub client_name: Option<Naming>,
    /// The name of the local address.
    pub local_name: Option<Naming>,
    /// The client's user.
    pub user: Option<User>,
    /// Who is a member of which netgroup; `None`: no answer.
    pub netgroups: Vec<(Netgroup, Option<bool>)>,
}

impl Facts {
    pub(super) fn name(&self, end: End) -> Option<&Naming> {
        match end {
            End::Client => self.client_name.as_ref(),
            End::Local => self.local_name.as_ref(),
        }
    }
}

/// What the look-up of an address came to: address → name → the same address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Naming {
    /// Each of these names leads back to the address; the first is the one that is shown. Make it with
    /// [`Naming::confirmed`].
    Confirmed(Vec<HostName>),
    /// The address has no name.
    Unknown,
    /// It has one, which does not lead back.
    Paranoid,
    /// No answer: it may have any.
    Failed,
}

impl Naming {
    /// Names that lead back to their address. A text that no host can be called by, or that poses as an address,
    /// is a conflict; the words for "no name" and "conflict" mean that. Beside a good name they count for nothing.
    pub fn confirmed<'t>(texts: impl IntoIterator<Item = &'t str>) -> Self {
        let (mut names, mut instead) = (Vec::new(), Self::Unknown);
        for text in texts {
            match text.parse::<HostName>() {
                Ok(name) if name.as_str() == "unknown" => {}
                Ok(name) if name.as_str() != "paranoid" && name.as_str().parse::<IpAddr>().is_err() => {
                    names.push(name);
                }
                _ => instead = Self::Paranoid,
            }
        }
        if names.is_empty() { instead } else { Self::Confirmed(names) }
    }
}

/// What asking for the client's user came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum User {
    /// A name; what an ident server says is its word alone. Make it with [`User::named`].
    Known(String),
    /// Nobody says.
    Unknown,
    /// No answer in time.
    Failed,
}

impl User {
    /// A user of that name; `unknown` is nobody's.
    pub fn named(text: &str) -> Self {
        if text.is_empty() || text.eq_ignore_ascii_case("unknown") {
            return Self::Unknown;
        }
        Self::Known(text.to_owned())
    }
}

/// A question to the netgroups: is this one in that group?
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Netgroup {
    /// The group.
    pub group: String,
    /// Whom it is asked about.
    pub member: Member,
}

/// Who may be in a netgroup.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Member {
    /// A host, by its confirmed name.
    Host(String),
    /// A user.
    User(String),
}

/// What must be found out before a rule can say yes or no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Need {
    /// [`Facts::client_name`] or [`Facts::local_name`].
    Name(End),
    /// [`Facts::user`]; by ident within that time, if a rule says so.
    User(Option<Duration>),
    /// An entry of [`Facts::netgroups`].
    Netgroup(Netgroup),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain() {
        let names =
            |texts: &[&str]| Naming::Confirmed(texts.iter().map(|text| text.parse().unwrap()).collect());
        for (texts, expected) in [
            (&["PC1.Example.org."][..], names(&["pc1.example.org"])),
            (&["b.example", "a-b_c"], names(&["b.example", "a-b_c"])),
            (&["unknown", "10.9.9.9", "b"], names(&["b"])),
            (&[], Naming::Unknown),
            (&["unknown"], Naming::Unknown),
            (&[""], Naming::Paranoid),
            (&["Paranoid"], Naming::Paranoid),
            (&["10.9.9.9"], Naming::Paranoid),
            (&["2001:db8::1"], Naming::Paranoid),
            (&["a\nb", "unknown"], Naming::Paranoid),
            (&["`id`.example"], Naming::Paranoid),
        ] {
            assert_eq!(Naming::confirmed(texts.iter().copied()), expected, "{texts:?}");
        }
    }
}
